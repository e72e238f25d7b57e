"""Conversations between an agent and an environment's user, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agents.agent import Agent
from envs.env import Advance, ConversationEnv, Episode, unspoken
from envs.trajectory import Step, Trajectory, Utterance

_AGENT_STREAM = 0xA9E27
"""Keeps the agent's random stream apart from the user's, which is (seed, 1 + exchanges, take)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A conversation before one of the agent's turns: it can be played on from here, as often as one likes."""

    episode: Episode
    steps: tuple[Step, ...] = ()
    """What was said so far."""
    user_tokens: int = 0


@dataclass(slots=True)
class _Live:
    """A conversation that is still going on."""

    index: int
    episode: Episode
    steps: list[Step] = field(default_factory=list)
    user_tokens: int = 0

    @property
    def moment(self) -> Moment:
        return Moment(self.episode, tuple(self.steps), self.user_tokens)


def agent_rng(seed: int, exchange: int, take: int = 0) -> np.random.Generator:
    """The generator of an agent's utterance in ``exchange`` (0-based) of the conversation that ``seed`` and ``take``
    name."""
    return np.random.default_rng((seed, 1 + exchange, _AGENT_STREAM + take))


def rollout(
    agent: Agent,
    env: ConversationEnv,
    seeds: Sequence[int],
    *,
    take: int = 0,
    batch_size: int = 256,
    explore: bool = True,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """One whole conversation per seed, in the order of ``seeds``.

    ``batch_size`` conversations are kept going at once; when some end, the batch goes on smaller (what they leave is
    not refilled, so that every conversation of a batch is at the same exchange). ``on_done`` is called with each
    trajectory as it ends, for progress bars. Results do not depend on ``batch_size`` beyond floating point.
    """
    trajectories: list[Trajectory] = []
    for start in range(0, len(seeds), batch_size):
        moments = [Moment(env.begin(int(seed), take)) for seed in seeds[start : start + batch_size]]
        trajectories += play(agent, env, moments, explore=explore, on_done=on_done)
    return trajectories


def play(
    agent: Agent,
    env: ConversationEnv,
    moments: Sequence[Moment],
    *,
    explore: bool = True,
    on_done: Callable[[Trajectory], None] | None = None,
    on_moment: Callable[[int, Moment], None] | None = None,
    on_advance: Callable[[int, Advance], None] | None = None,
    said: Sequence[Utterance | None] | None = None,
) -> list[Trajectory]:
    """Each conversation from where it stands to its end, all in step; one trajectory per moment, in order.

    ``on_moment`` is called with the index and the moment before each of the agent's turns, ``on_advance`` with the
    index and what came of the turn. ``said`` is what the agent says at each of ``moments``, where that is decided
    already (None: where it is not); only from then on it is asked.
    """
    trajectories: list[Trajectory | None] = [None] * len(moments)
    live = [_Live(i, one.episode, list(one.steps), one.user_tokens) for i, one in enumerate(moments)]
    while live:
        if on_moment:
            for one in live:
                on_moment(one.index, one.moment)
        episodes = [one.episode for one in live]
        utterances = _spoken(agent, episodes, said or [None] * len(live), explore)
        said = None
        advances = _advanced(env, episodes, utterances)
        going = []
        for one, utterance, advance in zip(live, utterances, advances, strict=True):
            _record(one, utterance, advance)
            if on_advance:
                on_advance(one.index, advance)
            if not advance.done:
                going.append(one)
                continue
            trajectories[one.index] = trajectory = _conclude(one, advance)
            if on_done:
                on_done(trajectory)
        live = going
    return [trajectory for trajectory in trajectories if trajectory is not None]


def with_moments(
    agent: Agent,
    env: ConversationEnv,
    seeds: Sequence[int],
    *,
    batch_size: int = 256,
    on_done: Callable[[Trajectory], None] | None = None,
) -> tuple[list[Trajectory], list[list[Moment]]]:
    """``rollout``, and with each conversation its moments before each of the agent's turns."""
    trajectories: list[Trajectory] = []
    moments: list[list[Moment]] = [[] for _ in seeds]
    for start in range(0, len(seeds), batch_size):

        def note(index: int, moment: Moment, start: int = start) -> None:
            moments[start + index].append(moment)

        begun = [Moment(env.begin(int(seed))) for seed in seeds[start : start + batch_size]]
        trajectories += play(agent, env, begun, on_done=on_done, on_moment=note)
    return trajectories, moments


def another_take(moment: Moment, ahead: int = 1) -> Moment:
    """The same moment, from which everything is drawn anew; ``ahead`` tells several such apart."""
    return replace(moment, episode=replace(moment.episode, take=moment.episode.take + ahead))


def speak(agent: Agent, episodes: Sequence[Episode], *, explore: bool = True) -> list[Utterance]:
    """What the agent says next in each episode; of another take it is another draw."""
    heard = [episode.heard_by("agent") for episode in episodes]
    rngs = [agent_rng(episode.seed, episode.exchanges, episode.take) for episode in episodes]
    return agent.act(heard, rngs, explore=explore)


def _spoken(
    agent: Agent, episodes: Sequence[Episode], said: Sequence[Utterance | None], explore: bool
) -> list[Utterance]:
    """What is said in each episode: what was decided, and where nothing was, what the agent says."""
    asked = [episode for episode, decided in zip(episodes, said, strict=True) if decided is None]
    spoken = iter(speak(agent, asked, explore=explore) if asked else [])
    return [next(spoken) if decided is None else decided for decided in said]


def _advanced(env: ConversationEnv, episodes: Sequence[Episode], utterances: Sequence[Utterance]) -> list[Advance]:
    """What each exchange brings; where the agent failed to speak, there is none."""
    both = list(zip(episodes, utterances, strict=True))
    spoken = [(episode, utterance.text) for episode, utterance in both if utterance.failure is None]
    advances = iter(env.advance([episode for episode, _ in spoken], [text for _, text in spoken]))
    return [
        next(advances) if utterance.failure is None else unspoken(episode, utterance.failure)
        for episode, utterance in both
    ]


def _record(one: _Live, utterance: Utterance, advance: Advance) -> None:
    one.episode = advance.episode
    one.user_tokens += advance.user_tokens
    reply = None if advance.failure and not _answered(advance) else advance.episode.turns[-1].text
    one.steps.append(Step(replace(utterance, failure=None), reply, advance.reward))


def _answered(advance: Advance) -> bool:
    return bool(advance.episode.turns) and advance.episode.turns[-1].speaker == "user"


def _conclude(one: _Live, advance: Advance) -> Trajectory:
    scenario, assessment = advance.episode.scenario, advance.assessment
    return Trajectory(
        seed=advance.episode.seed,
        brief=scenario.agent_brief,
        opening=scenario.opening,
        steps=tuple(one.steps),
        terminated=advance.terminated,
        stop_reason=advance.stop_reason.value if advance.stop_reason else "",
        success=assessment.success if assessment.judged else None,
        judged=assessment.judged,
        key=scenario.key,
        attributes=dict(scenario.attributes),
        parts=dict(assessment.parts),
        user_tokens=one.user_tokens,
        failure=advance.failure,
        take=advance.episode.take,
    )
