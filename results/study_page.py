"""The page of a study: verdicts, tables and cells, as Markdown for people, CSV and JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.crossed import mean_interval, score_interval
from results.record import Record
from results.statistics import Estimate, matrix
from results.tables import markdown_table
from results.verdict import Outcome, Verdict, share
from results.winrates import WinRates

_RULE = (
    "Where a 95% interval is given, a claim holds or fails if the whole of it says so; it is undecided if not, or if "
    "something was not measured. Intervals are not corrected for the number of claims. Those of returns (Student's "
    "t) hold for few training seeds. Those of win rates come from a bootstrap: with three seeds a method, a 95% "
    "interval of this kind covers the truth only about four times in five where seeds differ more than scenarios do "
    "(.79 in a simulation, `python -m results.calibration`): read a narrow verdict with that in mind."
)
_WORDS: dict[Outcome, str] = {"holds": "hold", "fails": "fail", "undecided": "undecided"}


@dataclass(frozen=True, slots=True)
class CellRow:
    """One cell of a study as it stands."""

    method: str
    seed: int
    state: str
    """``finished``, or why there is nothing of it."""
    mean_return: str = "-"
    """With the training user on the main split, with its interval over scenarios."""
    conversations: int | None = None
    """Spent while learning."""
    minutes: float | None = None
    """From beginning to end, over all its processes."""
    commit: str = "-"
    """Of the source that made it; with a + if the source differed from that commit."""
    command: str = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Anything else a study shows: rows of one key per column."""

    title: str
    rows: Sequence[Mapping[str, str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything about a study."""

    name: str
    title: str
    question: str
    source: str
    command: str
    date: str
    commit: str | None
    dirty: bool | None
    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    cells: Sequence[CellRow]

    @property
    def unfinished(self) -> list[CellRow]:
        return [cell for cell in self.cells if cell.state != "finished"]

    @property
    def tally(self) -> str:
        """How many claims hold, fail and are undecided, and how many numbers are no verdict."""
        count = Counter(verdict.verdict for verdict in self.verdicts)
        measured = count.pop("measured", 0)
        words = ", ".join(f"{count[outcome]} {word}" for outcome, word in _WORDS.items())
        return f"{count.total()} verdicts: {words}" + (f"; {measured} only measured" if measured else "")

    @property
    def completeness(self) -> str:
        """How many cells are finished; empty for a study without any."""
        if not self.cells:
            return ""
        return f"{len(self.cells) - len(self.unfinished)} of {len(self.cells)} cells are finished"


def cell_row(method: str, seed: int, state: str, record: Record | None) -> CellRow:
    """A cell with what its record tells, if it has one."""
    if record is None:
        return CellRow(method, seed, state)
    main = record.evaluations[0]
    spent = record.seconds.setup + record.seconds.learning + record.seconds.evaluation
    return CellRow(
        method=method,
        seed=seed,
        state=state,
        mean_return=str(mean_interval(matrix([main.returns]), main.keys)),
        conversations=record.spent.conversations,
        minutes=round(spent / 60, 2),
        commit=(record.commit or "-")[:9] + ("+" if record.dirty else ""),
        command=record.command,
    )


def method_table(records: Mapping[str, Sequence[Record]]) -> Table:
    """Mean return, score and cost of each method, from the records of its finished cells, one per seed.

    The score needs methods named ``start`` and ``optimum``. All must have been evaluated on the same scenarios.
    """
    mains = {method: [record.evaluations[0] for record in of] for method, of in records.items()}
    first = next(iter(mains.values()))[0]
    values = {method: matrix([one.returns for one in of]) for method, of in mains.items()}
    rows = []
    for method, of in records.items():
        row = {"Method": method, "Seeds": str(len(of)), "Return": str(mean_interval(values[method], first.keys))}
        if {"start", "optimum"} <= set(values):
            row["Score"] = str(score_interval(values[method], values["start"], values["optimum"], first.keys))
        learns = of[0].learns
        spent = [record.seconds.cpu for record in of]
        row["Conversations"] = str(of[0].spent.conversations) if learns else "-"
        row["Core-seconds"] = f"{np.mean(spent):.0f} ({min(spent):.0f} to {max(spent):.0f})" if learns else "-"
        rows.append(row)
    score = " Score: from the start (0) to the optimum (1)." if {"start", "optimum"} <= set(values) else ""
    note = (
        f"With the training user on {len(first.seeds)} scenarios of {first.split}, intervals over training seeds and "
        f"clusters of scenarios.{score} Core-seconds are those of a whole run: practice, learning and evaluation."
    )
    return Table("Methods", rows, note)


def win_rate_table(rates: WinRates, reported: Mapping[str, Mapping[str, float]]) -> Table:
    """The row's win rate over the column with its interval, and behind a stroke what the source reports."""
    rows = []
    for a, row in enumerate(rates.agents):
        cells = {"": row}
        for b, column in enumerate(rates.agents):
            number = reported.get(row, {}).get(column)
            ours = "–" if a == b else _rate(rates.estimate(a, b))
            cells[column] = ours if number is None else f"{ours} / {share(number)}"
        rows.append(cells)
    go_round = rates.certain_cycles
    notes = [
        f"How often the row's conversations are preferred to the column's, on {rates.scenarios} scenarios, with 95% "
        "intervals over the training seeds of both and clusters of scenarios.",
        "Behind the stroke is the source's number." if reported else "",
        f"Both orders of each pair were judged, and rows and columns sum to 1. Verdicts missing: {_missing(rates)}.",
        f"Of {go_round.decided} triples with all three intervals clear of .5, {go_round.cyclic} go round.",
    ]
    return Table("Win rates", rows, " ".join(filter(None, notes)))


def _missing(rates: WinRates) -> int:
    return int(np.triu(rates.unjudged, 1).sum())


def _rate(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return "not judged"
    return f"{share(estimate.value)} [{share(estimate.low)}, {share(estimate.high)}]"


def write(page: Page, folder: Path, name: str) -> Path:
    """Write ``name``.md, .csv and .json into ``folder``; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(markdown(page), encoding="utf-8")
    path.with_suffix(".csv").write_text(csv(page), encoding="utf-8")
    path.with_suffix(".json").write_text(to_json(page), encoding="utf-8")
    return path


def markdown(page: Page) -> str:
    """The page for people."""
    parts = [f"# {page.title}\n", f"{page.question.strip()}\n" if page.question else "", *_provenance(page)]
    if page.verdicts:
        parts += [f"## Verdicts\n\n{page.tally}. {_RULE}\n", markdown_table([*map(_verdict_row, page.verdicts)])]
    for one in page.tables:
        parts += [f"## {one.title}\n", markdown_table(one.rows), f"{one.note}\n" if one.note else ""]
    if page.cells:
        parts += [f"## Cells\n\n{page.completeness}.\n", markdown_table([_cell_row(cell) for cell in page.cells])]
        parts += ["Each is one command:\n", *_commands(page)]
    return "\n".join(part for part in parts if part)


def _provenance(page: Page) -> list[str]:
    source = (page.commit or "-")[:9] + (" and uncommitted changes" if page.dirty else "")
    lines = [
        f"- Source of the claims: {page.source}",
        f"- Command: `{page.command}`",
        f"- Commit: {source}, {page.date}",
    ]
    if page.cells:
        lines.append(f"- Cells: {page.completeness}" + ("" if page.unfinished else "."))
        for state, cells in groupby(sorted(page.unfinished, key=_short), key=_short):
            lines.append(f"  - {', '.join(f'{cell.method}/{cell.seed}' for cell in cells)}: {state}")
        commits = sorted({cell.commit for cell in page.cells if cell.commit != "-"})
        if len(commits) > 1:
            lines.append(f"- The cells are of different commits: {', '.join(commits)}.")
    return ["\n".join(lines) + "\n"]


def _short(cell: CellRow) -> str:
    """The state without what follows in further lines, such as a list of what there is."""
    return cell.state.splitlines()[0]


def _verdict_row(one: Verdict) -> dict[str, str]:
    return {
        "Claim": one.claim,
        "To match": one.number_to_match,
        "Measured": one.measured,
        "Verdict": f"**{one.verdict}**",
        "Note": one.note or "-",
    }


def _cell_row(cell: CellRow) -> dict[str, str]:
    return {
        "Method": cell.method,
        "Seed": str(cell.seed),
        "State": _short(cell),
        "Return": cell.mean_return,
        "Conversations": "-" if cell.conversations is None else str(cell.conversations),
        "Minutes": "-" if cell.minutes is None else f"{cell.minutes:.1f}",
        "Commit": cell.commit,
    }


def _commands(page: Page) -> list[str]:
    return ["```sh", *dict.fromkeys(cell.command for cell in page.cells if cell.command != "-"), "```\n"]


def csv(page: Page) -> str:
    """One line per verdict."""
    lines = [{"study": page.name, **asdict(one), "commit": page.commit, "date": page.date} for one in page.verdicts]
    return pd.DataFrame(lines).to_csv(index=False)


def to_json(page: Page) -> str:
    """Everything, as strict JSON."""
    values: dict[str, Any] = asdict(page)
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
