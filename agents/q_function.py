"""Q by Monte-Carlo regression: what a conversation will bring, read at every token the agent says.

One network gives F(tokens so far), the expected return of the conversation from here on. Read at a prompt's last token
it is the state's value V(x); read where the user takes its turn it is Q(x, a); in between, it is the value of an
unfinished utterance. (The marker of the user's turn adds nothing to (x, a), but it is where a model that has learnt to
predict users works out how this one will react.) The targets are the returns that followed (arXiv 2511.21638, Obs. 2),
for all turns of a conversation in one causal pass. Nothing is bootstrapped.

The heads are a few small networks on the trunk's hidden states, fitted alike from different beginnings; Q is their
mean, which errs less than any of them. The value has heads of its own: shared ones see less of what an utterance
changes, since most places are not ends of utterances. The trunk may be kept as it is (``trunk_learning_rate=0``): then
every conversation passes through it once per fit, forward only, and the heads can pass over it as often as needed.
That serves where the trunk has learnt to understand conversations, as that of the seller that ships has. Elsewhere it
must learn along. (The paper says nothing about the critic's form.)

Returns are scaled to [0, 1] by the range seen so far and fitted with binary cross-entropy, which is proper for a mean
in [0, 1] and better conditioned than squared error for rare successes. (The paper says "regression" and no more.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata
from torch import Tensor, nn

from agents.adapters import load_own_state, own_state, trunk_copied
from agents.agent import Critique
from agents.chat_model import ChatModel
from agents.packing import Packed, Prompts, like_lengths
from agents.reader import states_at
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

    @property
    def read(self) -> np.ndarray:
        """[P] bool: whether Q is read there."""
        return np.isin(self.places, self.reads)


class Heads(nn.Module):
    """M networks with one hidden layer, in one pass.

    Args:
        hidden_size: of the trunk.
        width: of the hidden layer.
        members: M.
        generator: draws the weights.
    """

    def __init__(self, hidden_size: int, width: int, members: int, generator: torch.Generator):
        super().__init__()

        def drawn(*shape: int) -> nn.Parameter:
            scale = shape[1] ** -0.5
            return nn.Parameter(torch.empty(shape).uniform_(-scale, scale, generator=generator))

        self.inner = drawn(members, hidden_size, width)
        self.bias = nn.Parameter(torch.zeros(members, 1, width))
        self.outer = drawn(members, width, 1)
        self.level = nn.Parameter(torch.zeros(members, 1))

    def forward(self, states: Tensor) -> Tensor:
        """[M, P] logits at hidden states [P, hidden]."""
        return ((states @ self.inner + self.bias).relu() @ self.outer)[..., 0] + self.level


class QFunction(nn.Module):
    """F(tokens so far): the trunk of a causal language model, and heads.

    Args:
        policy: whose trunk is copied to start from.
        rng: draws the weights that the heads begin with.
        learning_rate: of the heads; Adam, a fresh optimizer per fit.
        trunk_learning_rate: of the trunk; at 0 it stays as it is.
        batch_size: conversations per minibatch.
        width, members: of the heads.
        gamma: discount per exchange of the returns.
    """

    def __init__(
        self,
        policy: ChatModel,
        rng: np.random.Generator,
        *,
        learning_rate: float = 1e-3,
        trunk_learning_rate: float = 1e-3,
        batch_size: int = 8,
        width: int = 64,
        members: int = 4,
        gamma: float = 1.0,
    ):
        super().__init__()
        self.trunk = trunk_copied(policy.model, trunk_learning_rate > 0)
        hidden = policy.model.config.hidden_size
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self.q_heads, self.v_heads = (Heads(hidden, width, members, generator) for _ in range(2))
        self.learning_rate, self.trunk_learning_rate = learning_rate, trunk_learning_rate
        self.batch_size, self.gamma = batch_size, gamma
        self.register_buffer("bounds", torch.tensor([0.0, 1.0]))
        self.register_buffer("spread", torch.tensor(1e-3))
        self.eval()

    def label(self, policy: ChatModel, trajectory: Trajectory) -> Labelled:
        """A judged conversation as a training example."""
        ids, spans, reads = turns_read(policy, trajectory)
        places = np.concatenate([[*range(a, b + 1), at] for (a, b), at in zip(spans, reads.tolist(), strict=True)])
        turns = np.repeat(np.arange(len(spans)), [b - a + 2 for a, b in spans])
        return Labelled(ids, places, turns, np.array(trajectory.returns_to_go(self.gamma)), reads)

    # ---- learning -------------------------------------------------------------------------------------------------

    def fit(self, data: Sequence[Labelled], rng: np.random.Generator, *, epochs: float = 1.0) -> float:
        """Regress the returns on ``data`` for ``epochs`` passes; returns the mean loss of the last pass.

        Raises ``ValueError`` without data.
        """
        if not data:
            raise ValueError("Q is to be fitted and there is no scored conversation to fit it on; give it some.")
        self._measure(data)
        heads = [*self.q_heads.parameters(), *self.v_heads.parameters()]
        groups: list[dict[str, Any]] = [{"params": heads, "lr": self.learning_rate}]
        known: list[Tensor] | None = None
        if self.trunk_learning_rate:
            groups.append({"params": list(self.trunk.parameters()), "lr": self.trunk_learning_rate})
        else:
            known = self._states_by_conversation(data)
        optimizer = torch.optim.Adam(groups)
        steps = max(1, round(epochs * len(data) / self.batch_size))
        losses: list[float] = []
        lengths = [len(one.ids) for one in data]
        while len(losses) < steps:
            for chosen in like_lengths(lengths, self.batch_size, rng):
                batch = [data[i] for i in chosen]
                states = torch.cat([known[i] for i in chosen]) if known else self._states(batch)
                loss = self._loss(states, batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for group in groups:
                    nn.utils.clip_grad_norm_(group["params"], 1.0)
                optimizer.step()
                losses.append(loss.item())
                if len(losses) == steps:
                    break
        return float(np.mean(losses[-max(1, len(data) // self.batch_size) :]))

    def _loss(self, states: Tensor, batch: Sequence[Labelled]) -> Tensor:
        """Binary cross-entropy where Q is read plus that of the value everywhere else, each a mean over its places."""
        targets = self._scaled(torch.from_numpy(np.concatenate([one.returns[one.turns] for one in batch])).float())
        read = torch.from_numpy(np.concatenate([one.read for one in batch]))
        losses = []
        for heads, here in ((self.q_heads, read), (self.v_heads, ~read)):
            logits = heads(states[here])  # [M, P]
            losses.append(nn.functional.binary_cross_entropy_with_logits(logits, targets[here].expand_as(logits)))
        return losses[0] + losses[1]

    def _states(self, batch: Sequence[Labelled]) -> Tensor:
        """[P, hidden] at all places of the batch, one conversation after another.

        Padding is on the right, which causal attention never sees from the left.
        """
        rows = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(one.places) for one in batch]))
        columns = torch.from_numpy(np.concatenate([one.places for one in batch]))
        ids = nn.utils.rnn.pad_sequence([torch.as_tensor(one.ids) for one in batch], batch_first=True)
        return states_at(self.trunk, {"input_ids": ids}, rows, columns)

    @torch.no_grad()
    def _states_by_conversation(self, data: Sequence[Labelled]) -> list[Tensor]:
        """[P, hidden] of each conversation."""
        out: list[Tensor] = []
        for i in range(0, len(data), 64):
            batch = data[i : i + 64]
            out += self._states(batch).split([len(one.places) for one in batch])
        return out

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

    def unscaled(self, logits: Tensor) -> Tensor:
        """[P] expected returns, the mean over the heads, from their logits [M, P]."""
        return self.bounds[0] + (self.bounds[1] - self.bounds[0]) * logits.sigmoid().mean(0)

    # ---- reading --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def values(
        self, packed: Packed, prompts: Sequence[Prompts] = (), rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """V at each prompt [R], and the value at each response token [N], whose last is Q(x, a).

        Pack the responses with the policy's ``tail``, at whose end Q is read.
        """
        rows = torch.cat([packed.rows, packed.prompt_rows, packed.prompt_rows])
        columns = torch.cat([packed.at, packed.reads, packed.prompt_ends])
        states = states_at(self.trunk, packed.inputs, rows, columns)
        at, reads, ends = states.split([len(packed.rows), len(packed.reads), len(packed.prompt_ends)])
        along = self.unscaled(self.v_heads(at))
        along[packed.last] = self.unscaled(self.q_heads(reads))
        return self.unscaled(self.v_heads(ends)), along

    @torch.no_grad()
    def at_reads(self, data: Sequence[Labelled]) -> np.ndarray:
        """Q(x, a) of every logged turn of ``data``, one after another."""
        read = [states[one.read] for one, states in zip(data, self._states_by_conversation(data), strict=True)]
        return self.unscaled(self.q_heads(torch.cat(read))).numpy()

    @torch.no_grad()
    def at_prompts(self, data: Sequence[Labelled]) -> np.ndarray:
        """V(x) before every turn of ``data``, one after another."""
        # A turn's places begin with the end of its prompt.
        first = [np.unique(one.turns, return_index=True)[1] for one in data]
        read = [states[at] for at, states in zip(first, self._states_by_conversation(data), strict=True)]
        return self.unscaled(self.v_heads(torch.cat(read))).numpy()

    def calibration(self, data: Sequence[Labelled]) -> dict[str, float]:
        """How well Q predicts the returns of conversations it has not learnt from: ``calibration``'s figures."""
        return calibration(self.at_reads(data), np.concatenate([one.returns for one in data]))

    def critique(self, policy: ChatModel, trajectories: Sequence[Trajectory]) -> Critique:
        """V before and Q after every turn, in units of the return, and their difference."""
        data = [self.label(policy, trajectory) for trajectory in trajectories]
        values, action_values = self.at_prompts(data), self.at_reads(data)
        return Critique(values, action_values, action_values - values)

    def save(self, folder: Path) -> None:
        save_file(own_state(self, [self.trunk]), folder / "q.safetensors")

    def restore(self, folder: Path) -> None:
        load_own_state(self, [self.trunk], load_file(folder / "q.safetensors"))


def turns_read(policy: ChatModel, trajectory: Trajectory) -> tuple[list[int], list[tuple[int, int]], np.ndarray]:
    """The tokens of a conversation, of each turn its prompt's last token and its own, and where its Q is read [K]: the
    token after which the user speaks."""
    read = policy.trajectory_tokens(trajectory)
    spans = list(zip(read.prompt_ends.tolist(), read.turn_ends.tolist(), strict=True))
    tails = [policy.tail(read.ids[a + 1 : b + 1]) for a, b in spans]
    last = spans[-1][1] + 1
    ids = read.ids if len(read.ids) > last + 1 else [*read.ids[:last], *tails[-1]]  # the user may not have answered
    return ids, spans, np.array([b + len(tail) for (_, b), tail in zip(spans, tails, strict=True)])


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
