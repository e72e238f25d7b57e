"""The other side of the conversation: whoever plays the user answers through one interface.

A program, a small model, a prompted model, an endpoint or a person at the keyboard: all of them get the episodes that
wait for a reply, all at once, and give one ``Reply`` each. A user that could not answer says so in ``Reply.failure``;
the conversation then ends unscored and is counted, and it is never a reward of zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from envs.env import Episode


@dataclass(frozen=True, slots=True)
class Reply:
    """What a user answered, and what it keeps to itself."""

    text: str
    """The words the agent hears."""
    memory: object = None
    """The user's private state after this reply: carried in ``Episode.memory``, read by the user and by ``assess``,
    never shown to an agent. Immutable, so that one moment can be continued twice."""
    tokens: int = 0
    """Tokens that a language model generated for this reply; 0 when no model spoke."""
    failure: str | None = None
    """Why there is no reply (a time-out, an unreadable answer, …), or None. ``text`` is then empty."""


class UserSimulator(ABC):
    """Plays the user in many conversations at once.

    ``reply`` gets episodes whose last turn is the agent's, and one generator per episode; it returns one ``Reply`` per
    episode, in order. It must not keep state between calls (state travels in ``Reply.memory``), must draw randomness
    only from the generators, and one episode's reply must not depend on which others are in the batch.
    """

    deterministic: bool = True
    """False when equal generators can still give different words: a model on another machine, an endpoint, a person."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for tables and records, such as ``program`` or ``hybrid``."""

    def figures(self) -> Mapping[str, float]:
        """What was asked of models behind servers so far and what it cost; empty where none was."""
        return {}

    @abstractmethod
    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        """Answer the agent's last turn in each episode."""
