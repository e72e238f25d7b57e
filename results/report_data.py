"""What the page shows of each section: columns, curves, profiles, win rates, transfer, all as plain JSON values.

A column of the leaderboard is data: its key, label, explanation, kind and one value per row. The page knows the kinds
and none of the columns, so a new statistic is a new ``Column`` here and nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from results.across import across as across_environments
from results.across import rliable
from results.comparison import compare, pass_columns, pass_table
from results.curves import curve_table
from results.groups import gap_of, lost
from results.record import Record
from results.sections import Condition, Entry, Section
from results.statistics import Estimate, Floats, interval, resampled_means, scenario_weights
from results.tables import noise_notes
from results.winrates import WinRates, win_rates

WIN_REPLICATES = 1000
PROFILE_POINTS = 61
TIE = 1e-9
"""Returns that differ by no more are equal: means over users of equal returns differ in the last bit."""

HEALTH = {
    "empty_replies": ("Empty replies", "Share of the user's replies that held no words."),
    "repeated_replies": ("Repeated replies", "Share of the user's replies that said again what it had just said."),
    "role_flips": ("Role flips", "Share of the user's replies that spoke as the agent."),
    "early_stops": ("Early stops", "Share of conversations that the user left before anything could be decided."),
    "disclosures": ("Disclosures", "Share of conversations in which the user gave its hidden profile away unasked."),
    "unclear_acts": ("Unclear acts", "Share of the agent's utterances that the simulator could not understand."),
    "odd_language": ("Odd language", "Share of the agent's utterances whose language is odd."),
}
"""Label and explanation of each figure of the simulator's health."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the leaderboard."""

    key: str
    label: str
    explanation: str
    """A sentence or two, for somebody who does not know the word."""
    kind: str
    """One of ``KINDS`` in page/table.js: ``text``, ``number``, ``count``, ``estimate``, ``share`` and others."""
    group: str
    """Columns are shown and hidden by group."""
    values: list[Any]
    """One per row; ``[value, low, high]`` for estimates; None where there is none."""
    better: str | None = None
    """``high`` or ``low``: what is best, and so what the first click on the column puts on top."""

    def data(self) -> dict[str, Any]:
        """As the page reads it."""
        return {one.name: plain(getattr(self, one.name)) for one in fields(self)}


def plain(value: Any) -> Any:
    """``value`` for strict JSON: None for what is not finite, estimates as [value, low, high], 5 significant digits."""
    if isinstance(value, Estimate):
        return None if math.isnan(value.value) else [plain(x) for x in (value.value, value.low, value.high)]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def section_data(section: Section, run_of: Mapping[int, int]) -> dict[str, Any]:
    """Everything about a section; ``run_of`` gives the page's number of a record by its ``id``."""
    entries = section.ranked
    return {
        "name": section.name,
        "title": section.title,
        "env": section.env,
        "user": section.user,
        "budget": section.budget,
        "settings": section.entries[0].env_settings,
        "scenarios": len(section.seeds),
        "users": list(section.users),
        "splits": list(section.splits),
        "scored": scored(section),
        "notes": [*section.notes, *noise_notes(section)],
        "rows": [_row(section, entry, run_of) for entry in entries],
        "columns": [column.data() for column in columns_of(section, entries)],
        "curves": curves(entries),
        "profiles": plain(profiles(section, entries)),
        "wins": [plain(wins(section, entries, label)) for label in section.conditions] if len(entries) > 1 else [],
        "transfer": plain(transfer(section, entries)),
    }


def columns_of(section: Section, entries: Sequence[Entry]) -> list[Column]:
    """Every builder's columns, those of a group together, groups in the order in which they first come."""
    columns = [column for build in BUILDERS for column in build(section, entries)]
    groups = list(dict.fromkeys(column.group for column in columns))
    return sorted(columns, key=lambda column: groups.index(column.group))


def scored(section: Section) -> bool:
    """Whether there are scores: both references have records."""
    return all(section.references.get(role) for role in ("start", "optimum"))


def _row(section: Section, entry: Entry, run_of: Mapping[int, int]) -> dict[str, Any]:
    return {
        "agent": entry.agent,
        "learns": entry.first.learns,
        "roles": [role for role, reference in section.references.items() if reference is entry],
        "runs": [run_of[id(record)] for record in entry.records],
    }


# ---- columns ---------------------------------------------------------------------------------------------------------


def results_columns(section: Section, entries: Sequence[Entry]) -> list[Column]:
    """Score, return and success with the training user on the main split, then the other conditions."""
    main = [section.main(entry) for entry in entries]
    where = f"with {section.user} on {section.splits[0]}"
    columns = [
        Column("seeds", "Seeds", "Training runs of the agent, alike but for the random seed.", "count", "result",
               [len(entry.records) for entry in entries])
    ]  # fmt: skip
    if scored(section):
        columns.append(
            Column("score", "Score", f"Mean return {where}, on a scale where the start is 0 and the optimum is 1. "
                   + _INTERVAL, "estimate", "result", [one.score for one in main], "high")
        )  # fmt: skip
    columns += [
        Column("return", "Return", f"Mean undiscounted sum of rewards of a conversation, {where}. " + _INTERVAL,
               "estimate", "result", [one.returns for one in main], "high"),
        Column("success", "Success", f"Share of conversations that reached their purpose, {where}. " + _INTERVAL,
               "share", "result", [one.successes for one in main], "high"),
    ]  # fmt: skip
    for label, condition in list(section.conditions.items())[1:]:
        measures = [section.measures[entry, condition] for entry in entries]
        what = "Score" if scored(section) else "Return"
        users = " and ".join(condition[0])
        columns.append(
            Column(f"held_out:{label}", f"{what}: {label}", f"{what} with {users} on {condition[1]}, which differs "
                   "from what the agent learnt with. " + _INTERVAL, "estimate", "held out",
                   [one.score if scored(section) else one.returns for one in measures], "high")
        )  # fmt: skip
    return columns


_INTERVAL = "The interval is a 95% interval over training seeds and clusters of scenarios."


def cost_columns(section: Section, entries: Sequence[Entry]) -> list[Column]:
    """What learning consumed, as means over the training seeds; None for agents that don't learn."""

    def mean(value: Callable[[Record], float]) -> list[float | None]:
        return [float(np.mean([value(r) for r in e.records])) if e.first.learns else None for e in entries]

    return [
        Column("conversations", "Conversations", "Conversations with users while learning, mean over the seeds.",
               "count", "cost", mean(lambda r: r.spent.conversations), "low"),
        Column("exchanges", "Exchanges", "Exchanges (an utterance and its reply) in those conversations.", "count",
               "cost", mean(lambda r: r.spent.exchanges), "low"),
        Column("agent_tokens", "Agent tokens", "Tokens that the agent generated while learning.", "count", "cost",
               mean(lambda r: r.spent.agent_tokens), "low"),
        Column("user_tokens", "User tokens", "Tokens that a language model generated to play the user while the agent "
               "learnt; 0 for users that are programs.", "count", "cost", mean(lambda r: r.spent.user_tokens), "low"),
        Column("judge_calls", "Judge calls", "Questions put to judges while learning.", "count", "cost",
               mean(lambda r: r.spent.judge_calls), "low"),
        Column("learning", "Learning", "Wall-clock time of learning, summed over the processes that worked on the run.",
               "seconds", "cost", mean(lambda r: r.seconds.learning), "low"),
        Column("evaluation", "Evaluation", "Wall-clock time of the learning curve and the final evaluation.", "seconds",
               "cost", [float(np.mean([r.seconds.evaluation for r in e.records])) for e in entries], "low"),
        Column("cpu", "Processor", "Processor time of the whole run over all threads.", "seconds", "cost",
               [float(np.mean([r.seconds.cpu for r in e.records])) for e in entries], "low"),
    ]  # fmt: skip


def health_columns(section: Section, entries: Sequence[Entry]) -> list[Column]:
    """Unscored conversations, exchanges per conversation, and the simulator's health where it was measured."""
    evaluations = [[one for record in entry.records for one in record.evaluations] for entry in entries]
    lengths = [[one.mean_exchanges for one in entry.cells(section.user, section.splits[0])] for entry in entries]
    columns = [
        Column("unscored", "Unscored", "Conversations of the final evaluation that ended without a score because the "
               "user, the agent or the judge failed. They are in no mean.", "count", "health",
               [sum(one.unscored for one in ones) for ones in evaluations], "low"),
        Column("mean_exchanges", "Length", f"Exchanges per conversation with {section.user} on {section.splits[0]}.",
               "number", "health", [float(np.mean(ones)) for ones in lengths]),
    ]  # fmt: skip
    figures = [entry.health(*section.condition) for entry in entries]
    for name in dict.fromkeys(name for one in figures for name in one):
        label, explanation = HEALTH.get(name, (name.replace("_", " ").capitalize(), "How the conversations went."))
        columns.append(Column(f"health:{name}", label, explanation, "part", "health", [f.get(name) for f in figures]))
    return columns


def comparison_columns(section: Section, entries: Sequence[Entry]) -> list[Column]:
    """Who is told apart from whom, pass^k, what is lost with others, and the gap between groups of users."""
    comparison, what = compare(section), "score" if scored(section) else "return"
    columns = [
        Column("letter", "Letter", "Agents that share a letter are not told apart: their paired difference in return "
               "is not significant at 5% after Holm's correction over all pairs of the table. Agents that learn and "
               "have a single seed have no letter.", "text", "result",
               [comparison.letters.get(entry) for entry in entries]),
    ]  # fmt: skip
    if comparison.improvement:
        columns.append(
            Column("improvement", "Better than the start", "How likely a run of the agent has a higher mean return "
                   "than the start (probability of improvement).", "share", "compared",
                   [comparison.improvement.get(entry) for entry in entries], "high")
        )  # fmt: skip
    passed = [pass_table(section, entry) for entry in entries]
    for k in pass_columns(section):
        columns.append(
            Column(f"pass_{k}", f"pass^{k}", f"The chance that {k} runs, learnt anew each, all succeed on a scenario. "
                   "Its interval speaks of scenarios alone.", "share", "compared", [one.get(k) for one in passed],
                   "high")
        )  # fmt: skip
    losses = [lost(section, entry) for entry in entries]
    for label in losses[0]:
        columns.append(
            Column(f"lost:{label}", f"Lost: {label}", f"How much {what} is lost from {section.user} on "
                   f"{section.splits[0]} to {label}: what the agent got out of the one it learnt with. " + _INTERVAL,
                   "estimate", "held out", [one[label] for one in losses], "low")
        )  # fmt: skip
    return columns + _gap_columns(section, entries)


def _gap_columns(section: Section, entries: Sequence[Entry]) -> list[Column]:
    gaps = [gap_of(section, entry) for entry in entries]
    if not any(gaps):
        return []
    return [
        Column("gap", "Gap between groups", "Difference in mean return between the best- and the worst-served group of "
               "users, of the attribute whose groups differ most, beyond what chance gives. Some users are harder for "
               "everybody: compare it with the optimum's.", "number", "compared",
               [gap.beyond_chance if gap else None for gap in gaps], "low"),
        Column("gap_groups", "Worst and best served", "Those two groups.", "text", "compared",
               [f"{gap.attribute}: {gap.worst} < {gap.best}" if gap else None for gap in gaps]),
        Column("gap_p", "Gap, p", "How often users dealt to the groups at random are served as unequally.", "small",
               "compared", [gap.p_value if gap else None for gap in gaps]),
    ]  # fmt: skip


def source_columns(section: Section, entries: Sequence[Entry]) -> list[Column]:
    """Where a row comes from."""
    return [
        Column("date", "Date", "When the last of the row's records was written (UTC).", "text", "source",
               [max(record.date for record in entry.records)[:10] for entry in entries]),
        Column("commit", "Commit", "The source that made the row; + where it had uncommitted changes.", "text",
               "source", [", ".join(dict.fromkeys(commit(record) for record in entry.records)) for entry in entries]),
    ]  # fmt: skip


def commit(record: Record) -> str:
    """Short, with a + for uncommitted changes."""
    return (record.commit or "–")[:9] + ("+" if record.dirty else "")


BUILDERS: list[Callable[[Section, Sequence[Entry]], list[Column]]] = [
    results_columns,
    comparison_columns,
    cost_columns,
    health_columns,
    source_columns,
]
"""What makes the leaderboard's columns, in their order."""


# ---- figures ---------------------------------------------------------------------------------------------------------


def curves(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Learning curves, one per learner that has any: mean, lowest and highest seed at the points that all have."""
    drawn = []
    for row, entry in enumerate(entries):
        if not entry.first.learns or len(entry.first.curve) < 2:
            continue
        x, table = curve_table(entry)
        there = np.isfinite(table).any(axis=0)
        if there.sum() > 1:
            x, table = x[there], table[:, there]
            ends = {
                "mean": np.nanmean(table, axis=0),
                "low": np.nanmin(table, axis=0),
                "high": np.nanmax(table, axis=0),
            }
            drawn.append({"row": row, "x": x.tolist(), **plain(ends)})
    return drawn


def profiles(section: Section, entries: Sequence[Entry]) -> dict[str, Any]:
    """The share of conversations whose return is above τ, with a pointwise 95% band, for the main condition.

    Nothing where returns have at most two values: the share is the success rate then, whatever τ.
    """
    condition = section.cells[0]
    tables = [entry.returns(condition, section.seeds) for entry in entries]
    everything = np.concatenate([table.ravel() for table in tables])
    if len(np.unique(everything[np.isfinite(everything)])) <= 2:
        return {}
    tau = np.linspace(min(0.0, np.nanmin(everything)), max(np.nanmax(everything), 1e-9), PROFILE_POINTS)
    rng = np.random.default_rng(0)
    weights = scenario_weights(section.keys(condition), rng, WIN_REPLICATES)
    return {"tau": tau, "series": [profile(table, tau, weights) for table in tables]}


def profile(returns: Floats, tau: Floats, weights: Floats) -> dict[str, list[float]]:
    """Share of ``returns`` ``[seeds, scenarios]`` above each of ``tau``, as {share, low, high}; NaN is left out."""
    ones = []
    for one in tau:
        above = np.where(np.isfinite(returns), (returns > one).astype(np.float64), np.nan)
        replicates = resampled_means(above, weights, np.random.default_rng(1))
        scored = above[np.isfinite(above)]
        ones.append(interval(float(scored.mean()) if scored.size else float("nan"), replicates))
    return {"share": [e.value for e in ones], "low": [e.low for e in ones], "high": [e.high for e in ones]}


def wins(section: Section, entries: Sequence[Entry], label: str) -> dict[str, Any]:
    """How often the row's conversation returns more than the column's on the same scenario; a tie is one half."""
    rates = win_table(section, entries, section.conditions[label])
    return {
        "condition": label,
        "scenarios": rates.scenarios,
        "table": rates.table,
        "low": rates.low,
        "high": rates.high,
        "missing": int(np.triu(rates.unjudged, 1).sum()),
    }


def win_table(section: Section, entries: Sequence[Entry], condition: Condition) -> WinRates:
    """Win rates of every entry over every other, on the section's common scenarios, over all pairs of their seeds."""
    tables = [entry.returns(condition, section.seeds) for entry in entries]
    owner = [str(i) for i, entry in enumerate(entries) for _ in entry.records]
    keys = section.keys(condition)
    return win_rates(preferred(np.concatenate(tables)), owner, keys, np.random.default_rng(0), WIN_REPLICATES)


def preferred(returns: Floats) -> Floats:
    """1 where run i returns more than run j, 1/2 where as much, 0 where less, NaN where either is unscored.

    ``returns`` is ``[runs, scenarios]``, the result ``[runs, runs, scenarios]``.
    """
    ahead = returns[:, None] - returns[None]
    won = np.where(np.abs(ahead) <= TIE, 0.5, (ahead > 0).astype(np.float64))
    return np.where(np.isfinite(ahead), won, np.nan)


def transfer(section: Section, entries: Sequence[Entry]) -> dict[str, Any]:
    """Every agent with every user on every split: score, return and success ``[agents][columns]``."""
    cells = section.cells
    measures = [[section.measures[entry, cell] for cell in cells] for entry in entries]
    return {
        "columns": [{"user": cell[0][0], "split": cell[1]} for cell in cells],
        "score": [[one.score for one in row] for row in measures] if scored(section) else None,
        "return": [[one.returns for one in row] for row in measures],
        "success": [[one.successes for one in row] for row in measures],
    }


# ---- all environments ------------------------------------------------------------------------------------------------


def across(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Where scored sections share learners: the scores of the agents that stand in all, and rliable's numbers."""
    return [
        {
            "title": one.title,
            "sections": [section.name for section in one.sections],
            "names": one.names,
            "rows": [
                {
                    "agent": aggregate.agent,
                    "learns": aggregate.learns,
                    "runs": len(aggregate.scores),
                    "estimates": plain(rliable(aggregate)),
                    "scores": plain(aggregate.scores.mean(axis=0)),
                    "profile": plain(np.sort(aggregate.scores, axis=None)),
                }
                for aggregate in one.aggregates
            ],
        }
        for one in across_environments(sections)
    ]
