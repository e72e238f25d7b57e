"""Q by Monte-Carlo regression: what a conversation will bring, read at every token the agent says.

One network gives F(tokens so far), the expected return of the conversation from here on. Read at a prompt's last token
it is the state's value V(x); read where the user takes its turn it is Q(x, a); in between, it is the value of an
unfinished utterance. (The marker of the user's turn adds nothing to (x, a), but it is where a model that has learnt to
predict users works out how this one will react.) The targets are the returns that followed (arXiv 2511.21638, Obs. 2),
for all turns of a conversation in one causal pass. Nothing is bootstrapped.

Returns are scaled to [0, 1] by the range seen so far and fitted with binary cross-entropy, which is proper for a mean
in [0, 1] and better conditioned than squared error for rare successes. (The paper says "regression" and no more.)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata
from torch import Tensor, nn

from agents.chat_model import ChatModel
from agents.packing import Packed, like_lengths
from envs.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Labelled:
    """One conversation to learn from: T tokens, K agent turns."""

    ids: Sequence[int]
    """[T]"""
    places: np.ndarray
    """[P] the tokens at which the return is predicted: each prompt's last, every agent token, and the reading of Q."""
    turns: np.ndarray
    """[P] the agent turn of each place."""
    returns: np.ndarray
    """[K] the return from each turn on."""
    reads: np.ndarray
    """[K] where Q of each utterance is read: the token after which the user speaks."""


class QFunction(nn.Module):
    """F(tokens so far): the trunk of a causal language model and a linear head.

    Args:
        policy: whose trunk is copied to start from, and whose tokenizer is used.
        learning_rate, batch_size (conversations), epochs: of ``fit``; Adam, a fresh optimizer per fit.
        gamma: discount per exchange of the returns.
    """

    def __init__(
        self,
        policy: ChatModel,
        *,
        learning_rate: float = 1e-3,
        batch_size: int = 8,
        gamma: float = 1.0,
    ):
        super().__init__()
        self.trunk = copy.deepcopy(policy.model.base_model)
        self.head = nn.Linear(policy.model.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.learning_rate, self.batch_size, self.gamma = learning_rate, batch_size, gamma
        self.register_buffer("bounds", torch.tensor([0.0, 1.0]))
        self.register_buffer("spread", torch.tensor(1e-3))
        self.eval()

    def label(self, policy: ChatModel, trajectory: Trajectory) -> Labelled:
        """A judged conversation as a training example."""
        read = policy.trajectory_tokens(trajectory)
        spans = list(zip(read.prompt_ends.tolist(), read.turn_ends.tolist(), strict=True))
        tails = [policy.tail(read.ids[a + 1 : b + 1]) for a, b in spans]
        last = spans[-1][1] + 1
        ids = read.ids if len(read.ids) > last + 1 else [*read.ids[:last], *tails[-1]]  # the user may not have answered
        reads = np.array([b + len(tail) for (_, b), tail in zip(spans, tails, strict=True)])
        places = np.concatenate([[*range(a, b + 1), at] for (a, b), at in zip(spans, reads.tolist(), strict=True)])
        turns = np.repeat(np.arange(len(spans)), [b - a + 2 for a, b in spans])
        return Labelled(ids, places, turns, np.array(trajectory.returns_to_go(self.gamma)), reads)

    # ---- learning -------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Sequence[Labelled],
        rng: np.random.Generator,
        *,
        epochs: float = 1.0,
        learning_rate: float | None = None,
    ) -> float:
        """Regress the returns on ``data`` for ``epochs`` passes; returns the mean loss of the last pass.

        ``learning_rate`` takes the place of the one given at construction.
        """
        self._measure(data)
        optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate or self.learning_rate)
        steps = max(1, round(epochs * len(data) / self.batch_size))
        losses: list[float] = []
        lengths = [len(one.ids) for one in data]
        while len(losses) < steps:
            for chosen in like_lengths(lengths, self.batch_size, rng):
                loss = self._loss([data[i] for i in chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters(), 1.0)
                optimizer.step()
                losses.append(loss.item())
                if len(losses) == steps:
                    break
        return float(np.mean(losses[-max(1, len(data) // self.batch_size) :]))

    def _loss(self, batch: Sequence[Labelled]) -> Tensor:
        rows = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(one.places) for one in batch]))
        columns = torch.from_numpy(np.concatenate([one.places for one in batch]))
        targets = torch.from_numpy(np.concatenate([one.returns[one.turns] for one in batch])).float()
        logits = self._logits(batch)[rows, columns]
        return nn.functional.binary_cross_entropy_with_logits(logits, self._scaled(targets))

    def _logits(self, batch: Sequence[Labelled]) -> Tensor:
        """[B, T], padding on the right, which causal attention never sees from the left."""
        ids = nn.utils.rnn.pad_sequence([torch.as_tensor(one.ids) for one in batch], batch_first=True)
        return self.head(self.trunk(input_ids=ids, use_cache=False).last_hidden_state)[..., 0]

    def _measure(self, data: Sequence[Labelled]) -> None:
        """Widen the bounds to the returns of ``data``, and note their standard deviation, the unit of advantages.

        The greatest so far is kept: once nearly all conversations end alike, a shrinking unit would blow up noise.
        """
        self.spread.fill_(max(self.spread.item(), float(np.std([one.returns[0] for one in data]))))
        low = min(float(one.returns.min()) for one in data)
        high = max(float(one.returns.max()) for one in data)
        self.bounds[0], self.bounds[1] = min(low, self.bounds[0].item()), max(high, self.bounds[1].item())

    def _scaled(self, returns: Tensor) -> Tensor:
        return (returns - self.bounds[0]) / (self.bounds[1] - self.bounds[0])

    def _unscaled(self, logits: Tensor) -> Tensor:
        return self.bounds[0] + (self.bounds[1] - self.bounds[0]) * logits.sigmoid()

    # ---- reading --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def values(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """V at each prompt [R], and the value at each response token [N], whose last is Q(x, a).

        Pack the responses with the policy's ``tail``, at whose end Q is read.
        """
        values = self._unscaled(self.head(self.trunk(**packed.inputs, use_cache=False).last_hidden_state)[..., 0])
        along = values[packed.rows, packed.at]
        along[packed.last] = values[packed.prompt_rows, packed.reads]
        return values[packed.prompt_rows, packed.prompt_ends], along

    @torch.no_grad()
    def at_reads(self, data: Sequence[Labelled]) -> np.ndarray:
        """Q(x, a) of every logged turn of ``data``, one after another."""
        out = []
        for i in range(0, len(data), 64):
            batch = data[i : i + 64]
            values = self._unscaled(self._logits(batch))
            out += [values[b, one.reads].numpy() for b, one in enumerate(batch)]
        return np.concatenate(out)

    def calibration(self, data: Sequence[Labelled]) -> dict[str, float]:
        """How well Q predicts the returns of conversations it has not learnt from: ``calibration``'s figures."""
        return calibration(self.at_reads(data), np.concatenate([one.returns for one in data]))

    def save(self, folder: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "q.safetensors")

    def restore(self, folder: Path) -> None:
        self.load_state_dict(load_file(folder / "q.safetensors"))


def calibration(predicted: np.ndarray, returns: np.ndarray) -> dict[str, float]:
    """Figures of predictions [P] against the returns that came [P].

    - ``auc``: probability that a turn followed by an above-zero return is ranked above one that was not (ties half);
      NaN if there is only one kind.
    - ``brier``: mean squared error.
    - ``r2``: share of the returns' variance explained; NaN without variance.
    - ``bias``: mean prediction minus mean return; above zero, Q is too hopeful.
    """
    won = returns > 0
    auc = np.nan
    if won.any() and not won.all():
        ranks = rankdata(predicted)
        auc = (ranks[won].sum() - won.sum() * (won.sum() + 1) / 2) / (won.sum() * (~won).sum())
    variance = float(np.var(returns))
    brier = float(np.mean((predicted - returns) ** 2))
    return {
        "auc": float(auc),
        "brier": brier,
        "r2": 1.0 - brier / variance if variance > 0 else float("nan"),
        "bias": float(np.mean(predicted) - np.mean(returns)),
    }
