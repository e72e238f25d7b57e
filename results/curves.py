"""Learning curves: mean return against conversations spent, beside the agents that don't learn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from results.figures import write_figure
from results.sections import Entry, Section

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision; beyond it, line styles change."""
_STYLES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (6, 1, 1, 1)))
_GREY = "#555555"
_LEVEL = (0, (5, 3))
_LINE = 0.185
"""Inches from one name to the next."""
_AROUND = 1.4
"""Inches of the figure's height that are not the axes."""
_FORMATS = ("png", "svg")
_CAPTION = (
    "Line: mean over training seeds, on scenarios of the curves' own. Band: lowest to highest seed. What was learnt "
    "from logged conversations beforehand is in the first point. Thin grey dashes: agents that hold none while "
    "learning, on the table's scenarios, which are others."
)


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    y: float
    colour: str
    style: Any
    """The line's, shown again beside the name: colours come back."""


def draw(section: Section, out: Path) -> list[Path]:
    """The section's learning curves as PNG and SVG; nothing if no agent has a curve."""
    learners = [entry for entry in section.ranked if _has_curve(entry)]
    if not learners:
        return []
    height = max(3.8, _LINE * len(section.ranked))
    figure, axes = plt.subplots(figsize=(9, height + _AROUND), layout="constrained")
    labels = [_curve(axes, entry, n) for n, entry in enumerate(sorted(learners, key=lambda entry: entry.agent))]
    labels += [_level(axes, section, entry) for entry in section.ranked if not entry.first.learns or _is_offline(entry)]
    axes.set_xlim(0, max(record.curve[-1].conversations for entry in learners for record in entry.records))
    _dress(axes, section)
    _write_labels(axes, labels, _LINE / height)
    paths = [out / f"learning-curve-{section.name}.{suffix}" for suffix in _FORMATS]
    write_figure(figure, paths)
    return paths


def _curve(axes: Axes, entry: Entry, n: int) -> _Label:
    colour, style = _COLOURS[n % len(_COLOURS)], _STYLES[n // len(_COLOURS) % len(_STYLES)]
    x, table = curve_table(entry)
    axes.plot(x, np.nanmean(table, axis=0), color=colour, linestyle=style, linewidth=2)
    if len(table) > 1:
        axes.fill_between(x, np.nanmin(table, axis=0), np.nanmax(table, axis=0), color=colour, alpha=0.15, linewidth=0)
    return _Label(entry.agent, float(np.nanmean(table[:, -1])), colour, style)


def curve_table(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """Conversations [points] and mean return [training seeds, points], at the points that all seeds have."""
    curves = [{p.conversations: p.mean_return for p in record.curve} for record in entry.records]
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = [[np.nan if curve[x] is None else curve[x] for x in common] for curve in curves]
    return np.array(common), np.array(values, dtype=float)


def _is_offline(entry: Entry) -> bool:
    """Whether it learns without conversations: then its curve is a point."""
    return entry.first.learns and not entry.first.spent.conversations


def _has_curve(entry: Entry) -> bool:
    return entry.first.learns and not _is_offline(entry) and len(entry.first.curve) > 1


def _level(axes: Axes, section: Section, entry: Entry) -> _Label:
    y = section.main(entry).returns.value
    axes.axhline(y, color=_GREY, linestyle=_LEVEL, linewidth=1.2, zorder=1)
    named = section.references.items()
    roles = [role for role, reference in named if reference is entry and role != entry.agent]
    return _Label(f"{entry.agent} ({', '.join(roles)})" if roles else entry.agent, y, _GREY, None)


def _dress(axes: Axes, section: Section) -> None:
    axes.set_title(section.title, loc="left", fontsize=13)
    axes.set_xlabel("conversations with users while learning", fontsize=11)
    axes.set_ylabel(f"mean return ({section.user}, {section.splits[0]})", fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    axes.annotate(
        textwrap.fill(_CAPTION, 112), (0, 0), (0, -44), xycoords="axes fraction", textcoords="offset points", va="top",
        fontsize=9, color=_GREY,
    )  # fmt: skip


def _write_labels(axes: Axes, labels: Sequence[_Label], line: float) -> None:
    """Names at the right end of their lines, moved apart where they would overlap: ``line`` of the axes' height."""
    low, high = axes.get_ylim()
    gap, right = (high - low) * line, axes.get_xlim()[1]
    ordered = sorted(labels, key=lambda label: label.y)
    for label, y in zip(ordered, spread([label.y for label in ordered], gap), strict=True):
        axes.plot([right, right * 1.02], [label.y, y], color=label.colour, linewidth=0.6, clip_on=False)
        if label.style is not None:
            sample = [right * 1.025, right * 1.07]
            axes.plot(sample, [y, y], color=label.colour, linestyle=label.style, linewidth=2, clip_on=False)
        axes.text(right * 1.08, y, label.text, fontsize=10, color=label.colour, va="center")
    axes.set_xlim(0, right)
    axes.set_ylim(low, high)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved apart to at least ``gap``, by as little as possible in the squares.

    Neighbours that are too close form a group, which is centred on where its members want to be.
    """
    groups: list[list[float]] = []  # (sum of wanted bottoms, members): a group's bottom is their mean
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1 and _bottom(groups[-2]) + gap * groups[-2][1] > _bottom(groups[-1]):
            total, members = groups.pop()
            groups[-1] = [groups[-1][0] + total - members * gap * groups[-1][1], groups[-1][1] + members]
    return [_bottom(group) + gap * i for group in groups for i in range(int(group[1]))]


def _bottom(group: Sequence[float]) -> float:
    return group[0] / group[1]
