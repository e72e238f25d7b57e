"""Twin Q and twin V over whole utterances, learnt by bootstrapping from a replay: the critic of ArCHer.

As in the code of arXiv 2402.19446 (trainer.py, critic.py), for k = 1, 2 and with target copies Q̄, V̄:

    Q_k(s, a) ← r + (1 - done) γ V̄_k(s')        V_k(s) ← Q̄_k(s, ã),  ã ~ π(· | s) drawn afresh

both by squared error; after every step the copies follow, target ← (1 - τ) target + τ live. So what was said long ago
still teaches: nothing in the targets depends on who said a, only on who would speak next.

Other than there: one causal trunk reads everything. V(s) is read at a prompt's last token and Q(s, a) where the user
takes its turn (as in ``agents.q_function``), each by two small heads. There, RoBERTa encodes state and action apart.
The trunk is a copy of the start's; one that has learnt to read stays as it is, another learns along, and then its
target copy has a trunk of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.adapters import copied, load_own_state, own_state
from agents.agent import Critique
from agents.chat_model import ChatModel
from agents.packing import Packed, Prompts, pack
from agents.q_function import Heads, calibration, turns_read
from agents.reader import Reader, Text, states_at
from envs.trajectory import Trajectory, Utterance


@dataclass(frozen=True, slots=True)
class Turns:
    """R turns of some conversations, and what the policy would say at R' of them now."""

    texts: tuple[Text, ...]
    """The conversations, each read at every prompt's last token and then wherever the user takes its turn."""
    after: Tensor
    """[2R] bool: which of these places are the user's."""
    rewards: Tensor
    """[R]"""
    ends: Tensor
    """[R] bool: whether the conversation ended with the turn."""
    fresh: Packed
    """What the policy would say."""
    answered: Tensor
    """[R'] the turns that ``fresh`` answers; those to which the policy said nothing at all are not among them."""


def turns_of(
    policy: ChatModel, conversations: Sequence[Trajectory], said: Sequence[Sequence[Utterance]]
) -> Turns | None:
    """Scored conversations, with an utterance of the policy at each of their turns (``said[b][k]``); None where it
    said nothing anywhere."""
    texts: list[Text] = []
    after: list[bool] = []
    rewards: list[float] = []
    ends: list[bool] = []
    kept: list[tuple[Prompts, list[tuple[int, ...]]]] = []
    answered: list[int] = []
    for one, row in zip(conversations, said, strict=True):
        ids, spans, reads = turns_read(policy, one)
        starts = np.array([prompt_end for prompt_end, _ in spans])
        spoken = [k for k, utterance in enumerate(row) if utterance.tokens]
        if spoken:
            prompts = Prompts(ids, starts[spoken], tuple(one.prefix(k) for k in spoken))
            kept.append((prompts, [row[k].tokens for k in spoken]))
            answered += [len(rewards) + k for k in spoken]
        texts.append(Text(ids, np.concatenate([starts, reads])))
        after += [False] * len(starts) + [True] * len(reads)
        rewards += [step.reward for step in one.steps]
        ends += [k == one.exchanges - 1 for k in range(one.exchanges)]
    if not kept:
        return None
    tails = [[policy.tail(tokens) for tokens in row] for _, row in kept]
    fresh = pack([prompts for prompts, _ in kept], [row for _, row in kept], tails)
    return Turns(
        tuple(texts), torch.tensor(after), torch.tensor(rewards), torch.tensor(ends), fresh, torch.tensor(answered)
    )


class Twins(nn.Module):
    """Q_1, Q_2, V_1, V_2: heads on a reader's states."""

    def __init__(self, reader: Reader, q: Heads, v: Heads):
        super().__init__()
        self.reader, self.q, self.v = reader, q, v

    def states(self, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """[R, hidden] before and after each turn, and [R', hidden] after the fresh utterances."""
        fresh, learns = turns.fresh, self.reader.learning_rate > 0
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            after_fresh = states_at(self.reader.trunk, fresh.inputs, fresh.prompt_rows, fresh.reads)
        along = self.reader(turns.texts)
        return along[~turns.after], along[turns.after], after_fresh


class UtteranceCritic:
    """The critic and its target copy at one moment of learning.

    Args:
        policy: whose trunk is copied.
        rng: draws the weights that the heads begin with.
        learning_rate, trunk_learning_rate: of Adam, for the heads and for the trunk (see ``Reader``).
        width: of the heads.
        gamma: discount per exchange.
        polyak: τ.
    """

    def __init__(
        self, policy: ChatModel, rng: np.random.Generator, *,
        learning_rate: float = 2e-3, trunk_learning_rate: float | None = None, width: int = 64, gamma: float = 0.95,
        polyak: float = 0.1,
    ):  # fmt: skip
        self.gamma, self.polyak = gamma, polyak
        reader = Reader(policy, trunk_learning_rate)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        q, v = (Heads(reader.hidden_size, width, 2, generator) for _ in range(2))
        self.live = Twins(reader, q, v).eval()
        follows = copied(reader) if reader.learning_rate else reader
        self.target = Twins(follows, copy.deepcopy(q), copy.deepcopy(v)).eval()
        groups: list[dict[str, Any]] = [{"params": [*q.parameters(), *v.parameters()], "lr": learning_rate}]
        if reader.learning_rate:
            groups.append({"params": list(reader.trunk.parameters()), "lr": reader.learning_rate})
        self._optimizer = torch.optim.Adam(groups)

    # ---- learning -------------------------------------------------------------------------------------------------

    def fit(self, data: Sequence[Turns], rng: np.random.Generator, *, steps: int) -> dict[str, float]:
        """``steps`` steps, each on one of ``data``, which come round in random order; the mean losses of the last
        round."""
        kept = self.live.reader.learning_rate == 0
        with torch.no_grad():
            known = [self.live.states(turns) for turns in data] if kept else []
        losses: list[tuple[float, float]] = []
        while len(losses) < steps:
            for i in rng.permutation(len(data))[: steps - len(losses)]:
                live = known[i] if kept else self.live.states(data[i])
                losses.append(self._step(data[i], live, live if kept else None))
        q, v = np.mean(losses[-len(data) :], axis=0)
        return {"q_loss": float(q), "v_loss": float(v)}

    def _step(
        self, turns: Turns, live: tuple[Tensor, Tensor, Tensor], target: tuple[Tensor, Tensor, Tensor] | None
    ) -> tuple[float, float]:
        """One step on the states of ``turns``; those of the target's own trunk are read here if not given."""
        before, after, _ = live
        with torch.no_grad():
            followed = self.target.states(turns) if target is None else target
            q_targets, v_targets = self.targets(turns, followed[0], followed[2])
        q_loss = ((self.live.q(after) - q_targets) ** 2).mean(1).sum()
        v_loss = ((self.live.v(before[turns.answered]) - v_targets) ** 2).mean(1).sum()
        self._optimizer.zero_grad(set_to_none=True)
        (q_loss + v_loss).backward()
        for group in self._optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self._optimizer.step()
        self._follow()
        return q_loss.item(), v_loss.item()

    def targets(self, turns: Turns, before: Tensor, after_fresh: Tensor) -> tuple[Tensor, Tensor]:
        """[2, R] r + (1 - done) γ V̄(s') and [2, R'] Q̄(s, ã), from the target's states."""
        following = self.target.v(before).roll(-1, dims=1)  # [2, R]: the next turn's state; unused after the last
        following = torch.where(turns.ends, 0.0, following)
        return turns.rewards + self.gamma * following, self.target.q(after_fresh)

    @torch.no_grad()
    def _follow(self) -> None:
        """target ← (1 - τ) target + τ live."""
        for mine, other in zip(self.target.parameters(), self.live.parameters(), strict=True):
            if mine is not other:
                mine.lerp_(other, self.polyak)

    # ---- reading --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def advantages(self, fresh: Packed) -> Tensor:
        """[R'] min(Q_1, Q_2)(s, ã) - min(V_1, V_2)(s)."""
        rows = torch.cat([fresh.prompt_rows, fresh.prompt_rows])
        columns = torch.cat([fresh.reads, fresh.prompt_ends])
        after, before = states_at(self.live.reader.trunk, fresh.inputs, rows, columns).chunk(2)
        return self.live.q(after).amin(0) - self.live.v(before).amin(0)

    @torch.no_grad()
    def calibration(self, policy: ChatModel, conversations: Sequence[Trajectory]) -> dict[str, float]:
        """How well min(Q_1, Q_2) predicts the discounted returns of conversations (``q_function.calibration``)."""
        read = [turns_read(policy, one) for one in conversations]
        states = self.live.reader.states([Text(ids, reads) for ids, _, reads in read])
        predicted = self.live.q(torch.cat(states)).amin(0).double().numpy()
        return calibration(predicted, np.concatenate([one.returns_to_go(self.gamma) for one in conversations]))

    @torch.no_grad()
    def critique(self, policy: ChatModel, conversations: Sequence[Trajectory]) -> Critique:
        """min(V_1, V_2) before and min(Q_1, Q_2) after every turn, and their difference."""
        read = [turns_read(policy, one) for one in conversations]
        before = [Text(ids, np.array([prompt_end for prompt_end, _ in spans])) for ids, spans, _ in read]
        after = [Text(ids, reads) for ids, _, reads in read]
        values, action_values = (
            heads(torch.cat(self.live.reader.states(texts))).amin(0).double().numpy()
            for heads, texts in ((self.live.v, before), (self.live.q, after))
        )
        return Critique(values, action_values, action_values - values)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs beside the start."""
        weights = {name: own_state(twins, [twins.reader]) for name, twins in self._both().items()}
        return {**weights, "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, twins in self._both().items():
            load_own_state(twins, [twins.reader], state[name])
        self._optimizer.load_state_dict(state["optimizer"])

    def _both(self) -> dict[str, Twins]:
        return {"live": self.live, "target": self.target}
