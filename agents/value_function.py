"""V(x): the expected outcome of a conversation before one of the agent's decisions, one number per place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from agents.chat_model import ChatModel
from agents.q_function import Heads
from agents.reader import Reader, before_turns
from envs.trajectory import Trajectory


class ValueFunction(nn.Module):
    """Heads on a reader's states; their mean is V.

    Args:
        policy: whose trunk the reader copies ("value init from pretrained checkpoint", arXiv 2405.14655, table 4).
        rng: draws the weights that the heads begin with.
        trunk_learning_rate: of the reader; None: see ``Reader``.
        width, members: of the heads.
        initial: what the value is before anything is learnt.
    """

    def __init__(
        self,
        policy: ChatModel,
        rng: np.random.Generator,
        *,
        trunk_learning_rate: float | None = None,
        width: int = 64,
        members: int = 4,
        initial: float = 0.0,
    ):
        super().__init__()
        self.reader = Reader(policy, trunk_learning_rate)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self.heads = Heads(self.reader.hidden_size, width, members, generator)
        with torch.no_grad():
            self.heads.outer.mul_(0.1)
            self.heads.level.fill_(initial)
        self.eval()

    def forward(self, states: Tensor) -> Tensor:
        """[M, P] each member's value at states [P, hidden]."""
        values: Tensor = self.heads(states)
        return values

    @torch.no_grad()
    def values(self, states: Tensor) -> np.ndarray:
        """[P] the mean of the members."""
        return self.heads(states).mean(0).double().cpu().numpy()

    def before_turns(self, policy: ChatModel, trajectories: Sequence[Trajectory]) -> list[np.ndarray]:
        """[K] of each conversation: the value before each of the agent's turns."""
        texts = [before_turns(policy, trajectory) for trajectory in trajectories]
        return [self.values(states) for states in self.reader.states(texts)]
