"""DMPO (arXiv 2406.14868): direct preference optimisation of whole conversations, offline.

On logged pairs of conversations of which one is preferred (w over l), with μ the start,

    L = -log σ( β [ Σ_t φ(t, T_w) log π/μ(a_t^w | s_t^w) - Σ_t φ(t, T_l) log π/μ(a_t^l | s_t^l) ] )

where a_t is the agent's utterance in its turn t = 0 … T - 1 and log π/μ(a | s) the sum over its tokens: what the user
said has no part. φ(t, T) = γ^t (1 - γ^(T-t)) / (1 - γ^T), and (T - t) / T for γ = 1: the occupancy of a state is
discounted, and normalised by the length of the conversation, so that one that is longer does not count more. Early
turns weigh most. ``weights: uniform`` has φ = 1, the trajectory-level loss of M-DPO (arXiv 2409.02392).

It takes no conversation with users: it learns from the pairs that are given to everybody, in one iteration, and leaves
its budget untouched. Pairs that the judge failed on, and pairs that it called a tie, say nothing about which is better;
they are left out and counted. A label may be noise all the same: where both conversations end alike, a judge of
outcomes draws it by lot.

TRL's ``DPOTrainer`` is not used: a preference there is between two completions of one prompt, each a single turn, so it
has neither a mask for the agent's turns nor a weight for each of them.

Departures: log-probabilities are at the temperature at which the policy samples, since that is the policy. Adam, and a
learning rate for small models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import Metrics, check_range
from agents.chat_learner import ChatLearner
from agents.chat_model import ChatModel, TrajectoryTokens
from agents.logged_data import kl_to_start
from agents.practice import Practice
from envs.trajectory import Trajectory

Weights = Literal["discounted", "uniform"]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A conversation with the weight of every token in its log-ratio."""

    read: TrajectoryTokens
    weights: np.ndarray
    """[T] φ of the turn, at the tokens that the agent chose; 0 elsewhere."""


class DMPO(ChatLearner):
    """A chat model that learns from logged preferences between whole conversations.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``; the start is also μ.
        beta: β, the pull to μ: the greater, the nearer to it.
        gamma: γ of φ, per turn.
        weights: ``discounted``, or ``uniform`` for φ = 1.
        epochs: passes over the pairs.
        batch_size: pairs per step.
        learning_rate: of Adam, falling to 0 along a cosine.
        max_grad_norm: of the gradient.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        *,
        beta: float = 0.1,
        gamma: float = 0.7,
        weights: Weights = "discounted",
        epochs: float = 1.0,
        batch_size: int = 16,
        learning_rate: float = 3e-4,
        max_grad_norm: float = 1.0,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        **loading: Any,
    ):
        for name, value in {"beta": beta, "epochs": epochs, "learning_rate": learning_rate}.items():
            check_range(name, value, 0.0)
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("batch_size", batch_size, 1)
        check_range("max_grad_norm", max_grad_norm, 0.0)
        if weights not in ("discounted", "uniform"):
            raise ValueError(f"weights={weights!r}; choose discounted or uniform.")
        self.beta, self.gamma, self.weights = beta, gamma, weights
        self.epochs, self.batch_size = epochs, batch_size
        self.learning_rate, self.max_grad_norm = learning_rate, max_grad_norm
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def improve(self, practice: Practice) -> Metrics:
        preferred, counts = decided_pairs(practice)
        pairs = [(self._weighed(better), self._weighed(worse)) for better, worse in preferred]
        metrics = self._learn(pairs, practice.rng)
        self.policy.forget()
        practice.finish()
        return {
            **counts,
            **metrics,
            "start_kl": kl_to_start(self.policy, self.start, [one for pair in preferred for one in pair]),
        }

    def _weighed(self, trajectory: Trajectory) -> Weighed:
        read = self.policy.trajectory_tokens(trajectory)
        turns = len(read.turn_ends)
        by_turn = np.ones(turns) if self.weights == "uniform" else turn_weights(turns, self.gamma)
        weights = np.zeros(len(read.ids))
        for phi, before, end in zip(by_turn, read.prompt_ends, read.turn_ends, strict=True):
            weights[before + 1 : end + 1] = phi
        return Weighed(read, weights)

    def _learn(self, pairs: Sequence[tuple[Weighed, Weighed]], rng: np.random.Generator) -> dict[str, float]:
        """Steps on the pairs, each preferred one first; figures of the last pass, before the step of each batch."""
        flat = [one for pair in pairs for one in pair]
        with torch.no_grad():  # μ stays as it is
            parts = [weighted_logprobs(self.start, flat[i : i + 32]) for i in range(0, len(flat), 32)]
        known = torch.cat(parts).view(-1, 2)  # [N, 2]
        optimizer = torch.optim.Adam(self.policy.model.parameters(), lr=self.learning_rate, eps=1e-5)
        steps = max(1, round(self.epochs * len(pairs) / self.batch_size))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        logs: list[tuple[float, float, float, float]] = []
        while len(logs) < steps:
            order = rng.permutation(len(pairs))
            for i in range(0, len(order), self.batch_size):
                chosen = order[i : i + self.batch_size]
                scores = weighted_logprobs(self.policy, [one for j in chosen for one in pairs[j]]).view(-1, 2)
                margins = dmpo_margins(scores, known[chosen], self.beta)
                loss = -nn.functional.logsigmoid(margins).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.max_grad_norm)
                optimizer.step()
                schedule.step()
                right = (margins > 0).float().mean().item()
                logs.append((loss.item(), margins.mean().item(), right, norm.item()))
                if len(logs) == steps:
                    break
        last = np.mean(logs[-max(1, len(pairs) // self.batch_size) :], axis=0)
        return dict(zip(("dmpo_loss", "margin", "pair_accuracy", "grad_norm"), map(float, last), strict=True))


def decided_pairs(practice: Practice) -> tuple[list[tuple[Trajectory, Trajectory]], dict[str, float]]:
    """The logged pairs with a winner, the winner first, and how many there were of each kind.

    Raises ``ValueError`` where there is none.
    """
    pairs, labels = practice.logged_pairs()
    judged = np.array([all(one.judged and one.steps for one in pair) for pair in pairs]) & ~np.isnan(labels)
    decided = judged & (labels != 0.5)
    if not decided.any():
        raise ValueError(
            f"Of {len(pairs)} logged pairs none has a winner, and there is nothing to learn from; raise budget.logged "
            "(two conversations make a pair), name another judge, or see why this one fails."
        )
    ordered = [pairs[i] if labels[i] > 0.5 else (pairs[i][1], pairs[i][0]) for i in np.flatnonzero(decided).tolist()]
    counts = {"pairs": decided.sum(), "pairs_tied": (judged & ~decided).sum(), "pairs_unjudged": (~judged).sum()}
    return ordered, {name: float(n) for name, n in counts.items()}


def turn_weights(turns: int, gamma: float) -> np.ndarray:
    """[T] φ(t, T) = γ^t (1 - γ^(T-t)) / (1 - γ^T); (T - t) / T for γ = 1 (arXiv 2406.14868)."""
    t = np.arange(turns)
    if gamma == 1.0:
        return (turns - t) / turns
    return gamma**t * (1 - gamma ** (turns - t)) / (1 - gamma**turns)


def weighted_logprobs(model: ChatModel, conversations: Sequence[Weighed]) -> Tensor:
    """[B] Σ_t φ(t, T) log π(a_t | s_t) of each conversation."""
    scores = model.logprobs([(one.read.ids, one.read.agent) for one in conversations])  # [B, T]
    weights = [torch.from_numpy(one.weights) for one in conversations]
    padded = nn.utils.rnn.pad_sequence(weights, batch_first=True).to(scores)
    return (padded * scores).sum(-1)


def dmpo_margins(scores: Tensor, reference: Tensor, beta: float) -> Tensor:
    """[N] β times the weighted log-ratio of the preferred conversation less that of the other, from the weighted
    log-probabilities of π and of μ [N, 2]."""
    ratios = scores - reference
    return beta * (ratios[:, 0] - ratios[:, 1])
