"""PPO with tokens as decisions, on whole conversations: the online baseline of LMRL-Gym (arXiv 2311.18232).

The same learner as Turn-PPO's (``agents.actor_critic``), so that the two differ only in what a decision is: here every
token that the agent says is one. V is read before each of them, ratio and clip are per token, and λ and γ run over the
agent's tokens alone: what the user says takes no time. The reward of a turn follows its last token.

From LMRL-Gym's code are λ, γ, the clip ranges of policy and value, the whitening of advantages in the batch, and KL to
the start in the reward, token by token: β (log π_old - log start) of the token that was said. β is constant; its
adaptive one is left out.
``imitation_coef`` adds the cross-entropy of logged conversations to the loss, on the agent's tokens (its BC loss).

Departures: its BC loss has weight 1 and is off here, since the logged conversations are those of a worse seller than
the policy soon is; the critic is no head on the policy's own trunk but heads on a copy of the start's, so a value
coefficient (1 there) has nothing to weigh; the learning rates are larger, and batches and rounds fewer
(1,000 rounds of 4,000 conversations there).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from agents.actor_critic import ActorCritic, Beside, CriticSettings
from agents.agent import Metrics, check_range
from agents.clipped_gradient import ClippedGradient
from agents.ppo import chosen_logprobs
from agents.practice import Practice
from agents.token_batch import token_batch, token_logprobs


class TokenPPO(ActorCritic):
    """A chat model that learns by PPO over tokens.

    Args:
        start, learner, critic, options: see ``ActorCritic``.
        imitation_coef: of the cross-entropy of logged conversations.
        imitation_batch: how many of them are drawn for each gradient step.
    """

    level = "token"

    def __init__(
        self,
        start: str | None,
        learner: ClippedGradient,
        critic: CriticSettings,
        *,
        imitation_coef: float = 0.0,
        imitation_batch: int = 8,
        **options: Any,
    ):
        check_range("imitation_coef", imitation_coef, 0.0)
        check_range("imitation_batch", imitation_batch, 1)
        self.imitation_coef, self.imitation_batch = imitation_coef, imitation_batch
        super().__init__(start, learner, critic, **options)

    def improve(self, practice: Practice) -> Metrics:
        self._logged = [one for one in practice.logged() if one.judged] if self.imitation_coef else []
        return super().improve(practice)

    def beside(self, rng: np.random.Generator) -> Beside | None:
        if not self._logged:
            return None

        def imitation() -> tuple[Tensor, dict[str, float]]:
            chosen = rng.choice(len(self._logged), min(self.imitation_batch, len(self._logged)), replace=False)
            batch = token_batch([self.policy.trajectory_tokens(self._logged[i]) for i in chosen])
            loss = -chosen_logprobs(token_logprobs(self.policy, batch), batch).mean()
            return self.imitation_coef * loss, {"sft_loss": loss.item()}

        return imitation
