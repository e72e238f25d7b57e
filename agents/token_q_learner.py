"""What MC returns and ILQL have in common: Q of tokens, learnt from the logged conversations, perturbs the start.

They differ in the loss alone. Neither takes a conversation with users: they learn from what is logged, in one
iteration, and leave their budget untouched. Before it Q is 0 everywhere, and they speak as the start does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.adapters import load_own_state, own_state
from agents.agent import Metrics, check_range
from agents.behaviour import mean_metrics
from agents.chat_learner import ChatLearner
from agents.logged_data import kl_to_start, scored
from agents.packing import like_lengths
from agents.practice import Practice
from agents.q_function import calibration
from agents.token_q import Decisions, Perturbed, TokenQ, decisions


class TokenQLearner(ChatLearner):
    """The start, perturbed by a Q of tokens.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        beta: how much the least Q of a token adds to its logit.
        gamma: discount per token of the agent.
        cql_coef: of the cross-entropy of Q, taken for logits, on what was said.
        epochs: passes over the logged conversations.
        batch_size: conversations per step.
        learning_rate: of the heads; Adam, falling to 0 along a cosine.
        trunk_learning_rate: of the copy of the start's trunk that they read. None: 0 if the start's ``config.json``
            says ``"learnt_to_read": true``, else ``agents.reader.TRUNK_RATE``.
        width: of the heads' hidden layer.
        held_out: share of the logged conversations on which Q is measured and not learnt.

    Raises ``ValueError`` for values out of range.
    """

    members = 1
    """How many Q are learnt."""
    policy: Perturbed

    def __init__(
        self,
        start: str | None,
        *,
        beta: float,
        gamma: float = 0.99,
        cql_coef: float = 0.01,
        epochs: float = 1.0,
        batch_size: int = 24,
        learning_rate: float = 5e-3,
        trunk_learning_rate: float | None = None,
        width: int = 128,
        held_out: float = 0.1,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        **loading: Any,
    ):
        for name, value in {
            "beta": beta,
            "cql_coef": cql_coef,
            "epochs": epochs,
            "learning_rate": learning_rate,
        }.items():
            check_range(name, value, 0.0)
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("held_out", held_out, 0.0, 0.9)
        check_range("batch_size", batch_size, 1)
        check_range("width", width, 1)
        self.beta, self.gamma, self.cql_coef = beta, gamma, cql_coef
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.held_out = held_out
        self._heads: dict[str, Any] = {"width": width, "trunk_learning_rate": trunk_learning_rate}
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given, and begin Q there."""
        super().prepare(practice)
        (rng,) = practice.rng.spawn(1)  # a stream of its own: the first iteration begins with practice.rng itself
        self._begin_q(rng)

    def _begin_q(self, rng: np.random.Generator) -> None:
        self.q = TokenQ(self.start, rng, members=self.members, **self._heads)
        self.policy = Perturbed(self.start, self.q, self.beta)

    def improve(self, practice: Practice) -> Metrics:
        rng, logged = practice.rng, scored(practice)
        data = [decisions(self.start, one) for one in logged]
        cut = round(self.held_out * len(data))
        aside = data[:cut]
        metrics = self._fit([one for one in data[cut:] if len(one.tokens)], rng)
        if aside:
            returns = np.concatenate([one.returns(self.gamma) for one in aside])
            metrics |= {f"q_{name}": value for name, value in calibration(self.q.of_decisions(aside), returns).items()}
        practice.finish()
        return {
            "logged_conversations": float(len(logged)),
            "unscored": float(len(practice.logged()) - len(logged)),
            **metrics,
            "start_kl": kl_to_start(self.policy, self.start, logged),
        }

    # ---- learning -------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, states: Tensor, batch: Sequence[Decisions]) -> tuple[Tensor, dict[str, float]]:
        """What is to be made small on a batch, whose states [N, hidden] have been read; and figures of it."""

    def parts(self) -> list[nn.Module]:
        """Everything beside the trunk that learns."""
        return [self.q.heads]

    def after_step(self) -> None:
        """What follows each step of the optimizer."""

    def _fit(self, data: Sequence[Decisions], rng: np.random.Generator) -> dict[str, float]:
        """Learn from ``data``; the mean figures of the last pass. Raises ``ValueError`` without data."""
        if not data:
            raise ValueError("No logged conversation is left to learn Q from; raise budget.logged or lower held_out.")
        groups: list[dict[str, Any]] = [
            {"params": [p for part in self.parts() for p in part.parameters()], "lr": self.learning_rate}
        ]
        if rate := self.q.reader.learning_rate:
            groups.append({"params": [p for p in self.q.reader.parameters() if p.requires_grad], "lr": rate})
        optimizer = torch.optim.Adam(groups)
        steps = max(1, round(self.epochs * len(data) / self.batch_size))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        logs: list[dict[str, float]] = []
        lengths = [len(one.text.ids) for one in data]
        while len(logs) < steps:
            for members in like_lengths(lengths, self.batch_size, rng):
                batch = [data[i] for i in members]
                loss, figures = self.loss(self.q.states(batch), batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for group in groups:
                    nn.utils.clip_grad_norm_(group["params"], 1.0)
                optimizer.step()
                schedule.step()
                self.after_step()
                logs.append(figures)
                if len(logs) == steps:
                    break
        return mean_metrics(logs[-max(1, len(data) // self.batch_size) :])

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        self.start.save(folder / "start")
        save_file(own_state(self.q, [self.q.reader]), folder / "q.safetensors")

    def restore(self, folder: Path) -> None:
        self.start = self._load(folder / "start")
        self._begin_q(np.random.default_rng(0))  # whose weights are read in the next line
        load_own_state(self.q, [self.q.reader], load_file(folder / "q.safetensors"))
