"""Gymnasium spaces that contain what a conversation environment really emits.

``gymnasium.spaces.Text`` holds only alphanumeric characters by default, so it rejects any sentence with a space, and
a full-Unicode character set makes its ``repr`` a megabyte long. These two spaces hold any text and can be sampled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space

from envs.conversation import Conversation, Turn

_WORDS = ("hello", "yes", "no", "what", "do", "you", "need", "a", "the", "this", "good", "question", "thanks", "and")


class UtteranceSpace(Space[str]):
    """Every string of at most ``max_chars`` characters. Samples are short strings of common words."""

    def __init__(self, max_chars: int = 4000, seed: int | np.random.Generator | None = None):
        if max_chars < 1:
            raise ValueError(f"max_chars is {max_chars}; an utterance needs room for at least 1 character.")
        self.max_chars = max_chars
        super().__init__(shape=None, dtype=None, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        if mask is not None or probability is not None:
            raise ValueError("UtteranceSpace.sample takes neither a mask nor probabilities; leave both out.")
        words = self.np_random.choice(_WORDS, size=int(self.np_random.integers(1, 9)))
        return " ".join(words)[: self.max_chars]

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_chars

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"UtteranceSpace(max_chars={self.max_chars})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UtteranceSpace) and other.max_chars == self.max_chars


class ConversationSpace(Space[Conversation]):
    """Every ``Conversation`` whose turns fit ``UtteranceSpace(max_chars)``."""

    def __init__(self, max_chars: int = 4000, seed: int | np.random.Generator | None = None):
        self.utterances = UtteranceSpace(max_chars)
        super().__init__(shape=None, dtype=None, seed=seed)

    def seed(self, seed: int | None = None) -> Any:  # type: ignore[override]  # Gymnasium types this per subclass
        self.utterances.seed(seed)
        return super().seed(seed)

    def sample(self, mask: Any = None, probability: Any = None) -> Conversation:
        if mask is not None or probability is not None:
            raise ValueError("ConversationSpace.sample takes neither a mask nor probabilities; leave both out.")
        conversation = Conversation(self.utterances.sample())
        for turn in range(int(self.np_random.integers(0, 5))):
            conversation = conversation.then("agent" if turn % 2 else "user", self.utterances.sample())
        return conversation

    def contains(self, x: Any) -> bool:
        return (
            isinstance(x, Conversation)
            and isinstance(x.brief, str)
            and all(isinstance(t, Turn) and t.speaker in ("agent", "user") and t.text in self.utterances for t in x.turns)
        )

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"ConversationSpace(max_chars={self.utterances.max_chars})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConversationSpace) and other.utterances == self.utterances
