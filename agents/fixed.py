"""A model that speaks and does not learn: the start of every learner, at any way of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.agent import Agent
from agents.chat_model import ChatModel
from envs.conversation import Conversation
from envs.trajectory import Utterance


class FixedModel(Agent):
    """The chat model in ``folder``.

    Args:
        folder: a Hugging Face folder, or a hub id.
        temperature, max_new_tokens: of sampling.
        device, dtype: where it computes, and in which precision.
        greedy: say the likeliest tokens instead of a sample, whatever is asked.
    """

    def __init__(
        self, folder: str, *, temperature: float = 1.0, max_new_tokens: int = 32, greedy: bool = False,
        device: str = "cpu", dtype: str = "float32",
    ):  # fmt: skip
        speaking: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
        self.model = ChatModel.load(folder, **speaking, device=device, dtype=dtype)
        self.greedy = greedy

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return self.model.speak(conversations, rngs, greedy=self.greedy or not explore)
