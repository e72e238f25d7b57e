"""Conversations of behaviour policies, and what is known of each: the talking behind ``benchmarks.data``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.agent import Agent
from agents.rollout import Moment, agent_rng, play
from envs.dataset import Judged, Logged, Parting, plain
from envs.env import Advance, ConversationEnv
from envs.judges import Pair, PreferenceJudge, draw_label
from envs.odds import Choice
from envs.trajectory import Trajectory

_BATCH = 256
_FIRST, _SECOND, _PARTED = 0, 1, 2
"""The takes of the conversations, of those they are compared with, and of those that part from them at a moment."""
_LABELS_OF_PAIRS, _LABELS_OF_PARTINGS, _MOMENTS = 0x1ABE1, 0x1ABE2, 0x303E7
"""Keep what is drawn apart; the first as in ``Practice.logged_pairs``."""


@dataclass(frozen=True, slots=True)
class Part:
    """All that was collected of one split."""

    split: str
    logged: list[Logged]
    pairs: list[Judged]
    partings: list[Parting]


@dataclass(frozen=True, slots=True)
class _Talk:
    """A conversation while it is held."""

    states: list[Any] = field(default_factory=list)
    """[K] the user's memory after each exchange."""
    moments: list[Moment] = field(default_factory=list)
    """[K] before each turn of the agent."""


@dataclass(frozen=True)
class Collector:
    """Lets policies talk in one environment; conversation ``i`` is about the scenario of ``seeds[i]``.

    Args:
        env: where, with whom, and which split.
        policies: who speaks, by name.
        judge: compares conversations; None where nothing is compared.
        seeds: one per conversation.
        on_done: called with each conversation as it ends.
    """

    env: ConversationEnv
    policies: Sequence[tuple[str, Agent]]
    judge: PreferenceJudge | None
    seeds: Sequence[int]
    on_done: Callable[[Trajectory], None] | None = None

    def collect(self, pairs: int, preferences: int) -> Part:
        """One conversation per seed, and comparisons of the first so many (see ``benchmarks.data``)."""
        logged: dict[int, Logged] = {}
        parting: dict[int, Moment] = {}
        for i, talk, logged_one in self._converse():
            logged[i] = logged_one
            if i < preferences:
                rng = np.random.default_rng((self.seeds[i], _MOMENTS))
                parting[i] = talk.moments[int(rng.integers(len(talk.moments)))]
        compared = self._compare([logged[i] for i in range(pairs)])
        return Part(
            self.env.split,
            [logged[i] for i in range(len(self.seeds))],
            compared,
            self._part([logged[i] for i in range(preferences)], [parting[i] for i in range(preferences)]),
        )

    # ---- one conversation per scenario ----------------------------------------------------------------------------

    def _converse(self) -> Iterator[tuple[int, _Talk, Logged]]:
        """In no order; the policies take turns."""
        for p, (name, agent) in enumerate(self.policies):
            for mine in _batches(range(p, len(self.seeds), len(self.policies))):
                talks = [_Talk() for _ in mine]

                def begun(k: int, moment: Moment, talks: list[_Talk] = talks) -> None:
                    talks[k].moments.append(moment)

                def heard(k: int, advance: Advance, talks: list[_Talk] = talks) -> None:
                    talks[k].states.append(plain(advance.episode.memory))

                moments = [Moment(self.env.begin(self.seeds[i], _FIRST)) for i in mine]
                held = play(agent, self.env, moments, on_done=self.on_done, on_moment=begun, on_advance=heard)
                known = zip(mine, talks, held, _choices(agent, held), strict=True)
                for i, talk, trajectory, choices in known:
                    yield i, talk, self._logged(name, trajectory, talk, choices)

    def _logged(self, name: str, trajectory: Trajectory, talk: _Talk, choices: list[Choice] | None) -> Logged:
        one = Logged(trajectory, name, self.env.split, user_states=tuple(talk.states))
        if choices is not None:
            acts, logprobs = tuple(c.act for c in choices), tuple(c.logprob for c in choices)
            return replace(one, acts=acts, logprob_of="act", logprobs=logprobs)
        if all(step.utterance.logprobs for step in trajectory.steps):
            logprobs = tuple(sum(step.utterance.logprobs) for step in trajectory.steps)
            return replace(one, logprob_of="tokens", logprobs=logprobs)
        return one

    # ---- comparisons ----------------------------------------------------------------------------------------------

    def _compare(self, logged: Sequence[Logged]) -> list[Judged]:
        """Each with one more conversation on its scenario; every two policies meet in turn."""
        count = len(self.policies)
        second = [(i // count) % count for i in range(len(logged))]
        others: dict[int, Trajectory] = {}
        for p, (_, agent) in enumerate(self.policies):
            for mine in _batches([i for i, q in enumerate(second) if q == p]):
                moments = [Moment(self.env.begin(self.seeds[i], _SECOND)) for i in mine]
                others |= zip(mine, play(agent, self.env, moments, on_done=self.on_done), strict=True)
        pairs = [(one.trajectory, others[i]) for i, one in enumerate(logged)]
        policies = [(one.policy, self.policies[p][0]) for one, p in zip(logged, second, strict=True)]
        return self._judge(pairs, policies, _LABELS_OF_PAIRS)

    def _part(self, logged: Sequence[Logged], moments: Sequence[Moment]) -> list[Parting]:
        """Each continued once more, by the same policy, from its moment on."""
        others: dict[int, Trajectory] = {}
        for name, agent in self.policies:
            for mine in _batches([i for i, one in enumerate(logged) if one.policy == name]):
                again = [replace(moments[i], episode=replace(moments[i].episode, take=_PARTED)) for i in mine]
                others |= zip(mine, play(agent, self.env, again, on_done=self.on_done), strict=True)
        pairs = [(one.trajectory, others[i]) for i, one in enumerate(logged)]
        judged = self._judge(pairs, [(one.policy, one.policy) for one in logged], _LABELS_OF_PARTINGS)
        return [Parting(moment.episode.exchanges, one) for moment, one in zip(moments, judged, strict=True)]

    def _judge(self, pairs: Sequence[Pair], policies: Sequence[tuple[str, str]], stream: int) -> list[Judged]:
        if not pairs:
            return []
        if self.judge is None:
            raise ValueError("There is no judge to compare conversations with; name one, or compare none.")
        preferences = self.judge.prefer(pairs)
        labels = [
            draw_label(one, np.random.default_rng((first.seed, stream)))
            for one, (first, _) in zip(preferences, pairs, strict=True)
        ]
        found = zip(pairs, preferences, labels, policies, strict=True)
        return [Judged(pair, said, label, who, self.judge.name) for pair, said, label, who in found]


def _batches(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), _BATCH):
        yield indices[start : start + _BATCH]


def _choices(agent: Agent, held: Sequence[Trajectory]) -> Sequence[list[Choice] | None]:
    """[N][K] what an agent with acts chose in each turn of each conversation; None for others."""
    found: list[list[Choice]] = [[] for _ in held]
    for k in range(max((one.exchanges for one in held), default=0)):
        live = [i for i, one in enumerate(held) if one.exchanges > k]
        heard = [held[i].prefix(k) for i in live]
        drawn = agent.choices(heard, [agent_rng(held[i].seed, k, held[i].take) for i in live])
        if drawn is None:
            return [None] * len(held)
        for i, choice in zip(live, drawn, strict=True):
            found[i].append(choice)
    return found
