"""A chat model in an agent's seat, for practice and for comparisons; it does not learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.agent import Agent
from agents.chat_model import ChatModel
from envs.conversation import Conversation
from envs.trajectory import Utterance


class Speaker(Agent):
    """Speaks by ``model``, which may change between turns."""

    def __init__(self, model: ChatModel):
        self.model = model

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return self.model.speak(conversations, rngs, greedy=not explore)
