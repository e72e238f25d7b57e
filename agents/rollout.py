"""Conversations between an agent and an environment's user, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.agent import Agent
from envs.env import Advance, ConversationEnv, Episode
from envs.trajectory import Step, Trajectory, Utterance

_AGENT_STREAM = 0xA9E27
"""Keeps the agent's random stream apart from the user's, which is (seed, 1 + exchanges)."""


@dataclass(slots=True)
class _Live:
    """A conversation that is still going on."""

    index: int
    episode: Episode
    steps: list[Step] = field(default_factory=list)
    user_tokens: int = 0


def agent_rng(seed: int, exchange: int) -> np.random.Generator:
    """The generator of an agent's utterance in ``exchange`` (0-based) of the conversation that ``seed`` names."""
    return np.random.default_rng((seed, 1 + exchange, _AGENT_STREAM))


def rollout(
    agent: Agent,
    env: ConversationEnv,
    seeds: Sequence[int],
    *,
    batch_size: int = 256,
    explore: bool = True,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """One whole conversation per seed, in the order of ``seeds``.

    ``batch_size`` conversations are kept going at once; when some end, the batch goes on smaller (what they leave is
    not refilled, so that every conversation of a batch is at the same exchange). ``on_done`` is called with each
    trajectory as it ends, for progress bars. Results do not depend on ``batch_size`` beyond floating point.
    """
    trajectories: list[Trajectory | None] = [None] * len(seeds)
    for start in range(0, len(seeds), batch_size):
        live = [_Live(i, env.begin(int(seeds[i]))) for i in range(start, min(start + batch_size, len(seeds)))]
        while live:
            utterances = agent.act(
                [one.episode.heard_by("agent") for one in live],
                [agent_rng(one.episode.seed, one.episode.exchanges) for one in live],
                explore=explore,
            )
            advances = env.advance([one.episode for one in live], [utterance.text for utterance in utterances])
            going = []
            for one, utterance, advance in zip(live, utterances, advances, strict=True):
                _record(one, utterance, advance)
                if not advance.done:
                    going.append(one)
                    continue
                trajectories[one.index] = trajectory = _conclude(one, advance)
                if on_done:
                    on_done(trajectory)
            live = going
    return [trajectory for trajectory in trajectories if trajectory is not None]


def _record(one: _Live, utterance: Utterance, advance: Advance) -> None:
    one.episode = advance.episode
    one.user_tokens += advance.user_tokens
    reply = None if advance.failure and not _answered(advance) else advance.episode.turns[-1].text
    one.steps.append(Step(utterance, reply, advance.reward))


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
    )
