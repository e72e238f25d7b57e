"""What learners from batches of their own conversations have in common: an iteration of converse, learn, converse.

An iteration is as many steps as its share of conversations allows: each takes ``conversations_per_step`` conversations
of the policy as it is then, and learns from those that got an outcome. Where outcomes come from (``converse``) and what
a step makes of them (``step``) is all that the agents add.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.agent import Metrics, check_range
from agents.behaviour import behaviour_metrics, mean_metrics
from agents.chat_learner import ChatLearner
from agents.practice import Practice
from agents.speaker import Speaker
from envs.trajectory import Trajectory

Outcomes = tuple[list[Trajectory], np.ndarray]
"""Conversations that a step learns from, and the outcome of each [B]."""


class OnPolicyLearner(ChatLearner):
    """A chat model that learns from its own conversations, a batch at a time.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        conversations_per_step: conversations of one step.
    """

    def __init__(
        self,
        start: str | None,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        conversations_per_step: int = 32,
        **loading: Any,
    ):
        check_range("conversations_per_step", conversations_per_step, 2)
        self.conversations_per_step = conversations_per_step
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given."""
        check_range("budget.per_iteration", practice.budget.per_iteration, 2)
        super().prepare(practice)

    def converse(self, practice: Practice, n: int) -> Outcomes:
        """At most ``n`` conversations of practice, at least one; those with an outcome, and the outcomes. By default
        those that were scored, and their returns."""
        held = practice.converse(Speaker(self.policy), n)
        judged = [trajectory for trajectory in held if trajectory.judged and trajectory.steps]
        return judged, np.array([trajectory.returns() for trajectory in judged])

    def begin_iteration(self) -> None:
        """Called before the first step of an iteration."""

    @abstractmethod
    def step(self, trajectories: Sequence[Trajectory], outcomes: np.ndarray, rng: np.random.Generator) -> Metrics:
        """Learn from B conversations, at least one, and their outcomes [B]; what was measured on the way."""

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        left = practice.iteration_share()
        conversations_before, unscored_before = practice.spent.conversations, practice.spent.unscored
        for model in (self.policy, self.start):
            model.forget()  # a restored agent remembers nothing of what it read, and reading is exact to rounding only
        self.begin_iteration()
        logs: list[dict[str, float]] = []
        learnt_from = 0
        while left >= 2:  # one alone can't be compared
            spent = practice.spent.conversations
            trajectories, outcomes = self.converse(practice, min(left, self.conversations_per_step))
            left -= practice.spent.conversations - spent
            learnt_from += len(trajectories)
            if len(trajectories):
                logs.append({**behaviour_metrics(trajectories), **self.step(trajectories, outcomes, rng)})
        if not logs:
            raise RuntimeError(
                f"None of {practice.spent.conversations} conversations got an outcome, so nothing can be learnt; see "
                "why the user or the judge fails, or raise budget.per_iteration."
            )
        if practice.remaining < 2:
            practice.finish()
        unscored = practice.spent.unscored - unscored_before
        left_out = practice.spent.conversations - conversations_before - unscored - learnt_from
        return {**mean_metrics(logs), "unscored": float(unscored), "left_out": float(left_out)}
