"""Filtered behaviour cloning: supervised fine-tuning on the best of the logged conversations.

Cross-entropy of the agent's tokens, and of no others, in the best ``fraction`` of the logged conversations by return
(LMRL-Gym, arXiv 2311.18232). It takes no conversation with users: it learns from what is logged, in one iteration, and
leaves its budget untouched.

- Exactly that fraction is kept, at least one conversation. Returns are sparse, so the last place is nearly always
  shared by many equal ones; those that are kept are drawn by the run's generator. A fraction above the share of
  successes thus keeps failures as well, and ``threshold_return`` and ``tied`` in the log tell.
- Learning goes on from the ``start``, which imitates all of them, by TRL's ``SFTTrainer`` (``envs.simulators.sft``).
- Returns are not discounted: what a conversation brings is what is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.agent import Metrics, check_range
from agents.chat_learner import ChatLearner
from agents.chat_model import TrajectoryTokens
from agents.logged_data import kl_to_start, scored
from agents.practice import Practice
from envs.simulators.sft import IGNORED, Example, sft


class FilteredImitation(ChatLearner):
    """A chat model that imitates the best of what is logged.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        fraction: of the scored conversations, the best by return, that are imitated.
        epochs, learning_rate, batch_size: of the training, in conversations; AdamW, cosine schedule.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(
        self,
        start: str | None,
        *,
        fraction: float = 0.1,
        epochs: float = 1.0,
        learning_rate: float = 1e-3,
        batch_size: int = 16,
        temperature: float = 1.0,
        max_new_tokens: int = 32,
        **loading: Any,
    ):
        check_range("fraction", fraction, 0.0, 1.0)
        check_range("epochs", epochs, 0.0)
        check_range("learning_rate", learning_rate, 0.0)
        check_range("batch_size", batch_size, 1)
        self.fraction, self.epochs = fraction, epochs
        self.learning_rate, self.batch_size = learning_rate, batch_size
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def improve(self, practice: Practice) -> Metrics:
        rng, logged = practice.rng, scored(practice)
        returns = np.array([one.returns() for one in logged])
        best = best_fraction(returns, self.fraction, rng)
        threshold = returns[best].min()
        read = [self.policy.trajectory_tokens(logged[i]) for i in best]
        loss = sft(
            self.policy.model, self.policy.tokenizer, [agent_only(one) for one in read],
            epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size,
            seed=int(rng.integers(2**31)), progress=False,
        )  # fmt: skip
        self.policy.forget()
        practice.finish()
        return {
            "logged_conversations": float(len(logged)),
            "unscored": float(len(practice.logged()) - len(logged)),
            "imitated": float(len(best)),
            "imitated_return": float(returns[best].mean()),
            "threshold_return": float(threshold),
            "tied": float((returns == threshold).sum()),
            "sft_loss": loss,
            "start_kl": kl_to_start(self.policy, self.start, logged),
        }


def best_fraction(returns: Sequence[float] | np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """The indices, ascending, of the best round(``fraction`` · N) of N returns, at least one of them; of the equal ones
    at the last place, as many as are wanted, drawn evenly by ``rng``."""
    wanted = max(1, round(fraction * len(returns)))
    drawn = rng.permutation(len(returns))
    order = drawn[np.argsort(-np.asarray(returns)[drawn], kind="stable")]
    return np.sort(order[:wanted])


def agent_only(read: TrajectoryTokens) -> Example:
    """A conversation of which the agent's tokens are learnt, and the others only read."""
    return Example(read.ids, np.where(read.agent, read.ids, IGNORED).tolist())
