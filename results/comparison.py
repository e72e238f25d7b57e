"""Every agent of a section against every other: which differences are real, and how large one had to be to be seen.

A pair is compared by its mean returns with the training user on the main split, paired by scenario, with the t-test of
``results.crossed``: training seeds and clusters of scenarios are two components of its variance. The p-values of a
section's pairs are one family and corrected as one (Holm 1979). An agent that learns and has one seed is in no pair: a
test on scenarios alone would speak of that run, not of the method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations, count, product
from string import ascii_lowercase

import numpy as np

from results.aggregates import pass_hat, pass_ks, run_improvement
from results.crossed import LEVEL, Crossed, crossed_mean, detectable_difference
from results.sections import Entry, Section
from results.statistics import Estimate, Floats, scenario_weights

TWICE = 2
"""The least number of seeds that tell how seeds differ."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two agents."""

    first: Entry
    second: Entry
    gain: Crossed
    """How much more ``first`` returns."""
    adjusted: float
    """The p-value, corrected for the number of pairs; NaN where there is none."""

    @property
    def different(self) -> bool:
        return self.adjusted < 1 - LEVEL


@dataclass(frozen=True, eq=False)
class Comparison:
    """The pairs of a section."""

    pairs: tuple[Pair, ...]
    letters: Mapping[Entry, str]
    """Agents that share a letter are not told apart; the best have an ``a``. Without those of a single seed."""
    improvement: Mapping[Entry, Estimate]
    """How likely a run of an agent that learns has a higher mean return than the start; empty without a start."""

    @cached_property
    def detectable(self) -> float:
        """The true difference that two agents that learn show with probability .8, before Holm's correction: the median
        over their pairs; NaN where there is none."""
        return self._detectable(None)

    def planned(self, seeds: int) -> float:
        """``detectable`` if every agent that learns had ``seeds`` training seeds."""
        return self._detectable(seeds)

    def _detectable(self, seeds: int | None) -> float:
        between = [pair.gain.components for pair in self.pairs if pair.first.first.learns and pair.second.first.learns]
        if not between:
            return float("nan")
        return float(np.median([detectable_difference(one.planned(seeds) if seeds else one) for one in between]))


@cache
def compare(section: Section) -> Comparison:
    """Every pair of the section, from the better to the worse."""
    entries = [one for one in section.ranked if not one.first.learns or len(one.records) >= TWICE]
    means = {entry: section.main(entry).mean for entry in entries}
    gains = {(one, other): means[one] - means[other] for one, other in combinations(entries, 2)}
    adjusted = holm(np.array([gain.p_value for gain in gains.values()]))
    pairs = tuple(Pair(*two, gain, float(p)) for (two, gain), p in zip(gains.items(), adjusted, strict=True))
    apart = {(entries.index(pair.first), entries.index(pair.second)) for pair in pairs if pair.different}
    letters = dict(zip(entries, letter_groups(len(entries), apart), strict=True))
    return Comparison(pairs, letters, _improvement(section))


def _improvement(section: Section) -> dict[Entry, Estimate]:
    start, condition = section.references.get("start"), section.condition
    if start is None:
        return {}
    rng = np.random.default_rng(0)
    weights = scenario_weights(section.keys(condition), rng)
    low = start.returns(condition, section.seeds)
    others = [entry for entry in section.entries if entry.first.learns and entry is not start]
    return {entry: run_improvement(entry.returns(condition, section.seeds), low, weights, rng) for entry in others}


def pass_table(section: Section, entry: Entry) -> dict[int, Estimate]:
    """pass^k of the entry with the training user on the main split, for k of its runs on one scenario.

    The runs are training seeds, so it is the chance that k agents, learnt anew each, all succeed. Intervals speak of
    scenarios alone.
    """
    successes, keys = entry.successes(section.condition, section.seeds), section.keys(section.condition)
    columns = [k for k in pass_columns(section) if k <= len(successes)]
    return {k: crossed_mean(pass_hat(successes, k)[None], keys).share for k in columns}


def pass_columns(section: Section) -> list[int]:
    """The ks that some entry has runs enough for; none where nobody ever succeeds."""
    if not any(section.main(one).successes.value > 0 for one in section.entries):
        return []
    return pass_ks(max(len(one.records) for one in section.entries))


# ---- families of tests ----------------------------------------------------------------------------------------------


def holm(p_values: Floats) -> Floats:
    """Holm's (1979) adjusted p-values: the family-wise error is at most what they are compared with.

    NaN, where there was no test, stays NaN and does not count.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def letter_groups(members: int, different: Collection[tuple[int, int]]) -> list[str]:
    """A compact letter display: two of ``members`` share a letter if and only if they are not ``different``.

    Insert and absorb (Piepho 2004, doi:10.1198/1061860043515). Letters are given in the order of the members.
    """
    columns = [frozenset(range(members))]
    for one, other in different:
        both = [column for column in columns if one in column and other in column]
        halves = [column - {left_out} for column, left_out in product(both, (one, other))]
        rest = [column for column in columns if column not in both]
        candidates = list(dict.fromkeys([*rest, *halves]))
        columns = [column for column in candidates if not any(column < larger for larger in candidates)]
    columns.sort(key=sorted)
    names = _names()
    letters = [(next(names), column) for column in columns]
    return ["".join(name for name, column in letters if member in column) for member in range(members)]


def _names() -> Iterator[str]:
    """a to z, then a1, b1, …"""
    return (letter + (str(turn) if turn else "") for turn in count() for letter in ascii_lowercase)
