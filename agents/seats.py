"""Agents in both seats of a conversation: one speaks as the agent, another as the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from agents.agent import Agent
from agents.rollout import rollout
from envs.env import ConversationEnv
from envs.trajectory import Trajectory
from envs.two_seats import Arbiter, seated


def play_both(
    env: ConversationEnv,
    agent_seat: Agent,
    user_seat: Agent,
    seeds: Sequence[int],
    *,
    arbiter: Arbiter | None = None,
    batch_size: int = 256,
    explore: bool = True,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """One whole conversation per seed between two agents, in the order of ``seeds``.

    Any agent can sit in the user's seat: it gets the user's brief, and in the conversation it sees, its own turns are
    the agent's. It speaks from the user's stream of random numbers, so the agent's stream is that of ``rollout``. The
    trajectories are the agent's seat's; ``parts["user_payoff"]`` is what the user's seat earned, and ``user_tokens``
    counts its tokens too. What decides, and what the user's seat earns, is the world's arbiter (``envs.two_seats``), or
    ``arbiter``. The other arguments are those of ``rollout``.

    For an agent that learns against another one, give it ``envs.two_seats.seated(env, other.act)`` as its world.
    """
    world = seated(env, partial(user_seat.act, explore=explore), arbiter)
    return rollout(agent_seat, world, seeds, batch_size=batch_size, explore=explore, on_done=on_done)
