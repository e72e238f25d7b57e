"""What MTPO and multi-turn RLHF have in common: batches of conversations with an outcome each, learnt step by step.

An iteration is as many steps of the learner (``agents.turn_gradient``) as its share of conversations allows
(``agents.on_policy``). What a batch is and where its outcomes come from is all that the agents add.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.agent import Critique, Metrics, check_range
from agents.learnt_judge import fit_judge
from agents.on_policy import OnPolicyLearner
from agents.practice import Practice
from agents.preference_model import Kind, PreferenceModel
from agents.reader import Text, whole
from agents.turn_gradient import Learning, TurnGradient
from agents.value_function import ValueFunction
from envs.trajectory import Trajectory


class TurnLearner(OnPolicyLearner):
    """A chat model that learns from the outcomes of its own conversations by the policy gradient of turns.

    Args:
        start, temperature, max_new_tokens, conversations_per_step, device, dtype, lora_rank: see ``OnPolicyLearner``;
            the start is also μ.
        learner: the settings of the policy gradient.
        policy_delay: the share of the budget's steps in which the critic alone learns (the paper's 1,000 of 50,000 are
            .02; with so few steps the critic needs more of them).
        judge_epochs, judge_held_out: of the model of the judge, where there is one: passes over the logged pairs, and
            the share of them that is kept for measuring it.
        judge_learning_rate, judge_weight_decay: see ``PreferenceModel``.
        value_width, value_members: see ``ValueFunction``.
    """

    judge_kind: Kind | None = None
    """What model of the judge is learnt; None: none."""
    expected_outcome = 0.0
    """What the critic expects before it has learnt anything."""

    def __init__(
        self,
        start: str | None,
        learner: TurnGradient,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        conversations_per_step: int = 32,
        policy_delay: float = 0.06,
        judge_epochs: float = 4.0,
        judge_held_out: float = 0.1,
        judge_learning_rate: float = 2e-3,
        judge_weight_decay: float = 0.03,
        value_width: int = 64,
        value_members: int = 4,
        **loading: Any,
    ):
        check_range("policy_delay", policy_delay, 0.0, 0.9)
        check_range("judge_epochs", judge_epochs, 0.0)
        check_range("judge_held_out", judge_held_out, 0.0, 0.9)
        self.settings, self.policy_delay = learner, policy_delay
        self.judging = {"learning_rate": judge_learning_rate, "weight_decay": judge_weight_decay}
        self.fitting = {"epochs": judge_epochs, "held_out": judge_held_out}
        self._critic = {"width": value_width, "members": value_members}
        self._judge_figures: dict[str, float] = {}
        self.judge: PreferenceModel | None = None
        super().__init__(
            start,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            conversations_per_step=conversations_per_step,
            **loading,
        )

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given; fit the model of the judge; begin the critic."""
        super().prepare(practice)
        judging, valuing = practice.rng.spawn(2)
        if self.judge_kind is not None:
            self.judge, self._judge_figures = fit_judge(
                self.start, practice, judging, kind=self.judge_kind, **self.fitting, **self.judging
            )
        steps = practice.budget.conversations // self.conversations_per_step
        self._begin_learning(valuing, round(self.policy_delay * steps))

    def _begin_learning(self, rng: np.random.Generator, policy_delay: int = 0) -> None:
        value = ValueFunction(self.start, rng, initial=self.expected_outcome, **self._critic)
        self.learning = Learning(self.settings, self.policy, self.start, value, policy_delay)

    def begin_iteration(self) -> None:
        self.learning.begin_iteration()

    def step(self, trajectories: Sequence[Trajectory], outcomes: np.ndarray, rng: np.random.Generator) -> Metrics:
        return self.learning.step([self.policy.trajectory_tokens(trajectory) for trajectory in trajectories], outcomes)

    def improve(self, practice: Practice) -> Metrics:
        metrics = super().improve(practice)
        return {**metrics, **self._judge_figures, "steps": float(self.learning.steps)}

    def texts(self, trajectories: Sequence[Trajectory]) -> list[Text]:
        """Finished conversations as the model of the judge reads them."""
        return [whole(self.start, trajectory) for trajectory in trajectories]

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        """V, in units of the outcome; of a turn that another one follows, how much V rose by then."""
        values = self.learning.value.before_turns(self.policy, trajectories)
        rises = [np.append(np.diff(one), np.nan) for one in values]
        none = np.full(sum(map(len, values)), np.nan)
        return Critique(np.concatenate(values), none, np.concatenate(rises))

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.learning.save(folder)
        if self.judge is not None:
            self.judge.save(folder / "judge.safetensors")
            (folder / "judge.json").write_text(json.dumps(self._judge_figures))

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        unused = np.random.default_rng(0)  # weights are read in the next lines
        self._begin_learning(unused)
        self.learning.restore(folder)
        if self.judge_kind is not None:
            self.judge = PreferenceModel(self.start, unused, kind=self.judge_kind, **self.judging)  # type: ignore[arg-type]
            self.judge.restore(folder / "judge.safetensors")
            self._judge_figures = json.loads((folder / "judge.json").read_text())
