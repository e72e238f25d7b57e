"""What an agent did in practice, in numbers for its log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from agents.chat_model import ChatModel
from envs.trajectory import Trajectory


def behaviour_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """How the conversations of this iteration went: means over the scored ones, and how many were not."""
    judged = [trajectory for trajectory in trajectories if trajectory.judged]
    return {
        "practice_return": float(np.mean([t.returns() for t in judged])),
        "practice_success": float(np.mean([bool(t.success) for t in judged])),
        "practice_exchanges": float(np.mean([t.exchanges for t in judged])),
        "unscored": float(len(trajectories) - len(judged)),
    }


@torch.no_grad()
def mean_logprobs(model: ChatModel, trajectories: Sequence[Trajectory], batch_size: int = 32) -> np.ndarray:
    """The mean log-probability per token, under ``model``, of every utterance the agent said in ``trajectories``."""
    means: list[float] = []
    for i in range(0, len(trajectories), batch_size):
        read = [model.trajectory_tokens(trajectory) for trajectory in trajectories[i : i + batch_size]]
        scores = model.logprobs([(one.ids, one.agent) for one in read]).cpu().numpy()  # [B, T]
        for one, row in zip(read, scores, strict=True):
            spans = zip(one.prompt_ends + 1, one.turn_ends + 1, strict=True)
            means += [float(row[a:b].mean()) for a, b in spans if b > a]
    return np.array(means)


def mean_metrics(logs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every figure over the entries that have it; NaN where none has."""
    names = dict.fromkeys(name for log in logs for name in log)
    return {name: float(np.mean([log[name] for log in logs if name in log])) for name in names}


def drift(start: ChatModel, own: Sequence[Trajectory], trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """How far an agent's language went from its start's.

    ``odd_language`` is the share of utterances in ``trajectories`` that the start finds less likely, per token, than
    all but 1% of its ``own``; ``utterance_kl`` the mean over utterances of log π - log μ, summed over their tokens, by
    the log-probabilities that they were sampled with: an estimate of KL(π ‖ μ).
    """
    spoken = [one for one in trajectories if one.steps]
    likely = mean_logprobs(start, spoken)
    odd_below = np.quantile(mean_logprobs(start, [one for one in own if one.steps]), 0.01)
    utterances = [step.utterance for one in spoken for step in one.steps if step.utterance.tokens]
    # mean_logprobs leaves out utterances without tokens, as here, and both go through the turns in order.
    ratios = [sum(one.logprobs) - len(one.tokens) * mean for one, mean in zip(utterances, likely, strict=True)]
    return {"odd_language": float(np.mean(likely < odd_below)), "utterance_kl": float(np.mean(ratios))}
