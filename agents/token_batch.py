"""Whole conversations side by side, and what a policy makes of every token that the agent said in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from agents.chat_model import ChatModel, TrajectoryTokens
from agents.reader import Text


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Conversations as one batch: B rows of at most T tokens, N agent tokens in R turns."""

    ids: Tensor  # [B, T]
    rows: Tensor  # [N] the row of each agent token
    columns: Tensor  # [N] its place in the row; the place before predicts it
    turns: Tensor  # [N] its turn, numbered over the batch
    owners: Tensor  # [R] the row of each turn
    texts: tuple[Text, ...]  # [B] the places before every turn
    before: tuple[Text, ...]  # [B] the places before every agent token

    @property
    def tokens(self) -> Tensor:
        """[N] the agent tokens themselves."""
        return self.ids[self.rows, self.columns]


def token_batch(conversations: Sequence[TrajectoryTokens]) -> TokenBatch:
    """Lay conversations side by side. Turns without a token (an empty utterance) have no decision in them."""
    ids = nn.utils.rnn.pad_sequence([torch.as_tensor(one.ids) for one in conversations], batch_first=True)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    turns: list[np.ndarray] = []
    owners: list[int] = []
    texts: list[Text] = []
    before: list[Text] = []
    for b, one in enumerate(conversations):
        spoken = [(a, z) for a, z in zip(one.prompt_ends.tolist(), one.turn_ends.tolist(), strict=True) if z > a]
        for a, z in spoken:
            said = np.arange(a + 1, z + 1)
            rows.append(np.full(len(said), b))
            columns.append(said)
            turns.append(np.full(len(said), len(owners)))
            owners.append(b)
        texts.append(Text(one.ids, np.array([a for a, _ in spoken], dtype=np.int64)))
        places = [np.arange(a, z) for a, z in spoken] or [np.zeros(0, dtype=np.int64)]
        before.append(Text(one.ids, np.concatenate(places)))
    none = np.zeros(0, dtype=np.int64)
    row, column, turn = (torch.from_numpy(np.concatenate([none, *part])) for part in (rows, columns, turns))
    return TokenBatch(ids, row, column, turn, torch.tensor(owners), tuple(texts), tuple(before))


def token_logprobs(model: ChatModel, batch: TokenBatch) -> Tensor:
    """[N, V] log-probabilities of what may be said at every agent token, at the model's temperature."""
    inputs = {"input_ids": batch.ids.to(model.model.device)}
    return model.distributions(inputs, batch.rows, batch.columns - 1)


def later_in_turn(kl: Tensor, turns: Tensor) -> Tensor:
    """[N] of each token, the sum of ``kl`` [N] over the tokens that follow it in its turn."""
    running = kl.double().cumsum(0)
    last = torch.ones_like(turns, dtype=torch.bool)
    last[:-1] = turns[1:] != turns[:-1]
    ends = running[last][torch.cumsum(last, 0) - last.long()]  # [N] the running sum at the end of each token's turn
    return (ends - running).to(kl)
