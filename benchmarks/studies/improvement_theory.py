"""Theorems 1 and 2 of arXiv 2511.21638, computed exactly and judged: does Iterative PPO's step improve?

Each function takes options and gives verdicts. MDPs and policies are drawn from a seed; the rest is linear algebra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from benchmarks.studies.improvement import DIRECTIONS, Direction, Mdps, improve, objective, penalty
from envs.games import Floats
from results.verdict import Verdict

Errors = Literal["random", "adversarial"]
Start = Literal["a random policy", "a good policy"]

ROUNDING = 1e-12
"""A fall of a value by less than this is arithmetic."""
_SMALL = 0.001
"""A chain with a fixed reference settles, and near its end values go up and down by less than this."""


# ---- claim 1: the step with exact Q ---------------------------------------------------------------------------------


def claim_1(
    steps: int = 300, seed: int = 0, states: int = 8, actions: int = 4, gamma: float = 0.9, chain: int = 6
) -> list[Verdict]:
    """Iterative PPO's step with exact Q never lowers the value of a state, if the divergence is to the current policy.

    Per direction of the divergence ``steps`` steps, each on a random MDP from a random policy; β is log-uniform in
    [.01, 10]. As many with a fixed reference, another random policy, where values may fall; and as many chains of
    ``chain`` steps whose reference is the policy they began with, as in RLHF.
    """
    rng = np.random.default_rng(seed)
    mdps = [Mdps.random(rng, steps, states, actions, gamma) for _ in DIRECTIONS]
    pairs = list(zip(mdps, DIRECTIONS, strict=True))
    own = [_least_gains(rng, one, direction, own=True) for one, direction in pairs]
    other = [_least_gains(rng, one, direction, own=False) for one, direction in pairs]
    chained = sum(_falls_in_chains(rng, one, direction, chain) for one, direction in pairs)
    return [
        Verdict(
            "A step of Iterative PPO with exact Q and KL to the current policy lowers no state's value",
            f"0 of {2 * steps} steps",
            f"{_falls(own)}; least gain of a state {min(float(gains.min()) for gains in own):.1e}",
            None,
            None,
            "holds" if not any((gains < -ROUNDING).any() for gains in own) else "fails",
            f"Random MDPs of {states} states and {actions} actions, gamma {gamma:g}, beta log-uniform in [.01, 10].",
        ),
        Verdict(
            "With KL to a fixed reference the step can lower the value of a state",
            "more than 0 steps",
            _falls(other),
            None,
            None,
            "holds" if any((gains < -ROUNDING).any() for gains in other) else "fails",
            "The reference is another random policy. Where it is the policy that the iteration began with, "
            f"{chained} of {2 * steps * (chain - 1)} steps after the first lowered a value by {_SMALL} or more.",
        ),
    ]


def _falls(gains: Sequence[Floats]) -> str:
    counts = [int((one < -ROUNDING).sum()) for one in gains]
    each = " and ".join(f"{n} with {direction} KL" for n, direction in zip(counts, DIRECTIONS, strict=True))
    return f"{sum(counts)} of {sum(map(len, gains))} steps ({each})"


def _betas(rng: np.random.Generator, mdps: Mdps) -> Floats:
    return 10 ** rng.uniform(-2, 1, (len(mdps.rewards), 1))


def _least_gains(rng: np.random.Generator, mdps: Mdps, direction: Direction, *, own: bool) -> Floats:
    """The least gain over states of one step, [N]; ``own``: the reference is the current policy."""
    policy = mdps.random_policy(rng)
    reference = policy if own else mdps.random_policy(rng)
    q, before = mdps.values(policy)
    _, after = mdps.values(improve(q, reference, _betas(rng, mdps), direction))
    return np.asarray((after - before).min(1))


def _falls_in_chains(rng: np.random.Generator, mdps: Mdps, direction: Direction, length: int) -> int:
    """Steps but the first that lowered the value of a state by more than ``_SMALL``, in one chain per MDP whose
    reference is its start."""
    start, betas = mdps.random_policy(rng), _betas(rng, mdps)
    policy, falls = start, 0
    for step in range(length):
        q, before = mdps.values(policy)
        policy = improve(q, start, betas, direction)
        _, after = mdps.values(policy)
        falls += int(((after - before).min(1) < -_SMALL).sum()) if step else 0
    return falls


# ---- claim 2: the step with errors ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """Steps of one kind: their gains and Theorem 2's bounds on them, from every start, each [N, S]."""

    start: Start
    errors: Errors
    noise: float
    slack: float
    gain: Floats
    bound: Floats


def claim_2(
    noises: Sequence[float] = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    slacks: Sequence[float] = (0.0, 0.01, 0.1),
    mdps: int = 200,
    seed: int = 0,
    beta: float = 0.1,
    gamma: float = 0.9,
) -> list[Verdict]:
    """Gain ≥ E_{s~d}[β KL − δ_s − 2 ε_Q] / (1 − γ), with errors up to ε_Q put into Q and a solver that misses the
    optimum by δ_s; and from which ε_Q on the gain is negative.

    ``noises`` are ε_Q in units of the spread (root mean square) of the current policy's advantage; ``slacks`` are how
    much of a random policy is mixed into the solver's answer, which makes δ_s. Random errors are uniform; adversarial
    ones lower the actions that are better than average and raise the others, all by ε_Q. A good policy is what three
    exact steps made of a random one.
    """
    rng = np.random.default_rng(seed)
    cells = [
        _step_with_errors(rng, mdps, *setting, beta=beta, gamma=gamma)
        for setting in product(_STARTS, _ERRORS, noises, slacks, DIRECTIONS)
    ]
    broken = sum(int((cell.gain < cell.bound - ROUNDING).sum()) for cell in cells)
    margin = min(float((cell.gain - cell.bound).min()) for cell in cells)
    total = sum(cell.gain.size for cell in cells)
    note = f"Rewards in [0, 1], 8 states, 4 actions, gamma {gamma:g}, beta {beta:g}, both directions of KL."
    return [
        Verdict(
            "From every state the gain is at least the mean of beta KL - delta - 2 eps_Q, over (1 - gamma)",
            f"0 of {total} below the bound",
            f"{broken} of {total} below it; smallest margin {margin:.1e}",
            None,
            None,
            "holds" if broken == 0 else "fails",
            f"{note} eps_Q from 0 to {max(noises):g} times the advantage's spread, up to {max(slacks):.0%} slack.",
        ),
        *_turning_points(cells, noises, note),
    ]


_STARTS: tuple[Start, ...] = ("a random policy", "a good policy")
_ERRORS: tuple[Errors, ...] = ("random", "adversarial")


def _step_with_errors(
    rng: np.random.Generator,
    n: int,
    start: Start,
    errors: Errors,
    noise: float,
    slack: float,
    direction: Direction,
    *,
    beta: float,
    gamma: float,
) -> _Cell:
    mdps = Mdps.random(rng, n, 8, 4, gamma)
    policy = mdps.random_policy(rng)
    for _ in range(3 if start == "a good policy" else 0):
        policy = improve(mdps.values(policy)[0], policy, beta, direction)
    q, before = mdps.values(policy)
    advantage = q - before[..., None]
    spread = np.sqrt((np.exp(policy) * advantage**2).sum(-1).mean(1))[:, None, None]  # [N, 1, 1]
    error = -np.sign(advantage) if errors == "adversarial" else rng.uniform(-1, 1, q.shape)
    heard = q + noise * spread * error
    best = improve(heard, policy, beta, direction)
    new = np.log((1 - slack) * np.exp(best) + slack * np.exp(mdps.random_policy(rng)))
    delta = objective(heard, best, policy, beta, direction) - objective(heard, new, policy, beta, direction)
    inside = beta * penalty(new, policy, direction) - delta - 2 * abs(heard - q).max((1, 2))[:, None]  # [N, S]
    bound = np.einsum("nsz,nz->ns", mdps.occupancy(new), inside) / (1 - gamma)
    return _Cell(start, errors, noise, slack, np.asarray(mdps.values(new)[1] - before), np.asarray(bound))


def _turning_points(cells: Sequence[_Cell], noises: Sequence[float], note: str) -> Iterator[Verdict]:
    """Where the mean gain and the mean bound turn negative, with a solver that makes the least slack there is."""
    least = min(cell.slack for cell in cells)
    for start, errors in product(_STARTS, _ERRORS):
        here = [c for c in cells if (c.start, c.errors, c.slack) == (start, errors, least)]
        at = {noise: [c for c in here if c.noise == noise] for noise in noises}
        gains = {noise: float(np.mean([c.gain for c in group])) for noise, group in at.items()}
        bounds = {noise: float(np.mean([c.bound for c in group])) for noise, group in at.items()}
        losing = {noise: float(np.mean([c.gain.mean(1) < -ROUNDING for c in group])) for noise, group in at.items()}
        rows = "; ".join(f"{n:g}: {gains[n]:+.3f} ({losing[n]:.0%} lose, bound {bounds[n]:+.2f})" for n in noises)
        gain_turns, bound_turns = _first_negative(gains), _first_negative(bounds)
        yield Verdict(
            f"From {start}, with {errors} errors in Q: from which error on a step loses, on average",
            "no number published; by the bound above, not before the bound turns negative",
            f"the mean gain is negative from {_named(gain_turns)}, the bound from {_named(bound_turns)}",
            None,
            None,
            "measured",
            f"{note} Mean gain by eps_Q, in units of the advantage's spread: {rows}.",
        )


def _first_negative(means: dict[float, float]) -> float:
    return next((noise for noise, mean in means.items() if mean < 0), float("inf"))


def _named(noise: float) -> str:
    return "nowhere in the range" if noise == float("inf") else f"eps_Q = {noise:g} spreads"
