"""The transfer table: agents by whom they learnt with, against the users they then talk with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.crossed import mean_interval
from results.figures import write_figure
from results.record import Evaluation
from results.statistics import Estimate, matrix
from results.tables import markdown_table

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY = "#777777"


@dataclass(frozen=True)
class Transfer:
    """Mean returns and gaps, every user's column on the same scenarios."""

    agent: str
    env: str
    split: str
    scenarios: int
    rows: tuple[str, ...]
    """Whom the agent learnt with; a row that is no user is an agent that does not learn."""
    columns: tuple[str, ...]
    returns: Mapping[str, Mapping[str, Estimate]]
    """[row][column]"""
    gaps: Mapping[str, Mapping[str, Estimate]]
    """[row][column] how much more the row's agents return with the user they learnt with than with the column's,
    paired; without the rows that learnt with nobody, or with somebody who is no column."""
    seeds: Mapping[str, int]
    unscored: int

    @classmethod
    def of(
        cls, agent: str, env: str, met: Mapping[str, Mapping[str, Sequence[Evaluation]]], columns: Sequence[str]
    ) -> Transfer:
        """From evaluations by row and column, one per training seed.

        Raises ``ValueError`` when they are not of the same scenarios.
        """
        every = [one for row in met.values() for evaluations in row.values() for one in evaluations]
        first = every[0]
        if any((one.split, one.seeds, one.keys) != (first.split, first.seeds, first.keys) for one in every):
            raise ValueError("The evaluations are not of the same scenarios, so they can't be compared.")
        values = {row: {user: matrix([one.returns for one in evaluations]) for user, evaluations in by_user.items()}
                  for row, by_user in met.items()}  # fmt: skip
        returns = {row: {user: mean_interval(values[row][user], first.keys) for user in columns} for row in met}
        gaps = {
            row: {
                user: mean_interval(values[row][row] - values[row][user], first.keys)
                for user in columns
                if user != row  # the same runs on the same scenarios, so the difference is taken within both
            }
            for row in met
            if row in columns
        }  # fmt: skip
        seeds = {row: len(by_user[columns[0]]) for row, by_user in met.items()}
        unscored = sum(one.unscored for one in every)
        return cls(
            agent, env, first.split, len(first.seeds), tuple(met), tuple(columns), returns, gaps, seeds, unscored
        )

    def __str__(self) -> str:
        lines = [f"  learnt with {row}, talks with {user}: {one}" for row in self.rows
                 for user, one in self.returns[row].items()]  # fmt: skip
        return "\n".join(lines)


def write(table: Transfer, out: Path, name: str, about: Sequence[str] = ()) -> Path:
    """``name`` as Markdown, CSV, JSON and a plot below ``out``; returns the first."""
    out.mkdir(parents=True, exist_ok=True)
    plots = [out / f"{name}.{suffix}" for suffix in ("png", "svg")]
    draw(table, plots)
    path = out / f"{name}.md"
    path.write_text(markdown(table, plots[0].name, about), encoding="utf-8")
    path.with_suffix(".csv").write_text(csv(table), encoding="utf-8")
    values = json.dumps(_plain(asdict(table)), indent=1, ensure_ascii=False, allow_nan=False)
    path.with_suffix(".json").write_text(values + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    """``value`` with null for what was not scored, which strict JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def markdown(table: Transfer, plot: str, about: Sequence[str] = ()) -> str:
    """The page for people."""
    name = "learnt with \\ talks with"
    returns = [{name: row} | {user: str(table.returns[row][user]) for user in table.columns} for row in table.rows]
    gaps = [{name: row} | {user: str(gap[user]) if user in gap else "–" for user in table.columns}
            for row, gap in table.gaps.items()]  # fmt: skip
    seeds = ", ".join(f"{row} {table.seeds[row]}" for row in table.rows)
    parts = [
        f"# Transfer: {table.agent} on {table.env}",
        f"![Mean return by whom the agent talks with]({plot})",
        f"Mean return on {table.scenarios} scenarios of {table.split}, the same in every cell. Rows: whom the agent "
        "learnt with. Columns: whom it then talks with. 95% intervals over training seeds and clusters of scenarios.",
        markdown_table(returns),
        "## Gaps",
        "How much more an agent returns with the user it learnt with than with another, on the same scenarios and "
        "runs: what it got out of its user rather than out of the world.",
        markdown_table(gaps) if gaps else "",
        "\n".join(f"- {line}" for line in [f"Training runs: {seeds}.", f"Unscored conversations: {table.unscored}, "
                                            "in no mean.", *about]),
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def csv(table: Transfer) -> str:
    """One line per row and column."""
    lines = [
        {
            "env": table.env, "agent": table.agent, "split": table.split, "learnt_with": row, "talks_with": user,
            "return": one.value, "low": one.low, "high": one.high,
            **{f"gap{suffix}": getattr(gap, field) if (gap := table.gaps.get(row, {}).get(user)) else None
               for suffix, field in (("", "value"), ("_low", "low"), ("_high", "high"))},
            "seeds": table.seeds[row], "scenarios": table.scenarios,
        }
        for row in table.rows
        for user, one in table.returns[row].items()
    ]  # fmt: skip
    return pd.DataFrame(lines).to_csv(index=False)


def draw(table: Transfer, paths: Sequence[Path]) -> None:
    """A group of dots per user that is talked with, one per row; rings mark the user that was learnt with."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    learners = [row for row in table.rows if row in table.columns]
    colour = {row: _COLOURS[i % len(_COLOURS)] for i, row in enumerate(learners)}
    figure, axes = plt.subplots(figsize=(1.9 * len(table.columns) + 2.6, 4.2), layout="constrained")
    step = 0.7 / max(1, len(table.rows))
    for i, row in enumerate(table.rows):
        at = np.arange(len(table.columns)) + (i - (len(table.rows) - 1) / 2) * step
        ones = [table.returns[row][user] for user in table.columns]
        middle = np.array([one.value for one in ones])
        ends = np.array([[one.value - one.low, one.high - one.value] for one in ones]).T.clip(min=0.0)
        paint = colour.get(row, _GREY)
        label = f"learnt with {row}" if row in learners else row
        axes.errorbar(at, middle, ends, fmt="o", color=paint, markersize=7, capsize=3, label=label)
        if row in learners:
            own = table.columns.index(row)
            axes.plot(at[own], middle[own], "o", color=paint, markersize=14, fillstyle="none", markeredgewidth=1.5)
    axes.set_xticks(range(len(table.columns)), [f"talks with\n{user}" for user in table.columns], fontsize=10)
    axes.set_ylabel("mean return", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{table.agent} on {table.env}; a ring: the user that was learnt with", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    write_figure(figure, paths)
