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


def less_the_others(outcomes: np.ndarray) -> np.ndarray:
    """[B] each of B outcomes less the mean of all others; 0 for one that is alone."""
    n = len(outcomes)
    return (outcomes - outcomes.mean()) * (n / (n - 1)) if n > 1 else np.zeros(n)


class Unit:
    """The standard deviation of everything that was shown to it, as a unit of advantages that does not vanish once all
    conversations of a batch go alike."""

    def __init__(self) -> None:
        self.seen = (0, 0.0, 0.0)  # how many there were, their sum and the sum of their squares

    def show(self, values: np.ndarray) -> float:
        """The deviation of all values so far, these [B] among them; 1 where there is (nearly) none."""
        n, total, squares = self.seen
        self.seen = (n + len(values), total + float(values.sum()), squares + float((values**2).sum()))
        n, total, squares = self.seen
        deviation = float(np.sqrt(max(squares / n - (total / n) ** 2, 0.0)))
        return deviation if deviation > 1e-6 else 1.0
