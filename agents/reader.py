"""A frozen or learning trunk that reads conversations: what value functions, reward and preference models stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from agents.adapters import trunk_copied
from agents.chat_model import ChatModel
from envs.trajectory import Trajectory

TRUNK_RATE = 1e-3
"""The learning rate of a trunk that has not learnt to read."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens and the places in them whose states are wanted."""

    ids: Sequence[int]
    """[T]"""
    places: np.ndarray
    """[P]"""


def trunk_rate(start: ChatModel) -> float:
    """The learning rate of a critic's trunk: 0 where the model's ``config.json`` says ``"learnt_to_read": true``, as
    those that ship do, else ``TRUNK_RATE``."""
    return 0.0 if getattr(start.model.config, "learnt_to_read", False) else TRUNK_RATE


def states_at(trunk: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    """[P, hidden] a trunk's states at places of a batch.

    The trunk computes where it is and in its own precision. What is read from it goes on in float32 on the CPU, where
    the small heads of critics are; there it costs nothing beside the trunk's pass.
    """
    device = next(trunk.parameters()).device
    moved = {name: tensor.to(device) for name, tensor in inputs.items()}
    states = trunk(**moved, use_cache=False).last_hidden_state
    return states[rows.to(states.device), columns.to(states.device)].float().cpu()


class Reader(nn.Module):
    """The trunk of a causal language model, copied.

    Args:
        policy: whose trunk is copied.
        learning_rate: at 0 the trunk stays as it is and is read without gradients. None: ``trunk_rate(policy)``.
    """

    def __init__(self, policy: ChatModel, learning_rate: float | None = None):
        super().__init__()
        self.learning_rate = trunk_rate(policy) if learning_rate is None else learning_rate
        self.trunk = trunk_copied(policy.model, self.learning_rate > 0)

    @property
    def hidden_size(self) -> int:
        return int(self.trunk.config.hidden_size)

    def forward(self, texts: Sequence[Text]) -> Tensor:
        """[ΣP, hidden] the states at all places, one text after another.

        Padding is on the right, which causal attention never sees from the left.
        """
        with torch.set_grad_enabled(self.learning_rate > 0 and torch.is_grad_enabled()):
            rows = torch.from_numpy(np.repeat(np.arange(len(texts)), [len(one.places) for one in texts]))
            columns = torch.from_numpy(np.concatenate([one.places for one in texts]))
            ids = nn.utils.rnn.pad_sequence([torch.as_tensor(one.ids) for one in texts], batch_first=True)
            return states_at(self.trunk, {"input_ids": ids}, rows, columns)

    @torch.no_grad()
    def states(self, texts: Sequence[Text], batch_size: int = 64) -> list[Tensor]:
        """[P, hidden] of each text, without gradients. Those of like length go together: that leaves little padding."""
        order = np.argsort([len(one.ids) for one in texts], kind="stable")
        out: list[Tensor | None] = [None] * len(texts)
        for i in range(0, len(texts), batch_size):
            chosen = order[i : i + batch_size]
            part = [texts[j] for j in chosen]
            for j, states in zip(chosen, self(part).split([len(one.places) for one in part]), strict=True):
                out[j] = states
        return [states for states in out if states is not None]


def whole(policy: ChatModel, trajectory: Trajectory) -> Text:
    """A finished conversation, to be judged: read where the agent was given each turn, and where it would be given the
    next one, had the conversation gone on. That last state is where a model knows how things stand at the end."""
    read = policy.trajectory_tokens(trajectory)
    ids = policy.prompt_ids(trajectory.conversation)
    return Text(ids, np.array([*read.prompt_ends[1:], len(ids) - 1], dtype=np.int64))


def before_turns(policy: ChatModel, trajectory: Trajectory) -> Text:
    """A conversation, read before each of the agent's turns: the states x_1, …, x_K."""
    read = policy.trajectory_tokens(trajectory)
    return Text(read.ids, read.prompt_ends)
