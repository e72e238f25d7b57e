"""Scripted people as agents: those who follow a rule of their world, its yardsticks, and the program's buyer."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence

import numpy as np

from agents.agent import Agent
from envs.conversation import Conversation
from envs.odds import Choice
from envs.sales.buyers import BuyerInWords
from envs.trajectory import Utterance


class Scripted(Agent):
    """Follows a rule of a world.

    Args:
        rule: random, behaviour, myopic, expert, optimum, or another that the world has.
        world: dotted path of the class that speaks by a rule there, such as ``envs.sales.sellers.SellerInWords``;
            ``env.scripted`` of the environment's YAML. ``ValueError`` where there is none of that name.
    """

    def __init__(self, rule: str, world: str):
        try:
            speaker = pkgutil.resolve_name(world)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"world={world!r} names no class that speaks by a rule ({error}); give a dotted path such as "
                "envs.sales.sellers.SellerInWords."
            ) from None
        self.speaker = speaker(rule)

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(text) for text in self.speaker.speak(conversations, rngs)]

    def choices(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]
    ) -> list[Choice] | None:
        return self.speaker.choices(conversations, rngs) if hasattr(self.speaker, "choices") else None


class ScriptedBuyer(Agent):
    """The program's buyer, for the user's seat (``agents.seats``)."""

    def __init__(self) -> None:
        self.buyer = BuyerInWords()

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(text) for text in self.buyer.speak(conversations, rngs)]
