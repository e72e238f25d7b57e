"""Win rates of agents against one another, from judged pairs of their conversations, as pure functions on arrays.

An agent has one run per training seed. ``judged[i, j, s]`` is the probability that run i's conversation on scenario s
is preferred to run j's, ``[runs, runs, scenarios]``, NaN where there is no verdict. An agent's win rate over another is
the mean over all pairings of their runs and all scenarios.

Intervals come from a two-sample bootstrap: the training seeds of every agent are drawn anew, each agent's for itself,
and clusters of scenarios, common to all. The pairings of 3 seeds with 3 seeds are not 9 independent values: what is
drawn is seeds, and the pairings follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.preferences import Cycles, Equilibrium, check_antisymmetry, cycles, nash_average
from results.statistics import REPLICATES, Estimate, Floats, interval, scenario_weights, seed_weights
from results.tables import markdown_table

_FORMATS = ("png", "svg")


@dataclass(frozen=True, eq=False)
class WinRates:
    """Every agent against every other."""

    agents: tuple[str, ...]
    runs: tuple[int, ...]
    """Training seeds of each agent."""
    scenarios: int
    table: Floats
    """[agents, agents] the row's win rate over the column; NaN on the diagonal and where nothing was judged."""
    low: Floats
    high: Floats
    """[agents, agents] the 95% interval."""
    spread: Floats
    """[agents, agents] the standard deviation over pairings of runs, as arXiv 2405.14655 prints it: not an error of the
    mean. NaN for fewer than two pairings."""
    unjudged: npt.NDArray[np.int64]
    """[agents, agents] verdicts that are missing, because a conversation is unscored or the judge failed."""

    @property
    def means(self) -> Floats:
        """[agents] each agent's mean win rate over the others."""
        there = np.isfinite(self.table)
        return _ratio(np.where(there, self.table, 0.0).sum(axis=1), there.sum(axis=1).astype(np.float64))

    @property
    def order(self) -> list[int]:
        """The agents from the best to the worst, by mean win rate."""
        means = np.nan_to_num(self.means, nan=-np.inf)
        return sorted(range(len(self.agents)), key=lambda a: -means[a])

    @cached_property
    def cycles(self) -> Cycles:
        """Among the agents, by win rates above 1/2."""
        return cycles(self.table)

    @cached_property
    def certain_cycles(self) -> Cycles:
        """Among the agents, by intervals that leave out 1/2."""
        certain = np.where((self.low > 0.5) | (self.high < 0.5), self.table, 0.5)
        return cycles(certain)

    @cached_property
    def equilibrium(self) -> Equilibrium | None:
        """None where some pair of agents was never judged."""
        there = np.isfinite(self.table) | np.eye(len(self.agents), dtype=bool)
        return nash_average(self.table) if there.all() else None

    def estimate(self, row: int, column: int) -> Estimate:
        return Estimate(*(float(values[row, column]) for values in (self.table, self.low, self.high)))


def win_rates(
    judged: Floats,
    agent_of: Sequence[str],
    clusters: Sequence[str],
    rng: np.random.Generator,
    replicates: int = REPLICATES,
) -> WinRates:
    """The table of ``judged``, ``[runs, runs, scenarios]``; run i is of agent ``agent_of[i]``.

    Agents stand in the order of their first runs. ``clusters`` names each scenario's key. Raises ``AsymmetryError``
    where the two orders of a pair don't sum to 1.
    """
    check_antisymmetry(judged)
    agents = tuple(dict.fromkeys(agent_of))
    member = np.array([[owner == agent for agent in agents] for owner in agent_of], dtype=np.float64)  # [runs, agents]
    scored = np.isfinite(judged)
    drawn = _replicates(np.where(scored, judged, 0.0), scored.astype(np.float64), member, clusters, rng, replicates)
    total, count = (member.T @ x.sum(axis=2) @ member for x in (np.where(scored, judged, 0.0), scored))
    table = _off_diagonal(_ratio(total, count))
    n = len(agents)
    low, high = np.full((n, n), np.nan), np.full((n, n), np.nan)
    for a, b in zip(*np.triu_indices(n, 1), strict=True):
        estimate = interval(float(table[a, b]), drawn[:, a, b])
        low[a, b], high[a, b] = estimate.low, estimate.high
        low[b, a], high[b, a] = 1 - estimate.high, 1 - estimate.low
    check_antisymmetry(table)
    missing = member.T @ (~scored).sum(axis=2) @ member
    return WinRates(
        agents=agents,
        runs=tuple(int(k) for k in member.sum(axis=0)),
        scenarios=judged.shape[2],
        table=table,
        low=low,
        high=high,
        spread=_spread(judged, member),
        unjudged=np.where(np.eye(n, dtype=bool), 0, missing).astype(np.int64),
    )


def _replicates(
    values: Floats, scored: Floats, member: Floats, clusters: Sequence[str], rng: np.random.Generator, replicates: int
) -> Floats:
    """The table in each replicate, ``[replicates, agents, agents]``."""
    runs = len(values)
    scenarios = scenario_weights(clusters, rng, replicates)  # [replicates, scenarios]
    seeds = np.zeros((replicates, runs))
    for own in member.T.astype(bool):
        seeds[:, own] = seed_weights(int(own.sum()), replicates, rng)
    weight = seeds[:, :, None] * member  # [replicates, runs, agents]
    total, count = (
        np.swapaxes(weight, 1, 2) @ (scenarios @ x.reshape(runs * runs, -1).T).reshape(-1, runs, runs) @ weight
        for x in (values, scored)
    )
    return _ratio(total, count)


def _ratio(total: Floats, count: Floats) -> Floats:
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _off_diagonal(table: Floats) -> Floats:
    return np.where(np.eye(len(table), dtype=bool), np.nan, table)


def _spread(judged: Floats, member: Floats) -> Floats:
    """The standard deviation over pairings of runs."""
    scored = np.isfinite(judged)
    pairings = _ratio(np.where(scored, judged, 0.0).sum(axis=2), scored.sum(axis=2).astype(np.float64))
    spread = np.full((member.shape[1], member.shape[1]), np.nan)
    for a, own in enumerate(member.T.astype(bool)):
        for b, other in enumerate(member.T.astype(bool)):
            cell = pairings[np.ix_(own, other)].ravel()
            if a != b and np.isfinite(cell).sum() > 1:
                spread[a, b] = np.nanstd(cell, ddof=1)
    return spread


# ---- what is written -------------------------------------------------------------------------------------------------


def write(rates: WinRates, out: Path, name: str, title: str, notes: Sequence[str] = ()) -> list[Path]:
    """``winrates-NAME`` as CSV, Markdown and a heat map in PNG and SVG, below ``out``."""
    from results.heat_map import draw  # matplotlib takes a second to import

    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"winrates-{name}"
    plots = [stem.with_name(f"{stem.name}.{suffix}") for suffix in _FORMATS]
    draw(rates, title, plots)
    tables = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("csv", "md")]
    tables[0].write_text(csv(rates), encoding="utf-8")
    tables[1].write_text(markdown(rates, title, plots[0].name, notes), encoding="utf-8")
    return [*tables, *plots]


def markdown(rates: WinRates, title: str, plot: str, notes: Sequence[str] = ()) -> str:
    """The page: the table with intervals, the ranking, what goes round, and ``notes``."""
    order, certain = rates.order, rates.certain_cycles
    rows = [{"row over column": rates.agents[a]} | {rates.agents[b]: _cell(rates, a, b) for b in order} for a in order]
    seeds = ", ".join(f"{rates.agents[a]} {rates.runs[a]}" for a in order)
    lines = [
        f"Training seeds: {seeds}. Scenarios: {rates.scenarios}, the same for all.",
        "Both orders of every pair were judged; rows + columns = 1 was checked.",
        f"Agents that go round: {rates.cycles.cyclic} of {rates.cycles.decided} triples by win rates above 1/2; "
        f"{certain.cyclic} of {certain.decided} where all three intervals leave out 1/2.",
        *_losses(rates),
        *notes,
    ]
    intro = (
        "Mean preference of the row's conversations over the column's, with 95% intervals (two-sample bootstrap over "
        "the training seeds of both agents, and clusters of scenarios)."
    )
    parts = [f"# Win rates: {title}", f"![Win rates]({plot})", intro, markdown_table(rows), _ranking(rates)]
    return "\n\n".join([*(part.strip() for part in parts), "\n".join(f"- {line}" for line in lines)]) + "\n"


def _losses(rates: WinRates) -> list[str]:
    lost = int(np.triu(rates.unjudged, 1).sum())
    return [f"{lost} verdicts are missing (the user or the judge failed) and in no mean."] if lost else []


def _cell(rates: WinRates, a: int, b: int) -> str:
    estimate = rates.estimate(a, b)
    if a == b or not np.isfinite(estimate.value):
        return "–" if a == b else "not judged"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _ranking(rates: WinRates) -> str:
    """Mean win rates, and ratings against the equilibrium."""
    equilibrium, means = rates.equilibrium, rates.means
    rows = []
    for a in rates.order:
        row = {"agent": rates.agents[a], "mean win rate": f"{means[a]:.3f}"}
        if equilibrium is not None:
            row["win rate against the equilibrium"] = f"{equilibrium.ratings[a]:.3f}"
            row["weight in the equilibrium"] = f"{equilibrium.weights[a]:.3f}"
        rows.append(row)
    return markdown_table(rows)


def csv(rates: WinRates) -> str:
    """One line per ordered pair of agents, every number at full precision."""
    lines = [
        {
            "row": rates.agents[a],
            "column": rates.agents[b],
            "win_rate": rates.table[a, b],
            "low": rates.low[a, b],
            "high": rates.high[a, b],
            "spread_over_pairings": rates.spread[a, b],
            "row_runs": rates.runs[a],
            "column_runs": rates.runs[b],
            "scenarios": rates.scenarios,
            "unjudged": rates.unjudged[a, b],
        }
        for a in rates.order
        for b in rates.order
        if a != b
    ]
    return pd.DataFrame(lines).to_csv(index=False)
