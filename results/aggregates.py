"""Numbers over several runs and environments, as rliable has them, and how sure one can be of them.

Agarwal et al. 2021 (arXiv 2108.13264): a table of scores ``[runs, environments]`` is summed up by its interquartile
mean, its optimality gap, its performance profile and the probability of improvement; intervals resample runs within
each environment (the stratified bootstrap) and are percentile intervals. Every function takes leading dimensions, so
that the replicates of a bootstrap are one call: ``iqm(scores[draw_runs(...)])``.

Also pass^k of tau-bench (arXiv 2406.12045, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
import numpy.typing as npt

from results.statistics import REPLICATES, Estimate, Floats, interval, resampled_rows, seed_weights

Integers = npt.NDArray[np.int64]


def iqm(scores: Floats) -> Floats:
    """Interquartile mean over every entry of ``[..., runs, environments]``: without the lowest and highest ⌊n/4⌋."""
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: Floats, bound: float = 1.0) -> Floats:
    """How far ``[..., runs, environments]`` stay below ``bound`` on average; what is above it counts as ``bound``."""
    return np.asarray(bound - np.minimum(scores, bound).mean(axis=(-2, -1)))


def performance_profile(scores: Floats, thresholds: Floats) -> Floats:
    """The share of ``[..., runs, environments]`` that is above each threshold, ``[..., thresholds]``."""
    return (scores[..., None] > thresholds).mean(axis=(-3, -2))


def probability_of_improvement(first: Floats, second: Floats) -> Floats:
    """How likely a run of ``first`` is above one of ``second``, ties counting half, averaged over environments.

    Both are ``[..., runs, environments]``; the runs may differ in number. Within an environment it is the Mann–Whitney
    U over the number of pairs.
    """
    above = first[..., :, None, :] - second[..., None, :, :]
    return np.asarray(((np.sign(above) + 1) / 2).mean(axis=(-3, -2, -1)))


def draw_runs(
    shape: tuple[int, ...], rng: np.random.Generator, replicates: int = REPLICATES
) -> tuple[Integers, Integers]:
    """Resamples runs within each environment: ``scores[draw_runs(scores.shape, rng)]`` is ``[replicates, *shape]``."""
    runs, environments = shape
    return rng.integers(runs, size=(replicates, runs, environments)), np.arange(environments)


def stratified_interval(
    measure: Callable[[Floats], Floats], scores: Floats, rng: np.random.Generator, replicates: int = REPLICATES
) -> Estimate:
    """``measure`` of ``[runs, environments]`` with rliable's interval."""
    return interval(float(measure(scores)), measure(scores[draw_runs(scores.shape, rng, replicates)]))


def profile_band(
    scores: Floats, thresholds: Floats, rng: np.random.Generator, replicates: int = REPLICATES
) -> list[Estimate]:
    """The performance profile of ``[runs, environments]``, each threshold with rliable's interval for itself."""
    drawn = performance_profile(scores[draw_runs(scores.shape, rng, replicates)], thresholds)
    return [interval(float(share), drawn[:, i]) for i, share in enumerate(performance_profile(scores, thresholds))]


def spread_runs(drawn: Floats) -> Floats:
    """``[replicates, runs, environments]`` with the runs √(n / (n - 1)) times as far from their mean.

    A bootstrap of n runs shows (n - 1) / n of the variance; drawn from these, it shows all of it (Rao and Wu 1988).
    """
    runs = drawn.shape[-2]
    middle = drawn.mean(axis=-2, keepdims=True)
    return middle + (drawn - middle) * np.sqrt(runs / max(1, runs - 1))


def run_improvement(first: Floats, second: Floats, scenarios: Floats, rng: np.random.Generator) -> Estimate:
    """How likely a run of ``first`` has a higher mean than one of ``second``, ``[seeds, scenarios]`` each.

    The bootstrap is hierarchical: scenarios as ``scenarios`` weighs them ``[replicates, scenarios]``, common to both,
    and the seeds of each. All of a few runs may be better, and a bootstrap would call that certain; the interval is
    therefore at least Wilson's for as many runs as the one with fewer has (of those with several).
    """
    means = [resampled_rows(values, np.ones((1, values.shape[1])))[0] for values in (first, second)]  # [seeds]
    value = float(probability_of_improvement(means[0][:, None], means[1][:, None]))
    drawn = [resampled_rows(values, scenarios) for values in (first, second)]  # [replicates, seeds]
    seeds = [seed_weights(len(values), len(scenarios), rng) / len(values) for values in (first, second)]
    better = (np.sign(drawn[0][:, :, None] - drawn[1][:, None, :]) + 1) / 2  # [replicates, seeds, seeds]
    estimate = interval(value, np.einsum("ri,rij,rj->r", seeds[0], better, seeds[1]))
    few = wilson(value, min((len(one) for one in (first, second) if len(one) > 1), default=1))
    return Estimate(value, min(estimate.low, few.low), max(estimate.high, few.high))


def wilson(share: float, count: float, quantile: float = 1.959963984540054) -> Estimate:
    """Wilson's interval of a share of ``count`` independent trials, within [0, 1]."""
    shrink = 1 + quantile**2 / count
    middle = (share + quantile**2 / (2 * count)) / shrink
    half = quantile / shrink * float(np.sqrt(share * (1 - share) / count + quantile**2 / (4 * count**2)))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


# ---- several runs on one scenario -----------------------------------------------------------------------------------


def pass_hat(successes: Floats, k: int) -> Floats:
    """Per scenario, the chance that k of the runs all succeed: C(c, k) / C(n, k) of n scored runs with c successes.

    ``successes`` is ``[runs, scenarios]``, NaN where unscored; the result is ``[scenarios]``, NaN where fewer than k
    were scored.
    """
    scored = np.isfinite(successes)
    succeeded = np.where(scored, successes, 0.0).sum(axis=0).astype(int)
    chances = [
        comb(c, k) / comb(n, k) if n >= k else np.nan for c, n in zip(succeeded, scored.sum(axis=0), strict=True)
    ]
    return np.array(chances)


def pass_ks(runs: int, at: Sequence[int] = (2, 4, 8)) -> list[int]:
    """The ks of the tables that ``runs`` are enough for."""
    return [k for k in at if k <= runs]
