"""Claim 8, what arXiv 2405.14655 proves of MTPO, computed exactly on random games and judged.

Each function takes options and gives verdicts; games are drawn from a seed, and every context is a game of its own.
The other computed claims stand in ``improvement_theory`` and ``open_questions``, and can be named here as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from benchmarks.studies.exact import (
    bradley_terry,
    equilibrium,
    fixed,
    fixed_point_error,
    mtpo,
    mtpo_tau,
    rate_bound,
    value_difference_error,
)
from benchmarks.studies.improvement_theory import claim_1 as claim_1
from benchmarks.studies.improvement_theory import claim_2 as claim_2
from benchmarks.studies.open_questions import claim_21 as claim_21
from benchmarks.studies.open_questions import mirror_term as mirror_term
from benchmarks.studies.open_questions import preference_noise as preference_noise
from envs.games import Floats, Game, Kind, RandomGame, best_response, divergence, exploitability, normalised, stacked
from results.verdict import Verdict

KINDS: tuple[Kind, ...] = ("general", "transitive", "cyclic")
FLOOR = 1e-13
"""A divergence below this is arithmetic: the equilibrium itself is known to about 1e-12."""


def claim_8(
    kinds: Sequence[Kind] = KINDS,
    games: int = 20,
    seed: int = 0,
    alphas: Sequence[float] = (0.05, 0.2, 1.0),
    steps: int = 2000,
) -> list[Verdict]:
    """The last-iterate rates of MTPO, MTPO-τ and multi-turn RLHF for every t up to ``steps``; the equilibrium's
    fixed-point equation and exploitability; Lemma 4.1.

    ``games`` games of every kind (3 layers of 4 states, 3 actions, a reference policy drawn too), with every α.
    """
    game = stacked([RandomGame(kind, seed, games, 4, 3, 3, uniform_mu=False).build() for kind in kinds])
    found = {alpha: equilibrium(game, alpha) for alpha in alphas}
    note = f"{game.contexts} games ({', '.join(kinds)}), each with alpha = {', '.join(f'{a:g}' for a in alphas)}."
    paths = [path for alpha, nash in found.items() for path in _paths(game, alpha, nash, steps)]
    verdicts: list[Verdict] = []
    for name, bound in _BOUNDS.items():
        verdicts += _rate(name, bound, [path for path in paths if path.name == name], note)
    return [*verdicts, *_at_equilibrium(game, found, note), _lemma(game, alphas, seed, note)]


# ---- the rate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """How a method of some α came near its goal."""

    name: str
    divergences: Floats
    """KL_p(goal ‖ π_t), [T, C]."""
    bounds: Floats
    """What the paper proves it to be at most, [T]."""


_BOUNDS = {
    "MTPO": "KL_p(pi* || pi_t) <= 32 H Q^2 / (alpha^2 (t+1))",
    "MTPO-tau, its mixture": "KL_p(pi* || pi^alpha_t) <= 9 H Q^2 / (alpha^2 (t+1))",
    "MTPO-tau": "KL_p(pi* || pi_t) <= 8 H Q^2 / (alpha^2 (t+1))",
    "multi-turn RLHF": "KL_p(best || pi_t) <= 32 H Q^2 / (alpha^2 (t+1))",
}


def _paths(game: Game, alpha: float, nash: Floats, steps: int) -> list[_Path]:
    reward = bradley_terry(game, game.mu)
    best, _ = best_response(game, reward, alpha)
    pairs = list(islice(mtpo_tau(game, alpha), steps))
    mirror = [divergence(game, nash, policy) for policy in islice(mtpo(game, alpha), steps)]
    mixture = [divergence(game, nash, mixture) for _, mixture in pairs]
    policies = [divergence(game, nash, policy) for policy, _ in pairs]
    rewarded = [divergence(game, best, policy) for policy in islice(mtpo(game, alpha, fixed(reward)), steps)]
    factors, largest = (32, 9, 8, 32), (1.0, 1.0, 1.0, float(reward.max()))
    return [
        _Path(name, np.array(path), np.array([rate_bound(game, alpha, t, factor, most) for t in range(1, steps + 1)]))
        for name, path, factor, most in zip(
            _BOUNDS, (mirror, mixture, policies, rewarded), factors, largest, strict=True
        )
    ]


def _rate(name: str, bound: str, paths: Sequence[_Path], note: str) -> list[Verdict]:
    """The bound for every t, and how fast the divergence really falls."""
    shares = np.array([path.divergences / path.bounds[:, None] for path in paths])  # [alphas, T, C]
    last = np.array([path.divergences[-1] for path in paths])
    slopes = np.array([slope(one) for path in paths for one in path.divergences.T])
    known, steps = slopes[np.isfinite(slopes)], shares.shape[1]
    extra = " Q allows for the reward's range, which may exceed 1." if name == "multi-turn RLHF" else ""
    return [
        _exact(
            f"{name}: {bound} for every t",
            "no t above the bound",
            f"{int((shares > 1).sum())} of {shares.size} above; largest share of the bound {shares.max():.1e}; KL at "
            f"t = {steps}: median {np.median(last):.1e}, largest {last.max():.1e}",
            bool((shares <= 1).all()),
            f"{note} t = 1 to {steps}.{extra}",
        ),
        _exact(
            f"{name}: KL falls at least as fast as 1/t",
            "slope of log KL on log t at most -1",
            f"median slope {np.median(known):.2f}, flattest {known.max():.2f}",
            bool(known.max() <= -1),
            f"{note} Least squares over t from {steps // 10} on, down to {FLOOR:g}; {len(known)} of {len(slopes)} "
            "paths have 20 points there.",
        ),
    ]


def slope(path: Floats) -> float:
    """The least-squares slope of log(path) on log(t) over t from T/10 on, above the floor; NaN if fewer than 20 are."""
    t = np.arange(1, len(path) + 1)
    used = (t >= len(path) / 10) & (path > FLOOR)
    if used.sum() < 20:
        return float("nan")
    return float(np.polyfit(np.log(t[used]), np.log(path[used]), 1)[0])


# ---- the equilibrium and the lemma ----------------------------------------------------------------------------------


def _at_equilibrium(game: Game, found: dict[float, Floats], note: str) -> Iterator[Verdict]:
    error = max(float(fixed_point_error(game, nash, alpha).max()) for alpha, nash in found.items())
    gain = max(float(abs(exploitability(game, nash, alpha)).max()) for alpha, nash in found.items())
    share = max(float((divergence(game, nash, game.mu) * 2 * alpha).max()) for alpha, nash in found.items())
    yield _exact("The limit solves pi = mu exp(Q/alpha) / Z", "error <= 1e-8", f"{error:.1e}", error <= 1e-8, note)
    yield _exact("No policy gains on the limit", "exploitability <= 1e-8", f"{gain:.1e}", gain <= 1e-8, note)
    yield _exact("KL_p(pi* || mu) <= 1 / (2 alpha)", "share <= 1", f"largest share {share:.3f}", share <= 1, note)


def _lemma(game: Game, alphas: Sequence[float], seed: int, note: str) -> Verdict:
    rng, error = np.random.default_rng(seed), 0.0
    for alpha in alphas:
        policy, other, opponent = (normalised(2 * rng.normal(size=game.mu.shape)) for _ in range(3))
        error = max(error, float(value_difference_error(game, policy, other, opponent, alpha).max()))
    claim = "The value difference of two policies is that of Lemma 4.1"
    return _exact(claim, "error <= 1e-12", f"{error:.1e}", error <= 1e-12, f"{note} Random policies.")


def _exact(claim: str, criterion: str, measured: str, holds: bool, note: str) -> Verdict:
    return Verdict(claim, criterion, measured, None, None, "holds" if holds else "fails", note)
