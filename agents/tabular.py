"""The agent that plays a table in a finite game (``envs.tabular``): by default the game's reference policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.agent import Agent
from envs.conversation import Conversation
from envs.games import Floats, GameSpec
from envs.odds import Choice
from envs.tabular import Player
from envs.trajectory import Utterance


class TabularAgent(Agent):
    """Plays ``policy``, log-probabilities [C, H, X, Y], or the game's μ. The logged data of a game is its."""

    def __init__(self, game: GameSpec, policy: Floats | None = None):
        self.player = Player(game, policy)

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(text) for text in self.player.speak(conversations, rngs)]

    def choices(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]
    ) -> list[Choice] | None:
        return self.player.choices(conversations, rngs)
