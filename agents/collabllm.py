"""CollabLLM (arXiv 2502.00640): a response is worth what conversations come to that go on from it.

Per iteration:

1. Hold conversations with the current policy, and at one moment x of each sample a few responses (``responses``, the
   paper's two).
2. The multiturn-aware reward of a response is the mean, over a few conversations that go on from it (``samples``), of
   what they come to: a Monte-Carlo estimate of Q^π(x, y) with the user itself, and no critic.
3. Online DPO: of the responses to one x the one with the highest reward is chosen and the one with the lowest is
   rejected, and -log σ(β [log π/μ(chosen) - log π/μ(rejected)]) is descended, with μ the start.

The paper trains in several ways. Online DPO is the one built here, since it compares responses to the same prompt,
whose rewards are known up to what the state is worth to both; PPO would need a baseline for each state, that is, the
critic which the method does without. The loss is our own and not TRL's: its online trainer samples and scores by
itself, and here every continuation is a conversation with a user, which ``Practice`` counts.

Departures: the paper's reward is a task score, a judge's rating of interactivity and a price on tokens; here it is the
world's return and, if asked for, the price. Its window of a few turns keeps simulation cheap; our worlds decide at the
end and our budget counts conversations, so by default all rewards to the end count (``window: null``), and
conversations are played to the end with a window too. Its start is fine-tuned and put through offline DPO first; here
it is the start of every learner. Responses that come out equal teach nothing and are left out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from agents.agent import Metrics, check_range
from agents.behaviour import behaviour_metrics
from agents.chat_learner import ChatLearner
from agents.practice import Continued, Practice
from agents.utterance_pairs import PairSolver, UtterancePair, paired
from envs.trajectory import Trajectory


class CollabLLM(ChatLearner):
    """A chat model that learns by online DPO on multiturn-aware rewards.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``; the start is also μ.
        solver: how the loss is minimised.
        responses: sampled at each moment, 2 or more.
        samples: conversations behind each response.
        window: exchanges from the response on whose rewards count; None: all to the end.
        token_cost: taken off per token that the agent says in them.
        beta: β of DPO.
        gamma: discount per exchange.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        solver: PairSolver,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        responses: int = 2,
        samples: int = 3,
        window: int | None = None,
        token_cost: float = 0.0,
        beta: float = 0.1,
        gamma: float = 1.0,
        **loading: Any,
    ):
        check_range("responses", responses, 2)
        check_range("samples", samples, 1)
        if window is not None:
            check_range("window", window, 1)
        check_range("token_cost", token_cost, 0.0)
        check_range("beta", beta, 0.0)
        check_range("gamma", gamma, 0.0, 1.0)
        self.solver, self.responses, self.samples, self.beta = solver, responses, samples, beta
        self.reward = partial(reward_from, window=window, token_cost=token_cost, gamma=gamma)
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def prepare(self, practice: Practice) -> None:
        check_range("budget.per_iteration", practice.budget.per_iteration, self.responses * self.samples)
        super().prepare(practice)

    def improve(self, practice: Practice) -> Metrics:
        rng = practice.rng
        for model in (self.policy, self.start):
            model.forget()  # a restored agent remembers nothing of what it read; reading is exact to rounding only
        unscored, each = practice.spent.unscored, self.responses * self.samples
        moments = practice.continuations(self, practice.iteration_share() // each, self.responses, self.samples, rng)
        if practice.remaining < each:  # too few for one more moment
            practice.finish()
        rewards = [self.multiturn_rewards(one) for one in moments]
        if np.isnan(np.concatenate(rewards)).all():
            raise RuntimeError(
                f"Of {len(moments) * each} conversations none was scored, and there is nothing to learn from; see why "
                "the user or the judge fails."
            )
        pairs = [pair for one, row in zip(moments, rewards, strict=True) if (pair := self._pair(one, row)) is not None]
        metrics = {**behaviour_metrics([one.held[0][0] for one in moments]), "pairs": float(len(pairs))}
        metrics["unscored"] = float(practice.spent.unscored - unscored)
        metrics["pairs_left_out"] = float(len(moments) - len(pairs))
        metrics["multiturn_reward"] = float(np.nanmean(np.concatenate(rewards)))
        return metrics | self.solver.improve(self.policy, self.start, pairs, partial(dpo_loss, beta=self.beta), rng)

    def multiturn_rewards(self, one: Continued) -> np.ndarray:
        """[R] the mean reward of the scored conversations behind each response; NaN where there is none."""
        scored = [[self.reward(held, one.exchange) for held in row if held.judged] for row in one.held]
        return np.array([np.mean(row) if row else np.nan for row in scored])

    def _pair(self, one: Continued, rewards: np.ndarray) -> UtterancePair | None:
        """The best response first and the worst second; None where none is better than another."""
        if np.isnan(rewards).all():
            return None
        best, worst = int(np.nanargmax(rewards)), int(np.nanargmin(rewards))
        gap = float(rewards[best] - rewards[worst])
        if not gap > 0:
            return None
        return paired(self.policy, one.moment.episode.heard_by("agent"), one.said[best], one.said[worst], gap)


def reward_from(held: Trajectory, k: int, *, window: int | None, token_cost: float, gamma: float) -> float:
    """What a scored conversation came to from the agent's turn ``k`` (0-based) on, in at most ``window`` exchanges."""
    steps = held.steps[k:] if window is None else held.steps[k : k + window]
    earned = sum(gamma**j * step.reward for j, step in enumerate(steps))
    return earned - token_cost * sum(len(step.utterance.tokens) for step in steps)


def dpo_loss(moved: Tensor, gaps: Tensor, *, beta: float) -> Tensor:
    """[B] -log σ(β · moved), for pairs whose first is chosen; by how much it is better does not enter."""
    return -nn.functional.logsigmoid(beta * moved)
