"""Policy improvement with a divergence penalty on finite discounted MDPs, exactly: the step of Iterative PPO.

arXiv 2511.21638, Theorems 1 and 2. Many MDPs are treated at once: N of them with S states and A actions. Policies are
log-probabilities [N, S, A].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from envs.games import Floats, divergence_at, normalised

Direction = Literal["forward", "reverse"]
"""``forward``: KL(reference ‖ new), as the theorem prints it first; ``reverse``: KL(new ‖ reference)."""
DIRECTIONS: tuple[Direction, ...] = ("forward", "reverse")


@dataclass(frozen=True, slots=True, eq=False)
class Mdps:
    """N Markov decision processes of one size."""

    transitions: Floats
    """[N, S, A, S]"""
    rewards: Floats
    """Expected reward of an action in a state, [N, S, A]."""
    gamma: float

    @classmethod
    def random(cls, rng: np.random.Generator, n: int, states: int, actions: int, gamma: float) -> Mdps:
        """Sparse Dirichlet transitions (concentration .3), rewards uniform in [0, 1]."""
        transitions = rng.dirichlet(np.full(states, 0.3), (n, states, actions))
        return cls(transitions, rng.uniform(0, 1, (n, states, actions)), gamma)

    def random_policy(self, rng: np.random.Generator) -> Floats:
        """A policy drawn for every MDP, [N, S, A]: standard normal logits, doubled."""
        return normalised(2 * rng.normal(size=self.rewards.shape))

    def values(self, policy: Floats) -> tuple[Floats, Floats]:
        """Q [N, S, A] and V [N, S] of ``policy``, by solving Bellman's linear equations."""
        chances = np.exp(policy)
        earned = (chances * self.rewards).sum(-1)
        v = np.linalg.solve(self._resolvent(chances), earned[..., None])[..., 0]
        return self.rewards + self.gamma * np.einsum("nsaz,nz->nsa", self.transitions, v), v

    def occupancy(self, policy: Floats) -> Floats:
        """d^π_{s0}(s) = (1 − γ) Σ_t γ^t P(s_t = s | s0), [N, S (s0), S]."""
        resolvent = self._resolvent(np.exp(policy))
        return np.asarray((1 - self.gamma) * np.linalg.inv(resolvent), dtype=np.float64)

    def _resolvent(self, chances: Floats) -> Floats:
        """I − γ P_π, [N, S, S]."""
        moves = np.einsum("nsa,nsaz->nsz", chances, self.transitions)
        return np.eye(moves.shape[-1]) - self.gamma * moves


def penalty(policy: Floats, reference: Floats, direction: Direction) -> Floats:
    """The divergence in each state, [N, S]."""
    return divergence_at(reference, policy) if direction == "forward" else divergence_at(policy, reference)


def objective(q: Floats, policy: Floats, reference: Floats, beta: float | Floats, direction: Direction) -> Floats:
    """L_s = E_{a~policy} q(s, a) − β · divergence, [N, S]; ``beta`` is one number, or [N, 1]."""
    return (np.exp(policy) * q).sum(-1) - beta * penalty(policy, reference, direction)


def improve(q: Floats, reference: Floats, beta: float | Floats, direction: Direction) -> Floats:
    """The policy that maximises ``objective`` in every state.

    Reverse: reference · exp(q/β). Forward: β · reference / (λ − q), where λ > max q makes it sum to 1; it is found by
    bisection between the values at which the largest term, and all terms with λ − q = λ − max q, would be 1.
    """
    beta = np.asarray(beta, dtype=np.float64)[..., None]
    if direction == "reverse":
        return normalised(reference + q / beta)
    gap, weight = q.max(-1, keepdims=True) - q, beta * np.exp(reference)
    low, high = (weight - gap).max(-1, keepdims=True), np.broadcast_to(beta, q[..., :1].shape)  # of λ − max q
    for _ in range(80):
        middle = (low + high) / 2
        above = (weight / (middle + gap)).sum(-1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return normalised(np.log(weight) - np.log(high + gap))
