"""Sellers that follow a rule of ``envs.sales.sellers``, as agents: the yardsticks of ``parley/Sales-v0``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.agent import Agent
from envs.conversation import Conversation
from envs.sales.sellers import SellerInWords
from envs.trajectory import Utterance


class ScriptedSeller(Agent):
    """A seller that follows ``rule``: random, behaviour, myopic, expert or optimum."""

    def __init__(self, rule: str):
        self.seller = SellerInWords(rule)

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(text) for text in self.seller.speak(conversations, rngs)]
