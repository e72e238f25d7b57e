"""Policy gradient over the turns of whole conversations, with a critic of one value per turn.

The learner of MTPO, MTPO-τ and multi-turn RLHF (arXiv 2405.14655, section 4.1 and table 4): all three differ only in
where the outcome of a conversation comes from. Per step, on a batch of finished conversations with one outcome each,

    L_policy = -Â(x, y) · log π(y | x) + α KL(π ‖ μ)[x]          L_value = (V̂(x) - V(x))²

without importance ratio and without clipping; Â and V̂ by GAE over turns; Â normalised: centred over the batch, and
divided by the greatest deviation that a batch has had so far. (The paper normalises by the batch's own. Once all
conversations of a batch go alike, that would blow up the critic's errors to the size of a signal; it destroyed policies
that had all but solved a small world.)

Bookkeeping. With Q_α(x_h, y_h) = E[outcome - α Σ_{h' ≥ h} KL[x_h']] the term of h itself does not depend on y_h, so it
cancels in Q - V: the advantage carries *future* KL only, and the current KL is the explicit term of the loss. Here V is
defined without the current KL, V(x_h) = E[outcome - α Σ_{h' > h} KL[x_h']], and the reward that follows turn h is
-α KL[x_{h+1}], after the last turn the outcome.

KL of a turn is the sum over its tokens of the exact KL over the vocabulary at the tokens said (``kl="exact"``), or of
the estimator r - 1 - log r with r = μ/π (``kl="k3"``); or the sampled log(π/μ) enters the reward of its own turn and
the loss has no KL (``kl="reward"``): both at once would count it twice.

A conversation is one sequence and one forward pass, whatever its number of turns: the cost is linear in its tokens.

Not stated by the paper and chosen here: Adam instead of AdaFactor (the models are small), the learning rates, the
critic's form (heads on a copy of the start's trunk, see ``agents.value_function``), the KL estimator, γ = 1, the loss
as a mean over turns.

Options for questions that the paper left open, off by default:

- ``mirror_coef``: KL(π ‖ π_old) with π_old the policy at the beginning of the iteration, the term of mirror descent
  that the paper's loss drops.
- ``level``: ``turn``; ``token``, where every token is a decision with a value of its own; ``mixed``, the mean of both
  normalised advantages.
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

from agents.advantages import gae, normalised
from agents.agent import check_range
from agents.chat_model import ChatModel, TrajectoryTokens
from agents.ppo import exact_kl
from agents.reader import Text
from agents.value_function import ValueFunction

Metrics = dict[str, float]
Level = Literal["turn", "token", "mixed"]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Conversations as one batch: B rows of at most T tokens, N agent tokens in R turns."""

    ids: Tensor  # [B, T]
    rows: Tensor  # [N] the row of each agent token
    columns: Tensor  # [N] its place in the row; the place before predicts it
    turns: Tensor  # [N] its turn, numbered over the batch
    ends: Tensor  # [R] of each turn the number of the conversation
    texts: tuple[Text, ...]  # [B] the places before every turn
    before: tuple[Text, ...]  # [B] the places before every agent token

    @property
    def tokens(self) -> Tensor:
        """[N] the agent tokens themselves."""
        return self.ids[self.rows, self.columns]


def token_batch(conversations: Sequence[TrajectoryTokens]) -> TokenBatch:
    """Lay conversations side by side. Turns without a token (an empty utterance) have no decision in them."""
    ids = nn.utils.rnn.pad_sequence([torch.as_tensor(one.ids) for one in conversations], batch_first=True)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    turns: list[np.ndarray] = []
    ends: list[int] = []
    texts: list[Text] = []
    before: list[Text] = []
    for b, one in enumerate(conversations):
        spoken = [(a, z) for a, z in zip(one.prompt_ends.tolist(), one.turn_ends.tolist(), strict=True) if z > a]
        for a, z in spoken:
            said = np.arange(a + 1, z + 1)
            rows.append(np.full(len(said), b))
            columns.append(said)
            turns.append(np.full(len(said), len(ends)))
            ends.append(b)
        texts.append(Text(one.ids, np.array([a for a, _ in spoken], dtype=np.int64)))
        places = [np.arange(a, z) for a, z in spoken] or [np.zeros(0, dtype=np.int64)]
        before.append(Text(one.ids, np.concatenate(places)))
    none = np.zeros(0, dtype=np.int64)
    row, column, turn = (torch.from_numpy(np.concatenate([none, *part])) for part in (rows, columns, turns))
    return TokenBatch(ids, row, column, turn, torch.tensor(ends), tuple(texts), tuple(before))


def token_logprobs(model: ChatModel, batch: TokenBatch) -> Tensor:
    """[N, V] log-probabilities of what may be said at every agent token, at the model's temperature."""
    inputs = {"input_ids": batch.ids.to(model.model.device)}
    return model.distributions(inputs, batch.rows, batch.columns - 1)


@dataclass(frozen=True)
class TurnGradient:
    """The settings of the learner; ``Learning`` is what learns.

    Args:
        kl_coef: α, per nat of an utterance's KL to the start.
        learning_rate, value_learning_rate: of Adam, for the policy and for the critic's heads.
        gamma, gae_lambda: per decision.
        policy_delay: steps in which the critic alone learns.
        value_epochs: gradient steps of the critic per batch.
        level: ``turn``, ``token`` or ``mixed``.
        kl: ``exact``, ``k3`` or ``reward``.
        mirror_coef: of KL(π ‖ π_old); 0 leaves it out, as the paper does.
        normalise: whether advantages are centred and brought to one unit.
        max_grad_norm: of the policy's gradient.

    Raises ``ValueError`` for values out of range.
    """

    kl_coef: float = 0.01
    learning_rate: float = 1e-3
    value_learning_rate: float = 2e-3
    gamma: float = 1.0
    gae_lambda: float = 0.95
    policy_delay: int = 20
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
        check_range("learner.policy_delay", self.policy_delay, 0)
        check_range("learner.value_epochs", self.value_epochs, 1)
        for name, choices in (("level", ("turn", "token", "mixed")), ("kl", ("exact", "k3", "reward"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"learner.{name}={getattr(self, name)!r}; choose one of {', '.join(choices)}.")


class Learning:
    """A policy, its critic and their optimizers at one moment of learning.

    Args:
        settings: of the learner.
        policy: learns in place.
        reference: μ, which the KL is to.
        value: the critic.
    """

    def __init__(self, settings: TurnGradient, policy: ChatModel, reference: ChatModel, value: ValueFunction):
        self.settings, self.policy, self.reference, self.value = settings, policy, reference, value
        self.old: ChatModel | None = None
        self.steps = 0
        self._unit = dict.fromkeys(("turn", "token"), 0.0)
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
        learns = self.steps >= self.settings.policy_delay
        with torch.set_grad_enabled(learns):
            logprobs = token_logprobs(self.policy, batch)  # [N, V]
        with torch.no_grad():
            reference = token_logprobs(self.reference, batch)
        chosen = logprobs.gather(1, batch.tokens.to(logprobs.device)[:, None])[:, 0]  # [N]
        kl = self._kl(logprobs, reference, batch)  # [N]
        advantages, metrics = self._advantages(batch, outcomes, self._priced(kl, chosen, reference, batch))
        turns = len(batch.ends)
        metrics |= {"kl": kl.sum().item() / turns, "outcome": float(outcomes.mean())}
        if learns:
            weights = torch.from_numpy(advantages).to(chosen)
            loss = -(weights * chosen).sum() / turns
            metrics["policy_loss"] = loss.item()
            if self.settings.kl != "reward":
                loss = loss + self.settings.kl_coef * kl.sum() / turns
            if self.old is not None:
                with torch.no_grad():
                    old = token_logprobs(self.old, batch)
                mirror = exact_kl(logprobs, old).sum() / turns
                loss, metrics["mirror_kl"] = loss + self.settings.mirror_coef * mirror, mirror.item()
            metrics |= self._update(loss, logprobs)
        self.steps += 1
        return metrics

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
        """[N] the advantage of every token, and the critic's step on the way."""
        level = self.settings.level
        found: list[np.ndarray] = []
        metrics: Metrics = {}
        if level != "token":
            decisions, texts = batch.turns.numpy(), batch.texts
            by_turn, metrics = self._decided("turn", decisions, batch.ends.numpy(), texts, outcomes, kl)
            found.append(by_turn[decisions])
        if level != "turn":
            owners = batch.rows.numpy()
            by_token, metrics = self._decided("token", np.arange(len(owners)), owners, batch.before, outcomes, kl)
            found.append(by_token)
        return np.mean(found, axis=0), metrics

    def _decided(
        self, level: str, decisions: np.ndarray, owners: np.ndarray, texts: Sequence[Text], outcomes: np.ndarray,
        kl: np.ndarray,
    ) -> tuple[np.ndarray, Metrics]:  # fmt: skip
        """Advantages of D decisions [D] by GAE, and a step of the critic towards their targets.

        ``decisions`` [N] is the decision of each token, ``owners`` [D] the conversation of each decision, and the
        critic is read at the places of ``texts``.
        """
        settings = self.settings
        texts = [one for one in texts if len(one.places)]
        states = self.value.reader(texts)  # [D, hidden]
        values = self.value.values(states)
        costs = settings.kl_coef * np.bincount(decisions, weights=kl, minlength=len(owners))
        advantages, targets = np.empty(len(owners)), np.empty(len(owners))
        for b in np.unique(owners):
            mine = owners == b
            cost = costs[mine]
            rewards = -cost if settings.kl == "reward" else -np.append(cost[1:], 0.0)
            rewards[-1] += outcomes[b]
            advantages[mine] = gae(rewards, values[mine], settings.gamma, settings.gae_lambda)
            targets[mine] = advantages[mine] + values[mine]
        loss = self._fit_value(states, texts, targets)
        variance = float(np.var(targets))
        metrics = {
            "value_loss": loss,
            "value_r2": 1.0 - float(np.mean((targets - values) ** 2)) / variance if variance > 0 else float("nan"),
            "advantage_spread": float(advantages.std()),
        }
        if not settings.normalise:
            return advantages, metrics
        self._unit[level] = max(self._unit[level], float(advantages.std()))
        return normalised(advantages, self._unit[level]), metrics

    def _fit_value(self, states: Tensor, texts: Sequence[Text], targets: np.ndarray) -> float:
        """Steps towards the targets [D]; returns the first step's loss."""
        losses = []
        wanted = torch.from_numpy(targets).to(states)
        for epoch in range(self.settings.value_epochs):
            if epoch and self.value.reader.learning_rate:
                states = self.value.reader(texts)
            loss = ((self.value(states) - wanted) ** 2).mean()
            self._value_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in self._value_optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            self._value_optimizer.step()
            losses.append(loss.item())
        return losses[0]

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
        save_file(
            {name: tensor.contiguous() for name, tensor in self.value.state_dict().items()},
            folder / "value.safetensors",
        )
        optimizers = {"policy": self._policy_optimizer.state_dict(), "value": self._value_optimizer.state_dict()}
        torch.save({"steps": self.steps, "unit": self._unit, **optimizers}, folder / "learning.pt")

    def restore(self, folder: Path) -> None:
        self.value.load_state_dict(load_file(folder / "value.safetensors"))
        state = torch.load(folder / "learning.pt", weights_only=True)
        self.steps, self._unit = int(state["steps"]), state["unit"]
        self._policy_optimizer.load_state_dict(state["policy"])
        self._value_optimizer.load_state_dict(state["value"])
