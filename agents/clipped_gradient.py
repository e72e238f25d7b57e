"""The clipped policy gradient of PPO (arXiv 1707.06347) over the decisions of whole conversations.

On a batch of the policy's own conversations, for several epochs of minibatches,

    L = -mean over decisions of min(ρ Â, clip(ρ, 1 ± ε) Â) + β KL(π ‖ start)

where a decision is a token, a turn or a conversation (``agents.decisions``) and ρ = exp(Σ over its tokens of
log π - log π_old). A long decision's ratio leaves 1 ± ε by the smallest change of its tokens: with ``ratio="mean"`` the
log-ratio is averaged over them instead. Where Â comes from is the agents' affair.

π_old is the policy at the beginning of the batch. Its log-probabilities, and those of the start, are worked out once
per batch; minibatches are whole conversations, one forward pass each, drawn once and visited in another order in every
epoch. With one epoch and one minibatch, ρ is 1, nothing is clipped, and the gradient is that of Â log π.

KL is exact over the vocabulary at every token that was said, and the sum (or with ``ratio="mean"`` the mean) over the
tokens of a decision, so that β weighs the same beside Â whatever a decision is (``kl="exact"``); or the sampled
log(π_old / start) is taken off the reward of its own decision, and the loss has no KL (``kl="reward"``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import check_range
from agents.behaviour import mean_metrics
from agents.chat_model import ChatModel, TrajectoryTokens
from agents.decisions import Decisions, Level, decisions
from agents.ppo import Metrics, chosen_logprobs, clipped_loss, exact_kl, remembered, weighted_mean
from agents.token_batch import TokenBatch, token_batch, token_logprobs


@dataclass(frozen=True)
class ClippedGradient:
    """The settings of the learner; ``ClippedLearning`` is what learns.

    Args:
        learning_rate: of Adam.
        epochs: passes over a batch.
        minibatch: conversations per gradient step, about; None: the whole batch.
        clip: ε.
        ratio: ``sum`` or ``mean`` of the tokens' log-ratios in a decision.
        kl_coef: β, per nat.
        kl: ``exact`` or ``reward``.
        entropy_coef: bonus on the entropy of each token's distribution.
        max_grad_norm: of the gradient.

    Raises ``ValueError`` for values out of range.
    """

    learning_rate: float = 5e-4
    epochs: int = 4
    minibatch: int | None = 24
    clip: float = 0.2
    ratio: Literal["sum", "mean"] = "sum"
    kl_coef: float = 0.01
    kl: Literal["exact", "reward"] = "exact"
    entropy_coef: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        check_range("learner.epochs", self.epochs, 1)
        if self.minibatch is not None:
            check_range("learner.minibatch", self.minibatch, 1)
        for name in ("learning_rate", "clip", "kl_coef", "entropy_coef", "max_grad_norm"):
            check_range(f"learner.{name}", getattr(self, name), 0.0)
        for name, choices in (("ratio", ("sum", "mean")), ("kl", ("exact", "reward"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"learner.{name}={getattr(self, name)!r}; choose one of {', '.join(choices)}.")


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Conversations of one gradient step, with what stays fixed while the policy moves."""

    chosen: np.ndarray  # [B] which conversations of the batch
    batch: TokenBatch
    decisions: Decisions
    old: Tensor  # [N] log π_old of what was said
    start: Callable[[], Tensor]  # [N, V] the start's log-probabilities
    drift: Tensor  # [N] log(π_old / start) of what was said


class ClippedLearning:
    """A policy and its optimizer at one moment of learning.

    Args:
        settings: of the learner.
        policy: learns in place.
        start: what the KL is to.
    """

    def __init__(self, settings: ClippedGradient, policy: ChatModel, start: ChatModel):
        self.settings, self.policy, self.start = settings, policy, start
        self._optimizer = torch.optim.Adam(policy.model.parameters(), lr=settings.learning_rate, eps=1e-5)

    def minibatches(
        self,
        conversations: Sequence[TrajectoryTokens],
        rewards: Sequence[np.ndarray],
        level: Level,
        rng: np.random.Generator,
    ) -> list[Minibatch]:
        """A batch of finished conversations, whose turns were followed by ``rewards`` [K], as the policy finds it now.

        Conversations in which nobody said anything are left out. Raises ``ValueError`` where nobody did in any.
        """
        spoke = [i for i, one in enumerate(conversations) if (one.turn_ends > one.prompt_ends).any()]
        if not spoke:
            raise ValueError("No utterance of the batch has any tokens, so there is nothing to learn from.")
        size = self.settings.minibatch or len(spoke)
        parts = np.array_split(rng.permutation(spoke), -(-len(spoke) // size))
        return [self._minibatch(part, conversations, rewards, level) for part in parts]

    @torch.no_grad()
    def _minibatch(
        self,
        chosen: np.ndarray,
        conversations: Sequence[TrajectoryTokens],
        rewards: Sequence[np.ndarray],
        level: Level,
    ) -> Minibatch:
        mine = [conversations[i] for i in chosen]
        batch = token_batch(mine)
        old = chosen_logprobs(token_logprobs(self.policy, batch), batch)
        start = remembered(self.start, partial(token_logprobs, self.start, batch))
        drift = old - chosen_logprobs(start(), batch)
        made = decisions(batch, mine, [rewards[i] for i in chosen], level)
        return Minibatch(chosen, batch, made, old, start, drift)

    def priced(self, one: Minibatch) -> np.ndarray:
        """[D] the rewards of its decisions, less the KL where that belongs to the reward."""
        if self.settings.kl != "reward":
            return one.decisions.rewards
        return one.decisions.rewards - self.settings.kl_coef * self._of_decisions(one, one.drift).cpu().numpy()

    def learn(
        self,
        minibatches: Sequence[Minibatch],
        advantages: Sequence[np.ndarray],
        rng: np.random.Generator,
        *,
        weights: Sequence[np.ndarray] | None = None,
        beside: Callable[[], tuple[Tensor, Metrics]] | None = None,
    ) -> Metrics:
        """Learn from a batch, given the advantage of every decision, [D] per minibatch; what was measured, means over
        the gradient steps.

        ``weights`` [D] per minibatch are those of the decisions in its mean, by default all alike. ``beside`` gives one
        more term of the loss, and its figures, at every step.
        """
        logs: list[Metrics] = []
        device = self.policy.model.device
        for _ in range(self.settings.epochs):
            for i in rng.permutation(len(minibatches)):
                one, advantage = minibatches[i], torch.from_numpy(advantages[i]).float().to(device)
                weight = None if weights is None else torch.from_numpy(weights[i]).float().to(device)
                loss, metrics = self._loss(one, advantage, weight)
                if beside is not None:
                    more, figures = beside()
                    loss, metrics = loss + more, metrics | figures
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.settings.max_grad_norm)
                self._optimizer.step()
                logs.append({**metrics, "grad_norm": norm.item()})
        return mean_metrics(logs)

    def _loss(self, one: Minibatch, advantages: Tensor, weights: Tensor | None) -> tuple[Tensor, Metrics]:
        settings = self.settings
        logprobs = token_logprobs(self.policy, one.batch)  # [N, V]
        chosen = chosen_logprobs(logprobs, one.batch)  # [N]
        now, old = self._of_decisions(one, chosen), self._of_decisions(one, one.old)  # [D]
        loss, metrics = clipped_loss(now, old, advantages, settings.clip, weights)
        with torch.set_grad_enabled(settings.kl == "exact" and settings.kl_coef > 0):
            kl = exact_kl(logprobs, one.start())  # [N]
        if settings.kl == "exact":
            loss = loss + settings.kl_coef * weighted_mean(self._of_decisions(one, kl), weights)
        entropy = -(logprobs.exp() * logprobs).sum(-1).mean()
        loss = loss - settings.entropy_coef * entropy
        return loss, {**metrics, "start_kl": kl.mean().item(), "entropy": entropy.item()}

    def _of_decisions(self, one: Minibatch, values: Tensor) -> Tensor:
        """[D] of the tokens' values [N]."""
        return one.decisions.summed(values) if self.settings.ratio == "sum" else one.decisions.averaged(values)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the policy, which is its owner's."""
        return self._optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state)
