"""REFUEL (arXiv 2410.04612): regress what another utterance would have brought, from pairs of suffixes.

Per iteration:

1. Hold a conversation with the current policy π_t, pick one of the agent's turns, and hold the conversation once more
   from the same prefix on: the turn is said anew, and everything after it (``Practice.branches``).
2. With R and R' the returns of both from the turn on, which are estimates of Q, minimise over a few epochs

       ( [log π/π_t(y | x) - log π/π_t(y' | x)] - η (R - R') )²

   in which only the tokens of the turn itself count. No critic, no clip.

Where the loss is 0 everywhere, π ∝ π_t exp(η Q): one step of mirror descent.

Departures: the paper draws the turn first and ends the conversation at a fixed length; ours end by themselves, so a
turn is drawn evenly from those that came about. Pairs of equal utterances are left out, since nothing in them can
learn. Learning rate, η and the number of iterations are ours: the models are small, and returns lie in [0, 1] where the
paper's reward model needs η = 1,000.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from agents.agent import Metrics, check_range
from agents.behaviour import behaviour_metrics
from agents.chat_learner import ChatLearner
from agents.practice import Branch, Practice
from agents.utterance_pairs import PairSolver, UtterancePair, paired


class Refuel(ChatLearner):
    """A chat model that learns by REFUEL.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        solver: how the loss is minimised.
        eta: η, nats per unit of return.
        gamma: discount per exchange of the returns.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        solver: PairSolver,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        eta: float = 4.0,
        gamma: float = 1.0,
        **loading: Any,
    ):
        check_range("eta", eta, 0.0)
        check_range("gamma", gamma, 0.0, 1.0)
        self.solver, self.eta, self.gamma = solver, eta, gamma
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        check_range("budget.per_iteration", practice.budget.per_iteration, 2)
        super().prepare(practice)

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        self.policy.forget()  # a restored agent remembers nothing of what it read; reading is exact to rounding only
        unscored = practice.spent.unscored
        branches = practice.branches(self, practice.iteration_share() // 2, rng)
        if practice.remaining < 2:  # one conversation makes no pair
            practice.finish()
        scored = [one for one in branches if one.first.judged and one.second.judged]
        if not scored:
            raise RuntimeError(
                f"Of {len(branches)} pairs none was scored on both sides, and there is nothing to learn from; see why "
                "the user or the judge fails, or raise budget.per_iteration."
            )
        pairs = [pair for one in scored if (pair := self._pair(one)) is not None]
        metrics = {**behaviour_metrics([one.first for one in branches]), "pairs": float(len(pairs))}
        metrics["unscored"] = float(practice.spent.unscored - unscored)
        metrics["pairs_left_out"] = float(len(branches) - len(pairs))
        return metrics | self.solver.improve(self.policy, self.policy.clone(), pairs, self._loss, rng)

    def _pair(self, branch: Branch) -> UtterancePair | None:
        """Both utterances at the moment where the conversations part, and the difference of what followed."""
        k = branch.exchange
        first, second = (one.returns_to_go(self.gamma)[k] for one in branch.pair)
        said, other = (one.steps[k].utterance for one in branch.pair)
        return paired(self.policy, branch.first.prefix(k), said, other, first - second)

    def _loss(self, moved: Tensor, gaps: Tensor) -> Tensor:
        return regression_loss(moved, gaps, self.eta)


def regression_loss(moved: Tensor, gaps: Tensor, eta: float) -> Tensor:
    """[B] (moved - η (R - R'))²."""
    return (moved - eta * gaps) ** 2
