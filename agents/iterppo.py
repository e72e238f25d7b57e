"""Iterative PPO (arXiv 2511.21638): learning conversations by a sequence of single-turn problems.

Per iteration (Algorithm 1 of the paper):

1. Collect a large batch of conversations with the current policy π_i.
2. Fit Q^{π_i} to their Monte-Carlo returns (``agents.q_function``).
3. Take the prompts of all turns of the logged conversations as single-turn prompts.
4. π_{i+1} ← single-turn RLHF on them with the frozen Q as the reward model (``solver``), kept near π_i.

The KL reference is the *current* policy: that is what the improvement theorem (Theorem 2) needs; with a fixed reference
the guarantee fails. ``solver.start_kl_coef`` adds a pull towards the start against drift of the language. It is 0 by
default: with ``kl_coef=0, start_kl_coef=0.05`` instead of the reverse the return on ``parley/Sales-v0`` was .501, not
.589 (user=program, seed 0, 1,000 scenarios, an earlier release).

What the paper leaves open, and what is done here:

- Q is fitted on the last ``window`` batches and, before the first, on the logged data of the behaviour policy
  (off-policy by as much as the policy moved since).
- The policy is improved on prompts of conversations that Q has not yet been fitted on (``held_out``). On those that it
  has, Q knows how each of them ended, and takes what happened to be said for the cause.
- ``window=1, warm_start=0, held_out=0`` is the paper's letter.
- γ is 1 by default; the conversations are finite. The paper has γ < 1.
- No hyperparameter is given in the paper; ours were chosen on ``parley/Sales-v0`` (``conf/agent/iterppo.yaml``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.agent import Critique, Metrics, check_range
from agents.behaviour import behaviour_metrics, mean_logprobs
from agents.chat_learner import ChatLearner
from agents.packing import Prompts, prompts_of
from agents.ppo import SingleTurnSolver
from agents.practice import Practice
from agents.q_function import Labelled, QFunction
from agents.reader import trunk_rate
from envs.trajectory import Trajectory, read_jsonl, write_jsonl

ODD_SAMPLE = 96
"""Conversations of a batch on which the share of odd language is measured."""


class IterPPO(ChatLearner):
    """A chat model that learns by Iterative PPO.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        solver: the single-turn solver.
        gamma: discount per exchange.
        q_learning_rate, q_trunk_learning_rate, q_batch_size, q_width, q_members: of Q (``QFunction``). The trunk's
            rate None: 0 if the start's ``config.json`` says ``"learnt_to_read": true``, as that of the seller
            that ships does, else ``TRUNK_RATE``.
        q_epochs: passes over the window per iteration.
        window: how many of the latest batches Q is fitted on.
        warm_start: passes over the logged data before the first iteration; 0 leaves it out.
        held_out: share of each new batch that Q is not fitted on in this iteration, but from the next on if ``window``
            is above 1. Its prompts are those the policy is improved on, and on it Q's calibration is measured. At 0 the
            whole batch serves for all three, and the calibration is that of conversations Q has learnt from.

    Raises ``ValueError`` for values out of range, and ``FileNotFoundError`` if ``start`` is no folder.
    """

    def __init__(
        self,
        start: str | None,
        solver: SingleTurnSolver,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        gamma: float = 1.0,
        q_learning_rate: float = 1e-3,
        q_trunk_learning_rate: float | None = None,
        q_batch_size: int = 8,
        q_width: int = 64,
        q_members: int = 4,
        q_epochs: float = 1.0,
        window: int = 3,
        warm_start: float = 3.0,
        held_out: float = 0.5,
        **loading: Any,
    ):
        whole = {"window": window, "q_batch_size": q_batch_size, "q_width": q_width, "q_members": q_members}
        for name, value in whole.items():
            check_range(name, value, 1)
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("held_out", held_out, 0.0, 0.95)
        check_range("warm_start", warm_start, 0.0)
        check_range("q_epochs", q_epochs, 0.0)
        self.solver = solver
        self.q_epochs, self.window, self.held_out = q_epochs, window, held_out
        self.warm_start = warm_start
        self._trunk_rate = q_trunk_learning_rate
        self._fitting: dict[str, Any] = {
            "learning_rate": q_learning_rate,
            "batch_size": q_batch_size,
            "width": q_width,
            "members": q_members,
            "gamma": gamma,
        }
        self._batches: list[list[Trajectory]] = []
        self._odd_below: float | None = None
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        """Make the start if none was given, begin Q there, and fit it to the logged data."""
        super().prepare(practice)
        (rng,) = practice.rng.spawn(1)  # a stream of its own: the first iteration begins with practice.rng itself
        self.q = self._new_q(rng)
        if self.warm_start and practice.budget.logged:
            if not (logged := self._labelled(practice.logged())):
                raise ValueError(
                    "None of the logged conversations is scored, so Q can't be fitted to them; give each a reward, or "
                    "set agent.warm_start=0."
                )
            self.q.fit(logged, rng, epochs=self.warm_start)

    def _new_q(self, rng: np.random.Generator) -> QFunction:
        rate = trunk_rate(self.start) if self._trunk_rate is None else self._trunk_rate
        return QFunction(self.start, rng, trunk_learning_rate=rate, **self._fitting)

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        trajectories = practice.converse(self)
        judged = [trajectory for trajectory in trajectories if trajectory.judged and trajectory.steps]
        if len(judged) < 2:
            raise RuntimeError(
                f"Of {len(trajectories)} conversations {len(judged)} were scored, and nothing can be learnt from so "
                "few; see why the user or the judge fails, or raise budget.per_iteration."
            )
        metrics = {**behaviour_metrics(trajectories), "odd_language": self._odd_language(trajectories)}
        fitted = aside = judged
        if self.held_out:
            cut = min(max(1, round(self.held_out * len(judged))), len(judged) - 1)
            fitted, aside = judged[cut:], judged[:cut]
        metrics |= self._fit_q(fitted, aside, rng)
        self._batches = [*self._batches, judged][-self.window :]
        prompts = [self.prompts_of(trajectory) for trajectory in aside]
        metrics |= self.solver.improve(self.policy, self.policy.clone(), self.q, prompts, rng, start=self.start)
        return metrics

    def _odd_language(self, trajectories: Sequence[Trajectory]) -> float:
        """Share of utterances that the start finds less likely, per token, than all but 1% of its own."""
        likely = mean_logprobs(self.start, [t for t in trajectories if t.steps][:ODD_SAMPLE])
        if self._odd_below is None:  # the first batch is the start's own
            self._odd_below = float(np.quantile(likely, 0.01))
        return float(np.mean(likely < self._odd_below))

    def _fit_q(self, fitted: list[Trajectory], aside: list[Trajectory], rng: np.random.Generator) -> dict[str, float]:
        """Fit Q on the window, without what is put ``aside`` until the next iteration; its figures on that."""
        before = self._batches[-(self.window - 1) :] if self.window > 1 else []
        data = [t for batch in (*before, fitted) for t in batch]
        loss = self.q.fit(self._labelled(data), rng, epochs=self.q_epochs)
        figures = self.q.calibration(self._labelled(aside))
        return {"q_loss": loss, **{f"q_{name}": value for name, value in figures.items()}}

    def _labelled(self, trajectories: Sequence[Trajectory]) -> list[Labelled]:
        return [self.q.label(self.policy, t) for t in trajectories if t.judged and t.steps]

    def prompts_of(self, trajectory: Trajectory) -> Prompts:
        """The prompts of all turns of a conversation, as they were said to the policy."""
        return prompts_of(self.policy, trajectory)

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        """Q and V, in units of the return."""
        return self.q.critique(self.policy, trajectories)

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.q.save(folder)
        (folder / "odd_below.json").write_text(json.dumps(self._odd_below))
        for i, batch in enumerate(self._batches):
            write_jsonl(folder / f"window{i:04d}.jsonl", batch)

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self.q = self._new_q(np.random.default_rng(0))  # whose weights are read in the next line
        self.q.restore(folder)
        self._odd_below = json.loads((folder / "odd_below.json").read_text())
        self._batches = [list(read_jsonl(path)) for path in sorted(folder.glob("window*.jsonl"))]
