"""Figures as files: the same figure gives the same bytes, and a killed process leaves no half of one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "parley"  # ids in an SVG file are random otherwise


def write_figure(figure: Figure, paths: Iterable[Path], **options: Any) -> None:
    """Write ``figure`` to every one of ``paths``, in the format that its ending says, and close it."""
    for path in paths:
        kind = path.suffix.removeprefix(".")
        temporary = path.with_name(f".{path.name}.new")
        figure.savefig(temporary, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None, **options)
        temporary.replace(path)
    plt.close(figure)
