"""Preference judges: which of two finished conversations on one scenario is better.

A judge looks at two trajectories of one scenario and gives the probability that the first is preferred. It need not be a
function of one reward: it may cycle. A learner sees labels drawn from these probabilities, never the judge itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.trajectory import Trajectory

Pair = tuple[Trajectory, Trajectory]
"""Two conversations on one scenario."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What a judge makes of a pair."""

    probability: float
    """That the first is preferred. NaN when ``failure`` says why there is none."""
    failure: str | None = None

    @property
    def judged(self) -> bool:
        return self.failure is None

    def swapped(self) -> Preference:
        """The same of the pair in the other order."""
        return Preference(1.0 - self.probability, self.failure)


class PreferenceJudge(Protocol):
    """Compares finished conversations. Symmetric: ``prefer([(b, a)])`` is ``prefer([(a, b)])`` swapped."""

    name: str

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        """One preference per pair. A judge that could not decide says so in ``failure``; that is never a ½."""
