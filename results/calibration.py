"""Whether the leaderboard's statistics keep their word, on tables whose truth is known.

``python -m results.calibration [--tables 1000] [--seeds 3 5 10] [--agents 6]`` asks three questions, each of many
simulated tables: how often the 95% interval of an agent's mean holds the truth, beside the percentile interval of the
bootstrap (``coverage``); how often an agent under several names is called different from itself (``false_alarms``); and
how often a difference is found that should be found 4 times in 5 (``found``). Conversations succeed with the chance
σ(level + seed + user + agent × user), the effects normal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from results.comparison import holm
from results.crossed import LEVEL, Components, Crossed, crossed_mean, detectable_difference
from results.statistics import Estimate, Floats, interval, resampled_means, scenario_weights
from results.tables import markdown_table

WANTED: Final = 0.8
"""The power at which differences are planted."""
REPLICATES: Final = 1000
PILOT: Final = 200
"""Tables that tell the true components of variance."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@dataclass(frozen=True, slots=True)
class World:
    """How conversations come out."""

    seeds: float
    """Standard deviation of training seeds, in logits."""
    users: float = 1.5
    """Standard deviation of kinds of users, the same for all agents."""
    tastes: float = 0.5
    """Standard deviation of how well an agent suits a kind of user."""
    clusters: int = 150
    """Kinds of users met."""
    conversations: int = 6
    """With each kind."""

    def success(self, level: float) -> float:
        """The true mean over all seeds and users."""
        spread = float(np.sqrt(self.seeds**2 + self.users**2 + self.tastes**2))
        return float(_WEIGHTS @ _logistic(level + spread * _NODES) / _WEIGHTS.sum())

    def level(self, success: float) -> float:
        """The level at which ``success`` is the true mean."""
        low, high = -20.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.success(middle) < success else (low, middle)
        return (low + high) / 2

    def table(self, levels: Sequence[float], seeds: int, rng: np.random.Generator, alike: bool = False) -> Floats:
        """The share of successes of each agent, seed and kind of user, ``[agents, seeds, clusters]``; if ``alike``, the
        agents are one and suit the same users."""
        n, users = len(levels), rng.normal(0, self.users, self.clusters)
        tastes = rng.normal(0, self.tastes, (1 if alike else n, 1, self.clusters))
        trained = rng.normal(0, self.seeds, (n, seeds, 1))
        chance = _logistic(np.array(levels)[:, None, None] + users + tastes + trained)
        return rng.binomial(self.conversations, chance) / self.conversations


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


REGIMES: Final = {
    "seeds vary little": World(seeds=0.03),
    "as much as scenarios": World(seeds=0.25),
    "seeds dominate": World(seeds=0.8),
}
"""With three seeds, training seeds are about a tenth, a half and 9 tenths of the variance of a mean."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the truth was in the interval, and how wide it was on average."""

    ours: float
    our_width: float
    percentile: float
    percentile_width: float


def coverage(world: World, seeds: int, tables: int, rng: np.random.Generator) -> Coverage:
    """Of the mean of one agent."""
    truth, keys = world.success(0.0), _keys(world)
    weights = scenario_weights(keys, rng, REPLICATES)
    ours, bootstrap = [], []
    for _ in range(tables):
        values = world.table([0.0], seeds, rng)[0]
        mean = crossed_mean(values, keys)
        ours.append(mean.estimate)
        bootstrap.append(interval(mean.value, resampled_means(values, weights, rng)))
    return Coverage(*_held(ours, truth), *_held(bootstrap, truth))


def _held(estimates: Sequence[Estimate], truth: float) -> tuple[float, float]:
    held = np.mean([one.low <= truth <= one.high for one in estimates])
    return float(held), float(np.mean([one.high - one.low for one in estimates]))


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """How often an agent was told from itself."""

    pairs: float
    """The share of pairs that a test at 5% calls different."""
    error: float
    """The standard error of that share, over tables."""
    families: float
    """The share of tables with any pair called different after Holm's correction."""


def false_alarms(world: World, agents: int, seeds: int, tables: int, rng: np.random.Generator) -> FalseAlarms:
    """Of one agent under ``agents`` names, each with training seeds of its own."""
    keys, shares, families = _keys(world), [], []
    for _ in range(tables):
        means = _means(world.table([0.0] * agents, seeds, rng, alike=True), keys)
        p_values = np.array([(one - other).p_value for one, other in combinations(means, 2)])
        shares.append(np.mean(p_values < 1 - LEVEL))
        families.append(bool((holm(p_values) < 1 - LEVEL).any()))
    return FalseAlarms(
        float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(tables)), float(np.mean(families))
    )


@dataclass(frozen=True, slots=True)
class Found:
    """How often a true difference was found that should be found with probability ``WANTED``."""

    difference: float
    share: float


def found(world: World, seeds: int, tables: int, rng: np.random.Generator) -> Found:
    """Between two agents of ``seeds`` training seeds, on either side of one half."""
    keys, difference = _keys(world), 0.1
    for _ in range(3):  # the variance depends a little on the difference
        levels = [world.level(0.5 + difference / 2), world.level(0.5 - difference / 2)]
        pilot = [_gain(world.table(levels, seeds, rng), keys).components for _ in range(PILOT)]
        difference = detectable_difference(_average(pilot), WANTED)
    levels = [world.level(0.5 + difference / 2), world.level(0.5 - difference / 2)]
    p_values = [_gain(world.table(levels, seeds, rng), keys).p_value for _ in range(tables)]
    return Found(difference, float(np.mean(np.array(p_values) < 1 - LEVEL)))


def _average(pilot: Sequence[Components]) -> Components:
    """The true components, as means of unbiased estimates."""

    def mean(name: str) -> tuple[float, ...]:
        return tuple(float(x) for x in np.mean([getattr(one, name) for one in pilot], axis=0))

    first = pilot[0]
    return Components(mean("seeds"), mean("noise"), first.seed_counts, mean("scenarios"), first.cluster_counts)


def _gain(table: Floats, keys: Sequence[str]) -> Crossed:
    first, second = _means(table, keys)
    return first - second


def _means(table: Floats, keys: Sequence[str]) -> list[Crossed]:
    return [crossed_mean(values, keys, str(i)) for i, values in enumerate(table)]


def _keys(world: World) -> list[str]:
    return [str(i) for i in range(world.clusters)]


# ---- the command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the three tables; 1 if there are more false alarms than 5% + 2 standard errors, or power is off by .05."""
    parser = argparse.ArgumentParser(prog="python -m results.calibration", description="Do the statistics hold?")
    parser.add_argument("--tables", type=int, default=1000, help="simulated tables of each kind")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10], help="training seeds")
    parser.add_argument("--agents", type=int, default=6, help="names of one agent in an A/A table")
    options = parser.parse_args(arguments)
    covered, alarmed, powered, kept = [], [], [], True
    for number, (name, seeds) in enumerate((name, seeds) for name in REGIMES for seeds in options.seeds):
        world, rng = REGIMES[name], np.random.default_rng(number)
        place = {"World": name, "Seeds": str(seeds)}
        held = coverage(world, seeds, options.tables, rng)
        covered.append(
            place
            | {"t, two components": f"{held.ours:.3f}", "width": f"{held.our_width:.3f}"}
            | {"percentile bootstrap": f"{held.percentile:.3f}", "its width": f"{held.percentile_width:.3f}"}
        )
        alarms = false_alarms(world, options.agents, seeds, max(2, options.tables // 5), rng)
        shown = {"Pairs called different": f"{alarms.pairs:.3f}", "Standard error": f"{alarms.error:.3f}"}
        alarmed.append(place | shown | {"Tables, after Holm": f"{alarms.families:.3f}"})
        hits = found(world, seeds, options.tables, rng)
        powered.append(
            place | {"Planted": f"{hits.difference:.3f}", "Wanted": f"{WANTED}", "Found": f"{hits.share:.3f}"}
        )
        kept &= alarms.pairs <= 1 - LEVEL + 2 * alarms.error and abs(hits.share - WANTED) <= 0.05
    titles = ("Coverage of 95% intervals of a mean", "A/A: one agent under several names", "A planted difference")
    for title, rows in zip(titles, (covered, alarmed, powered), strict=True):
        print(f"## {title}\n\n{markdown_table(rows)}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
