"""What the one who suggests is shown, in a fixed form of plain text, and how it is read back.

The agent's turn is its suggestion. The turn that follows holds what became of it: what the business sent, if that was
not the suggestion word for word, and what the customer answered.

    agent: What will you use the bicycle for?
     user: I said: Hello, nice to see you!
           Hello. I would like a bicycle.

Sent as it was, the suggestion is followed by the customer's answer alone, so with a business that always does so the
conversation is the wrapped world's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from envs.conversation import Conversation, Turn, one_line

_SAID: Final = "I said: "
_SILENT: Final = "I said nothing."


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was suggested, what was sent, and what the customer answered."""

    suggested: str
    sent: str
    """Empty when the business fell silent."""
    answer: str
    """Empty when nobody answered."""

    @property
    def verbatim(self) -> bool:
        return self.sent == self.suggested


def shown(exchange: Exchange) -> str:
    """The turn that tells the agent what became of its suggestion."""
    if not exchange.sent and not exchange.answer:
        return _SILENT
    if exchange.verbatim and not exchange.answer.startswith((_SAID, _SILENT)):
        return exchange.answer
    return f"{_SAID}{one_line(exchange.sent)}\n{exchange.answer}"


def read(suggested: str, turn: str) -> Exchange:
    """The exchange that ``turn`` tells of."""
    if turn == _SILENT:
        return Exchange(suggested, "", "")
    if not turn.startswith(_SAID):
        return Exchange(suggested, suggested, turn)
    sent, _, answer = turn.removeprefix(_SAID).partition("\n")
    return Exchange(suggested, sent, answer)


def exchanges_of(conversation: Conversation) -> tuple[tuple[Turn, ...], list[Exchange]]:
    """The opening of a conversation, and its exchanges."""
    turns = conversation.turns
    first = next((i for i, turn in enumerate(turns) if turn.speaker == "agent"), len(turns))
    rest = turns[first:]
    pairs = zip(rest[::2], rest[1::2], strict=False)
    return turns[:first], [read(suggested.text, told.text) for suggested, told in pairs]


def sent_and_answered(opening: Sequence[Turn], exchanges: Sequence[Exchange], brief: str = "") -> Conversation:
    """The conversation that the business had with its customer."""
    turns = [turn for one in exchanges for turn in (Turn("agent", one.sent), Turn("user", one.answer))]
    return Conversation(brief, (*opening, *turns))
