"""ILQL (arXiv 2206.11871) as in LMRL-Gym (arXiv 2311.18232): implicit Q-learning of tokens, offline.

    L = Σ_k ½ (Q_k(s, a) - [r + γ V(s')])²                         two Q; nothing comes after the last token
      + |τ - 1{Q̄ < V}| · ½ (V(s) - min_k Q̄_k(s, a))²             the expectile of Q̄ over what was said
      + cql_coef · Σ_k CE(Q_k(s, ·), a)

r, Q and V are in the unit of ``agents.token_q``: standard deviations σ of the logged returns from their mean μ, in
which r is (r - (1 - γ) μ) / σ, and (r - μ) / σ after the last token. Q̄ is a copy of Q that follows it slowly (Polyak).
V(s') and Q̄ are targets: no gradient flows through them. τ above ½ makes V the value of the better of what was said in
states alike, and so Q that of a policy better than the behaviour, without ever asking for the value of something that
nobody said. It speaks by logits of the start + β · min_k Q_k.

Departures: as for MC returns (``agents.mc_returns``). Where the trunk learns, Q̄ has a copy of it that follows as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.adapters import copied, load_own_state, own_state
from agents.agent import check_range
from agents.q_function import Heads
from agents.token_q import Decisions, Unit, chosen, cross_entropy, tokens_of
from agents.token_q_learner import TokenQLearner


class ILQL(TokenQLearner):
    """The start, perturbed by the Q of implicit Q-learning.

    Args:
        start, options: see ``TokenQLearner``.
        expectile: τ; ½ is the value of the behaviour, towards 1 that of its best.
        polyak: the share of Q in its slow copy's every step.

    Raises ``ValueError`` for values out of range.
    """

    members = 2

    def __init__(self, start: str | None, *, expectile: float = 0.7, polyak: float = 0.005, **options: Any):
        check_range("expectile", expectile, 0.0, 1.0)
        check_range("polyak", polyak, 0.0, 1.0)
        self.expectile, self.polyak = expectile, polyak
        super().__init__(start, **options)

    def _begin_q(self, rng: np.random.Generator) -> None:
        super()._begin_q(rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        width = self.q.heads.inner.shape[2]
        self.v_heads = Heads(self.q.reader.hidden_size, width, 1, generator).to(self.q.device)
        self.target = copied(self.q).requires_grad_(False)

    def _measure_in(self, unit: Unit) -> None:
        self.q.unit = self.target.unit = unit

    def parts(self) -> list[nn.Module]:
        return [self.q.heads, self.v_heads]

    def loss(self, states: Tensor, batch: Sequence[Decisions]) -> tuple[Tensor, dict[str, float]]:
        tokens = tokens_of(batch, states.device)
        rewards = torch.from_numpy(np.concatenate([self.q.unit.rewards(one, self.gamma) for one in batch])).to(states)
        ends = np.cumsum([len(one.tokens) for one in batch]) - 1
        with torch.no_grad():
            slow = states if not self.q.reader.learning_rate else self.target.states(batch)
            target = chosen(self.target.least(slow), tokens)
        values, v = self.q.heads(states), self.v_heads(states)[0]
        q_loss, v_loss = ilql_terms(chosen(values, tokens), target, v, rewards, ends, self.gamma, self.expectile)
        cql = cross_entropy(values, tokens)
        figures = {"td_loss": q_loss.item(), "v_loss": v_loss.item(), "cql_loss": cql.item(), "v_mean": v.mean().item()}
        return q_loss + v_loss + self.cql_coef * cql, figures

    @torch.no_grad()
    def after_step(self) -> None:
        """Q̄ takes a step towards Q."""
        for slow, now in zip(self.target.parameters(), self.q.parameters(), strict=True):
            if now.requires_grad:
                slow.lerp_(now, self.polyak)

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_file(own_state(self.target, [self.target.reader]), folder / "target.safetensors")
        save_file(self.v_heads.state_dict(), folder / "v.safetensors")

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        load_own_state(self.target, [self.target.reader], load_file(folder / "target.safetensors"))
        self.v_heads.load_state_dict(load_file(folder / "v.safetensors"))


def ilql_terms(
    q: Tensor, target: Tensor, v: Tensor, rewards: Tensor, ends: np.ndarray, gamma: float, expectile: float
) -> tuple[Tensor, Tensor]:
    """The losses of Q and of V, means over N decisions.

    Args:
        q: [K, N] of what was decided.
        target: [N] min_k Q̄_k of the same.
        v: [N] of the states.
        rewards: [N]
        ends: the last decision of each conversation, after which V is 0.
    """
    following = v.detach().roll(-1)
    following[ends] = 0.0
    q_loss = (0.5 * (q - (rewards + gamma * following)) ** 2).mean(-1).sum()
    weights = (expectile - (target < v).to(v)).abs()
    return q_loss, (weights * 0.5 * (v - target) ** 2).mean()
