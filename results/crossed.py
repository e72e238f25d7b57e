"""Means, differences and scores over training seeds and scenarios, with intervals and tests that hold for few seeds.

Every training seed of an agent meets every scenario: the two are crossed, and both are samples, of all seeds and of all
users. Scenarios with one key have equal facts and count as one cluster (Miller 2024, arXiv 2411.00640); the scenarios
are common to all agents, the seeds are each agent's own. A mean then varies by as much as

    V = Σ max(V_seeds - V_noise, 0) + V_clusters

over the agents in it: V_seeds = s² / n of an agent's n seed means, V_clusters = s² / n of the cluster means, each taken
over the other, and V_noise = what both hold of the noise in single seed × cluster cells, from the residuals of the
two-way table: without this term the noise would count twice (Cameron, Gelbach and Miller 2011,
doi:10.1198/jbes.2010.07136; as in studies of several readers and cases, Hillis 2007, doi:10.1002/sim.2532). The
interval is that of Student's t with Satterthwaite's (1946) degrees of freedom

    ν = V² / (Σ V_seeds² / (seeds - 1) + V_clusters² / (clusters - 1)),

close to seeds - 1 where seeds dominate and to clusters - 1 where scenarios do. A percentile bootstrap has neither the
factor n / (n - 1) nor the t: with three seeds its 95% interval covers .79 where seeds dominate, this one .91
(``python -m results.calibration``). An agent with one seed adds no V_seeds: its interval speaks of scenarios alone.

Ratios, such as the score between start and optimum, are means to first order (the delta method): every number carries
how far each cell moves it, and arithmetic keeps that up. Nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Final

import numpy as np
from scipy.special import gammaincinv, ndtr, stdtr, stdtrit  # scipy.stats has them too, and takes a second to import

from results.aggregates import wilson
from results.statistics import Estimate, Floats, mean, members

LEVEL: Final = 0.95
"""Of every interval; tests are two-sided at 1 - LEVEL."""
_MANY: Final = 1e6
"""Degrees of freedom that are as good as infinitely many."""
_DRAWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Components:
    """What the variance of an estimate is made of."""

    seeds: tuple[float, ...]
    """V_seeds of each agent that has several."""
    noise: tuple[float, ...]
    """V_noise of the same agents."""
    seed_counts: tuple[int, ...]
    """Their training seeds."""
    scenarios: tuple[float, ...]
    """V_clusters; one per set of scenarios, mostly a single one."""
    cluster_counts: tuple[int, ...]

    @property
    def from_seeds(self) -> float:
        """The part of the variance that training anew would show."""
        return sum(max(own - noise, 0.0) for own, noise in zip(self.seeds, self.noise, strict=True))

    @property
    def variance(self) -> float:
        """V; NaN where nothing can tell: one seed and one cluster."""
        known = [*self.seeds, *(v for v, n in zip(self.scenarios, self.cluster_counts, strict=True) if n > 1)]
        return self.from_seeds + sum(self.scenarios) if known else float("nan")

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's ν; infinite where nothing varies."""
        parts = [*zip(self.seeds, self.seed_counts, strict=True)]
        parts += zip(self.scenarios, self.cluster_counts, strict=True)
        spread = sum(own**2 / (count - 1) for own, count in parts if count > 1)
        return self.variance**2 / spread if spread > 0 else float("inf")

    def planned(self, seeds: int) -> Components:
        """As expected with ``seeds`` training seeds for each agent that has several now, on as many clusters."""
        shrink = [count / seeds for count in self.seed_counts]
        noise = tuple(one * by for one, by in zip(self.noise, shrink, strict=True))
        own = tuple(
            max(was - before, 0.0) * by + after
            for was, before, after, by in zip(self.seeds, self.noise, noise, shrink, strict=True)
        )
        kept = 1.0 - min(1.0, (sum(self.noise) - sum(noise)) / max(sum(self.scenarios), 1e-300))
        return replace(
            self,
            seeds=own,
            noise=noise,
            seed_counts=(seeds,) * len(own),
            scenarios=tuple(one * kept for one in self.scenarios),
        )


@dataclass(frozen=True, eq=False)
class Crossed:
    """A number, and how far each seed × cluster cell moves it; adds, subtracts, scales and divides."""

    value: float
    cells: Mapping[tuple[str, str], Floats]
    """By agent and set of scenarios, ``[seeds, clusters]``: each sums to 0."""

    def __add__(self, other: Crossed) -> Crossed:
        sums = dict(self.cells)
        for place, cells in other.cells.items():
            sums[place] = sums[place] + cells if place in sums else cells
        return Crossed(self.value + other.value, sums)

    def __mul__(self, factor: float) -> Crossed:
        return Crossed(self.value * factor, {place: cells * factor for place, cells in self.cells.items()})

    def __sub__(self, other: Crossed) -> Crossed:
        return self + other * -1.0

    def __truediv__(self, other: Crossed) -> Crossed:
        """To first order; NaN when ``other`` is 0."""
        if other.value == 0:
            return Crossed(float("nan"), self.cells)
        ratio = self.value / other.value
        return Crossed(ratio, ((self - other * ratio) * (1 / other.value)).cells)

    @cached_property
    def components(self) -> Components:
        """What its variance is made of."""
        of_seeds = [self._of_seeds(agent) for agent in dict.fromkeys(agent for agent, _ in self.cells)]
        several = [one for one in of_seeds if one is not None]
        by_cluster = [self._by_cluster(where) for where in dict.fromkeys(where for _, where in self.cells)]
        return Components(
            seeds=tuple(own for own, _, _ in several),
            noise=tuple(noise for _, noise, _ in several),
            seed_counts=tuple(count for _, _, count in several),
            scenarios=tuple(_variance(totals) for totals in by_cluster),
            cluster_counts=tuple(len(totals) for totals in by_cluster),
        )

    def _of_seeds(self, agent: str) -> tuple[float, float, int] | None:
        """V_seeds, V_noise and the number of seeds of one agent; None for a single seed."""
        own = [cells for (name, _), cells in self.cells.items() if name == agent]
        seeds = len(own[0])
        if seeds == 1:
            return None
        return _variance(np.sum([cells.sum(axis=1) for cells in own], axis=0)), sum(map(_noise, own)), seeds

    def _by_cluster(self, where: str) -> Floats:
        """How far each cluster moves the number, over all agents, ``[clusters]``."""
        total: Floats = np.sum(
            [cells.sum(axis=0) for (_, place), cells in self.cells.items() if place == where], axis=0
        )
        return total

    @property
    def variance(self) -> float:
        return self.components.variance

    @cached_property
    def estimate(self) -> Estimate:
        """With its 95% interval; low and high are NaN where one seed met one cluster."""
        if not np.isfinite(self.value):
            return Estimate(float("nan"), float("nan"), float("nan"))
        half = self._quantile * np.sqrt(self.variance)
        return Estimate(self.value, float(self.value - half), float(self.value + half))

    @cached_property
    def share(self) -> Estimate:
        """As ``estimate`` for a share, within [0, 1]: Wilson's interval at as many independent conversations as give V.

        Where all or none succeeded, each cluster counts as one of them (Korn and Graubard 1998).
        """
        plain = self.estimate
        if not np.isfinite(plain.low):
            return plain
        p, v = self.value, self.variance
        if not 0 < p < 1:
            clusters = self.components.cluster_counts[0]
            return wilson(p, clusters, _t(clusters - 1))
        return wilson(p, p * (1 - p) / v, self._quantile) if v > 0 else plain

    @property
    def p_value(self) -> float:
        """Of the two-sided t-test that the number is 0; NaN where there is no interval."""
        if not np.isfinite(self.estimate.low):
            return float("nan")
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        at = abs(self.value) / np.sqrt(self.variance)
        return float(2 * stdtr(min(self.components.degrees_of_freedom, _MANY), -at))

    @property
    def _quantile(self) -> float:
        return _t(self.components.degrees_of_freedom)


def crossed_mean(values: Floats, clusters: Sequence[str], agent: str = "", scenarios: str = "") -> Crossed:
    """The mean over everything scored in ``values`` [seeds, scenarios]; NaN is left out.

    Args:
        values: returns or successes.
        clusters: each scenario's key; one without (``""``) is a cluster of its own.
        agent: whose seeds these are. Numbers of one agent vary with the same seeds.
        scenarios: which these are. Numbers on the same ones must be given the same clusters.
    """
    value = mean(values)
    if not np.isfinite(value):
        return Crossed(value, {})
    scored = np.isfinite(values)
    moved = np.where(scored, values - value, 0.0) / scored.sum()
    member = members(clusters)
    order = np.argsort(member, kind="stable")
    starts = np.flatnonzero(np.diff(member[order], prepend=-1))
    return Crossed(value, {(agent, scenarios): np.add.reduceat(moved[:, order], starts, axis=1)})


def mean_interval(values: Floats, clusters: Sequence[str]) -> Estimate:
    """Mean of ``[seeds, scenarios]``, with an interval over training seeds (if several) and scenario clusters."""
    return crossed_mean(values, clusters).estimate


def share_interval(values: Floats, clusters: Sequence[str]) -> Estimate:
    """As ``mean_interval`` for successes (1) and failures (0): within [0, 1]."""
    return crossed_mean(values, clusters).share


def difference_interval(first: Floats, second: Floats, clusters: Sequence[str]) -> Estimate:
    """Mean of ``first`` minus mean of ``second``, paired: on the same scenarios, each with seeds of its own."""
    return (crossed_mean(first, clusters, "first") - crossed_mean(second, clusters, "second")).estimate


def score_interval(values: Floats, start: Floats, optimum: Floats, clusters: Sequence[str]) -> Estimate:
    """(mean - start) / (optimum - start), all three on the same scenarios.

    Outside [0, 1] for agents below the start or above the optimum; NaN when start and optimum are equal. An agent that
    *is* a reference (the same array) has the score 0 or 1 without an interval's width.
    """
    own, low, high = (crossed_mean(one, clusters, str(id(one))) for one in (values, start, optimum))
    return crossed_score(own, low, high).estimate


def crossed_score(own: Crossed, start: Crossed, optimum: Crossed) -> Crossed:
    """(own - start) / (optimum - start); NaN when the two are equal."""
    return (own - start) / (optimum - start)


# ---- power -----------------------------------------------------------------------------------------------------------


def power(difference: float, components: Components) -> float:
    """The probability that the two-sided t-test finds a true ``difference``, if ``components`` are the true ones.

    The test knows them only as well as its seeds and clusters tell: sums of squares, which are drawn here.
    """
    return _power(difference / np.sqrt(components.variance), _bars(components))


def detectable_difference(components: Components, wanted: float = 0.8) -> float:
    """The smallest true difference that the t-test finds with probability ``wanted``.

    With many seeds and clusters it is (z_{.975} + z_{.8}) √V, Miller's (2024, section 5) formula with a component of
    its own for training seeds. NaN where V is not known, 0 where nothing varies.
    """
    v, bars = components.variance, _bars(components)
    if not v > 0:
        return v
    low, high = 0.0, 10.0 + 2 * float(bars.max())  # in standard errors
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, bars) < wanted else (low, middle)
    return high * float(np.sqrt(v))


def _bars(components: Components) -> Floats:
    """How many true standard errors a difference must have to be called one, in ``_DRAWS`` tables."""
    clusters = max(components.cluster_counts, default=2)
    total, spread = np.zeros(_DRAWS), np.zeros(_DRAWS)
    terms = [*zip(components.seeds, components.noise, components.seed_counts, strict=True)]
    terms += [(own, 0.0, count) for own, count in zip(components.scenarios, components.cluster_counts, strict=True)]
    for place, (own, noise, count) in enumerate(terms):
        freedom = max(1, count - 1)
        seen = own * _mean_squares(freedom, 2 * place)
        total += np.maximum(seen - noise * _mean_squares(freedom * max(1, clusters - 1), 2 * place + 1), 0.0)
        spread += seen**2 / freedom
    nu = np.divide(total**2, spread, out=np.full(_DRAWS, np.inf), where=spread > 0)
    return np.asarray(_quantiles(nu) * np.sqrt(total / components.variance)) if components.variance > 0 else total


@cache
def _mean_squares(freedom: int, place: int) -> Floats:
    """χ² over its degrees of freedom, ``[_DRAWS]``: its quantiles, in an order of each place's own."""
    at = np.random.default_rng(place).permutation(_DRAWS) + 0.5
    return np.asarray(2 * gammaincinv(freedom / 2, at / _DRAWS) / freedom)


def _power(at: float, bars: Floats) -> float:
    return float((ndtr(at - bars) + ndtr(-at - bars)).mean())


# ---- variances ------------------------------------------------------------------------------------------------------


def _t(nu: float) -> float:
    """The quantile of Student's t that intervals and tests use."""
    return float(_quantiles(np.array(nu)))


def _quantiles(nu: Floats) -> Floats:
    return np.asarray(stdtrit(np.clip(nu, 1.0, _MANY), (1 + LEVEL) / 2))


def _variance(moved: Floats) -> float:
    """Of a sum of n independent parts with the mean 0: n / (n - 1) Σ x²; 0 for a single one."""
    return float((moved**2).sum()) * len(moved) / (len(moved) - 1) if len(moved) > 1 else 0.0


def _noise(cells: Floats) -> float:
    """The variance of the number from single cells, ``[seeds, clusters]``: the residuals of the two-way table."""
    seeds, clusters = cells.shape
    if clusters == 1:
        return 0.0
    residuals = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean()
    return float((residuals**2).sum()) * cells.size / ((seeds - 1) * (clusters - 1))
