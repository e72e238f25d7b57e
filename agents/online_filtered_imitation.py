"""Online filtered behaviour cloning: imitating the best of one's own conversations, again and again.

The online baseline of ArCHer (arXiv 2402.19446; LMRL-Gym has one, too). Per iteration: hold conversations with the
current policy; the cutoff is the .9 quantile of the returns of *everything* collected so far; take steps of supervised
learning, on the agent's tokens alone, on conversations drawn from all whose return reaches the cutoff, whenever they
were held. It goes on from the current policy, with one optimizer. No reward enters but by the choice.

Ties: all that reach the cutoff are in, which may be far more than a tenth. Where returns are 0 or 1 and more than a
tenth are 1, all successes are in: it is filtering by success. Where fewer are, as at the start of sparse tasks, the
cutoff is 0, *everything* is in, and the policy imitates itself: on average it learns nothing until luck brings it above
a tenth. ``skip_lowest=true`` leaves those with the lowest return of all out; then the few successes alone are learnt
from, and nothing where all went alike. ``threshold_return`` and ``imitated`` tell which it was.

Departures: cross-entropy is taken at the temperature that the conversations were sampled at; at 1, a policy that is
sampled at .7 would sharpen itself by imitating itself. Conversations are drawn in passes over all of them, not
utterances with replacement; there are no iterations in which the policy waits (ArCHer's have a critic to warm up).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.agent import Metrics, check_range
from agents.behaviour import behaviour_metrics, mean_metrics
from agents.chat_learner import ChatLearner
from agents.ppo import chosen_logprobs, exact_kl
from agents.practice import Practice
from agents.token_batch import token_batch, token_logprobs
from envs.trajectory import Trajectory, read_jsonl, write_jsonl


class OnlineFilteredImitation(ChatLearner):
    """A chat model that imitates the best of its own conversations.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        quantile: of all returns so far, which a conversation must reach.
        skip_lowest: whether conversations with the lowest return of all are left out even if they reach it.
        learning_rate: of Adam.
        epochs: passes over what is imitated, per iteration.
        batch_size: conversations per gradient step.
        max_grad_norm: of the gradient.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        *,
        quantile: float = 0.9,
        skip_lowest: bool = False,
        learning_rate: float = 5e-4,
        epochs: float = 2.0,
        batch_size: int = 16,
        max_grad_norm: float = 1.0,
        **options: Any,
    ):
        check_range("quantile", quantile, 0.0, 1.0)
        check_range("batch_size", batch_size, 1)
        for name, value in {"learning_rate": learning_rate, "epochs": epochs, "max_grad_norm": max_grad_norm}.items():
            check_range(name, value, 0.0)
        self.quantile, self.skip_lowest = quantile, skip_lowest
        self.learning_rate, self.epochs, self.batch_size = learning_rate, epochs, batch_size
        self.max_grad_norm = max_grad_norm
        self._held: list[Trajectory] = []
        super().__init__(start, **options)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given."""
        super().prepare(practice)
        self._begin_learning()

    def _begin_learning(self) -> None:
        self._optimizer = torch.optim.Adam(self.policy.model.parameters(), lr=self.learning_rate, eps=1e-5)

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        for model in (self.policy, self.start):
            model.forget()  # a restored agent remembers nothing of what it read, and reading is exact to rounding only
        trajectories = practice.converse(self)
        judged = [one for one in trajectories if one.judged and one.steps]
        if not judged:
            raise RuntimeError(
                f"None of {len(trajectories)} conversations was scored, so nothing can be learnt; see why the user or "
                "the judge fails, or raise budget.per_iteration."
            )
        self._held += judged
        returns = np.array([one.returns() for one in self._held])
        chosen = best(returns, self.quantile, self.skip_lowest)
        figures = {"imitated": float(len(chosen))}
        if len(chosen):
            threshold = returns[chosen].min()
            figures["imitated_return"] = float(returns[chosen].mean())
            figures |= {"threshold_return": float(threshold), "tied": float((returns == threshold).sum())}
        return {**behaviour_metrics(trajectories), **figures, **self._imitate(chosen, rng)}

    def _imitate(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
        """Steps of supervised learning on the conversations with these indices; means over the steps."""
        drawn = np.concatenate([rng.permutation(chosen) for _ in range(math.ceil(self.epochs))] or [chosen[:0]])
        drawn = drawn[: round(self.epochs * len(chosen))]
        logs: list[dict[str, float]] = []
        for i in range(0, len(drawn), self.batch_size):
            batch = token_batch([self.policy.trajectory_tokens(self._held[j]) for j in drawn[i : i + self.batch_size]])
            if not len(batch.rows):  # nobody said anything
                continue
            logprobs = token_logprobs(self.policy, batch)  # [N, V]
            loss = -chosen_logprobs(logprobs, batch).mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.max_grad_norm)
            self._optimizer.step()
            with torch.no_grad():
                kl = exact_kl(logprobs, token_logprobs(self.start, batch)).mean()
                entropy = -(logprobs.exp() * logprobs).sum(-1).mean()
            figures = {"sft_loss": loss, "start_kl": kl, "entropy": entropy, "grad_norm": norm}
            logs.append({name: value.item() for name, value in figures.items()})
        return mean_metrics(logs)

    def save(self, folder: Path) -> None:
        super().save(folder)
        torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")
        write_jsonl(folder / "held.jsonl", self._held)

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self._begin_learning()
        self._optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
        self._held = list(read_jsonl(folder / "held.jsonl"))


def best(returns: np.ndarray, quantile: float, skip_lowest: bool) -> np.ndarray:
    """The indices of those of ``returns`` [N] that reach their quantile; with ``skip_lowest`` without the lowest."""
    reach = returns >= np.quantile(returns, quantile)
    if skip_lowest:
        reach &= returns > returns.min()
    return np.flatnonzero(reach)
