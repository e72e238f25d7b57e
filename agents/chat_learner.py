"""What every learner with a chat model has in common: a policy, the start it began as, and both in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.adapters import has_lora, read_lora
from agents.agent import Agent
from agents.chat_model import ChatModel
from agents.practice import Practice
from agents.starting import starting_policy
from envs.conversation import Conversation
from envs.trajectory import Utterance


class ChatLearner(Agent):
    """A chat model that learns.

    Args:
        start: folder of the model to start from; None: a small model that imitates the logged data.
        temperature, max_new_tokens: of sampling, in practice and in evaluation.
        device: where the models compute, such as ``cuda``, or ``auto``: accelerate puts the layers on all GPUs there
            are, some on each. Critics' trunks are copies and compute there too.
        dtype: of their weights, such as ``bfloat16``.
        lora_rank: learn adapters of this rank (``agents.adapters``) and nothing else; None: all weights.

    Raises ``FileNotFoundError`` if ``start`` is no folder.
    """

    learns = True
    policy: ChatModel
    """Who speaks, and changes."""
    start: ChatModel
    """As it was in the beginning; it never changes."""

    def __init__(
        self, start: str | None, *, temperature: float = 1.0, max_new_tokens: int = 32,
        device: str = "cpu", dtype: str = "float32", lora_rank: int | None = None,
    ):  # fmt: skip
        self._source, self._temperature, self._max_new_tokens = start, temperature, max_new_tokens
        self._loading: dict[str, Any] = {"device": device, "dtype": dtype}
        if start is not None:
            self._begin_with(self._load(start, lora_rank=lora_rank))
        elif lora_rank is not None or (device, dtype) != ("cpu", "float32"):
            raise ValueError(
                f"device={device}, dtype={dtype}, lora_rank={lora_rank}: these are for a start that is given; without "
                "one a small model is made here, which learns on the CPU in float32."
            )
        if dtype != "float32" and not has_lora(self.start.model):
            raise ValueError(
                f"dtype={dtype} loses the small steps of an optimizer; learn adapters beside it (lora_rank=16), or all "
                "weights in float32."
            )

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given."""
        if self._source is None:
            speaking = {"temperature": self._temperature, "max_new_tokens": self._max_new_tokens}
            self._begin_with(starting_policy(None, practice, **speaking))  # type: ignore[arg-type]

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return self.policy.speak(conversations, rngs, greedy=not explore)

    def save(self, folder: Path) -> None:
        self.policy.save(folder / "policy")
        self.start.save(folder / "start")

    def restore(self, folder: Path) -> None:
        self._begin_with(self._load(folder / "start"))
        if has_lora(self.start.model):  # what is frozen stays in memory once
            read_lora(self.policy.model, folder / "policy")
            self.policy.forget()
        else:
            self.policy = self._load(folder / "policy")

    def _begin_with(self, policy: ChatModel) -> None:
        self.policy, self.start = policy, policy.clone()

    def _load(self, folder: str | Path, lora_rank: int | None = None) -> ChatModel:
        speaking: dict[str, Any] = {"temperature": self._temperature, "max_new_tokens": self._max_new_tokens}
        return ChatModel.load(folder, **speaking, **self._loading, lora_rank=lora_rank)
