"""Conversations for PettingZoo: both seats, ``agent`` and ``user``, as agents.

The seats take turns, the agent's first; a cycle is one exchange. What each seat sees is what it would in Gymnasium: its
own brief and the turns, and never the other's brief. Who decides what the user's words bring about is the world's
arbiter (``envs.two_seats``, which also says what the user's seat earns).

This module needs PettingZoo, and ``import envs`` does not import it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import turn_based_aec_to_parallel

from envs.conversation import Conversation
from envs.env import Advance, ConversationEnv, Episode, draw_seed
from envs.spaces import ConversationSpace, UtteranceSpace
from envs.trajectory import Utterance
from envs.two_seats import PAYOFF, Arbiter, Felt, TwoSeats, arbiter_of, held_by_user, replies
from envs.users import Reply, UserSimulator

SEATS: Final = ("agent", "user")


class ConversationAEC(AECEnv[str, dict[str, Any], str]):
    """A conversation whose two seats are ``agent`` and ``user``, which act in turns.

    An observation is a dictionary: ``conversation``, a ``Conversation`` with the seat's own brief, and ``speaks``, 1
    for the seat whose turn it is and 0 for the other. An action is what the seat says; both seats are held to
    ``max_chars``, and a longer or unencodable one raises ``ValueError``. (An arbiter may tell the user's seat how the
    agent's words struck it; it reads so below its brief, for that turn.)

    Rewards come with the user's turn, which ends the exchange: to ``agent`` the world's reward; to ``user`` the
    arbiter's payoff, at the end. Both seats terminate or are truncated together. Unscored conversations have NaN for
    both, and ``infos`` say why, as in Gymnasium.

    ``reset(seed=…)`` begins the world's episode of that seed, and later resets without one draw seeds from it.

    Args:
        env: the world; it is not changed. Its own user does not speak.
        arbiter: by default that of the world.
        render_mode: ``"ansi"`` or None.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  # PettingZoo's own type
        "name": "parley_conversation_v0",
        "render_modes": ["ansi"],
        "is_parallelizable": False,
    }

    def __init__(self, env: ConversationEnv, *, arbiter: Arbiter | None = None, render_mode: str | None = None):
        super().__init__()
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode={render_mode!r} is not supported; use 'ansi' or None.")
        self.render_mode = render_mode
        self.possible_agents = list(SEATS)
        self.agents: list[str] = []
        max_chars = env.action_space.max_chars
        self._observations = {seat: _observation_space(max_chars) for seat in SEATS}
        self._actions = {seat: UtteranceSpace(max_chars) for seat in SEATS}
        self._arbiter = arbiter or arbiter_of(env)
        self._env = env
        self._rng = np.random.default_rng()
        self._episode: Episode | None = None

    def observation_space(self, agent: str) -> spaces.Dict:
        return self._observations[agent]

    def action_space(self, agent: str) -> UtteranceSpace:
        return self._actions[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode: that of ``seed``, or one that the environment's generator names. ``options`` do nothing."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._episode = self._env.begin(draw_seed(self._rng) if seed is None else seed)
        self._spoken: tuple[Episode, Felt] | None = None
        self.agents = list(SEATS)
        self.agent_selection = "agent"
        self._skip_agent_selection = None
        self.rewards = dict.fromkeys(SEATS, 0.0)
        self._cumulative_rewards = dict.fromkeys(SEATS, 0.0)
        self.terminations = dict.fromkeys(SEATS, False)
        self.truncations = dict.fromkeys(SEATS, False)
        self.infos: dict[str, dict[str, Any]] = {seat: {"exchanges": 0} for seat in SEATS}

    def observe(self, agent: str) -> dict[str, Any]:
        over = any(self.terminations.values()) or any(self.truncations.values()) or not self.agents
        return {"conversation": self._held(agent), "speaks": int(agent == self.agent_selection and not over)}

    def step(self, action: str | None) -> None:
        """What the seat at turn says; None from a seat whose conversation is over."""
        if self._episode is None or not self.agents:
            raise gymnasium.error.ResetNeeded("The conversation has not begun or is over; call reset() first.")
        seat = self.agent_selection
        if self.terminations[seat] or self.truncations[seat]:
            self._was_dead_step(action)
            return
        if action is None or action not in self._actions[seat]:
            space = self._actions[seat]
            raise ValueError(f"{seat} said {str(action)[:80]!r}, which is not in {space}; give a str that is.")
        self._cumulative_rewards[seat] = 0.0
        self._clear_rewards()
        if self._spoken is None:
            spoken = self._episode.then("agent", action)
            self._spoken = spoken, self._arbiter.felt([spoken], [spoken.rng])[0]
        else:
            self._conclude(self._exchange(*self._spoken, action))
        self.agent_selection = "agent" if seat == "user" else "user"
        self._accumulate_rewards()

    def render(self) -> str | None:
        """The conversation so far as text (``render_mode="ansi"``), else None."""
        if self.render_mode != "ansi":
            return None
        return str(self._held("agent")) if self._episode else ""

    def close(self) -> None:
        """Nothing is held open."""

    def _held(self, agent: str) -> Conversation:
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("The conversation has not begun; call reset() first.")
        if self._spoken is None:
            return self._episode.heard_by("user" if agent == "user" else "agent")
        spoken, felt = self._spoken
        return held_by_user(spoken, felt) if agent == "user" else spoken.heard_by("agent")

    def _exchange(self, spoken: Episode, felt: Felt, words: str) -> Advance:
        """The exchange by the rules of the world, whose user gives the seat's words."""
        answer = _Given(replies(self._arbiter, [spoken], [felt], [Utterance(words)]))
        before = replace(spoken, turns=spoken.turns[:-1])
        return TwoSeats(self._env, answer, self._arbiter).advance([before], [spoken.turns[-1].text])[0]

    def _conclude(self, advance: Advance) -> None:
        self._episode, self._spoken = advance.episode, None
        payoff = advance.assessment.parts.get(PAYOFF, math.nan) if advance.done else 0.0
        self.rewards = {"agent": float(advance.reward), "user": payoff}
        self.terminations = dict.fromkeys(SEATS, bool(advance.terminated))
        self.truncations = dict.fromkeys(SEATS, bool(advance.truncated))
        self.infos = {seat: dict(advance.info) for seat in SEATS}


class _Given(UserSimulator):
    """Gives the replies that it was made with."""

    name = "seat"

    def __init__(self, given: list[Reply]):
        self.given = given

    def reply(self, episodes: Any, rngs: Any) -> list[Reply]:
        return self.given


def _observation_space(max_chars: int) -> spaces.Dict:
    return spaces.Dict({"conversation": ConversationSpace(max_chars), "speaks": spaces.Discrete(2)})


def conversation_aec(
    env: ConversationEnv | str, *, arbiter: Arbiter | None = None, render_mode: str | None = None, **kwargs: Any
) -> ConversationAEC:
    """Both seats of a world, one at a time.

    Args:
        env: the world, or its Gymnasium id such as ``parley/Sales-v0``.
        arbiter, render_mode: see ``ConversationAEC``.
        **kwargs: for ``gymnasium.make``, when ``env`` is an id.

    Raises ``ValueError`` for what is no conversation, and for ``kwargs`` beside a world that is made already.
    """
    if isinstance(env, str):
        import envs  # noqa: F401 - registers the ids

        env = gymnasium.make(env, disable_env_checker=True, **kwargs).unwrapped  # type: ignore[assignment]
    elif kwargs:
        raise ValueError(f"{', '.join(kwargs)} can be given only with the id of a world; this one is made already.")
    if not isinstance(env, ConversationEnv):
        raise ValueError(f"{env!r} is no ConversationEnv, so it has no seats; give a world of conversations or its id.")
    return ConversationAEC(env, arbiter=arbiter, render_mode=render_mode)


def conversation_parallel(
    env: ConversationEnv | str, *, arbiter: Arbiter | None = None, render_mode: str | None = None, **kwargs: Any
) -> ParallelEnv:
    """Both seats of a world at once: both give an action at each step, and that of the seat whose ``speaks`` is 0 is
    not heard. A step is one turn, so an exchange takes two. Arguments as in ``conversation_aec``."""
    return turn_based_aec_to_parallel(conversation_aec(env, arbiter=arbiter, render_mode=render_mode, **kwargs))
