"""One-shot offline Iterative PPO: one batch of logged conversations, Q by regression on it, one policy improvement.

The step of Iterative PPO (arXiv 2511.21638, Algorithm 1) without its iteration, against which the paper sets the
method: with it one asks what collecting anew is worth. Q of the *logged* behaviour is fitted to Monte-Carlo returns
(``agents.q_function``); then the single-turn solver improves the start on the prompts of logged conversations, with Q
frozen as its reward and the KL to the start. It takes no conversation with users and leaves its budget untouched.

How far this is off-policy. The logged conversations are those of a scripted policy b, and the start imitates b without
being it: it has learnt from others before, and speaks at a lower temperature. So Q is not that of the policy to be
improved. What Theorem 1 gives is relative to b: a policy whose utterances have, in every state, a Q^b no lower than
b's own is no worse than b. That it is better than the start is not promised; it has to be measured. And Q has seen
only what b says, so that the farther the policy moves from it, the more Q guesses: ``solver.kl_coef`` is what holds it.

As in ``agents.iterppo``, the prompts are those of conversations that Q has not been fitted on (``held_out``), since of
those that it has, it knows how each of them ended; and γ is 1 by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.agent import Metrics, check_range
from agents.chat_learner import ChatLearner
from agents.logged_data import kl_to_start, scored
from agents.packing import prompts_of
from agents.ppo import SingleTurnSolver
from agents.practice import Practice
from agents.q_function import Labelled, QFunction
from agents.reader import trunk_rate
from envs.trajectory import Trajectory


class OfflineIterPPO(ChatLearner):
    """A chat model that takes one step of Iterative PPO on logged conversations.

    Args:
        start, temperature, max_new_tokens, device, dtype, lora_rank: see ``ChatLearner``.
        solver: the single-turn solver.
        gamma: discount per exchange.
        q_learning_rate, q_trunk_learning_rate, q_batch_size, q_width, q_members: of Q (``QFunction``). The trunk's
            rate None: see ``agents.reader.trunk_rate``.
        q_epochs: passes over what Q is fitted on.
        held_out: share of the logged conversations that Q is not fitted on. Their prompts are those the policy is
            improved on, and on them Q's calibration is measured. At 0 all serve for all three.

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
        q_learning_rate: float = 2e-3,
        q_trunk_learning_rate: float | None = None,
        q_batch_size: int = 48,
        q_width: int = 64,
        q_members: int = 4,
        q_epochs: float = 5.0,
        held_out: float = 0.5,
        **loading: Any,
    ):
        for name, value in {"q_batch_size": q_batch_size, "q_width": q_width, "q_members": q_members}.items():
            check_range(name, value, 1)
        check_range("gamma", gamma, 0.0, 1.0)
        check_range("held_out", held_out, 0.0, 0.95)
        check_range("q_epochs", q_epochs, 0.0)
        self.solver, self.q_epochs, self.held_out = solver, q_epochs, held_out
        self._trunk_rate = q_trunk_learning_rate
        self._fitting: dict[str, Any] = {
            "learning_rate": q_learning_rate,
            "batch_size": q_batch_size,
            "width": q_width,
            "members": q_members,
            "gamma": gamma,
        }
        super().__init__(start, temperature=temperature, max_new_tokens=max_new_tokens, **loading)

    def improve(self, practice: Practice) -> Metrics:
        rng, logged = practice.rng, scored(practice)
        self.policy.forget()  # a restored agent remembers nothing it read, and reading is exact to rounding only
        fitted = aside = logged
        if self.held_out and len(logged) > 1:
            cut = min(max(1, round(self.held_out * len(logged))), len(logged) - 1)
            fitted, aside = logged[cut:], logged[:cut]
        rate = trunk_rate(self.start) if self._trunk_rate is None else self._trunk_rate
        q = QFunction(self.start, rng, trunk_learning_rate=rate, **self._fitting)
        loss = q.fit(self._labelled(q, fitted), rng, epochs=self.q_epochs)
        figures = q.calibration(self._labelled(q, aside))
        prompts = [prompts_of(self.policy, one) for one in aside]
        learnt = self.solver.improve(self.policy, self.start, q, prompts, rng)
        practice.finish()
        return {
            "logged_conversations": float(len(logged)),
            "unscored": float(len(practice.logged()) - len(logged)),
            "q_loss": loss,
            **{f"q_{name}": value for name, value in figures.items()},
            **learnt,
            "start_kl": kl_to_start(self.policy, self.start, logged),
        }

    def _labelled(self, q: QFunction, trajectories: Sequence[Trajectory]) -> list[Labelled]:
        return [q.label(self.policy, one) for one in trajectories]
