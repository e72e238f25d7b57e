"""Returns and advantages of one sequence of decisions: pure functions on arrays [D]."""

from __future__ import annotations

import numpy as np


def gae(rewards: np.ndarray, values: np.ndarray, gamma: float, gae_lambda: float) -> np.ndarray:
    """Generalised advantage estimates (arXiv 1506.02438), [D].

    ``rewards[d]`` follows decision d, ``values[d]`` is V before it; after the last decision the value is 0.
    δ_d = r_d + γ V_{d+1} - V_d and A_d = δ_d + γλ A_{d+1}. The value's targets are ``advantages + values``.
    """
    following = np.append(values[1:], 0.0)
    deltas = rewards + gamma * following - values
    advantages = np.empty_like(deltas)
    later = 0.0
    for d in range(len(deltas) - 1, -1, -1):
        later = deltas[d] + gamma * gae_lambda * later
        advantages[d] = later
    return advantages
