"""The leaderboard's tables, as Markdown for people and CSV for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from results.record import Record
from results.sections import Condition, Entry, Section
from results.statistics import Estimate, iqm_interval, score

_HEAD = """# Leaderboard

Mean return over fixed evaluation scenarios, the same for every agent, with 95% bootstrap intervals over training seeds
and scenarios. Score 0 is the start, 1 the optimum, as the environment names them. Rows are sorted by the training user
on the first split. Unscored conversations (the user or the judge failed) are in no mean.
"""


def markdown(sections: Sequence[Section], plots: Mapping[str, Sequence[Path]]) -> str:
    """The page: the summary over environments if there are several, then each section with its plot and notes."""
    parts = [_HEAD, *_across(sections)]
    for section in sections:
        parts.append(f"## {section.title}\n")
        parts += [f"![Learning curves]({path.name})\n" for path in plots.get(section.name, ()) if path.suffix == ".png"]
        parts.append(markdown_table([_row(section, entry) for entry in section.ranked]))
        parts += [f"- {note}" for note in section.notes]
        parts.append("")
    return "\n".join(parts)


def _row(section: Section, entry: Entry) -> dict[str, str]:
    record, main = entry.first, section.main(entry)
    row = {
        "Agent": entry.agent,
        "Trained with": record.user if record.learns else "-",
        "Seeds": str(len(entry.records)),
        "Score": _shown(main.score),
        "Return": str(main.returns),
        "Success": _percent(main.successes),
    }
    for label, condition in list(section.conditions.items())[1:]:
        measure = section.measures[entry, condition]
        what = "Return" if measure.score is None else "Score"
        row[f"{what}: {label}"] = str(measure.returns) if measure.score is None else _shown(measure.score)
    return row | {
        "Unscored": str(sum(one.unscored for record in entry.records for one in record.evaluations)),
        "Conversations": f"{np.mean([one.spent.conversations for one in entry.records]):.0f}",
        "Minutes": f"{np.mean([_seconds(one) for one in entry.records]) / 60:.1f}",
        "Commit": (record.commit or "-")[:9] + ("+" if record.dirty else ""),
    }


def _seconds(record: Record) -> float:
    return record.seconds.setup + record.seconds.learning + record.seconds.evaluation


def _shown(score: Estimate | None) -> str:
    return (
        "-" if score is None or np.isnan(score.value) else f"{score.value:z.2f} [{score.low:z.2f}, {score.high:z.2f}]"
    )


def _percent(share: Estimate) -> str:
    return "-" if np.isnan(share.value) else f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table whose columns are aligned in the source as well."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([row.get(name, "-").replace("|", "\\|") for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _across(sections: Sequence[Section]) -> list[str]:
    """IQM of the scores of agents that stand in every scored section of a budget, where there are several."""
    parts = []
    scored = [section for section in sections if all(section.references.get(r) for r in ("start", "optimum"))]
    for budget, group in groupby(sorted(scored, key=lambda one: one.budget), key=lambda one: one.budget):
        tasks = list(group)
        rows = [row for agent in _common(tasks) if (row := _aggregate(agent, tasks))] if len(tasks) > 1 else []
        if rows:
            titles = "; ".join(task.title for task in tasks)
            table = markdown_table(sorted(rows, key=lambda row: -float(row["IQM of scores"].split()[0])))
            parts.append(f"## All environments, budget {budget}\n\nInterquartile mean over {titles}.\n\n{table}")
    return parts


def _common(tasks: Sequence[Section]) -> list[str]:
    names = [{entry.agent for entry in task.entries} for task in tasks]
    return sorted(set.intersection(*names))


def _aggregate(agent: str, tasks: Sequence[Section]) -> dict[str, str] | None:
    by_task = [_scores(task, next(entry for entry in task.entries if entry.agent == agent)) for task in tasks]
    runs = min(map(len, by_task))
    table = np.array([scores[:runs] for scores in by_task]).T
    if not np.isfinite(table).all():
        return None
    estimate = iqm_interval(table, np.random.default_rng(0))
    return {"Agent": agent, "Seeds": str(runs), "IQM of scores": str(estimate)}


def _scores(task: Section, entry: Entry) -> list[float]:
    """The score of each training seed, training user and main split."""
    condition: Condition = ((task.user,), task.splits[0])
    start, optimum = (task.references[role] for role in ("start", "optimum"))
    low, high = start.returns(condition, task.seeds), optimum.returns(condition, task.seeds)  # type: ignore[union-attr]
    return [score(row[None], low, high) for row in entry.returns(condition, task.seeds)]


def csv(sections: Sequence[Section]) -> str:
    """One line per section, agent, user and split, every number at full precision."""
    places = [(section, entry, cell) for section in sections for entry in section.ranked for cell in section.cells]
    lines = [_line(*place) for place in places]
    return pd.DataFrame(lines).to_csv(index=False)


def _line(section: Section, entry: Entry, condition: Condition) -> dict[str, object]:
    (user,), split = condition
    measure, cells = section.measures[entry, condition], entry.cells(user, split)
    return {
        "env": section.env,
        "trained_with": section.user,
        "budget": section.budget,
        "agent": entry.first.agent,
        "variant": " ".join(entry.first.variant),
        "learns": entry.first.learns,
        "training_seeds": " ".join(str(record.seed) for record in entry.records),
        "user": user,
        "split": split,
        "scenarios": len(section.seeds),
        **_columns("return", measure.returns),
        **_columns("score", measure.score),
        **_columns("success", measure.successes),
        "mean_exchanges": float(np.mean([cell.mean_exchanges for cell in cells])),
        "unscored": sum(cell.unscored for cell in cells),
        "conversations": float(np.mean([record.spent.conversations for record in entry.records])),
        "learning_seconds": float(np.mean([record.seconds.learning for record in entry.records])),
        "evaluation_seconds": float(np.mean([record.seconds.evaluation for record in entry.records])),
        "cpu_seconds": float(np.mean([record.seconds.cpu for record in entry.records])),
        "commit": " ".join(sorted({record.commit or "" for record in entry.records})),
        "dirty": any(bool(record.dirty) for record in entry.records),
    }


def _columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
