"""A conversation: what was said so far, as one of its two sides holds it.

Both sides hear the same turns; each has a brief of its own. That is all there is to hide, so nothing can leak: a
``Conversation`` holds one brief, and whoever builds it chooses whose.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Literal, TypedDict

Speaker = Literal["agent", "user"]


class Message(TypedDict):
    """One message in the chat format of ``transformers`` and of OpenAI-compatible servers."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance and who said it."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns so far, and the brief of the side that holds this view."""

    brief: str = ""
    turns: tuple[Turn, ...] = field(default=())

    def then(self, speaker: Speaker, text: str) -> Conversation:
        """The same conversation, one turn longer."""
        return Conversation(self.brief, (*self.turns, Turn(speaker, text)))

    def messages(self, seen_by: Speaker) -> list[Message]:
        """Chat messages in which ``seen_by`` sits in the assistant's seat; the brief, if any, is the system message."""
        messages: list[Message] = [{"role": "system", "content": self.brief}] if self.brief else []
        for turn in self.turns:
            messages.append({"role": "assistant" if turn.speaker == seen_by else "user", "content": turn.text})
        return messages

    def last(self, speaker: Speaker) -> str | None:
        """What ``speaker`` said last, or None if it has not spoken yet."""
        return next((turn.text for turn in reversed(self.turns) if turn.speaker == speaker), None)

    def __str__(self) -> str:
        return "\n".join(f"{turn.speaker:>5}: {turn.text}" for turn in self.turns)


def one_line(text: str) -> str:
    """What somebody said, for a transcript that a language model reads: on one line, in plain characters and without
    brackets of any kind, so that it can't pose as another turn, as the end of the transcript or as a control token."""
    plain = unicodedata.normalize("NFKC", text)
    return " ".join("".join(_harmless(character) for character in plain).split())


def _harmless(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Ps" or character == "<":
        return "("
    if kind == "Pe" or character == ">":
        return ")"
    return character if kind[0] != "C" else " "  # control and formatting characters among them
