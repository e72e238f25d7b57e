"""What MC returns and ILQL have in common: Q of tokens, learnt from the logged conversations, perturbs the start.

They differ in the loss alone. Neither takes a conversation with users: they learn from what is logged, in one
iteration, and leave their budget untouched. Before it Q is 0 everywhere, and they speak as the start does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.adapters import load_own_state, own_state
from agents.agent import Critique, Metrics, check_range
from agents.behaviour import mean_metrics
from agents.chat_learner import ChatLearner
from agents.chat_model import ChatModel
from agents.logged_data import kl_to_start, scored
from agents.packing import like_lengths
from agents.practice import Practice
from agents.q_function import calibration
from agents.token_q import Decisions, Perturbed, TokenQ, Unit, chosen, decisions, tokens_of
from envs.trajectory import Trajectory

_ASKED_AT_ONCE = 16
"""Conversations whose distributions are worked out in one pass."""


class TokenQLearner(ChatLearner):
    """The start, perturbed by a Q of tokens.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        beta: how much the least Q of a token adds to its logit, per standard deviation of the logged returns.
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
        known = [one for one in data[cut:] if len(one.tokens)]
        if not known:
            raise ValueError("No logged conversation is left to learn Q from; raise budget.logged or lower held_out.")
        self._measure_in(Unit.of(known, self.gamma))
        metrics = self._fit(known, rng)
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

    def _measure_in(self, unit: Unit) -> None:
        self.q.unit = unit

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
        """Learn from ``data``; the mean figures of the last pass."""
        groups: list[dict[str, Any]] = [
            {"params": [p for part in self.parts() for p in part.parameters()], "lr": self.learning_rate}
        ]
        if rate := self.q.reader.learning_rate:
            groups.append({"params": [p for p in self.q.reader.parameters() if p.requires_grad], "lr": rate})
        optimizer = torch.optim.Adam(groups)
        steps = max(1, round(self.epochs * len(data) / self.batch_size))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        logs: list[dict[str, float]] = []
        lengths, read = [len(one.text.ids) for one in data], self._reading(data)
        while len(logs) < steps:
            for members in like_lengths(lengths, self.batch_size, rng):
                loss, figures = self.loss(read(members), [data[i] for i in members])
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

    def _reading(self, data: Sequence[Decisions]) -> Callable[[np.ndarray], Tensor]:
        """What reads the states [N, hidden] of some of ``data``.

        A trunk that stays as it is reads each of them once, and they are kept: 4 bytes · N · hidden, 0.2 GB for 6,000
        conversations and the starts that ship.
        """
        if self.q.reader.learning_rate or self.epochs <= 1:
            return lambda members: self.q.states([data[i] for i in members])
        kept: dict[int, Tensor] = {}

        def read(members: np.ndarray) -> Tensor:
            if new := [i for i in members if i not in kept]:
                states = self.q.states([data[i] for i in new])
                kept.update(zip(new, states.split([len(data[i].tokens) for i in new]), strict=True))
            return torch.cat([kept[i] for i in members])

        return read

    # ---- asked ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        """In units of the return that is discounted per token: Q of a turn's last token, when all of the turn has been
        decided; V before the turn, the mean Q of its first token under what is spoken; and their difference."""
        values: list[float] = []
        action_values: list[float] = []
        unit = self.q.unit
        for i in range(0, len(trajectories), _ASKED_AT_ONCE):
            part = trajectories[i : i + _ASKED_AT_ONCE]
            data = [decisions(self.start, one) for one in part]
            lengths = np.concatenate([_turn_lengths(self.start, one) for one in part])  # [P]
            ends = np.cumsum(lengths)
            spoken = lengths > 0
            states = self.q.states(data)  # [N, hidden]
            tokens = tokens_of(data, states.device)
            first, last = (torch.from_numpy(places[spoken]) for places in (ends - lengths, ends - 1))
            said = chosen(self.q.least(states[last]), tokens[last])
            mean = (self._odds(data, first) * self.q.least(states[first])).sum(-1)
            for found, of in ((action_values, said), (values, mean)):
                every = np.full(len(lengths), np.nan)
                every[spoken] = unit.mean + unit.scale * of.double().cpu().numpy()
                found += every.tolist()
        v, q = np.array(values), np.array(action_values)
        return Critique(v, q, q - v)

    def _odds(self, data: Sequence[Decisions], which: Tensor) -> Tensor:
        """[P, V] how likely each token is, by what is spoken, where ``which`` [P] of the decisions were made."""
        ids = nn.utils.rnn.pad_sequence([torch.as_tensor(one.text.ids) for one in data], batch_first=True)
        rows = torch.from_numpy(np.repeat(np.arange(len(data)), [len(one.tokens) for one in data]))
        places = torch.from_numpy(np.concatenate([one.text.places for one in data]))
        return self.policy.distributions({"input_ids": ids}, rows[which], places[which]).exp()

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        self.start.save(folder / "start")
        save_file(own_state(self.q, [self.q.reader]), folder / "q.safetensors")

    def restore(self, folder: Path) -> None:
        self.start = self._load(folder / "start")
        self._begin_q(np.random.default_rng(0))  # whose weights are read in the next line
        load_own_state(self.q, [self.q.reader], load_file(folder / "q.safetensors"))


def _turn_lengths(policy: ChatModel, trajectory: Trajectory) -> np.ndarray:
    """[K] the decisions of each turn."""
    read = policy.trajectory_tokens(trajectory)
    return read.turn_ends - read.prompt_ends
