"""What an agent may consume while it learns, and the meter that counts it.

Every agent gets the same number of conversations with users; what it does with them is its own: one after another
(``converse``), two on one scenario to be compared (``pairs``), one and another way it might have gone on from one of
its moments (``branches``), or many ways (``continuations``). Calls of the judge and compute are recorded apart.
Training seeds come from ``TRAINING_SEEDS`` and never meet the evaluation's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from agents.agent import Agent
from agents.rollout import Moment, another_take, play, rollout, speak, with_moments
from envs.dataset import Dataset
from envs.env import ConversationEnv
from envs.judges import Pair, Preference, PreferenceJudge, TurnJudge, draw_label, draw_labels
from envs.trajectory import Trajectory, Utterance, failure_kind

TRAINING_SEEDS = range(1 << 32, 1 << 33)
"""Conversation seeds of practice; those of evaluation lie below, and those of logged data above."""
LOGGED_SEEDS = range(1 << 33, 1 << 34)


class BudgetSpent(RuntimeError):
    """An agent asked for more conversations than its budget holds."""


class Unavailable(ValueError):
    """An agent asked for what its environment, or the data that are given, do not have."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may consume."""

    conversations: int
    """Conversations with users, over all iterations."""
    per_iteration: int
    """Conversations an agent is expected to take per iteration."""
    logged: int = 0
    """Conversations of the environment's behaviour policy that every agent gets beforehand, at no cost."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One moment and two conversations from there on, equal up to it."""

    exchange: int
    """The agent's turn (0-based) at which they part."""
    first: Trajectory
    second: Trajectory

    @property
    def pair(self) -> Pair:
        return self.first, self.second


@dataclass(frozen=True, slots=True)
class Alternatives:
    """A conversation, and at every turn of the agent another utterance that it might have said instead."""

    trajectory: Trajectory
    moments: tuple[Moment, ...]
    """[K] before each turn."""
    others: tuple[Utterance, ...]
    """[K]"""


@dataclass(frozen=True, slots=True)
class Continued:
    """One moment, what the agent might say there, and how conversations went on from each of it."""

    moment: Moment
    said: tuple[Utterance, ...]
    """[R]"""
    held: tuple[tuple[Trajectory, ...], ...]
    """[R][S] conversations, equal up to the moment; at it, ``said[i]`` is said in all of ``held[i]``."""

    @property
    def exchange(self) -> int:
        """The agent's turn (0-based) at which they part."""
        return self.moment.episode.exchanges


@dataclass(slots=True)
class Spent:
    """What was consumed so far."""

    conversations: int = 0
    exchanges: int = 0
    user_tokens: int = 0
    agent_tokens: int = 0
    judge_calls: int = 0
    judge_failures: int = 0
    """Calls in which the judge could not decide."""
    unscored: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """The unscored conversations by the kind of failure (``envs.trajectory.failure_kind``)."""


@dataclass
class Practice:
    """Metered access to an environment's users.

    Args:
        env: the training environment (its training split).
        budget: how much may be consumed.
        seed: the run's seed; conversation ``i`` of the run always gets the same environment seed.
        behaviour: who speaks in the logged data; None for environments without any.
        logged_env: where it speaks, so that logged data is the same whomever the agent learns with; ``env`` if None.
        judge: compares conversations; None where nothing is compared.
        turn_judge: compares two utterances at one moment, without playing on.
        on_conversation: called with each trajectory as it ends, for progress bars.
        on_logged: the same for those of the logged data, which are made anew in every run.
        given: conversations and comparisons in the place of the logged data of ``behaviour``, if there are any.
    """

    env: ConversationEnv
    budget: Budget
    seed: int
    behaviour: Agent | None = None
    logged_env: ConversationEnv | None = None
    judge: PreferenceJudge | None = None
    turn_judge: TurnJudge | None = None
    on_conversation: Callable[[Trajectory], None] | None = None
    on_logged: Callable[[Trajectory], None] | None = None
    given: Dataset | None = None
    spent: Spent = field(default_factory=Spent)
    iteration: int = 0
    finished: bool = False
    _logged: list[Trajectory] | None = None
    _logged_pairs: tuple[list[Pair], np.ndarray] | None = None

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

        By default ``iteration_share()``.

        Raises ``BudgetSpent`` when fewer than ``n`` are left. Unscored conversations are among them
        (``judged=False``) and count as spent; leave them out of whatever is learnt.
        """
        n = self.iteration_share() if n is None else n
        seeds = self._take(n)
        trajectories = rollout(agent, self.env, seeds, on_done=self.on_conversation)
        self._count(trajectories)
        return trajectories

    def iteration_share(self) -> int:
        """How many conversations an iteration is expected to take: ``budget.per_iteration``, and in the last one also
        a rest that would be less than half of it."""
        share, left = self.budget.per_iteration, self.remaining
        return left if left < share + (share + 1) // 2 else share

    def pairs(self, first: Agent, second: Agent, n: int) -> list[Pair]:
        """``n`` new training scenarios with one conversation of each agent, independent of one another given the
        scenario. ``2n`` conversations are spent. An agent may be compared with itself.

        Raises ``BudgetSpent`` when fewer are left.
        """
        if first is second:
            return [(one, other) for one, other in self.groups(first, n, 2)]
        seeds = self._take(2 * n)[:n]
        firsts = rollout(first, self.env, seeds, on_done=self.on_conversation)
        seconds = rollout(second, self.env, seeds, take=1, on_done=self.on_conversation)
        self._count([*firsts, *seconds])
        return list(zip(firsts, seconds, strict=True))

    def groups(self, agent: Agent, n: int, k: int) -> list[tuple[Trajectory, ...]]:
        """``n`` new training scenarios with ``k`` conversations of ``agent`` each, independent of one another given the
        scenario. ``n * k`` conversations are spent."""
        seeds = self._take(n * k)[:n]
        moments = [Moment(self.env.begin(seed, take)) for seed in seeds for take in range(k)]
        held = play(agent, self.env, moments, on_done=self.on_conversation)
        self._count(held)
        return [tuple(held[i : i + k]) for i in range(0, len(held), k)]

    def branches(self, agent: Agent, n: int, rng: np.random.Generator) -> list[Branch]:
        """``n`` conversations of ``agent``, and each once more from one of its moments on, drawn evenly by ``rng``.

        ``2n`` conversations are spent: one that begins in the middle counts as one.
        """
        seeds = self._take(2 * n)[:n]
        trunks, moments = with_moments(agent, self.env, seeds, on_done=self.on_conversation)
        at = [int(rng.integers(len(of_one))) for of_one in moments]
        again = [another_take(of_one[k]) for of_one, k in zip(moments, at, strict=True)]
        self._count(trunks)
        others = self._played_on(agent, again)
        return [Branch(*branch) for branch in zip(at, trunks, others, strict=True)]

    def continuations(
        self, agent: Agent, n: int, responses: int, samples: int, rng: np.random.Generator
    ) -> list[Continued]:
        """``n`` conversations of ``agent``; at one moment of each, drawn evenly by ``rng``, ``responses`` utterances of
        it, independent of one another; and after each utterance ``samples`` conversations, independent of one another
        given the utterance. What was said and held at first is the first of all.

        ``n * responses * samples`` conversations are spent, as in ``branches``, which has two responses with one sample
        each; an utterance that is said again counts again.
        """
        seeds = self._take(n * responses * samples)[:n]
        trunks, moments = with_moments(agent, self.env, seeds, on_done=self.on_conversation)
        at = [of_one[int(rng.integers(len(of_one)))] for of_one in moments]
        self._count(trunks)
        others = [another_take(moment, i * samples) for moment in at for i in range(1, responses)]
        following = iter(self._played_on(agent, others))
        firsts = [(trunk, *(next(following) for _ in range(1, responses))) for trunk in trunks]
        said = [
            tuple(held.steps[moment.episode.exchanges].utterance for held in row)
            for row, moment in zip(firsts, at, strict=True)
        ]
        again = [
            (another_take(moment, i * samples + j), utterance)
            for moment, row in zip(at, said, strict=True)
            for i, utterance in enumerate(row)
            for j in range(1, samples)
        ]
        following = iter(self._played_on(agent, [one for one, _ in again], [utterance for _, utterance in again]))
        return [
            Continued(moment, row, tuple((first, *(next(following) for _ in range(1, samples))) for first in held))
            for moment, row, held in zip(at, said, firsts, strict=True)
        ]

    def _played_on(
        self, agent: Agent, moments: Sequence[Moment], said: Sequence[Utterance] | None = None
    ) -> list[Trajectory]:
        """Conversations from ``moments`` on, counted."""
        held = play(agent, self.env, moments, on_done=self.on_conversation, said=said)
        self._count(held, moments)
        return held

    def alternatives(self, agent: Agent, n: int) -> list[Alternatives]:
        """``n`` conversations of ``agent``, and what else it might have said at every turn. ``n`` conversations are
        spent: the other utterances meet no user."""
        trunks, moments = with_moments(agent, self.env, self._take(n), on_done=self.on_conversation)
        self._count(trunks)
        flat = [another_take(moment).episode for of_one in moments for moment in of_one]
        others: list[Utterance] = []
        for i in range(0, len(flat), 256):
            others += speak(agent, flat[i : i + 256])
        following = iter(others)
        return [
            Alternatives(trunk, tuple(of_one), tuple(next(following) for _ in of_one))
            for trunk, of_one in zip(trunks, moments, strict=True)
        ]

    def _take(self, n: int) -> range:
        """The seeds of the next ``n`` conversations. Raises ``BudgetSpent`` when fewer are left."""
        if not 0 < n <= self.remaining:
            raise BudgetSpent(f"{n} conversations asked for, {self.remaining} of {self.budget.conversations} are left.")
        first = TRAINING_SEEDS.start + (self.seed % 4096) * (1 << 20) + self.spent.conversations
        return range(first, first + n)

    # ---- what the judge says --------------------------------------------------------------------------------------

    def preferences(self, pairs: Sequence[Pair]) -> list[Preference]:
        """The judge's own probabilities. Each pair is one call of the judge."""
        preferences = self._named_judge().prefer(pairs)
        self.spent.judge_calls += len(pairs)
        self.spent.judge_failures += sum(not one.judged for one in preferences)
        return preferences

    def labels(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[N] a label per pair drawn from the judge's probabilities: 1 where the first is preferred, 0 where the
        second is, ½ for a tie; NaN where the judge failed: leave these out."""
        return self._counted(draw_labels(self._named_judge(), pairs, self._label_rngs(len(pairs))))

    def turn_labels(self, moments: Sequence[Moment], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """[N] the same for two utterances at one moment, of a judge who sees no further than that."""
        if self.turn_judge is None:
            raise Unavailable(
                "This environment names no judge of single turns: its YAML has no `turn_judge:` entry. Add one to "
                "conf/env/<name>.yaml, or learn from whole conversations (agent.labels=value)."
            )
        episodes = [moment.episode for moment in moments]
        preferences = self.turn_judge.prefer_turns(episodes, first, second)
        rngs = self._label_rngs(len(episodes))
        return self._counted(np.array([draw_label(one, rng) for one, rng in zip(preferences, rngs, strict=True)]))

    def _counted(self, labels: np.ndarray) -> np.ndarray:
        self.spent.judge_failures += int(np.isnan(labels).sum())
        return labels

    def _label_rngs(self, n: int) -> list[np.random.Generator]:
        first = self.spent.judge_calls
        self.spent.judge_calls += n
        return [np.random.default_rng((self.seed, first + i, 0x1ABE1)) for i in range(n)]

    def _named_judge(self) -> PreferenceJudge:
        if self.judge is None:
            raise Unavailable(
                "There is no judge to compare conversations with; name one of conf/judge, such as judge=outcome."
            )
        return self.judge

    # ---- what is given --------------------------------------------------------------------------------------------

    def logged_pairs(self) -> tuple[Sequence[Pair], np.ndarray]:
        """Pairs of conversations of the behaviour policy, two on each scenario, and the judge's labels [N] (see
        ``labels``): the preference data that is collected before anybody learns, the same for every agent and seed.

        ``budget.logged`` conversations, hence half as many pairs. Not metered. Where they are ``given``, so are their
        labels; raises ``ValueError`` when there are fewer.
        """
        if self._logged_pairs is None and self.given is not None:
            with _said_as_unavailable():
                self._logged_pairs = self.given.first_pairs(self.budget.logged // 2)
        if self._logged_pairs is None:
            seeds, env = LOGGED_SEEDS[: self.budget.logged // 2], self.logged_env or self.env
            both = [rollout(self._behaviour(), env, seeds, take=take, on_done=self.on_logged) for take in (0, 1)]
            pairs = list(zip(*both, strict=True))
            rngs = [np.random.default_rng((seed, 0x1ABE1)) for seed in seeds]
            self._logged_pairs = pairs, draw_labels(self._named_judge(), pairs, rngs)
        return self._logged_pairs

    def logged(self) -> Sequence[Trajectory]:
        """The offline data of this environment: ``budget.logged`` conversations of its behaviour policy, the same for
        every agent and seed, or what is ``given`` instead. Not metered. Raises ``ValueError`` when the environment
        names no behaviour policy, and when fewer are given."""
        if self._logged is None and self.given is not None:
            with _said_as_unavailable():
                self._logged = self.given.first(self.budget.logged)
        if self._logged is None:
            seeds = LOGGED_SEEDS[: self.budget.logged]
            self._logged = rollout(self._behaviour(), self.logged_env or self.env, seeds, on_done=self.on_logged)
        return self._logged

    def _behaviour(self) -> Agent:
        if self.behaviour is None:
            raise Unavailable(
                "This environment has no logged data: its YAML names no behaviour policy. Add a `behaviour:` entry to "
                "conf/env/<name>.yaml, or give the agent a start model (agent.start=<folder>) and no logged data."
            )
        return self.behaviour

    def _count(self, trajectories: Sequence[Trajectory], since: Sequence[Moment] | None = None) -> None:
        """Count conversations; of those that were played on, what is new ``since`` their moments."""
        self.spent.conversations += len(trajectories)
        for i, trajectory in enumerate(trajectories):
            steps, user_tokens = (len(since[i].steps), since[i].user_tokens) if since else (0, 0)
            self.spent.exchanges += trajectory.exchanges - steps
            self.spent.user_tokens += trajectory.user_tokens - user_tokens
            self.spent.agent_tokens += sum(len(step.utterance.tokens) for step in trajectory.steps[steps:])
            if not trajectory.judged:
                self.spent.unscored += 1
                kind = failure_kind(trajectory.failure)
                self.spent.failures[kind] = self.spent.failures.get(kind, 0) + 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the meter."""
        return {**asdict(self.spent), "iteration": self.iteration, "finished": self.finished}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue the meter where ``state`` left it."""
        self.iteration, self.finished = state["iteration"], bool(state["finished"])
        self.spent = Spent(**{f.name: state[f.name] for f in fields(Spent) if f.name in state})


@contextmanager
def _said_as_unavailable() -> Iterator[None]:
    """What the given data lack is told as what an environment lacks."""
    try:
        yield
    except ValueError as error:
        raise Unavailable(str(error)) from error
