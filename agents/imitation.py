"""Imitation: supervised fine-tuning on the logged conversations of the behaviour policy, by TRL's ``SFTTrainer``.

The first policy of a learner without a ``start`` is made this way; the one that ships with a world was trained in
several steps, on many more conversations than a run logs (``python -m envs.simulators.train``). It takes no
conversation with users: it learns from what is logged and leaves its budget untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.agent import Agent, Metrics
from agents.chat_model import ChatModel
from agents.practice import Practice
from agents.starting import imitate
from envs.conversation import Conversation
from envs.trajectory import Utterance


class Imitation(Agent):
    """A small chat model trained from nothing on the logged conversations.

    Args:
        epochs, learning_rate, batch_size: of the training; AdamW, cosine schedule.
        temperature, max_new_tokens: of sampling.
    """

    learns = True

    def __init__(
        self,
        *,
        epochs: float = 6.0,
        learning_rate: float = 3e-3,
        batch_size: int = 8,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
    ):
        self.epochs, self.learning_rate, self.batch_size = epochs, learning_rate, batch_size
        self.options: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
        self.policy: ChatModel | None = None

    def prepare(self, practice: Practice) -> None:
        made = imitate(
            practice.logged(),
            epochs=self.epochs,
            rng=practice.rng,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )
        self.policy = ChatModel(*made, **self.options)

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        if self.policy is None:
            raise RuntimeError("The imitation agent has nothing to say before prepare(practice).")
        return self.policy.speak(conversations, rngs, greedy=not explore)

    def improve(self, practice: Practice) -> Metrics:
        practice.finish()
        return {"logged_conversations": float(len(practice.logged()))}

    def save(self, folder: Path) -> None:
        if self.policy is not None:
            self.policy.save(folder / "policy")

    def restore(self, folder: Path) -> None:
        self.policy = ChatModel.load(folder / "policy", **self.options)
