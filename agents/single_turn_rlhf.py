"""Single-turn RLHF (arXiv 2405.14655, section 5): preferences between utterances, not ends.

First the data, with the start μ: conversations, at whose moments another utterance of μ stands beside the one that was
said. What makes the labels:

- ``labels: reward``: a judge of turns, who sees the conversation so far and both utterances and nothing of what will
  come ("which leads to the better continued interaction").
- ``labels: value``: both utterances are played on to the end by μ, and the judge of whole conversations compares the
  two: a Monte-Carlo estimate of the value of what was said.

Then the learning, which takes no conversation: a model of the labels, and single-turn policy optimisation against it on
the prompts of these conversations, by the solver of Iterative PPO (``agents.ppo``), with KL to the *fixed* μ.

- ``learner: rlhf``: a Bradley-Terry reward.
- ``learner: nash``: Nash-MD (arXiv 2312.00886): the reward of an utterance is the probability that it beats one of the
  mixture of the policy and μ, by a general preference model.

Departures: the paper compares the same pairs of every turn for both kinds of labels. Labels of turns cost no user
anything, so here too there is one at every turn (``turns_per_conversation``: at some only); but to play on costs a
conversation, so a conversation parts at one moment, and the budget buys far fewer labels of values. Prompts are those
of half as many conversations as the budget has, for both kinds of labels, so that both learn equally long. PPO's
clipped step takes the place of the paper's policy gradient, for both learners. The budget is spent on data in the
iterations before the last, so the learning curve is flat until its last point.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.agent import Metrics, check_range
from agents.behaviour import behaviour_metrics
from agents.chat_learner import ChatLearner
from agents.mixture import Mixture
from agents.packing import prompts_of
from agents.ppo import Scorer, SingleTurnSolver
from agents.practice import Practice
from agents.preference_model import PreferenceModel
from agents.speaker import Speaker
from agents.turn_model import TurnContest, TurnPair, TurnReward, compared
from envs.trajectory import Trajectory, Utterance, read_jsonl, write_jsonl

SCALE_SAMPLE = 3000
"""Pairs on which the unit of rewards and their baseline are measured."""


class SingleTurnRLHF(ChatLearner):
    """A chat model that learns from preferences between utterances.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``; the start is also μ.
        solver: the single-turn solver.
        labels: ``reward`` or ``value``.
        learner: ``rlhf`` or ``nash``.
        tau: share of μ in the mixture that ``nash`` competes with.
        turns_per_conversation: at how many turns of a conversation two utterances are compared with ``labels:
            reward``; None: at all.
        judge_epochs, judge_held_out, judge_learning_rate, judge_weight_decay: of the model of the labels.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        solver: SingleTurnSolver,
        *,
        labels: Literal["reward", "value"] = "value",
        learner: Literal["rlhf", "nash"] = "rlhf",
        tau: float = 0.125,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        turns_per_conversation: int | None = None,
        judge_epochs: float = 4.0,
        judge_held_out: float = 0.1,
        judge_learning_rate: float = 2e-3,
        judge_weight_decay: float = 0.03,
        **loading: Any,
    ):
        for name, value, choices in (("labels", labels, ("reward", "value")), ("learner", learner, ("rlhf", "nash"))):
            if value not in choices:
                raise ValueError(f"{name}={value!r}; choose {' or '.join(choices)}.")
        check_range("tau", tau, 0.0, 0.99)
        if turns_per_conversation is not None:
            check_range("turns_per_conversation", turns_per_conversation, 1)
        check_range("judge_epochs", judge_epochs, 0.0)
        check_range("judge_held_out", judge_held_out, 0.0, 0.9)
        self.solver, self.labels, self.learner, self.tau = solver, labels, learner, tau
        self.turns_per_conversation = turns_per_conversation
        self.judge_epochs, self.judge_held_out = judge_epochs, judge_held_out
        self._judging = {"learning_rate": judge_learning_rate, "weight_decay": judge_weight_decay}
        self._conversations: list[Trajectory] = []
        self._pairs: list[TurnPair] = []
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        check_range("budget.per_iteration", practice.budget.per_iteration, 2)
        super().prepare(practice)

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        for model in (self.policy, self.start):
            model.forget()  # a restored agent remembers nothing of what it read, and reading is exact to rounding only
        unscored = practice.spent.unscored
        collect = self._collect_rewards if self.labels == "reward" else self._collect_values
        trajectories, pairs = collect(practice, practice.iteration_share(), rng)
        self._conversations += [one for one in trajectories if one.judged and one.steps]
        self._pairs += [pair for pair in pairs if not np.isnan(pair.label) and pair.first != pair.second]
        metrics = {**behaviour_metrics(trajectories), "turn_pairs": float(len(self._pairs))}
        metrics["unscored"] = float(practice.spent.unscored - unscored)
        if practice.remaining < 2:  # one conversation can't be compared
            practice.finish()
            metrics |= self._learn(practice.budget.conversations // 2, rng)
        return metrics

    # ---- the data -------------------------------------------------------------------------------------------------

    def _collect_rewards(
        self, practice: Practice, n: int, rng: np.random.Generator
    ) -> tuple[list[Trajectory], list[TurnPair]]:
        """Conversations of μ, and at some of their turns what else it might have said, as a judge of turns sees it."""
        found = practice.alternatives(Speaker(self.start), n)
        chosen = [
            (one, int(k))
            for one in found
            for k in sorted(rng.permutation(len(one.moments))[: self.turns_per_conversation])
        ]
        moments = [one.moments[k] for one, k in chosen]
        first = [one.trajectory.steps[k].utterance for one, k in chosen]
        second = [one.others[k] for one, k in chosen]
        labels = practice.turn_labels(moments, [a.text for a in first], [b.text for b in second])
        pairs = [
            self._pair(one.trajectory, k, a, b, label)
            for (one, k), a, b, label in zip(chosen, first, second, labels, strict=True)
        ]
        return [one.trajectory for one in found], pairs

    def _collect_values(
        self, practice: Practice, n: int, rng: np.random.Generator
    ) -> tuple[list[Trajectory], list[TurnPair]]:
        """Conversations of μ, each played on once more from one of its moments, and which of both ends is better."""
        branches = practice.branches(Speaker(self.start), n // 2, rng)
        labels = practice.labels([branch.pair for branch in branches])
        pairs = []
        for branch, label in zip(branches, labels, strict=True):
            first, second = (one.steps[branch.exchange].utterance for one in branch.pair)
            pairs.append(self._pair(branch.first, branch.exchange, first, second, label))
        return [branch.first for branch in branches], pairs

    def _pair(self, trajectory: Trajectory, k: int, first: Utterance, second: Utterance, label: float) -> TurnPair:
        prompt = tuple(self.start.prompt_ids(trajectory.prefix(k)))
        return TurnPair(prompt, first.tokens, second.tokens, float(label))

    # ---- the learning ---------------------------------------------------------------------------------------------

    def _learn(self, conversations: int, rng: np.random.Generator) -> dict[str, float]:
        """Fit the model of the labels, and improve on the prompts of at most so many ``conversations``."""
        if len(self._pairs) < 2 or len(self._conversations) < 2:
            raise RuntimeError(
                f"{len(self._pairs)} pairs of utterances have a label, and nothing can be learnt from so few; see why "
                "the user or the judge fails, or raise budget.conversations."
            )
        kind = "bradley_terry" if self.learner == "rlhf" else "general"
        model = PreferenceModel(self.start, rng, kind=kind, **self._judging)  # type: ignore[arg-type]
        data = [compared(self.start, pair) for pair in self._pairs]
        order = rng.permutation(len(data))
        aside = round(self.judge_held_out * len(data))
        loss = model.fit([data[i] for i in order[aside:]], rng, epochs=self.judge_epochs)
        figures = model.figures([data[i] for i in order[:aside]]) if aside else {}
        chosen = rng.permutation(len(self._conversations))[:conversations]
        prompts = [prompts_of(self.start, self._conversations[i]) for i in chosen]  # as they were said to μ
        learnt = self.solver.improve(self.policy, self.start, self._scorer(model, rng), prompts, rng)
        return {"judge_loss": loss, **{f"judge_{name}": value for name, value in figures.items()}, **learnt}

    def _scorer(self, model: PreferenceModel, rng: np.random.Generator) -> Scorer:
        sample = [self._pairs[i] for i in rng.permutation(len(self._pairs))[:SCALE_SAMPLE]]
        if self.learner == "rlhf":
            return TurnReward(model, self.start, sample, rng)
        data = [compared(self.start, pair) for pair in sample]
        features = model.features([text for one in data for text in (one.first, one.second)])
        spread = float(np.std(model.compare(features[::2], features[1::2])))
        return TurnContest(model, Mixture(self.policy, self.start, self.tau), spread)

    def save(self, folder: Path) -> None:
        super().save(folder)
        write_jsonl(folder / "conversations.jsonl", self._conversations)
        (folder / "pairs.json").write_text(json.dumps([asdict(pair) for pair in self._pairs]), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self._conversations = list(read_jsonl(folder / "conversations.jsonl"))
        rows = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        self._pairs = [
            TurnPair(tuple(row["prompt"]), tuple(row["first"]), tuple(row["second"]), row["label"]) for row in rows
        ]
