"""Win rates as a picture: a square per pair, purple where the row wins, orange where it loses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from results.figures import write_figure

if TYPE_CHECKING:
    from results.winrates import WinRates

_DARK = 0.45
"""Luminance below which a square is so dark that its number is white."""


def draw(rates: WinRates, title: str, paths: Sequence[Path], verb: str = "is preferred to") -> None:
    """The table from the best agent to the worst; numbers whose interval leaves out 1/2 are bold.

    ``verb`` says what it means that the row wins over the column.
    """
    order = rates.order
    table = rates.table[np.ix_(order, order)]
    names = [rates.agents[a] for a in order]
    side = 1.6 + 0.85 * len(order)
    figure, axes = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    squares = axes.imshow(np.ma.masked_invalid(table), cmap="PuOr", vmin=0, vmax=1)
    for y, a in enumerate(order):
        for x, b in enumerate(order):
            if a != b and np.isfinite(table[y, x]):
                certain = rates.low[a, b] > 0.5 or rates.high[a, b] < 0.5
                luminance = np.dot(squares.to_rgba(table[y, x])[:3], (0.299, 0.587, 0.114))
                colour = "white" if luminance < _DARK else "black"
                weight = "bold" if certain else "normal"
                axes.text(
                    x, y, f"{table[y, x]:.2f}", ha="center", va="center", color=colour, weight=weight, fontsize=10
                )
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=10)
    axes.set_yticks(range(len(names)), names, fontsize=10)
    axes.set_xlabel(f"How often the row {verb} this, a tie as 1/2. Bold: the 95% interval leaves out 1/2.", fontsize=10)
    axes.set_title(title, loc="left", fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    write_figure(figure, paths, bbox_inches="tight")
