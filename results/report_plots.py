"""The page's figures as files: profiles, win rates, transfer and cost, PNG and SVG; learning curves have their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results import curves, heat_map
from results.figures import write_figure
from results.report_data import profiles, scored, win_table
from results.sections import Section
from results.statistics import Estimate

FORMATS = ("png", "svg")
_BANDS = 8
"""With more agents than this their bands would cover one another."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6200", "#56B4E9", "#444444", "#7A3B2E")
_STYLES = ("-", "--", ":", "-.", (0, (8, 2, 1, 2, 1, 2)))


def draw_all(sections: Sequence[Section], out: Path) -> list[Path]:
    """Every figure of every section below ``out``; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for section in sections:
        for draw in (curves.draw, draw_profiles, draw_wins, draw_transfer, draw_cost):
            drawn += draw(section, out)
    return drawn


def draw_profiles(section: Section, out: Path) -> list[Path]:
    """The share of conversations that return more than τ, a line per agent and, if they are few, a 95% band."""
    found = profiles(section, section.ranked)
    if not found:
        return []
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    for n, (entry, one) in enumerate(zip(section.ranked, found["series"], strict=True)):
        colour, style = _COLOURS[n % len(_COLOURS)], _STYLES[n // len(_COLOURS) % len(_STYLES)]
        axes.step(found["tau"], one["share"], where="post", color=colour, linestyle=style, label=entry.agent)
        if len(section.ranked) <= _BANDS:
            axes.fill_between(found["tau"], one["low"], one["high"], step="post", color=colour, alpha=0.13, linewidth=0)
    axes.set_xlabel("return τ")
    axes.set_ylabel("share of conversations that return more")
    axes.set_ylim(0, 1)
    _dress(axes, f"{section.title}: {section.user}, {section.splits[0]}")
    return _save(figure, out, f"profiles-{section.name}")


def draw_wins(section: Section, out: Path) -> list[Path]:
    """Win rates with the training user on the main split, a tie one half; nothing for a single agent."""
    entries = section.ranked
    if len(entries) < 2:
        return []
    rates = win_table(section, entries, section.cells[0])
    named = replace(rates, agents=tuple(entry.agent for entry in entries))
    paths = [out / f"winrates-returns-{section.name}.{suffix}" for suffix in FORMATS]
    title = f"{section.title}: who returns more, {section.user}, {section.splits[0]}"
    heat_map.draw(named, title, paths, verb="returns more than")
    return paths


def draw_transfer(section: Section, out: Path) -> list[Path]:
    """Every agent with every user and split, as a heat map of scores, or of returns where there are none."""
    cells, entries = section.cells, section.ranked
    if len(cells) < 2:
        return []
    measures = [[section.measures[entry, cell] for cell in cells] for entry in entries]
    what = "score" if scored(section) else "return"
    estimates = [[one.score if scored(section) else one.returns for one in row] for row in measures]
    table = np.array([[_value(one) for one in row] for row in estimates])
    blurred = np.array([[scored(section) and _blurred(one) for one in row] for row in estimates])
    coloured = np.ma.masked_where(blurred | ~np.isfinite(table), table)
    figure, axes = plt.subplots(figsize=(2.6 + 1.25 * len(cells), 1.6 + 0.42 * len(entries)))
    squares = axes.imshow(coloured, cmap="Blues", aspect="auto", alpha=0.75)
    for y, x in np.argwhere(np.isfinite(table)):
        colour = "#666666" if blurred[y, x] else "white" if squares.norm(table[y, x]) > 0.75 else "black"
        axes.text(x, y, f"{table[y, x]:z.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(cells)), [f"{users[0]}\n{split}" for users, split in cells], fontsize=9)
    axes.set_yticks(range(len(entries)), [entry.agent for entry in entries], fontsize=9)
    axes.set_title(f"{section.title}: {what} with every user", loc="left", fontsize=11)
    if blurred.any():
        axes.set_xlabel("Grey: the interval is longer than the way from start to optimum.", loc="left", fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _save(figure, out, f"users-{section.name}")


def draw_cost(section: Section, out: Path) -> list[Path]:
    """Score or return of the learners, with its 95% interval, against what learning took: conversations, agent's
    tokens, seconds."""
    learners = [entry for entry in section.ranked if entry.first.learns]
    if not learners:
        return []
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True)
    costs = {
        "conversations": [np.mean([r.spent.conversations for r in e.records]) for e in learners],
        "agent tokens, thousands": [np.mean([r.spent.agent_tokens for r in e.records]) / 1000 for e in learners],
        "learning, minutes": [np.mean([r.seconds.learning for r in e.records]) / 60 for e in learners],
    }
    for axes, (label, spent) in zip(panels, costs.items(), strict=True):
        for n, (entry, cost) in enumerate(zip(learners, spent, strict=True)):
            reached = section.main(entry).score if scored(section) else section.main(entry).returns
            if reached is None or not np.isfinite(reached.value):
                continue
            ends = np.nan_to_num([[reached.value - reached.low], [reached.high - reached.value]]).clip(min=0.0)
            marker = "os^"[n // len(_COLOURS) % 3]
            axes.errorbar(
                [cost], [reached.value], ends, fmt=marker, color=_COLOURS[n % len(_COLOURS)], label=entry.agent
            )
        # Those who spend none stand beside the axis, not on it.
        axes.set_xlim(left=-0.04 * float(np.max(spent, initial=1e-9)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(label)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(("score" if scored(section) else "mean return") + ", 95% interval")
    panels[0].set_title(section.title, loc="left", fontsize=11)
    panels[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, out, f"cost-{section.name}")


def _blurred(score: Estimate | None) -> bool:
    """Whether its interval is longer than the way from start to optimum: where those are close a score says nothing."""
    return score is not None and score.high - score.low > 1


def _value(estimate: Estimate | None) -> float:
    return float("nan") if estimate is None else estimate.value


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _save(figure: Figure, out: Path, name: str) -> list[Path]:
    paths = [out / f"{name}.{suffix}" for suffix in FORMATS]
    write_figure(figure, paths, bbox_inches="tight")
    return paths
