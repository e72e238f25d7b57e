"""REINFORCE on whole conversations, with the mean of the others for a baseline.

The plain policy gradient: a conversation is one action, and all tokens of the agent in it share its advantage,

    Â_i = R_i - mean of R_j over the others in the batch        L = -mean over i of Â_i log π(conversation i)

Leaving i out of its own baseline keeps the gradient unbiased (leave-one-out; RLOO, arXiv 2402.14740, has the baseline
over several responses to one prompt, here it is over a batch of scenarios, each met once). One gradient step per batch:
it is that of ``agents.clipped_gradient`` with one epoch and one minibatch, where the ratio is 1 and nothing is clipped.
More steps per batch would make it something else, and are refused.

Added to the textbook's: KL to the start as a term of the loss, summed over a conversation; and the advantage is in
units of the deviation of all returns so far (``normalise``), so that KL weighs the same in every world.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.advantages import Unit, less_the_others
from agents.agent import Metrics
from agents.clipped_gradient import ClippedGradient, ClippedLearning
from agents.on_policy import OnPolicyLearner
from agents.practice import Practice
from envs.trajectory import Trajectory


class Reinforce(OnPolicyLearner):
    """A chat model that learns by REINFORCE.

    Args:
        start, temperature, max_new_tokens, conversations_per_step, device, dtype, lora_rank: see ``OnPolicyLearner``.
        learner: the settings of the steps, with one epoch and no minibatches.
        normalise: whether advantages are divided by the deviation of all returns so far.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(self, start: str | None, learner: ClippedGradient, *, normalise: bool = True, **options: Any):
        if (learner.epochs, learner.minibatch, learner.ratio, learner.kl) != (1, None, "sum", "exact"):
            raise ValueError(
                f"learner.epochs={learner.epochs}, minibatch={learner.minibatch}, ratio={learner.ratio}, "
                f"kl={learner.kl}; REINFORCE takes one step per batch: give 1, null, sum and exact."
            )
        self.settings, self.normalise = learner, normalise
        super().__init__(start, **options)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given."""
        super().prepare(practice)
        self._begin_learning()

    def _begin_learning(self) -> None:
        self.learning, self.returns = ClippedLearning(self.settings, self.policy, self.start), Unit()

    def step(self, trajectories: Sequence[Trajectory], outcomes: np.ndarray, rng: np.random.Generator) -> Metrics:
        reads = [self.policy.trajectory_tokens(trajectory) for trajectory in trajectories]
        rewards = [np.array([step.reward for step in trajectory.steps]) for trajectory in trajectories]
        (one,) = self.learning.minibatches(reads, rewards, "conversation", rng)
        unit = self.returns.show(outcomes)
        advantages = less_the_others(outcomes)[one.chosen] / (unit if self.normalise else 1.0)
        return {**self.learning.learn([one], [advantages], rng), "advantage_spread": float(advantages.std())}

    def save(self, folder: Path) -> None:
        super().save(folder)
        torch.save({"policy": self.learning.state(), "returns": list(self.returns.seen)}, folder / "learning.pt")

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self._begin_learning()
        state = torch.load(folder / "learning.pt", weights_only=True)
        self.learning.restore(state["policy"])
        n, total, squares = state["returns"]
        self.returns.seen = (int(n), float(total), float(squares))
