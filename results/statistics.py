"""Means, the bootstrap and correlations, as pure functions on arrays.

A run's evaluation is a vector of returns over scenarios; several runs (training seeds) of one agent stack to a matrix
``[seeds, scenarios]``, NaN where a conversation ended unscored. The bootstrap is hierarchical, with two kinds of noise:
training seeds, and scenarios. Scenarios with one key have equal facts, so they are resampled together, as a cluster
(Miller 2024, arXiv 2411.00640); the episodes ride with their cluster, because drawing them anew inside it would count
their noise twice (Field and Welsh 2007). Scenarios are common to all agents, so comparisons resample them jointly: draw
``scenario_weights`` once and hand them to every call.

Its percentile intervals are too narrow with few training seeds. Means, differences and scores have better ones
(``results.crossed``); the bootstrap is for what is no mean: win rates, probabilities of improvement, aggregates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

REPLICATES = 4000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95% interval; all three NaN when nothing was scored, the ends alone where nothing can tell."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "none scored"
        return f"{self.value:z.3f}" + (f" [{self.low:z.3f}, {self.high:z.3f}]" if np.isfinite(self.low) else "")


def matrix(rows: Sequence[Sequence[float | bool | None]]) -> Floats:
    """Returns or successes of several runs as ``[seeds, scenarios]``; null becomes NaN."""
    return np.array([[np.nan if value is None else float(value) for value in row] for row in rows], dtype=np.float64)


def members(clusters: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of each scenario's cluster, ``[scenarios]``; a scenario without a key (``""``) is one of its own."""
    names = [name or f"\0{i}" for i, name in enumerate(clusters)]
    _, member = np.unique(names, return_inverse=True)
    return member.astype(np.int64)


def scenario_weights(clusters: Sequence[str], rng: np.random.Generator, replicates: int = REPLICATES) -> Floats:
    """How often each scenario is drawn in each replicate, ``[replicates, scenarios]``: whole ``members`` together."""
    member_of = members(clusters)
    count = int(member_of.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=replicates)
    return drawn[:, member_of].astype(np.float64)


def seed_weights(seeds: int, replicates: int, rng: np.random.Generator) -> Floats:
    """How often each training seed is drawn in each replicate, ``[replicates, seeds]``; a single seed always once."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates).astype(np.float64)


def mean(values: Floats) -> float:
    """The mean over everything scored in ``[seeds, scenarios]``; NaN if nothing was."""
    scored = np.isfinite(values)
    return float(values[scored].mean()) if scored.any() else float("nan")


def resampled_means(values: Floats, scenarios: Floats, rng: np.random.Generator) -> Floats:
    """The mean in each replicate, ``[replicates]``: training seeds drawn here, scenarios as ``scenarios`` weighs them.

    ``values`` is ``[seeds, scenarios]``. Handing the same ``scenarios`` to two agents pairs them.
    """
    scored = np.isfinite(values)
    by_seed = seed_weights(len(values), len(scenarios), rng)
    total = (by_seed * (scenarios @ np.where(scored, values, 0.0).T)).sum(axis=1)
    weight = (by_seed * (scenarios @ scored.T.astype(np.float64))).sum(axis=1)
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def resampled_rows(values: Floats, scenarios: Floats) -> Floats:
    """The mean of each seed in each replicate, ``[replicates, seeds]``, with scenarios as ``scenarios`` weighs them."""
    scored = np.isfinite(values)
    total, weight = scenarios @ np.where(scored, values, 0.0).T, scenarios @ scored.T.astype(np.float64)
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def interval(value: float, replicates: Floats) -> Estimate:
    """``value`` with the central 95% of its replicates; replicates that are not finite are left out."""
    finite = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or finite.size == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(finite, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def score(values: Floats, start: Floats, optimum: Floats) -> float:
    """(mean - start) / (optimum - start); NaN when start and optimum are equal."""
    low = mean(start)
    return float(_ratio(np.array(mean(values) - low), np.array(mean(optimum) - low)))


def _ratio(above: Floats, span: Floats) -> Floats:
    return np.divide(above, span, out=np.full_like(above, np.nan), where=span != 0)


# ---- what was said against what came --------------------------------------------------------------------------------


def correlation(first: Floats, second: Floats) -> float:
    """Pearson's r of two [N] over the entries that both have; NaN where fewer than three are, or one does not vary."""
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3:
        return float("nan")
    one, other = (values[both] - values[both].mean() for values in (first, second))
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else float("nan")


def correlation_interval(first: Floats, second: Floats, rng: np.random.Generator, replicates: int = 1000) -> Estimate:
    """``correlation`` with an interval over the N entries, each independent of the others."""
    drawn = rng.integers(len(first), size=(replicates, len(first)))
    return interval(correlation(first, second), np.array([correlation(first[i], second[i]) for i in drawn]))


def noise_ceiling(samples: Floats) -> float:
    """The correlation that the exact means of the N rows of ``samples`` [N, k] would have with their averages.

    It is the root of the share of the averages' variance that is not noise of the k samples: 0 where all is noise, NaN
    where nothing varies. NaN samples are left out, rows with fewer than two as well.
    """
    counts = np.isfinite(samples).sum(axis=1)
    rows = samples[counts >= 2]
    if len(rows) < 2:
        return float("nan")
    total = float(np.nanmean(rows, axis=1).var(ddof=1))
    noise = float((np.nanvar(rows, axis=1, ddof=1) / counts[counts >= 2]).mean())
    return float(np.sqrt(max(0.0, 1.0 - noise / total))) if total > 0 else float("nan")
