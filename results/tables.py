"""The leaderboard for people, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from results.across import Across, across, rliable
from results.comparison import compare, pass_columns, pass_table
from results.groups import gap_of, lost
from results.noise import noise_floor
from results.record import Record
from results.sections import Entry, Section
from results.statistics import Estimate

_HEAD = """# Leaderboard

Mean return over fixed evaluation scenarios, the same for every agent, with 95% intervals over training seeds and
scenarios (Student's t, two components of variance). Score 0 is the start, 1 the optimum, as the environment names them.
Rows are sorted by the training user on the first split. Agents that share a letter are not told apart there: their
paired difference is not significant at 5% after Holm's correction over all pairs of the table. Unscored conversations
(the user or the judge failed) are in no mean.

The second table of a section has: how likely a run is better than the start; pass^k, the chance that k runs all
succeed on a scenario; what is lost, in score, with users and on splits that were not trained with; the gap between the
best- and the worst-served group of users beyond what chance gives, with the probability that chance gives as much; how
the conversations went; and what learning cost. Some users are harder for everybody: compare a gap with the optimum's.
"""

PLANNED_SEEDS = 10


def markdown(sections: Sequence[Section], plots: Mapping[str, Sequence[Path]]) -> str:
    """The page: the summary over environments if there are several, then each section with its plot and notes."""
    parts = [_HEAD, *(_across(one) for one in across(sections))]
    for section in sections:
        parts.append(f"## {section.title}\n")
        parts += [f"![Learning curves]({path.name})\n" for path in plots.get(section.name, ()) if path.suffix == ".png"]
        parts.append(markdown_table([_row(section, entry) for entry in section.ranked]))
        parts.append(markdown_table([_details(section, entry) for entry in section.ranked]))
        parts += [f"- {note}" for note in [*section.notes, *noise_notes(section)]]
        parts.append("")
    return "\n".join(parts)


def _row(section: Section, entry: Entry) -> dict[str, str]:
    record, main = entry.first, section.main(entry)
    row = {
        "Agent": entry.agent,
        "Trained with": record.user if record.learns else "-",
        "Seeds": str(len(entry.records)),
        "Score": _shown(main.score),
        "Letter": compare(section).letters.get(entry, "-"),
        "Return": str(main.returns),
        "Success": _percent(main.successes),
    }
    for label, condition in list(section.conditions.items())[1:]:
        measure = section.measures[entry, condition]
        what = "Return" if measure.score is None else "Score"
        row[f"{what}: {label}"] = str(measure.returns) if measure.score is None else _shown(measure.score)
    return row | {"Unscored": str(sum(one.unscored for record in entry.records for one in record.evaluations))}


def _details(section: Section, entry: Entry) -> dict[str, str]:
    record, gap = entry.first, gap_of(section, entry)
    row = {"Agent": entry.agent, "Better than the start": _shown(compare(section).improvement.get(entry))}
    passed = pass_table(section, entry)
    row |= {f"pass^{k}": _percent(passed[k]) if k in passed else "-" for k in pass_columns(section)}
    what = "Return" if section.main(entry).score is None else "Score"
    row |= {f"{what} lost: {label}": _shown(one) for label, one in lost(section, entry).items()}
    if gap:
        chance = f"p {gap.p_value:.3f}" if gap.p_value >= 0.001 else "p < .001"
        row["Gap between groups"] = f"{gap.beyond_chance:.2f} ({chance}; {gap.attribute}: {gap.worst} < {gap.best})"
    health = [one.health(*section.condition) for one in (entry, *section.entries)]
    for name in dict.fromkeys(name for figures in health for name in figures):
        row[name.replace("_", " ").capitalize()] = f"{health[0][name]:.1%}" if name in health[0] else "-"
    return row | {
        "Conversations": f"{np.mean([one.spent.conversations for one in entry.records]):.0f}",
        "Minutes": f"{np.mean([_seconds(one) for one in entry.records]) / 60:.1f}",
        "Commit": (record.commit or "-")[:9] + ("+" if record.dirty else ""),
    }


def noise_notes(section: Section) -> list[str]:
    """How large a difference has to be, as notes."""
    notes, comparison, noise = [], compare(section), noise_floor(section)
    if np.isfinite(comparison.detectable):
        notes.append(
            f"Smallest detectable difference: a true difference in return of {comparison.detectable:.3f} between two "
            "agents that learn is found 4 times in 5, before the correction for the number of pairs; with "
            f"{PLANNED_SEEDS} training seeds each, one of {comparison.planned(PLANNED_SEEDS):.3f}."
        )
    if noise.twins:
        tests = f"; of {noise.tests} tests, {noise.called_different} called them different at 5%" if noise.tests else ""
        learners = len({one.entry for one in noise.twins})
        notes.append(
            "Noise floor: the same agent under two names, its training seeds split in halves (agents: "
            f"{learners}, splits: {len(noise.twins)}), differs by less than {noise.floor:.3f} 95 times in 100{tests}."
        )
    return notes


def _seconds(record: Record) -> float:
    return record.seconds.setup + record.seconds.learning + record.seconds.evaluation


def _shown(score: Estimate | None) -> str:
    if score is None or np.isnan(score.value):
        return "-"
    return f"{score.value:z.2f}" + ("" if np.isnan(score.low) else f" [{score.low:z.2f}, {score.high:z.2f}]")


def _percent(share: Estimate) -> str:
    if np.isnan(share.value):
        return "-"
    return f"{share.value:.0%}" + ("" if np.isnan(share.low) else f" [{share.low:.0%}, {share.high:.0%}]")


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table whose columns are aligned in the source as well."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([row.get(name, "-").replace("|", "\\|") for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _across(one: Across) -> str:
    """IQM, optimality gap and probability of improvement of the agents that stand in every one of the sections."""
    titles = "; ".join(section.title for section in one.sections)
    rows = [
        {"Agent": agent.agent, "Seeds": str(len(agent.scores))}
        | {name: str(estimate) for name, estimate in rliable(agent).items()}
        for agent in one.aggregates
    ]
    return f"## {one.title}\n\nOver {titles}.\n\n{markdown_table(rows)}"
