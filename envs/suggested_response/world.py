"""What the wrapper has to know of the world that it wraps: who speaks there, and what words do.

``envs.suggested_response.sales`` and ``envs.suggested_response.education`` are the two that ship. Another world needs
one such function, which ``world=`` names by its dotted path.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.conversation import Conversation
from envs.env import ConversationEnv, Episode
from envs.odds import Choice
from envs.suggested_response.business import Suggestion
from envs.turn_judges import Foreseen
from envs.users import UserSimulator
from envs.wording import Reader


class Speaker(Protocol):
    """A rule that hears and speaks, such as ``envs.sales.sellers.SellerInWords``."""

    @property
    def rule(self) -> Callable[[Any, np.random.Generator], Act]:
        """Which act to do, given what is known."""

    def choices(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[Choice]:
        """The act behind what it says next in each conversation, and how likely it is."""

    def know(self, conversation: Conversation) -> Any:
        """What is known after the conversation's turns."""

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What it says next in each conversation."""


@dataclass(frozen=True)
class Dislike:
    """What a business would rather not send."""

    kinds: frozenset[str]
    """Of acts."""
    words: str
    """The same for its brief."""


@dataclass(frozen=True)
class World:
    """A world of conversations, as the business sees it."""

    name: str
    environment: Callable[[UserSimulator, str], ConversationEnv]
    """Makes it with a customer and a split."""
    customers: Mapping[str, Callable[[], UserSimulator]]
    """Its users by name."""
    reader: Reader
    """Understands what the business sends, and what is suggested to it."""
    speaker: Callable[[str], Speaker]
    """Its scripted agents, by their rules."""
    say: Callable[[Act, Episode, np.random.Generator], str]
    """An act in the business's words."""
    hear: Callable[[Sequence[str]], list[tuple[Act, ...]]]
    """What the customer's words do."""
    drift: Callable[[Act], Sequence[Act]]
    """What somebody may do who follows the drift of an act; all equally likely."""
    dislikes: Mapping[str, Dislike]
    """What businesses may dislike, by name."""
    welcome: frozenset[str]
    """Kinds of moves by which the customer welcomes what it read …"""
    unwelcome: frozenset[str]
    """… and by which it does not."""
    turn_judge: Callable[[], Foreseen]
    """Foresees one exchange of it."""
    skill: str = "behaviour"
    """The rule by which businesses write when they write themselves."""

    def suggestion(self, act: Act | None, dislikes: str) -> Suggestion:
        """What a suggestion that does ``act`` (None: there is none) is to a business that ``dislikes`` something."""
        if act is None:
            return Suggestion(abstains=True)
        return Suggestion(understood=act != UNCLEAR, disliked=act.kind in self.dislikes[dislikes].kinds)

    def welcomed(self, moves: Sequence[Act]) -> int:
        """How the customer's moves sound to the business: 1, 0 or -1; the first of them decides."""
        kind = moves[0].kind if moves else ""
        return int(kind in self.welcome) - int(kind in self.unwelcome)


def named_world(name: str) -> World:
    """The world that the function at a dotted path describes; ``ValueError`` where there is none."""
    path = name if "." in name else f"envs.suggested_response.{name}.world"
    try:
        return pkgutil.resolve_name(path)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"world={name!r} can't be wrapped ({error}); choose sales or education, or give the dotted path of a "
            "function that returns an envs.suggested_response.world.World."
        ) from None
