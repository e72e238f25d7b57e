"""The noise floor: the same agent under two names, compared as if it were two agents.

The training seeds of an agent are split in two halves in every way (or ``LIMIT`` of them, drawn), and the halves are
compared like any pair. What differs is the luck of training and of single conversations, and nothing else: a difference
between two agents that is no larger says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from results.crossed import LEVEL, Crossed, crossed_mean
from results.sections import Entry, Section

LIMIT = 35
"""Splits of one agent: all of up to seven seeds."""

Seeds = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Twins:
    """Two halves of one agent's training seeds."""

    entry: Entry
    first: Seeds
    """Training seeds, as the records name them."""
    second: Seeds
    gain: Crossed
    """How much more the first half returns."""

    @property
    def tested(self) -> bool:
        """Whether both halves have seeds enough to be compared."""
        return min(len(self.first), len(self.second)) > 1

    @property
    def different(self) -> bool:
        """Whether they are called different, without correction for the number of pairs."""
        return self.tested and self.gain.p_value < 1 - LEVEL

    @property
    def at_full_size(self) -> float:
        """The difference, made as small as the noise of two agents with all of these seeds each would be.

        Means of n and m seeds differ with a variance in proportion to 1/n + 1/m.
        """
        n, m = len(self.first), len(self.second)
        return self.gain.value * float(np.sqrt((2 / (n + m)) / (1 / n + 1 / m)))


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """The A/A comparisons of a section."""

    twins: tuple[Twins, ...]

    @property
    def floor(self) -> float:
        """95% of the differences between an agent and itself are smaller; NaN if no agent has two seeds."""
        sizes = [abs(one.at_full_size) for one in self.twins]
        return float(np.quantile(sizes, LEVEL)) if sizes else float("nan")

    @property
    def tests(self) -> int:
        return sum(one.tested for one in self.twins)

    @property
    def called_different(self) -> int:
        """Of ``tests``, how many at the 5% level: more than one in twenty is a warning."""
        return sum(one.different for one in self.twins)


@cache
def noise_floor(section: Section) -> NoiseFloor:
    """Every agent that learns against itself, with the training user on the main split."""
    learners = [entry for entry in section.ranked if entry.first.learns and len(entry.records) > 1]
    return NoiseFloor(tuple(twin for entry in learners for twin in _twins(section, entry)))


def _twins(section: Section, entry: Entry) -> list[Twins]:
    values, keys = entry.returns(section.condition, section.seeds), section.keys(section.condition)
    names = [record.seed for record in entry.records]
    twins = []
    for first, second in splits(len(values)):
        gain = crossed_mean(values[list(first)], keys, "first") - crossed_mean(values[list(second)], keys, "second")
        twins.append(Twins(entry, tuple(names[i] for i in first), tuple(names[i] for i in second), gain))
    return twins


def splits(seeds: int, limit: int = LIMIT) -> Sequence[tuple[Seeds, Seeds]]:
    """The ways to halve ``seeds`` seeds, or ``limit`` of them at random; an odd one out joins the second half."""
    half = seeds // 2
    firsts = [one for one in combinations(range(seeds), half) if seeds % 2 or 0 in one]
    if len(firsts) > limit:
        picks = np.random.default_rng(0).choice(len(firsts), limit, replace=False)
        firsts = [firsts[i] for i in sorted(picks)]
    return [(first, tuple(i for i in range(seeds) if i not in first)) for first in firsts]
