"""Multi-turn RLHF (arXiv 2405.14655, sections 4 and 5): a reward on the finished conversation, and the turns' gradient.

The same learner as MTPO's (``agents.turn_gradient``), so that the two differ in their feedback alone: here the outcome
of a conversation is a fixed reward, learnt once from labelled pairs by Bradley-Terry (``reward: model``), where MTPO
compares with the policy as it is now. Per step: a batch of contexts, *one* conversation in each.

``reward: return`` takes the world's own return for the outcome: reinforcement learning on the true reward, as in the
paper's Car Dealer.

Departures: as for MTPO (``agents.mtpo``). The paper's batch of 16 contexts makes 16 conversations here and 32 there;
``conversations_per_step`` is the same for both here. The reward is centred on that of the logged conversations and
divided by its deviation between two conversations on one scenario (a constant per scenario means nothing to
Bradley-Terry), so that α weighs the same whatever scale was found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.on_policy import Outcomes
from agents.practice import Practice
from agents.speaker import Speaker
from agents.turn_gradient import TurnGradient
from agents.turn_learner import TurnLearner


class MultiTurnRLHF(TurnLearner):
    """A chat model that learns by multi-turn RLHF.

    Args:
        start, learner: see ``TurnLearner``.
        reward: ``model`` or ``return``.
        options: those of ``TurnLearner``.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self, start: str | None, learner: TurnGradient, *, reward: Literal["model", "return"] = "model", **options: Any
    ):
        if reward not in ("model", "return"):
            raise ValueError(f"reward={reward!r}; choose model or return.")
        self.reward = reward
        self.judge_kind = "bradley_terry" if reward == "model" else None
        self._scale = (0.0, 1.0)
        super().__init__(start, learner, **options)

    def prepare(self, practice: Practice) -> None:
        super().prepare(practice)
        if self.judge is not None:
            pairs = [pair for pair in practice.logged_pairs()[0] if all(one.failure is None for one in pair)]
            logged = self.judge.rewards(self.judge.features(self.texts([one for pair in pairs for one in pair])))
            within = float(np.std(logged[::2] - logged[1::2])) / np.sqrt(2)
            self._scale = (float(logged.mean()), max(within, 1e-6))

    def converse(self, practice: Practice, n: int) -> Outcomes:
        held = practice.converse(Speaker(self.policy), n)
        judged = [trajectory for trajectory in held if trajectory.judged and trajectory.steps]
        if self.judge is None:
            return judged, np.array([trajectory.returns() for trajectory in judged])
        mean, unit = self._scale
        rewards = self.judge.rewards(self.judge.features(self.texts(judged))) if judged else np.zeros(0)
        return judged, (rewards - mean) / unit

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "scale.json").write_text(json.dumps(self._scale))

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        mean, unit = json.loads((folder / "scale.json").read_text())
        self._scale = (mean, unit)
