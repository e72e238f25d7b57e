"""GRPO on whole conversations: k of them on one scenario, each compared with the others (arXiv 2402.03300).

Per step: groups of ``generations`` conversations of the current policy, each group on one scenario; the advantage of a
conversation, and of every token that the agent says in it, is its return in its group,

    Â_i = (R_i - mean of the group) / (deviation of the group)

and the policy takes clipped steps per token (``agents.clipped_gradient``), with KL to the start in the loss. No critic.
What is common "multi-turn GRPO": no turn is told from another.

``scale=none`` leaves the deviation out, and with ``by_conversation=false`` every token of the batch weighs alike, where
GRPO takes the mean over each conversation's tokens first: together these are Dr. GRPO (arXiv 2503.20783), which found
that the former favours scenarios on which nearly all go alike, and the latter long failures. ``scale=batch`` divides by
the deviation of all advantages in the batch.

TRL's ``GRPOTrainer`` can be given conversations (``rollout_func``), but it takes prompts as text, wants the tokens of a
conversation back from a generation of its own making and holds its own loop. Here the tokens are exactly those that
were said in practice, every conversation is on the meter, one that a user or judge failed in is left out of its group
(a reward function has only None for it), and an interrupted run goes on as it was.

Departures: the deviation is that of a sample (over k - 1), as in TRL; KL is exact over the vocabulary and not the
estimator r - 1 - log r; a group of which fewer than two were scored is left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from agents.agent import Metrics, check_range
from agents.clipped_gradient import ClippedGradient, ClippedLearning
from agents.on_policy import OnPolicyLearner, Outcomes
from agents.practice import Practice
from agents.speaker import Speaker
from envs.trajectory import Trajectory

Scale = Literal["group", "batch", "none"]


class GRPOTrajectories(OnPolicyLearner):
    """A chat model that learns by GRPO on whole conversations.

    Args:
        start, temperature, max_new_tokens, conversations_per_step, device, dtype, lora_rank: see ``OnPolicyLearner``.
        learner: the settings of the policy's steps.
        generations: k, conversations on each scenario.
        scale: what advantages are divided by, ``group``, ``batch`` or ``none``.
        by_conversation: whether the loss is a mean over conversations of the means over their tokens, or over tokens.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        learner: ClippedGradient,
        *,
        generations: int = 4,
        scale: Scale = "group",
        by_conversation: bool = True,
        **options: Any,
    ):
        check_range("generations", generations, 2)
        if scale not in ("group", "batch", "none"):
            raise ValueError(f"scale={scale!r}; choose group, batch or none.")
        if learner.kl != "exact":
            raise ValueError(f"learner.kl={learner.kl!r}; GRPO has KL in its loss: give exact.")
        self.settings, self.generations, self.scale, self.by_conversation = learner, generations, scale, by_conversation
        super().__init__(start, **options)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given."""
        super().prepare(practice)
        self.learning = ClippedLearning(self.settings, self.policy, self.start)

    def converse(self, practice: Practice, n: int) -> Outcomes:
        """Groups on scenarios; the outcome of a conversation is its advantage."""
        k = min(self.generations, n)
        groups = practice.groups(Speaker(self.policy), n // k, k)
        scored = [[one for one in group if one.judged and one.steps] for group in groups]
        scored = [group for group in scored if len(group) >= 2]
        if not scored:
            return [], np.zeros(0)
        returns = [np.array([one.returns() for one in group]) for group in scored]
        return [one for group in scored for one in group], group_advantages(returns, self.scale)

    def step(self, trajectories: Sequence[Trajectory], outcomes: np.ndarray, rng: np.random.Generator) -> Metrics:
        reads = [self.policy.trajectory_tokens(trajectory) for trajectory in trajectories]
        rewards = [np.zeros(trajectory.exchanges) for trajectory in trajectories]  # outcomes say it all
        minibatches = self.learning.minibatches(reads, rewards, "token", rng)
        advantages = [outcomes[one.chosen][one.decisions.owners] for one in minibatches]
        weights = None
        if self.by_conversation:
            weights = [(1 / np.bincount(one.decisions.owners))[one.decisions.owners] for one in minibatches]
        metrics = self.learning.learn(minibatches, advantages, rng, weights=weights)
        return {**metrics, "advantage_spread": float(outcomes.std()), "silent": float(np.mean(outcomes == 0))}

    def save(self, folder: Path) -> None:
        super().save(folder)
        torch.save(self.learning.state(), folder / "learning.pt")

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self.learning = ClippedLearning(self.settings, self.policy, self.start)
        self.learning.restore(torch.load(folder / "learning.pt", weights_only=True))


def group_advantages(returns: Sequence[np.ndarray], scale: Scale) -> np.ndarray:
    """[ΣK] the advantages of the conversations of groups, one group after another, from their returns [K]. A group
    that goes alike has none."""
    centred = [one - one.mean() if np.ptp(one) else np.zeros(len(one)) for one in returns]  # not a rounding error of it
    if scale == "group":
        centred = [one / (one.std(ddof=1) + 1e-4) for one in centred]
    every = np.concatenate(centred)
    return every / (every.std() + 1e-4) if scale == "batch" else every
