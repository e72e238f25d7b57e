"""Gymnasium spaces that contain what a conversation environment really emits.

``gymnasium.spaces.Text`` holds only alphanumeric characters by default, so it rejects any sentence with a space, and
a full-Unicode character set makes its ``repr`` a megabyte long. These two spaces hold any text and can be sampled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from gymnasium import Space

from envs.conversation import Conversation, Turn

_WORDS = ("hello", "yes", "no", "what", "do", "you", "need", "a", "the", "this", "good", "question", "thanks", "and")


def _sentence(rng: np.random.Generator, max_chars: int) -> str:
    return " ".join(rng.choice(_WORDS, size=int(rng.integers(1, 9))))[:max_chars]


def _encodable(text: str) -> bool:
    """Whether UTF-8 can encode it. It can't encode lone surrogates, which would break a tokenizer or a file later."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class UtteranceSpace(Space[str]):
    """Every string of at most ``max_chars`` characters that UTF-8 can encode, the empty one included.

    Samples are short strings of common words.
    """

    def __init__(self, max_chars: int = 4000, seed: int | np.random.Generator | None = None):
        if max_chars < 1:
            raise ValueError(f"max_chars is {max_chars}; an utterance needs room for at least 1 character.")
        self.max_chars = max_chars
        super().__init__(shape=None, dtype=None, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        if mask is not None or probability is not None:
            raise ValueError("UtteranceSpace.sample takes neither a mask nor probabilities; leave both out.")
        return _sentence(self.np_random, self.max_chars)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_chars and _encodable(x)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"UtteranceSpace(max_chars={self.max_chars})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UtteranceSpace) and other.max_chars == self.max_chars


class ConversationSpace(Space[Conversation]):
    """Every ``Conversation`` whose turns fit ``UtteranceSpace(max_chars)``. The brief may be longer."""

    def __init__(self, max_chars: int = 4000, seed: int | np.random.Generator | None = None):
        self.utterances = UtteranceSpace(max_chars)
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def max_chars(self) -> int:
        return self.utterances.max_chars

    def sample(self, mask: Any = None, probability: Any = None) -> Conversation:
        if mask is not None or probability is not None:
            raise ValueError("ConversationSpace.sample takes neither a mask nor probabilities; leave both out.")
        rng, max_chars = self.np_random, self.utterances.max_chars
        conversation = Conversation(_sentence(rng, max_chars))
        for turn in range(int(rng.integers(0, 5))):
            conversation = conversation.then("agent" if turn % 2 else "user", _sentence(rng, max_chars))
        return conversation

    def contains(self, x: Any) -> bool:
        return (
            isinstance(x, Conversation)
            and isinstance(x.brief, str)
            and _encodable(x.brief)
            and isinstance(x.turns, tuple)
            and all(self._holds(turn) for turn in x.turns)
        )

    def _holds(self, turn: Any) -> bool:
        return isinstance(turn, Turn) and turn.speaker in ("agent", "user") and turn.text in self.utterances

    def to_jsonable(self, sample_n: Iterable[Conversation]) -> list[dict[str, Any]]:
        return [asdict(conversation) for conversation in sample_n]

    def from_jsonable(self, sample_n: Iterable[Any]) -> list[Conversation]:
        return [Conversation(row["brief"], tuple(Turn(**turn) for turn in row["turns"])) for row in sample_n]

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"ConversationSpace(max_chars={self.utterances.max_chars})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConversationSpace) and other.utterances == self.utterances
