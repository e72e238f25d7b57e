"""PPO on whole conversations: the clipped policy gradient, with a critic that is read before every decision.

What Turn-PPO and token-level PPO have in common; they differ in what a decision is. Per step, on a batch of the
policy's conversations: V is read before every decision, advantages are GAE over the decisions of each conversation,

    δ_d = r_d + γ V(x_{d+1}) - V(x_d)        Â_d = δ_d + γλ Â_{d+1}

with the world's rewards and V = 0 after the last decision; the policy takes its steps (``agents.clipped_gradient``);
then V is regressed on Â + V_old. So no baseline has seen what it is for.

The critic is heads on a copy of the start's trunk (``agents.value_function``), with an optimizer and a learning rate of
its own: there is no value coefficient, which under Adam would do nothing.

What is learnt from is Â centred over the batch and divided by a unit (``normalise``): the deviation of Â in the batch
(``batch``, "whitening"), or of all returns so far (``returns``). The former blows up the critic's errors to the size of
a signal once all conversations of a batch go alike; see ``agents.turn_gradient``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.adapters import load_own_state, own_state
from agents.advantages import Unit
from agents.agent import Critique, Metrics, check_range
from agents.clipped_gradient import ClippedGradient, ClippedLearning, Minibatch
from agents.decisions import Level, advantages
from agents.on_policy import OnPolicyLearner
from agents.practice import Practice
from agents.value_function import ValueFunction
from envs.trajectory import Trajectory

Beside = Callable[[], tuple[Tensor, dict[str, float]]]
"""One more term of the policy's loss, and its figures."""


@dataclass(frozen=True)
class CriticSettings:
    """How V is fitted.

    Args:
        learning_rate: of Adam, for the heads; the trunk's is that of ``agents.reader``.
        epochs: passes over a batch, in the policy's minibatches.
        clip: how far a member's value may move from where the batch found it, in units of the return; None: any.
        width, members: of the heads.

    Raises ``ValueError`` for values out of range.
    """

    learning_rate: float = 2e-3
    epochs: int = 8
    clip: float | None = None
    width: int = 64
    members: int = 4

    def __post_init__(self) -> None:
        check_range("critic.learning_rate", self.learning_rate, 0.0)
        for name in ("epochs", "width", "members"):
            check_range(f"critic.{name}", getattr(self, name), 1)
        if self.clip is not None:
            check_range("critic.clip", self.clip, 0.0)


class Critic:
    """V and its optimizer at one moment of learning."""

    def __init__(self, settings: CriticSettings, value: ValueFunction):
        self.settings, self.value = settings, value
        groups = [{"params": list(value.heads.parameters()), "lr": settings.learning_rate}]
        if rate := value.reader.learning_rate:
            groups.append({"params": list(value.reader.trunk.parameters()), "lr": rate})
        self._optimizer = torch.optim.Adam(groups)

    @torch.no_grad()
    def read(self, one: Minibatch) -> Tensor:
        """[M, D] each member's value before every decision."""
        return self.value(self._states(one))

    def fit(
        self, minibatches: Sequence[Minibatch], old: Sequence[Tensor], targets: Sequence[np.ndarray],
        rng: np.random.Generator,
    ) -> float:  # fmt: skip
        """Regress V on targets [D] per minibatch, near its ``old`` values [M, D]; the loss of the first pass."""
        learns = bool(self.value.reader.learning_rate)
        frozen = [] if learns else [self._states(one) for one in minibatches]
        losses: list[float] = []
        for _ in range(self.settings.epochs):
            for i in rng.permutation(len(minibatches)):
                values = self.value(self._states(minibatches[i]) if learns else frozen[i])
                loss = value_loss(values, old[i], torch.from_numpy(targets[i]).to(values), self.settings.clip)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for group in self._optimizer.param_groups:
                    nn.utils.clip_grad_norm_(group["params"], 1.0)
                self._optimizer.step()
                losses.append(loss.item())
        return float(np.mean(losses[: len(minibatches)]))

    def _states(self, one: Minibatch) -> Tensor:
        """[D, hidden]"""
        return self.value.reader([text for text in one.decisions.texts if len(text.places)])

    def save(self, folder: Path) -> None:
        save_file(own_state(self.value, [self.value.reader]), folder / "value.safetensors")
        torch.save(self._optimizer.state_dict(), folder / "critic.pt")

    def restore(self, folder: Path) -> None:
        load_own_state(self.value, [self.value.reader], load_file(folder / "value.safetensors"))
        self._optimizer.load_state_dict(torch.load(folder / "critic.pt", weights_only=True))


def value_loss(values: Tensor, old: Tensor, targets: Tensor, clip: float | None) -> Tensor:
    """The squared error of values [M, D] against targets [D], a mean; with ``clip`` the greater of it and that of the
    values brought within ``clip`` of ``old`` [M, D]."""
    errors = (values - targets) ** 2
    if clip is not None:
        within = old + (values - old).clamp(-clip, clip)
        errors = torch.maximum(errors, (within - targets) ** 2)
    return errors.mean()


class ActorCritic(OnPolicyLearner):
    """A chat model that learns by PPO on whole conversations.

    Args:
        start, temperature, max_new_tokens, conversations_per_step, device, dtype, lora_rank: see ``OnPolicyLearner``.
        learner: the settings of the policy's steps.
        critic: those of the critic.
        gamma, gae_lambda: γ and λ, per decision.
        normalise: ``batch``, ``returns`` or ``none``.

    Raises ``ValueError`` for values out of range.
    """

    level: ClassVar[Level]
    """What a decision is."""

    def __init__(
        self,
        start: str | None,
        learner: ClippedGradient,
        critic: CriticSettings,
        *,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        normalise: Literal["batch", "returns", "none"] = "returns",
        **options: Any,
    ):
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("gae_lambda", gae_lambda, 0.0, 1.0)
        if normalise not in ("batch", "returns", "none"):
            raise ValueError(f"normalise={normalise!r}; choose batch, returns or none.")
        self.settings, self.critic_settings = learner, critic
        self.gamma, self.gae_lambda, self.normalise = gamma, gae_lambda, normalise
        super().__init__(start, **options)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given; begin the critic."""
        super().prepare(practice)
        (rng,) = practice.rng.spawn(1)
        self._begin_learning(rng)

    def _begin_learning(self, rng: np.random.Generator) -> None:
        heads = {"width": self.critic_settings.width, "members": self.critic_settings.members}
        self.learning = ClippedLearning(self.settings, self.policy, self.start)
        self.critic = Critic(self.critic_settings, ValueFunction(self.start, rng, **heads))
        self.returns = Unit()

    def step(self, trajectories: Sequence[Trajectory], outcomes: np.ndarray, rng: np.random.Generator) -> Metrics:
        reads = [self.policy.trajectory_tokens(trajectory) for trajectory in trajectories]
        rewards = [np.array([step.reward for step in trajectory.steps]) for trajectory in trajectories]
        minibatches = self.learning.minibatches(reads, rewards, self.level, rng)
        old = [self.critic.read(one) for one in minibatches]
        values = [value.mean(0).double().cpu().numpy() for value in old]
        found = [
            advantages(one.decisions.owners, self.learning.priced(one), value, self.gamma, self.gae_lambda)
            for one, value in zip(minibatches, values, strict=True)
        ]
        targets = [advantage + value for advantage, value in zip(found, values, strict=True)]
        metrics = self.learning.learn(minibatches, self._normalised(found, outcomes), rng, beside=self.beside(rng))
        loss = self.critic.fit(minibatches, old, targets, rng)
        return {**metrics, **_figures(np.concatenate(found), np.concatenate(targets)), "value_loss": loss}

    def beside(self, rng: np.random.Generator) -> Beside | None:
        """One more term of the policy's loss; by default none."""
        return None

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        """V before every turn; r + γV of what came of it; and their difference."""
        values = self.critic.value.before_turns(self.policy, trajectories)
        rewards = [np.array([step.reward for step in trajectory.steps]) for trajectory in trajectories]
        after = [r + self.gamma * np.append(v[1:], 0.0) for r, v in zip(rewards, values, strict=True)]
        said, expected = np.concatenate(after), np.concatenate(values)
        return Critique(expected, said, said - expected)

    def _normalised(self, found: list[np.ndarray], outcomes: np.ndarray) -> list[np.ndarray]:
        """Advantages [D] per minibatch as the policy learns from them."""
        every, unit = np.concatenate(found), self.returns.show(outcomes)
        if self.normalise == "none":
            return found
        if self.normalise == "batch":
            unit = float(every.std()) + 1e-8
        return [(advantage - every.mean()) / unit for advantage in found]

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.critic.save(folder)
        torch.save({"policy": self.learning.state(), "returns": list(self.returns.seen)}, folder / "learning.pt")

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self._begin_learning(np.random.default_rng(0))  # whose weights are read in the next lines
        self.critic.restore(folder)
        state = torch.load(folder / "learning.pt", weights_only=True)
        self.learning.restore(state["policy"])
        n, total, squares = state["returns"]
        self.returns.seen = (int(n), float(total), float(squares))


def _figures(advantage: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """What the critic explained of the batch, before its step."""
    variance = float(np.var(targets))
    explained = 1.0 - float(np.mean(advantage**2)) / variance if variance > 0 else float("nan")
    return {"value_r2": explained, "advantage_spread": float(advantage.std())}
