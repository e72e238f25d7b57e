"""Both seats taken: somebody other than the world's own user speaks for the user.

A world's own user does two things: it decides (what it feels, tells, buys) and it speaks. Somebody else in its seat
speaks; what becomes of the world's facts is then for the world's ``Arbiter`` to say. One exchange is

    the agent speaks    ``felt``: what that did to the user, and what the user's seat is told of it
    the seat speaks     ``heard``: what the words of the seat decided
                        ``assess``: the world's own, on the memory that these two left
    at the end          ``payoff``: what the conversation was worth to the user's seat

A world says who its arbiter is in a method ``arbiter()``. A world without one gets ``OwnUser``: its own user goes on
deciding, and the seat puts the decisions into words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from envs.conversation import Conversation, Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario
from envs.trajectory import Utterance
from envs.users import Reply, UserSimulator

PAYOFF = "user_payoff"
"""The part of an assessment that holds what the conversation would be worth to the user's seat if it ended now."""

Speak = Callable[[Sequence[Conversation], Sequence[np.random.Generator]], list[Utterance]]
"""What somebody says next in each conversation, such as an agent's ``act``. In the conversations that it is given, the
turns of the seat it sits in are the agent's, whichever seat that is."""


@dataclass(frozen=True, slots=True)
class Felt:
    """What the agent's words did to the user, before the user's seat answers."""

    memory: object = None
    """The user's private state from now on (``Episode.memory``). The seat does not see it."""
    note: str = ""
    """What the seat is told of it; it stands below its brief for this one turn."""
    tokens: int = 0
    """Tokens that a language model generated to decide it."""
    failure: str | None = None
    """Why it could not be decided; the conversation then ends unscored."""


class Arbiter(ABC):
    """Keeps a world's books while somebody else sits in the user's seat. Pure, as ``assess`` is."""

    deterministic: bool = True
    """False when equal generators can still give different results."""

    def felt(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Felt]:
        """After the agent's turn, the last of each episode; by default nothing happens until the seat speaks."""
        return [Felt(episode.memory) for episode in episodes]

    def heard(self, episodes: Sequence[Episode]) -> list[object]:
        """The user's private state after the seat's turn, the last of each episode, whose memory is that of ``felt``;
        by default words change nothing."""
        return [episode.memory for episode in episodes]

    @abstractmethod
    def payoff(self, episode: Episode, assessment: Assessment) -> float:
        """What the conversation is worth to the user's seat if it ends here. Paid once, at the end."""


class OwnUser(Arbiter):
    """The world's own user decides; the seat is told what it would say, and says it in words of its own.

    So no words of the seat change what a world decides from its user's memory. A world whose ``assess`` reads the words
    themselves is decided by them. What is good for the user is not known, so the seat's payoff is 0.
    """

    def __init__(self, user: UserSimulator):
        self.user = user
        self.deterministic = user.deterministic

    def felt(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Felt]:
        return [
            Felt(reply.memory, f"Say in your own words: {reply.text}", reply.tokens, reply.failure)
            for reply in self.user.reply(episodes, rngs)
        ]

    def payoff(self, episode: Episode, assessment: Assessment) -> float:
        return 0.0


@runtime_checkable
class HasArbiter(Protocol):
    """A world that says who keeps its books."""

    def arbiter(self) -> Arbiter: ...


def arbiter_of(env: ConversationEnv) -> Arbiter:
    """The arbiter that the world names, else ``OwnUser``."""
    return env.arbiter() if isinstance(env, HasArbiter) else OwnUser(env.user)


def held_by_user(spoken: Episode, felt: Felt) -> Conversation:
    """The conversation as the user's seat holds it when its turn comes: its brief, what it is told, the turns."""
    heard = spoken.heard_by("user")
    return replace(heard, brief="\n".join(part for part in (heard.brief, felt.note) if part))


def mirrored(conversation: Conversation) -> Conversation:
    """The same conversation with the seats exchanged: what the user said, the agent says."""
    turns = (Turn("user" if turn.speaker == "agent" else "agent", turn.text) for turn in conversation.turns)
    return Conversation(conversation.brief, tuple(turns))


def replies(
    arbiter: Arbiter, spoken: Sequence[Episode], felt: Sequence[Felt], said: Sequence[Utterance]
) -> list[Reply]:
    """What the seat's words are to the world: one reply per episode, in which the agent has just spoken."""
    answered = [
        replace(episode.then("user", words.text), memory=one.memory)
        for episode, one, words in zip(spoken, felt, said, strict=True)
    ]
    return [_reply(*each) for each in zip(felt, said, arbiter.heard(answered), strict=True)]


def _reply(felt: Felt, words: Utterance, memory: object) -> Reply:
    failure = felt.failure or words.failure
    return Reply("" if failure else words.text, memory, felt.tokens + len(words.tokens), failure)


class TakenSeat(UserSimulator):
    """The user's seat with ``speak`` in it. ``Reply.tokens`` counts the tokens of its utterances."""

    def __init__(self, speak: Speak, arbiter: Arbiter):
        self.speak = speak
        self.arbiter = arbiter
        self.deterministic = arbiter.deterministic

    @property
    def name(self) -> str:
        return "seat"

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        felt = self.arbiter.felt(episodes, rngs)
        held = [mirrored(held_by_user(*each)) for each in zip(episodes, felt, strict=True)]
        return replies(self.arbiter, episodes, felt, self.speak(held, rngs))


class TwoSeats(ConversationEnv):
    """The world ``env`` with ``user`` in the user's seat: a world like any other, which an agent can learn in.

    Scenarios, limits, ends and the agent's rewards are those of ``env``; ``Assessment.parts`` has ``user_payoff``.
    ``arbiter`` is by default that of ``env``.
    """

    def __init__(self, env: ConversationEnv, user: UserSimulator, arbiter: Arbiter | None = None):
        self.splits = env.splits  # type: ignore[misc]  # of this world, not of this class
        super().__init__(
            user,
            split=env.split,
            max_exchanges=env.max_exchanges,
            max_chars=env.action_space.max_chars,
            render_mode=env.render_mode,
        )
        self.env = env
        self.keeper = arbiter or arbiter_of(env)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        return self.env.sample_scenario(rng)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [self._with_payoff(*each) for each in zip(episodes, self.env.assess(episodes), strict=True)]

    def _with_payoff(self, episode: Episode, assessment: Assessment) -> Assessment:
        if not assessment.judged:
            return assessment
        return replace(assessment, parts={**assessment.parts, PAYOFF: float(self.keeper.payoff(episode, assessment))})


def seated(env: ConversationEnv, speak: Speak, arbiter: Arbiter | None = None) -> TwoSeats:
    """The world ``env`` with ``speak`` in the user's seat."""
    arbiter = arbiter or arbiter_of(env)
    return TwoSeats(env, TakenSeat(speak, arbiter), arbiter)
