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
