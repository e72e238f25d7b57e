"""Policy gradient over the turns of whole conversations, with a critic of one value per turn.

The learner of MTPO, MTPO-τ and multi-turn RLHF (arXiv 2405.14655, section 4.1 and table 4): all three differ only in
where the outcome of a conversation comes from. Per step, on a batch of finished conversations with one outcome each,

    L_policy = -Â(x, y) · log π(y | x) + α KL(π ‖ μ)[x]          L_value = (V̂(x) - V(x))²

without importance ratio and without clipping; Â and V̂ by GAE over turns. Â is centred over the batch, and the whole
loss is divided by the standard deviation of all outcomes so far: so α is in units of the outcome, and an outcome in
other units (a reward) asks for no other learning rate. (The paper normalises Â by its deviation in the batch. Once all
conversations of a batch go alike, that blows up the critic's errors to the size of a signal; it destroyed policies that
had all but solved a small world. And it would weigh current KL by another unit than future KL.)

Bookkeeping. With Q_α(x_h, y_h) = E[outcome - α Σ_{h' ≥ h} KL[x_h']] the term of h itself does not depend on y_h, so it
cancels in Q - V: the advantage carries *future* KL only, and the current KL is the explicit term of the loss. Here V is
defined without the current KL, V(x_h) = E[outcome - α Σ_{h' > h} KL[x_h']], and the reward that follows turn h is
-α KL[x_{h+1}], after the last turn the outcome.

KL of a turn is the sum over its tokens of the exact KL over the vocabulary at the tokens said (``kl="exact"``); its
gradient has a part through the tokens said, Σ of what KL follows in the turn times ∇log π, which is added to the
weights of the tokens. Or it is the estimator r - 1 - log r with r = μ/π (``kl="k3"``), whose value is KL(π ‖ μ) and
whose gradient, as usual, that of KL(μ ‖ π). Or the sampled log(π/μ) enters the reward of its own turn and the loss has
no KL (``kl="reward"``): both at once would count it twice.

A conversation is one sequence and one forward pass, whatever its number of turns: the cost is linear in its tokens.

Not stated by the paper and chosen here: the learning rates, the critic's form (heads on a copy of the start's trunk,
see ``agents.value_function``), the KL estimator, γ = 1, the loss as a mean over turns. Other than in the paper: Adam
for AdaFactor (the models are small), and a value loss that is not normalised over the batch.

Options for questions that the paper left open, off by default:

- ``mirror_coef``: KL(π ‖ π_old) with π_old the policy at the beginning of the iteration, the term of mirror descent
  that the paper's loss drops.
- ``level``: ``turn``; ``token``, where every token is a decision with a value of its own; ``mixed``, the mean of both
  advantages, read from one critic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.adapters import load_own_state, own_state
from agents.advantages import Unit, gae
from agents.agent import check_range
from agents.chat_model import ChatModel, TrajectoryTokens
from agents.ppo import exact_kl
from agents.reader import Text
from agents.token_batch import TokenBatch, later_in_turn, token_batch, token_logprobs
from agents.value_function import ValueFunction

Metrics = dict[str, float]
Level = Literal["turn", "token", "mixed"]


@dataclass(frozen=True)
class TurnGradient:
    """The settings of the learner; ``Learning`` is what learns.

    Args:
        kl_coef: α, per nat of an utterance's KL to the start.
        learning_rate, value_learning_rate: of Adam, for the policy and for the critic's heads.
        gamma, gae_lambda: per decision.
        value_epochs: gradient steps of the critic per batch.
        level: ``turn``, ``token`` or ``mixed``.
        kl: ``exact``, ``k3`` or ``reward``.
        mirror_coef: of KL(π ‖ π_old); 0 leaves it out, as the paper does.
        normalise: whether advantages are centred, and the loss divided by the deviation of the outcomes.
        max_grad_norm: of the policy's gradient.

    Raises ``ValueError`` for values out of range.
    """

    kl_coef: float = 0.01
    learning_rate: float = 1e-3
    value_learning_rate: float = 2e-3
    gamma: float = 1.0
    gae_lambda: float = 0.95
    value_epochs: int = 4
    level: Level = "turn"
    kl: Literal["exact", "k3", "reward"] = "exact"
    mirror_coef: float = 0.0
    normalise: bool = True
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("kl_coef", "learning_rate", "value_learning_rate", "mirror_coef", "max_grad_norm"):
            check_range(f"learner.{name}", getattr(self, name), 0.0)
        for name in ("gamma", "gae_lambda"):
            check_range(f"learner.{name}", getattr(self, name), 0.0, 1.0)
        check_range("learner.value_epochs", self.value_epochs, 1)
        for name, choices in (("level", ("turn", "token", "mixed")), ("kl", ("exact", "k3", "reward"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"learner.{name}={getattr(self, name)!r}; choose one of {', '.join(choices)}.")


@dataclass(frozen=True, slots=True)
class _Decided:
    """D decisions of a batch, as the critic saw them before its step."""

    decisions: np.ndarray  # [N] the decision of each token
    texts: Sequence[Text]
    states: Tensor  # [D, hidden]
    values: np.ndarray  # [D]
    advantages: np.ndarray  # [D]


class Learning:
    """A policy, its critic and their optimizers at one moment of learning.

    Args:
        settings: of the learner.
        policy: learns in place.
        reference: μ, which the KL is to.
        value: the critic.
        policy_delay: steps in which the critic alone learns.
    """

    def __init__(
        self,
        settings: TurnGradient,
        policy: ChatModel,
        reference: ChatModel,
        value: ValueFunction,
        policy_delay: int = 0,
    ):
        self.settings, self.policy, self.reference, self.value = settings, policy, reference, value
        self.policy_delay = policy_delay
        self.old: ChatModel | None = None
        self.steps = 0
        self._outcomes = Unit()
        self._policy_optimizer = torch.optim.Adam(policy.model.parameters(), lr=settings.learning_rate, eps=1e-5)
        groups = [{"params": list(value.heads.parameters()), "lr": settings.value_learning_rate}]
        if rate := value.reader.learning_rate:
            groups.append({"params": list(value.reader.trunk.parameters()), "lr": rate})
        self._value_optimizer = torch.optim.Adam(groups)

    def begin_iteration(self) -> None:
        """Take the policy as it is now for π_old, where that is needed."""
        self.old = self.policy.clone() if self.settings.mirror_coef else None

    def step(self, conversations: Sequence[TrajectoryTokens], outcomes: np.ndarray) -> Metrics:
        """Learn from B finished conversations and their outcomes [B]; what was measured on the way.

        Raises ``ValueError`` where nobody said anything.
        """
        batch = token_batch(conversations)
        if not len(batch.rows):
            raise ValueError("No utterance of the batch has any tokens, so there is nothing to learn from.")
        learns = self.steps >= self.policy_delay
        with torch.set_grad_enabled(learns):
            logprobs = token_logprobs(self.policy, batch)  # [N, V]
        with torch.no_grad():
            reference = token_logprobs(self.reference, batch)
        chosen = logprobs.gather(1, batch.tokens.to(logprobs.device)[:, None])[:, 0]  # [N]
        kl = self._kl(logprobs, reference, batch)  # [N]
        unit = self._unit(outcomes)
        advantages, metrics = self._advantages(batch, outcomes, self._priced(kl, chosen, reference, batch))
        turns = len(batch.owners)
        metrics |= {"kl": kl.sum().item() / turns, "outcome": float(outcomes.mean()), "outcome_unit": unit}
        if learns:
            loss = self._loss(batch, logprobs, chosen, kl, advantages) / turns
            metrics["policy_loss"] = loss.item()
            if self.old is not None:
                with torch.no_grad():
                    old = token_logprobs(self.old, batch)
                mirror = exact_kl(logprobs, old).sum() / turns
                loss, metrics["mirror_kl"] = loss + self.settings.mirror_coef * mirror, mirror.item()
            metrics |= self._update(loss / unit, logprobs)
        self.steps += 1
        return metrics

    def _loss(self, batch: TokenBatch, logprobs: Tensor, chosen: Tensor, kl: Tensor, advantages: np.ndarray) -> Tensor:
        """Σ over tokens of -Â log π + α KL, in units of the outcome."""
        settings = self.settings
        weights = torch.from_numpy(advantages).to(chosen)
        if settings.kl == "reward":
            return -(weights * chosen).sum()
        if settings.kl == "exact":
            by_turn = {"turn": 1.0, "mixed": 0.5, "token": 0.0}[settings.level]  # tokens' advantages have it already
            weights = weights - settings.kl_coef * by_turn * later_in_turn(kl.detach(), batch.turns.to(kl.device))
        return -(weights * chosen).sum() + settings.kl_coef * kl.sum()

    def _unit(self, outcomes: np.ndarray) -> float:
        """What the loss is divided by."""
        deviation = self._outcomes.show(outcomes)
        return deviation if self.settings.normalise else 1.0

    def _kl(self, logprobs: Tensor, reference: Tensor, batch: TokenBatch) -> Tensor:
        """[N] KL(π ‖ μ) at every token, or its estimate."""
        if self.settings.kl != "k3":
            return exact_kl(logprobs, reference)
        index = batch.tokens.to(logprobs.device)[:, None]
        log_ratio = (reference.gather(1, index) - logprobs.gather(1, index))[:, 0]
        return log_ratio.exp() - 1 - log_ratio

    def _priced(self, kl: Tensor, chosen: Tensor, reference: Tensor, batch: TokenBatch) -> np.ndarray:
        """[N] the KL of every token as it enters the returns."""
        if self.settings.kl == "reward":
            kl = chosen - reference.gather(1, batch.tokens.to(chosen.device)[:, None])[:, 0]
        return kl.detach().double().cpu().numpy()

    def _advantages(self, batch: TokenBatch, outcomes: np.ndarray, kl: np.ndarray) -> tuple[np.ndarray, Metrics]:
        """[N] the advantage of every token, and the critic's step afterwards: no baseline has seen what it is for."""
        read: list[_Decided] = []
        weights = np.zeros(len(batch.rows))
        if self.settings.level != "token":
            read.append(self._decided(batch.turns.numpy(), batch.owners.numpy(), batch.texts, outcomes, kl))
        if self.settings.level != "turn":
            each = np.arange(len(batch.rows))
            read.append(self._decided(each, batch.rows.numpy(), batch.before, outcomes, kl))
        for one in read:
            centre = one.advantages.mean() if self.settings.normalise else 0.0
            weights += (one.advantages - centre)[one.decisions] / len(read)
        logs = [self._fit_value(one) for one in read]
        return weights, logs[0]

    def _decided(
        self, decisions: np.ndarray, owners: np.ndarray, texts: Sequence[Text], outcomes: np.ndarray, kl: np.ndarray
    ) -> _Decided:
        """Advantages of D decisions by GAE. ``decisions`` [N] is the decision of each token, ``owners`` [D] the
        conversation of each decision, and the critic is read at the places of ``texts``."""
        settings = self.settings
        texts = [one for one in texts if len(one.places)]
        states = self.value.reader(texts)  # [D, hidden]
        values = self.value.values(states)
        costs = settings.kl_coef * np.bincount(decisions, weights=kl, minlength=len(owners))
        advantages = np.empty(len(owners))
        for b in np.unique(owners):
            mine = owners == b
            cost = costs[mine]
            rewards = -cost if settings.kl == "reward" else -np.append(cost[1:], 0.0)
            rewards[-1] += outcomes[b]
            advantages[mine] = gae(rewards, values[mine], settings.gamma, settings.gae_lambda)
        return _Decided(decisions, texts, states, values, advantages)

    def _fit_value(self, read: _Decided) -> Metrics:
        """Steps of the critic towards the λ-returns; its figures before the first of them."""
        targets, states = read.advantages + read.values, read.states
        wanted = torch.from_numpy(targets).to(states)
        losses = []
        for epoch in range(self.settings.value_epochs):
            if epoch and self.value.reader.learning_rate:
                states = self.value.reader(read.texts)
            loss = ((self.value(states) - wanted) ** 2).mean()
            self._value_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in self._value_optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            self._value_optimizer.step()
            losses.append(loss.item())
        variance = float(np.var(targets))
        explained = 1.0 - float(np.mean(read.advantages**2)) / variance if variance > 0 else float("nan")
        return {"value_loss": losses[0], "value_r2": explained, "advantage_spread": float(read.advantages.std())}

    def _update(self, loss: Tensor, logprobs: Tensor) -> Metrics:
        self._policy_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.settings.max_grad_norm)
        self._policy_optimizer.step()
        entropy = -(logprobs.exp() * logprobs).sum(-1).mean()
        return {"entropy": entropy.item(), "grad_norm": norm.item()}

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the critic, both optimizers and the count; the policy is its owner's."""
        save_file(own_state(self.value, [self.value.reader]), folder / "value.safetensors")
        optimizers = {"policy": self._policy_optimizer.state_dict(), "value": self._value_optimizer.state_dict()}
        counts = {"steps": self.steps, "policy_delay": self.policy_delay, "outcomes": list(self._outcomes.seen)}
        torch.save({**counts, **optimizers}, folder / "learning.pt")

    def restore(self, folder: Path) -> None:
        load_own_state(self.value, [self.value.reader], load_file(folder / "value.safetensors"))
        state = torch.load(folder / "learning.pt", weights_only=True)
        self.steps, self.policy_delay = int(state["steps"]), int(state["policy_delay"])
        n, total, squares = state["outcomes"]
        self._outcomes.seen = (int(n), float(total), float(squares))
        self._policy_optimizer.load_state_dict(state["policy"])
        self._value_optimizer.load_state_dict(state["value"])
