"""What a decision is: a token that the agent says, a turn, or a whole conversation.

Policy gradients differ in it: where values are read, how long the discount runs, what one probability ratio is of, and
what is clipped at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agents.advantages import gae
from agents.chat_model import TrajectoryTokens
from agents.reader import Text
from agents.token_batch import TokenBatch

Level = Literal["token", "turn", "conversation"]


@dataclass(frozen=True, slots=True)
class Decisions:
    """D decisions that the N agent tokens of B conversations are made of, in the order of the tokens."""

    of_token: Tensor  # [N] the decision that each token is part of
    owners: np.ndarray  # [D] the conversation of each decision
    rewards: np.ndarray  # [D] what follows each decision, until the next one
    texts: tuple[Text, ...]  # [B] the places before every decision, where its state is read

    def __len__(self) -> int:
        return len(self.owners)

    def summed(self, values: Tensor) -> Tensor:
        """[D] of values [N], the sum over the tokens of each decision. Gradients flow."""
        return values.new_zeros(len(self)).index_add(0, self.of_token.to(values.device), values)

    def averaged(self, values: Tensor) -> Tensor:
        """[D] of values [N], the mean over the tokens of each decision. Gradients flow."""
        return self.summed(values) / self.summed(torch.ones_like(values))


def decisions(
    batch: TokenBatch, conversations: Sequence[TrajectoryTokens], rewards: Sequence[np.ndarray], level: Level
) -> Decisions:
    """The decisions of a batch that was made of ``conversations``, whose turns were followed by ``rewards`` [K] each.

    The reward of a turn follows its last token. A turn without tokens is no decision, and its reward goes to the
    decision before it; what comes before the first decision is nobody's doing.
    """
    of_turn = np.concatenate([spoken_rewards(*one) for one in zip(conversations, rewards, strict=True)])  # [R]
    turns, rows, owners = batch.turns.numpy(), batch.rows.numpy(), batch.owners.numpy()
    if level == "turn":
        return Decisions(batch.turns, owners, of_turn, batch.texts)
    if level == "token":
        of_token = np.zeros(len(turns))
        of_token[np.flatnonzero(np.append(turns[1:] != turns[:-1], True))] = of_turn
        return Decisions(torch.arange(len(turns)), rows, of_token, batch.before)
    spoke, of_tokens = np.unique(rows, return_inverse=True)
    totals = np.bincount(owners, weights=of_turn, minlength=len(conversations))[spoke]
    firsts = tuple(Text(one.ids, one.places[:1]) for one in batch.texts)
    return Decisions(torch.from_numpy(of_tokens), spoke, totals, firsts)


def spoken_rewards(conversation: TrajectoryTokens, rewards: np.ndarray) -> np.ndarray:
    """The rewards [K] of a conversation's turns, those of turns without tokens with the turn before."""
    spoken = np.flatnonzero(conversation.turn_ends > conversation.prompt_ends)
    return np.add.reduceat(rewards, spoken) if len(spoken) else np.zeros(0)


def advantages(
    owners: np.ndarray, rewards: np.ndarray, values: np.ndarray, gamma: float, gae_lambda: float
) -> np.ndarray:
    """[D] by GAE over the decisions of each conversation alone; all arguments [D]."""
    found = np.empty(len(owners))
    for b in np.unique(owners):
        mine = owners == b
        found[mine] = gae(rewards[mine], values[mine], gamma, gae_lambda)
    return found
