"""Judges of single turns that foresee one exchange: what a rater would see right after it, and nothing of what follows.

A world writes ``foresee``, from its program; see ``envs.sales.judging`` and ``envs.education.judging``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from envs.env import Episode
from envs.judges import Floats, Measured, Preference


class Foreseen(ABC):
    """A ``TurnJudge`` that foresees what a rater would measure right after the exchange, and compares that."""

    def __init__(self, judge: Measured):
        self.judge = judge
        self.name = f"{judge.name}, next exchange"

    @abstractmethod
    def foresee(self, moments: Sequence[Episode], utterances: Sequence[str]) -> list[Mapping[str, float] | str]:
        """The expected parts after the agent says the utterance and the user answers, or why there are none."""

    def prefer_turns(self, moments: Sequence[Episode], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        preferences = []
        for one, other in zip(self.foresee(moments, first), self.foresee(moments, second), strict=True):
            if isinstance(one, str) or isinstance(other, str):
                preferences.append(Preference(math.nan, one if isinstance(one, str) else str(other)))
            else:
                preferences.append(Preference(float(self.judge.compare(self._row(one), self._row(other))[0])))
        return preferences

    def _row(self, parts: Mapping[str, float]) -> Floats:
        return np.array([[parts[name] for name in self.judge.measures]])
