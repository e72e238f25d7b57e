"""The methods of arXiv 2405.14655 computed exactly on finite games: no sampling, no network, float64, log-space.

Policies, payoffs and shapes are those of ``envs.games``. Every method is an endless generator of policies π_1 = μ, π_2,
…, with the step sizes of the paper's theorems, η_t = 2 / (α (t + 2)). Contexts do not touch each other, so a game of
many contexts is as many games.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice

import numpy as np

from envs.games import (
    Floats,
    Game,
    action_values,
    divergence,
    divergence_at,
    normalised,
    payoff_against,
    sigmoid,
    visits,
    win_rate,
)

_MOST_LOG_ODDS = 25.0
"""A fitted reward with a larger range is on its way to infinity."""
Payoff = Callable[[Floats], Floats]
"""What each final state is worth, [C, X], given the present policy."""


def self_play(game: Game) -> Payoff:
    """The chance to beat the present policy: what MTPO learns from."""
    return lambda policy: payoff_against(game, policy)


def fixed(reward: Floats) -> Payoff:
    """The same reward at all times: what multi-turn RLHF learns from."""
    return lambda policy: reward


# ---- the methods ----------------------------------------------------------------------------------------------------


def mtpo(game: Game, alpha: float, payoff: Payoff | None = None, *, mirror: bool = True) -> Iterator[Floats]:
    """π_{t+1} ∝ μ^{αη_t} π_t^{1−αη_t} exp(η_t Q_α^{π_t,π_t}), §2.2.

    With a ``fixed`` payoff it is multi-turn RLHF. ``mirror=False`` leaves out the term (1 − αη_t) KL(π ‖ π_t); the
    maximiser is then μ exp(Q/α), the best response in each state to the present policy's future.
    """
    payoff, policy = payoff or self_play(game), game.mu
    for t in count(1):
        yield policy
        share = 2 / (t + 2) if mirror else 1.0  # αη_t
        q, _ = action_values(game, policy, payoff(policy), alpha)
        policy = normalised(share * game.mu + (1 - share) * policy + share / alpha * q)


def mtpo_tau(game: Game, alpha: float, payoff: Payoff | None = None) -> Iterator[tuple[Floats, Floats]]:
    """The pairs π_t and π^α_t ∝ π_t^{1−αη_t} μ^{αη_t}; π_{t+1} ∝ π^α_t exp(η_t Q_α^{π^α_t,π^α_t}), §2.2."""
    payoff, policy = payoff or self_play(game), game.mu
    for t in count(1):
        share = 2 / (t + 2)
        mixture = normalised((1 - share) * policy + share * game.mu)
        yield policy, mixture
        q, _ = action_values(game, mixture, payoff(mixture), alpha)
        policy = normalised(mixture + share / alpha * q)


def gradient(
    game: Game,
    alpha: float,
    *,
    learning_rate: float,
    epochs: int = 1,
    mirror: float = 0.0,
    payoff: Payoff | None = None,
) -> Iterator[Floats]:
    """The paper's practical loss (§4.1) in expectation, by gradient steps on a table of logits.

    In each state: ⟨π, Q_α^{π_t,π_t}⟩ − α KL(π ‖ μ) − ``mirror`` · KL(π ‖ π_t), of which ``epochs`` gradient steps are
    taken before Q is computed anew. States are weighted equally, not by how often they are visited: the fixed point is
    the same. At π = π_t the last term's gradient is 0, so with one epoch it does nothing.
    """
    payoff, policy = payoff or self_play(game), game.mu
    while True:
        yield policy
        q, _ = action_values(game, policy, payoff(policy), alpha)
        old = policy
        for _ in range(epochs):
            ascent = q - alpha * (policy - game.mu) - mirror * (policy - old)
            chances = np.exp(policy)
            policy = normalised(policy + learning_rate * chances * (ascent - (chances * ascent).sum(-1, keepdims=True)))


def bradley_terry(game: Game, policy: Floats, tolerance: float = 1e-14) -> Floats:
    """The reward [C, X], the lowest 0, that fits the preferences of pairs of ``policy``'s final states best.

    The maximum-likelihood Bradley–Terry reward of infinitely many labelled pairs, by Newton's method. Raises
    ``ValueError`` when there is none: some final states win always.
    """
    chances = visits(game, policy)[:, -1]
    pairs = chances[:, :, None] * chances[:, None, :]  # [C, X, X]
    reward = np.zeros_like(chances)
    for _ in range(200):
        fit = sigmoid(reward[:, :, None] - reward[:, None, :])
        slope = (pairs * (game.preference - fit)).sum(-1)
        if np.ptp(reward, axis=-1).max() > _MOST_LOG_ODDS:
            break
        if abs(slope).max() < tolerance:
            return reward - reward.min(-1, keepdims=True)
        weight = pairs * fit * (1 - fit)
        curvature = np.eye(game.states) * weight.sum(-1)[:, :, None] - weight
        step = (np.linalg.pinv(curvature, hermitian=True) @ slope[..., None])[..., 0]
        reward = reward + step / np.maximum(1.0, abs(step).max(-1, keepdims=True))
    raise ValueError("The preferences have no Bradley–Terry reward: some final states win always. Soften the table.")


# ---- the equilibrium ------------------------------------------------------------------------------------------------


def fixed_point_error(game: Game, policy: Floats, alpha: float, payoff: Payoff | None = None) -> Floats:
    """max |π(y|x) − μ(y|x) exp(Q_α^{π,π}(x, y)/α) / Z| over states and actions, [C]; 0 at the equilibrium."""
    return abs(np.exp(policy) - np.exp(_image(game, policy, alpha, payoff))).max((1, 2, 3))


def _image(game: Game, policy: Floats, alpha: float, payoff: Payoff | None = None) -> Floats:
    q, _ = action_values(game, policy, (payoff or self_play(game))(policy), alpha)
    return normalised(game.mu + q / alpha)


def equilibrium(game: Game, alpha: float, tolerance: float = 1e-12, max_steps: int = 200_000) -> Floats:
    """The Nash equilibrium of the regularised game, to ``tolerance`` in ``fixed_point_error``.

    A few MTPO steps lead near it; then π ← π^{1−d} · (μ exp(Q/α))^d, with a damping d that is halved whenever the error
    has not fallen in the time that such steps need. Near the equilibrium the map of the fixed point turns policies
    round it without bringing them nearer (the game is antisymmetric), so small enough steps towards the image spiral
    in. Raises ``ValueError`` when the tolerance is not reached.
    """
    policy = next(islice(mtpo(game, alpha), 200, None))
    damping, best, look = 0.5, np.inf, 100
    for step in range(max_steps):
        image = _image(game, policy, alpha)
        error = float(abs(np.exp(policy) - np.exp(image)).max())
        if error <= tolerance:
            return policy
        if step == look:
            if error > 0.5 * best:
                damping /= 2
            best, look = min(best, error), step + round(50 + 5 / damping)
        policy = normalised((1 - damping) * policy + damping * image)
    raise ValueError(
        f"The equilibrium was not found: error {error:.1e} after {max_steps} steps, alpha={alpha}; "
        "raise max_steps, or take a larger alpha."
    )


# ---- what the theory says -------------------------------------------------------------------------------------------


def q_bound(game: Game, alpha: float, largest: float = 1.0) -> float:
    """The theorems' bound on |Q|: max{4αH log(1/μ_min), largest payoff}."""
    return max(4 * alpha * game.horizon * -float(game.mu.min()), largest)


def rate_bound(game: Game, alpha: float, t: int, factor: float, largest: float = 1.0) -> float:
    """factor · H Q² / (α² (t + 1)), with factor 32 for MTPO and multi-turn RLHF, 9 and 8 for MTPO-τ."""
    return factor * game.horizon * q_bound(game, alpha, largest) ** 2 / (alpha**2 * (t + 1))


def value_difference_error(game: Game, policy: Floats, other: Floats, opponent: Floats, alpha: float) -> Floats:
    """|left − right| of Lemma 4.1 in each context, [C]:
    P_α(π≻π̄) − P_α(π'≻π̄) = E_{π',p} Σ_h (⟨π − π', Q_α^{π,π̄}⟩ + α KL(π' ‖ μ) − α KL(π ‖ μ))[x_h]."""
    left = win_rate(game, policy, opponent) - alpha * divergence(game, policy, game.mu)
    left -= win_rate(game, other, opponent) - alpha * divergence(game, other, game.mu)
    q, _ = action_values(game, policy, payoff_against(game, opponent), alpha)
    inner = ((np.exp(policy) - np.exp(other)) * q).sum(-1)
    inner += alpha * (divergence_at(other, game.mu) - divergence_at(policy, game.mu))
    return abs(left - (visits(game, other)[:, :-1] * inner).sum((1, 2)))
