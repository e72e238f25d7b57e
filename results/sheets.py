"""The leaderboard for programs, as CSV: agents, pairs of agents, groups of users. Every number at full precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from results.comparison import compare, pass_table
from results.crossed import Crossed, detectable_difference
from results.groups import gap_of, groups, lost
from results.noise import noise_floor
from results.sections import Condition, Entry, Section
from results.statistics import Estimate, mean


def csv(sections: Sequence[Section]) -> str:
    """One line per section, agent, user and split; what is compared on the main ones alone stands in their lines."""
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
        "returns_by_seed": " ".join(f"{mean(row[None]):.6g}" for row in entry.returns(condition, section.seeds)),
        "user": user,
        "split": split,
        "scenarios": len(section.seeds),
        **_columns("return", measure.returns),
        **_columns("score", measure.score),
        **_columns("success", measure.successes),
        **(_compared(section, entry) if condition == section.condition else {}),
        **entry.health(*condition),
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


def _compared(section: Section, entry: Entry) -> dict[str, object]:
    """What is compared with the training user on the main split alone."""
    gap, comparison = gap_of(section, entry), compare(section)
    line: dict[str, object] = {"letter": comparison.letters.get(entry, "")}
    line |= _columns("improvement", comparison.improvement.get(entry))
    for k, share in pass_table(section, entry).items():
        line |= _columns(f"pass_{k}", share)
    for label, one in lost(section, entry).items():
        line |= _columns(f"lost_{label.replace(' ', '_')}", one)
    if gap:
        line |= {"group_gap": gap.beyond_chance, "group_gap_seen": gap.seen, "group_gap_p": gap.p_value}
        line |= {"group_attribute": gap.attribute, "group_best": gap.best, "group_worst": gap.worst}
    return line


def pairs_csv(sections: Sequence[Section]) -> str:
    """One line per pair of agents, and per A/A comparison, on the main user and split."""
    lines: list[dict[str, object]] = []
    for section in sections:
        for pair in compare(section).pairs:
            line = {"kind": "pair", "first": pair.first.agent, "second": pair.second.agent}
            family = {"p_holm": pair.adjusted, "detectable": detectable_difference(pair.gain.components)}
            lines.append(_place(section) | line | _tested(pair.gain) | family)
        for twin in noise_floor(section).twins:
            names = [f"{twin.entry.agent} (seeds {' '.join(map(str, half))})" for half in (twin.first, twin.second)]
            line = {"kind": "A/A", "first": names[0], "second": names[1]}
            tested = _tested(twin.gain) if twin.tested else {"difference": twin.gain.value}
            lines.append(_place(section) | line | tested)
    return pd.DataFrame(lines).to_csv(index=False)


def _tested(gain: Crossed) -> dict[str, object]:
    return {
        **_columns("difference", gain.estimate),
        "p": gain.p_value,
        "degrees_of_freedom": gain.components.degrees_of_freedom,
        "variance_of_seeds": gain.components.from_seeds,
        "variance_of_scenarios": sum(gain.components.scenarios),
    }


def groups_csv(sections: Sequence[Section]) -> str:
    """One line per section, agent, user, split, attribute and value."""
    lines = []
    for section in sections:
        for entry in section.ranked:
            for condition in section.cells:
                for group in groups(section, entry, condition):
                    where = {"agent": entry.agent, "user": condition[0][0], "split": condition[1]}
                    what = {"attribute": group.attribute, "value": group.value, "scenarios": group.scenarios}
                    lines.append(_place(section) | where | what | _columns("return", group.returns))
    return pd.DataFrame(lines).to_csv(index=False) if lines else ""


def _place(section: Section) -> dict[str, object]:
    return {"section": section.name, "env": section.env, "trained_with": section.user, "budget": section.budget}
