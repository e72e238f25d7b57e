"""Scripted speakers: a rule of a world that hears and speaks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.odds import Choice, chosen

Known = TypeVar("Known")


class RuleInWords(ABC, Generic[Known]):
    """A rule that hears and speaks: what it knows, it knows from the conversation's words alone.

    It mishears when a wording is unclear. What it has worked out of a conversation is remembered until the next call,
    which is only a short cut: a conversation it has not met is worked out from its first turn.

    Args:
        rule: the rule's name.
        rules: the world's rules by name, each made anew.
        say: words an act.
        who: for the error: ``seller``.

    Raises ``ValueError`` for a rule that the world does not have.
    """

    def __init__(
        self,
        rule: str,
        rules: Mapping[str, Callable[[], Callable[[Known, np.random.Generator], Act]]],
        say: Callable[[Act, np.random.Generator], str],
        who: str,
    ):
        if rule not in rules:
            raise ValueError(f"rule={rule!r} is not a rule of the scripted {who}; choose one of {', '.join(rules)}.")
        self.rule, self.say = rules[rule](), say
        self._known: dict[tuple[str, ...], Known] = {}

    @abstractmethod
    def begin(self, opening: str | None) -> Known:
        """What is known before the first turn; ``opening`` is what the user said, if anything."""

    @abstractmethod
    def learn(self, before: Known, said: str, answer: str) -> Known:
        """What is known after an exchange."""

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What is said next in each conversation."""
        heard = self._hear(conversations)
        return [self.say(self.rule(known, rng), rng) for known, rng in zip(heard, rngs, strict=True)]

    def choices(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[Choice]:
        """The act behind what ``speak`` says, given generators in the same state, and how likely the rule does it."""
        heard = self._hear(conversations)
        return [chosen(partial(self.rule, known), rng) for known, rng in zip(heard, rngs, strict=True)]

    def know(self, conversation: Conversation) -> Known:
        """What is known after the conversation's turns."""
        return self._know(tuple(turn.text for turn in conversation.turns))

    def _hear(self, conversations: Sequence[Conversation]) -> list[Known]:
        """What is known in each conversation."""
        words = [tuple(turn.text for turn in conversation.turns) for conversation in conversations]
        self._known = {said: self._know(said) for said in words}
        return [self._known[said] for said in words]

    def _know(self, words: tuple[str, ...]) -> Known:
        """What is known after these turns, the user's opening first."""
        if words in self._known:
            return self._known[words]
        if len(words) < 3:
            return self.begin(words[0] if words else None)
        return self.learn(self._know(words[:-2]), words[-2], words[-1])
