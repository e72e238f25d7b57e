"""MC returns (LMRL-Gym, arXiv 2311.18232): Q of tokens by regression on the returns that followed, offline.

    L = ½ (Q(s, a) - G)² + cql_coef · CE(Q(s, ·), a)

with G the discounted reward from the token on, time counting the agent's tokens alone, in standard deviations of the
logged returns from their mean (``agents.token_q``), and CE the cross-entropy of Q, taken for logits, on the token that
was said. It speaks by logits of the start + β · Q: one step of policy improvement on the behaviour policy, whose Q this
is, taken where the start would speak anyway.

Departures: the unit of Q, in which β means about the same in every world; LMRL-Gym's is the reward's, with a β per
task. The heads' size and where they stand. LMRL-Gym fine-tunes a second language model for Q; here the heads read a
copy of the start's trunk, which stays as it is if it has learnt to read (``trunk_learning_rate``). The perturbed
policy is the start itself, LMRL-Gym's is one cloned from the data: the start that ships is such a one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from agents.token_q import Decisions, chosen, cross_entropy, tokens_of
from agents.token_q_learner import TokenQLearner


class MCReturns(TokenQLearner):
    """The start, perturbed by the Monte-Carlo Q of the logged behaviour. Options: see ``TokenQLearner``."""

    def loss(self, states: Tensor, batch: Sequence[Decisions]) -> tuple[Tensor, dict[str, float]]:
        returns = torch.from_numpy(np.concatenate([self.q.unit.returns(one, self.gamma) for one in batch])).to(states)
        mc, cql = mc_terms(self.q.heads(states), tokens_of(batch, states.device), returns)
        return mc + self.cql_coef * cql, {"mc_loss": mc.item(), "cql_loss": cql.item()}


def mc_terms(values: Tensor, tokens: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """½ (Q(s, a) - G)² summed over the K of Q [K, N, V], a mean over decisions [N]; and the cross-entropy."""
    errors = chosen(values, tokens) - returns  # [K, N]
    return (0.5 * errors**2).mean(-1).sum(), cross_entropy(values, tokens)
