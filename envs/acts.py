"""What an utterance does, without its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Act:
    """What an utterance does, without its words: a kind and, for some, what it is about (``pitch`` of ``Metro``)."""

    kind: str
    about: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}({self.about})" if self.about else self.kind


UNCLEAR: Final = Act("unclear")
"""What a parser says of an utterance that performs no act it knows. Never generated, always costly."""
