"""Many single-turn problems of one conversation in one pass.

The prompts of a conversation's turns share their beginnings: prompt k is the conversation up to the agent's k-th turn.
So a conversation and a response to each of its prompts are one sequence,

    the conversation | response to prompt 0 | response to prompt 1 | …

in which a response's tokens see their own prompt and each other, and stand at the positions that follow the prompt. One
forward pass then gives exactly what one pass per prompt and response would, for a fraction of the tokens: each prompt
is read once and not once per turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from envs.conversation import Conversation
from envs.trajectory import Trajectory

if TYPE_CHECKING:
    from agents.chat_model import ChatModel


@dataclass(frozen=True, slots=True)
class Prompts:
    """The single-turn prompts of one conversation: prompt k is ``ids[: ends[k] + 1]``, K of them."""

    ids: Sequence[int]
    """[T] the conversation's tokens, at least up to the last prompt's end."""
    ends: np.ndarray
    """[K] the last token of each prompt."""
    conversations: tuple[Conversation, ...]
    """[K] the same prompts as the agent's conversations."""

    def __len__(self) -> int:
        return len(self.ends)


def prompts_of(policy: ChatModel, trajectory: Trajectory) -> Prompts:
    """The prompts of all turns of a conversation, as the policy reads them."""
    read = policy.trajectory_tokens(trajectory)
    conversations = tuple(trajectory.prefix(k) for k in range(trajectory.exchanges))
    return Prompts(read.ids, read.prompt_ends, conversations)


@dataclass(frozen=True, slots=True)
class Packed:
    """Conversations with their responses, padded to one batch: B rows of at most T tokens, R responses of N tokens.

    ``responses`` are numbered over the whole batch, row by row, prompt by prompt.
    """

    ids: Tensor  # [B, T]
    positions: Tensor  # [B, T]
    mask: Tensor  # [B, 1, T, T] bool: who sees whom
    rows: Tensor  # [N] the row of each response token
    at: Tensor  # [N] its place in the row
    before: Tensor  # [N] the place that predicts it: the prompt's end, or the response token before
    tokens: Tensor  # [N] the token itself
    response: Tensor  # [N] which response it belongs to
    prompt_rows: Tensor  # [R]
    prompt_ends: Tensor  # [R] where the state's value is read
    last: Tensor  # [R] index into [N] of each response's last token
    reads: Tensor  # [R] the place in the row where Q is read: the end of the response's tail, or its last token

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a transformers model's forward pass takes."""
        return {"input_ids": self.ids, "position_ids": self.positions, "attention_mask": self.mask}


def pack(
    prompts: Sequence[Prompts],
    responses: Sequence[Sequence[Sequence[int]]],
    tails: Sequence[Sequence[Sequence[int]]] | None = None,
    pad: int = 0,
) -> Packed:
    """Pack conversations with one response per prompt: ``responses[b][k]`` are the tokens said to prompt k of row b.

    ``tails[b][k]`` are tokens that follow the response and are no part of it, such as those that give the turn to the
    user; none are put there by default.

    Raises ``ValueError`` for an empty response; a response has at least the token that ends it.
    """
    for row in responses:
        if any(not tokens for tokens in row):
            raise ValueError("A response has no tokens; give at least the end-of-turn token, or leave the prompt out.")
    mains = [int(one.ends[-1]) + 1 for one in prompts]
    if tails is None:
        tails = [[()] * len(row) for row in responses]
    spans = [[[*a, *b] for a, b in zip(*rows, strict=True)] for rows in zip(responses, tails, strict=True)]
    lengths = [main + sum(map(len, row)) for main, row in zip(mains, spans, strict=True)]
    width = max(lengths)
    ids = np.full((len(prompts), width), pad)  # [B, T]
    positions = np.zeros((len(prompts), width), dtype=np.int64)  # [B, T]
    mask = np.broadcast_to(np.eye(width, dtype=bool), (len(prompts), width, width)).copy()  # [B, T, T]
    columns: list[tuple[int, int, int, int, int]] = []
    ends: list[tuple[int, int, int]] = []
    for b, (one, row, wholes, main) in enumerate(zip(prompts, responses, spans, mains, strict=True)):
        ids[b, :main] = one.ids[:main]
        positions[b, :main] = np.arange(main)
        mask[b, :main, :main] = np.tri(main, dtype=bool)
        starts = list(accumulate(map(len, wholes), initial=main))
        for end, tokens, whole, start in zip(one.ends.tolist(), row, wholes, starts, strict=False):
            stop, done = start + len(tokens), start + len(whole)
            ids[b, start:done] = whole
            positions[b, start:done] = end + 1 + np.arange(len(whole))
            mask[b, start:done, : end + 1] = True
            mask[b, start:done, start:done] = np.tri(len(whole), dtype=bool)
            befores = [end, *range(start, stop - 1)]
            columns += [(b, at, before, token, len(ends)) for at, before, token in zip(
                range(start, stop), befores, tokens, strict=True)]  # fmt: skip
            ends.append((b, end, done - 1))
    rows, at, before, tokens, response = torch.tensor(columns, dtype=torch.long).T
    prompt_rows, prompt_ends, reads = torch.tensor(ends, dtype=torch.long).T
    last = torch.cumsum(torch.bincount(response, minlength=len(ends)), 0) - 1
    return Packed(
        torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(mask)[:, None],
        rows, at, before, tokens, response, prompt_rows, prompt_ends, last, reads,
    )  # fmt: skip


def like_lengths(lengths: Sequence[int], batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffled minibatches of indices in which lengths are alike, so that little is padding.

    Indices are sorted by length with a little noise and cut into minibatches, which come in random order.
    """
    noisy = np.asarray(lengths) * rng.uniform(0.9, 1.1, len(lengths))
    order = np.argsort(noisy)
    cuts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    for i in rng.permutation(len(cuts)):
        yield cuts[i]
