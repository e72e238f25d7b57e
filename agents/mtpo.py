"""MTPO and MTPO-τ (arXiv 2405.14655): learning from the preference between two conversations of one's own.

Per step (section 4.1 of the paper):

1. Sample a batch of contexts and hold *two* conversations in each, independent of one another: both with the current
   policy π_θ, for MTPO-τ both with the mixture of π_θ and μ (``agents.mixture``), the stand-in for the geometric
   mixture over utterances that the paper takes from Nash-MD.
2. The outcome of the first is P(first ≻ second), that of the second is 1 minus it. Gradients don't flow through the
   opponent.
   With more than two in each context (``generations``), the outcome of one is its mean over all the others.
3. All are learnt from: policy gradient with a value per turn and KL to μ (``agents.turn_gradient``).

So the equilibrium of the regularised game max_π min_π' P(π ≻ π') - α KL(π ‖ μ) + α KL(π' ‖ μ) is sought by self-play:
no reward stands behind the preference, and none is needed.

P comes from a preference model, learnt before from labelled pairs and then frozen (``feedback: model``), as in the
paper's Education experiment; or from the judge itself, as its probability (``oracle``, the "online oracle" of the
paper's Car Dealer) or as the label of one rater (``labels``, the formal setting of section 2).

Departures, besides those of ``agents.turn_gradient``: ``generations`` is 4 in ``conf/agent/mtpo.yaml``, since the luck
of a single opponent is half of the noise in the paper's form; with as many conversations in all (6,144 on
``parley/Sales-v0``, ``feedback: oracle``, α .005, seed 0) the return came to .610 with 4 (500 scenarios), and to .494
with 2 (1,000). The learner's conversations are counted, so there are a few hundred steps instead of 50,000, at a
learning rate that fits; preference pairs are the logged ones of the behaviour policy, at no cost to anybody; what the
mixture of MTPO-τ said is learnt from as if π_θ had said it, without a ratio; the preference model is antisymmetric by
its form, where a prompted one would be asked in both orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal

import numpy as np

from agents.agent import check_range
from agents.mixture import Mixture
from agents.on_policy import Outcomes
from agents.practice import Practice
from agents.speaker import Speaker
from agents.turn_gradient import TurnGradient
from agents.turn_learner import TurnLearner
from envs.judges import Pair
from envs.trajectory import Trajectory

Feedback = Literal["model", "oracle", "labels"]


class MTPO(TurnLearner):
    """A chat model that learns by MTPO, with ``tau`` above 0 by MTPO-τ.

    Args:
        start, learner: see ``TurnLearner``.
        tau: share of μ in the mixture that both conversations are held with.
        feedback: ``model``, ``oracle`` or ``labels``.
        generations: conversations in each context; the paper has 2.
        options: those of ``TurnLearner``.

    Raises ``ValueError`` for values out of range.
    """

    expected_outcome = 0.5

    def __init__(
        self,
        start: str | None,
        learner: TurnGradient,
        *,
        tau: float = 0.0,
        feedback: Feedback = "model",
        generations: int = 4,
        **options: Any,
    ):
        check_range("tau", tau, 0.0, 0.99)
        check_range("generations", generations, 2)
        if feedback not in ("model", "oracle", "labels"):
            raise ValueError(f"feedback={feedback!r}; choose model, oracle or labels.")
        self.tau, self.feedback, self.generations = tau, feedback, generations
        self.judge_kind = "general" if feedback == "model" else None
        super().__init__(start, learner, **options)

    def converse(self, practice: Practice, n: int) -> Outcomes:
        speaker = Speaker(Mixture(self.policy, self.start, self.tau) if self.tau else self.policy)
        k = min(self.generations, n)
        groups = practice.groups(speaker, n // k, k)
        groups = [tuple(one for one in group if one.judged and one.steps) for group in groups]
        pairs = [pair for group in groups for pair in combinations(group, 2)]
        wins = iter(self._wins(practice, pairs))
        trajectories: list[Trajectory] = []
        outcomes: list[float] = []
        for group in groups:
            for one, outcome in zip(group, mean_wins(len(group), wins), strict=True):
                if not np.isnan(outcome):  # nobody to compare it with, or the judge failed
                    trajectories.append(one)
                    outcomes.append(outcome)
        return trajectories, np.array(outcomes)

    def _wins(self, practice: Practice, pairs: list[Pair]) -> np.ndarray:
        """[N] P(first ≻ second), NaN where the judge failed."""
        if not pairs:
            return np.zeros(0)
        if self.feedback == "oracle":
            return np.array([one.probability for one in practice.preferences(pairs)])
        if self.feedback == "labels":
            return practice.labels(pairs)
        assert self.judge is not None  # prepare has fitted it, or restore has read it
        first, second = (self.judge.features(self.texts(side)) for side in zip(*pairs, strict=True))
        return self.judge.compare(first, second)


def mean_wins(k: int, wins: Iterator[float]) -> np.ndarray:
    """[k] the mean probability with which each of k conversations is preferred to the others, from the next
    k (k - 1) / 2 of ``wins``: P(first ≻ second) of every pair in the order of ``itertools.combinations``. NaNs are left
    out; NaN where nothing is left."""
    table = np.full((k, k), np.nan)
    for i, j in combinations(range(k), 2):
        table[i, j] = win = next(wins)
        table[j, i] = 1.0 - win
    known = ~np.isnan(table)
    return np.where(known.any(1), np.nansum(table, axis=1) / np.maximum(known.sum(1), 1), np.nan)
