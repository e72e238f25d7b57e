"""What an agent may consume while it learns, and the meter that counts it.

Every agent gets the same number of conversations with users; what it does with them is its own. Compute is recorded
apart. Training seeds come from ``TRAINING_SEEDS`` and never meet the evaluation's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from agents.agent import Agent
from agents.rollout import rollout
from envs.env import ConversationEnv
from envs.trajectory import Trajectory

TRAINING_SEEDS = range(1 << 32, 1 << 33)
"""Conversation seeds of practice; those of evaluation lie below, and those of logged data above."""
LOGGED_SEEDS = range(1 << 33, 1 << 34)


class BudgetSpent(RuntimeError):
    """An agent asked for more conversations than its budget holds."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may consume."""

    conversations: int
    """Conversations with users, over all iterations."""
    per_iteration: int
    """Conversations an agent is expected to take per iteration."""
    logged: int = 0
    """Conversations of the environment's behaviour policy that every agent gets beforehand, at no cost."""


@dataclass(slots=True)
class Spent:
    """What was consumed so far."""

    conversations: int = 0
    exchanges: int = 0
    user_tokens: int = 0
    agent_tokens: int = 0
    judge_calls: int = 0
    unscored: int = 0


@dataclass
class Practice:
    """Metered access to an environment's users.

    Args:
        env: the training environment (its training split).
        budget: how much may be consumed.
        seed: the run's seed; conversation ``i`` of the run always gets the same environment seed.
        behaviour: who speaks in the logged data; None for environments without any.
        logged_env: where it speaks, so that logged data is the same whomever the agent learns with; ``env`` if None.
        on_conversation: called with each trajectory as it ends, for progress bars.
        on_logged: the same for those of the logged data, which are made anew in every run.
    """

    env: ConversationEnv
    budget: Budget
    seed: int
    behaviour: Agent | None = None
    logged_env: ConversationEnv | None = None
    on_conversation: Callable[[Trajectory], None] | None = None
    on_logged: Callable[[Trajectory], None] | None = None
    spent: Spent = field(default_factory=Spent)
    iteration: int = 0
    finished: bool = False
    _logged: list[Trajectory] | None = None

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the current iteration, for everything a learner draws outside conversations. Each access
        starts the same stream anew: take it once per ``improve``."""
        return np.random.default_rng((self.seed, 1 + self.iteration, 0x1EA2))

    @property
    def remaining(self) -> int:
        """Conversations left."""
        return self.budget.conversations - self.spent.conversations

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to take: the budget is spent, or the agent said that it is done."""
        return self.finished or self.remaining <= 0

    def finish(self) -> None:
        """The agent has learnt all it can and leaves the rest of its budget, as one that learns from logs does."""
        self.finished = True

    def converse(self, agent: Agent, n: int | None = None) -> list[Trajectory]:
        """``n`` conversations of ``agent`` in new training scenarios.

        By default an iteration's share; the last iteration takes along a rest that would be less than half of it.

        Raises ``BudgetSpent`` when fewer than ``n`` are left. Unscored conversations are among them
        (``judged=False``) and count as spent; leave them out of whatever is learnt.
        """
        if n is None:
            share, left = self.budget.per_iteration, self.remaining
            n = left if left < share + (share + 1) // 2 else share
        if not 0 < n <= self.remaining:
            raise BudgetSpent(f"{n} conversations asked for, {self.remaining} of {self.budget.conversations} are left.")
        base = TRAINING_SEEDS.start + (self.seed % 4096) * (1 << 20)
        first = base + self.spent.conversations
        trajectories = rollout(agent, self.env, range(first, first + n), on_done=self.on_conversation)
        self._count(trajectories)
        return trajectories

    def logged(self) -> Sequence[Trajectory]:
        """The offline data of this environment: ``budget.logged`` conversations of its behaviour policy, the same for
        every agent and seed. Not metered. Raises ``ValueError`` when the environment names no behaviour policy."""
        if self.behaviour is None:
            raise ValueError(
                "This environment has no logged data: its YAML names no behaviour policy. Add a `behaviour:` entry to "
                "conf/env/<name>.yaml, or give the agent a start model (agent.start=<folder>) and no logged data."
            )
        if self._logged is None:
            seeds = LOGGED_SEEDS[: self.budget.logged]
            self._logged = rollout(self.behaviour, self.logged_env or self.env, seeds, on_done=self.on_logged)
        return self._logged

    def _count(self, trajectories: Sequence[Trajectory]) -> None:
        self.spent.conversations += len(trajectories)
        self.spent.exchanges += sum(t.exchanges for t in trajectories)
        self.spent.user_tokens += sum(t.user_tokens for t in trajectories)
        self.spent.agent_tokens += sum(t.agent_tokens for t in trajectories)
        self.spent.unscored += sum(not t.judged for t in trajectories)

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps of the meter."""
        return {**asdict(self.spent), "iteration": self.iteration, "finished": self.finished}

    def restore(self, state: dict[str, int]) -> None:
        """Continue the meter where ``state`` left it."""
        self.iteration, self.finished = state["iteration"], bool(state["finished"])
        self.spent = Spent(**{f.name: state[f.name] for f in fields(Spent)})
