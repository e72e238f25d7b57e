"""What a policy's values truly are at sampled moments, by playing on from them: what a critic should have said.

One moment is drawn from each conversation. From there the user answers what was said anew and the conversation is
played to its end, k times over: their mean return from this exchange on is Q(x, y). And k times the agent speaks anew,
too: V(x). The i-th of either begins with the same draws of the user, so that their difference, the advantage of the
turn, is less noisy than both.

The person is the one who is there, what it hides included. So the truth knows more than a critic, which sees the words
alone, and no critic comes to a correlation of 1 with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.agent import Agent
from agents.rollout import Moment, another_take, play, with_moments
from envs.env import ConversationEnv
from envs.trajectory import Trajectory, Utterance

_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Forks:
    """Moments of N conversations, and what came of playing on from them k times; NaN where it was not scored."""

    trajectories: Sequence[Trajectory]
    """[N] the conversations that the moments are from."""
    exchanges: np.ndarray
    """[N] the exchange (0-based) before which each was left."""
    after: np.ndarray
    """[N, k] returns from that exchange on, with what was said in it: samples of Q."""
    anew: np.ndarray
    """[N, k] the same with what the agent says anew: samples of V."""

    def turns(self) -> np.ndarray:
        """[N] where the moments are among all turns of ``trajectories``, one conversation after another."""
        lengths = [trajectory.exchanges for trajectory in self.trajectories]
        return np.cumsum([0, *lengths[:-1]]) + self.exchanges


def fork(
    agent: Agent,
    env: ConversationEnv,
    seeds: Sequence[int],
    continuations: int,
    rng: np.random.Generator,
    on_done: Callable[[Trajectory], None] | None = None,
) -> Forks:
    """One moment in each scored conversation of ``seeds``, and ``2 * continuations`` conversations from it.

    Args:
        rng: draws which moment of a conversation it is, evenly.
        on_done: called with every conversation that ends, those of ``seeds`` too.

    Raises ``ValueError`` when no conversation was scored.
    """
    held, moments = with_moments(agent, env, seeds, on_done=on_done)
    scored = [(one, before) for one, before in zip(held, moments, strict=True) if one.judged and one.steps]
    if not scored:
        raise ValueError(f"None of {len(seeds)} conversations was scored, so there is no moment to play on from.")
    at = np.array([int(rng.integers(len(before))) for _, before in scored])
    left = [before[k] for k, (_, before) in zip(at, scored, strict=True)]
    said = [one.steps[k].utterance for k, (one, _) in zip(at, scored, strict=True)]
    again = [another_take(moment, 1 + i) for moment in left for i in range(continuations)]
    decided = [utterance for utterance in said for _ in range(continuations)]
    returns = _returns(agent, env, [*again, *again], [*decided, *[None] * len(again)], on_done)
    after, anew = returns.reshape(2, len(scored), continuations)
    return Forks([one for one, _ in scored], at, after, anew)


def _returns(
    agent: Agent,
    env: ConversationEnv,
    moments: Sequence[Moment],
    said: Sequence[Utterance | None],
    on_done: Callable[[Trajectory], None] | None,
) -> np.ndarray:
    """[M] the return of each conversation from its moment on."""
    ended: list[Trajectory] = []
    for i in range(0, len(moments), _AT_ONCE):
        part = slice(i, i + _AT_ONCE)
        ended += play(agent, env, moments[part], said=said[part], on_done=on_done)
    begun = [len(moment.steps) for moment in moments]
    return np.array([one.returns_to_go()[k] for one, k in zip(ended, begun, strict=True)])
