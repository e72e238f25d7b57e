"""What learners from logged conversations have in common: what they may learn from, and how far they went."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agents.chat_model import ChatModel
from agents.ppo import exact_kl
from agents.practice import Practice
from agents.token_batch import token_batch, token_logprobs
from envs.trajectory import Trajectory

KL_SAMPLE = 128
"""Logged conversations on which the distance to the start is measured."""


def scored(practice: Practice) -> list[Trajectory]:
    """The logged conversations that have a score and in which the agent had a turn.

    Raises ``ValueError`` where there is none.
    """
    logged = practice.logged()
    kept = [one for one in logged if one.judged and one.steps]
    if not kept:
        raise ValueError(
            f"Of {len(logged)} logged conversations none is scored, and this agent learns from nothing else; give "
            "budget.logged a number above 0, or see why the behaviour's user or judge fails."
        )
    return kept


@torch.no_grad()
def kl_to_start(
    policy: ChatModel, start: ChatModel, conversations: Sequence[Trajectory], batch_size: int = 16
) -> float:
    """KL(policy ‖ start) in nats, a mean over the agent's tokens in the first ``KL_SAMPLE`` of ``conversations``: exact
    over the vocabulary, at the models' temperature. NaN where the agent said nothing."""
    total, count = 0.0, 0
    read = [start.trajectory_tokens(one) for one in conversations[:KL_SAMPLE]]
    for i in range(0, len(read), batch_size):
        batch = token_batch(read[i : i + batch_size])
        kl = exact_kl(token_logprobs(policy, batch), token_logprobs(start, batch))
        total, count = total + kl.double().sum().item(), count + len(kl)
    return total / count if count else float("nan")
