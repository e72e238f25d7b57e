"""Rock, paper, scissors: MTPO finds the mixed equilibrium, learning from a reward can't. One picture.

    python -m benchmarks.studies.cycle              # results/cycle.png and .svg

Everything is exact. The reward is the Bradley–Terry reward that fits the preferences between conversations of the
reference policy μ best. Policies that were learnt otherwise, by sampling or by networks, are drawn beside these by
``draw([*exact_runs(…), sampled_run("neural MTPO", …)], …)``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.studies.exact import bradley_terry, equilibrium, fixed, mtpo, mtpo_tau
from envs.games import Floats, RockPaperScissors, best_response
from envs.tabular import actions_taken
from envs.trajectory import Trajectory
from results.figures import write_figure
from results.verdict import Verdict

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_DUELS = ("rock beats scissors", "paper beats rock", "scissors beat paper")
_GREY, _BLACK = "#666666", "#111111"
_BLUE, _ORANGE, _GREEN, _PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
"""Okabe and Ito's palette, told apart with any colour vision."""
REWARDED = "multi-turn RLHF (reward fitted once)"
SPARE_COLOURS = ("#E69F00", "#56B4E9", "#000000")
"""For runs from elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """How often a method plays rock, paper and scissors, over its iterations."""

    name: str
    policies: Floats
    """[T, 3], chances; the first is where it began."""
    iterations: Floats
    """[T], from 1: when; need not be every iteration."""
    colour: str
    marker: str = "o"
    """Of the last policy."""


def exact_runs(spec: RockPaperScissors, alpha: float, steps: int) -> list[Run]:
    """MTPO, MTPO-τ, MTPO without its mirror-descent term, and multi-turn RLHF, from μ on."""
    game = spec.build()
    reward = bradley_terry(game, game.mu)
    methods = [
        (REWARDED, mtpo(game, alpha, fixed(reward)), _ORANGE, "X"),
        ("MTPO without the mirror-descent term", mtpo(game, alpha, mirror=False), _PINK, "s"),
        ("MTPO-τ", (policy for policy, _ in mtpo_tau(game, alpha)), _GREEN, "D"),
        ("MTPO", mtpo(game, alpha), _BLUE, "o"),
    ]
    return [
        Run(name, np.array([table_chances(one) for one in islice(policies, steps)]), np.arange(1.0, steps + 1), *look)
        for name, policies, *look in methods
    ]


def sampled_run(
    name: str, spec: RockPaperScissors, batches: Mapping[float, Sequence[Trajectory]], colour: str, marker: str = "v"
) -> Run:
    """The run of an agent that is known by its conversations alone: those of each iteration, keyed by it.

    What is no move is left out. Raises ``ValueError`` for an iteration without any move.
    """
    counts = np.array([actions_taken(spec, batch)[:, 0, 0].sum(0) for batch in batches.values()])  # [T, 3]
    if (counts.sum(-1) == 0).any():
        raise ValueError(f"{name}: an iteration has no move of {', '.join(spec.build().actions)}; leave it out.")
    return Run(name, counts / counts.sum(-1, keepdims=True), np.array(list(batches), dtype=np.float64), colour, marker)


def table_chances(policy: Floats) -> Floats:
    """The chances [3] of a table of log-probabilities of this game."""
    return np.asarray(np.exp(policy[0, 0, 0]))


def unregularised_exploitability(spec: RockPaperScissors, policies: Floats) -> Floats:
    """How far above ½ the best answer wins against each policy [T, 3], [T]: 0 at the mixed equilibrium alone."""
    return np.asarray((policies @ spec.build().preference[0].T).max(-1) - 0.5)


def mixed_equilibrium(spec: RockPaperScissors) -> Floats:
    """The equilibrium [3] without regularisation: each move as often as the duel it is not in is lopsided."""
    rock, paper, scissors = (strength - 0.5 for strength in spec.strengths)
    return np.array([scissors, rock, paper]) / (rock + paper + scissors)


def finds_the_mixed_equilibrium(alpha: float = 0.03, steps: int = 1000) -> list[Verdict]:
    """Verdicts on the picture: how exploitable MTPO and multi-turn RLHF end, and RLHF at its best over all α."""
    spec = RockPaperScissors()
    game = spec.build()
    ends = {run.name: run.policies[-1:] for run in exact_runs(spec, alpha, steps)}
    gains = {name: float(unregularised_exploitability(spec, end)[0]) for name, end in ends.items()}
    aim = table_chances(equilibrium(game, alpha))
    far = float(abs(ends["MTPO"][0] - aim).max())
    limit, start = (float(unregularised_exploitability(spec, one[None])[0]) for one in (aim, table_chances(game.mu)))
    reward = bradley_terry(game, game.mu)
    alphas = np.geomspace(1e-3, 1e2, 501)
    rewarded = np.array([table_chances(best_response(game, reward, one)[0]) for one in alphas])
    best = float(unregularised_exploitability(spec, rewarded).min())
    note = (
        f"Win rates {spec.strengths} of rock, paper, scissors; mu = {spec.mu}; exploitability without regularisation."
    )
    return [
        Verdict(
            "MTPO finds the mixed equilibrium of a cycle",
            "within .01 of the equilibrium at its alpha",
            f"chances differ by {far:.4f} at most; exploitability {gains['MTPO']:.4f}, the equilibrium's {limit:.4f}, "
            f"mu's {start:.4f}",
            None,
            None,
            "holds" if far <= 0.01 else "fails",
            f"{note} alpha {alpha:g}, {steps} iterations.",
        ),
        Verdict(
            "A reward fitted to mu's preferences can't find it, whatever alpha is",
            "every alpha leaves it more exploitable than MTPO",
            f"{gains[REWARDED]:.4f} at the same alpha; {best:.4f} at the best of {len(alphas)} alphas",
            None,
            None,
            "holds" if best > gains["MTPO"] else "fails",
            f"{note} alpha from .001 to 100.",
        ),
    ]


# ---- the picture -----------------------------------------------------------------------------------------------------


def draw(runs: Sequence[Run], spec: RockPaperScissors, alpha: float, out: Path) -> list[Path]:
    """Policies on the simplex, and how exploitable they are over iterations, as PNG and SVG in the folder ``out``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.8), layout="constrained", width_ratios=(1.1, 1))
    _draw_simplex(left, runs, spec, alpha)
    _draw_exploitability(right, runs, spec, alpha)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    paths = [out / f"cycle.{suffix}" for suffix in ("png", "svg")]
    write_figure(figure, paths)
    return paths


def _xy(policies: Floats) -> Floats:
    """Chances of rock, paper and scissors, [..., 3], as points [..., 2] of the triangle."""
    return np.asarray(policies @ _CORNERS)


def _draw_simplex(axes: Axes, runs: Sequence[Run], spec: RockPaperScissors, alpha: float) -> None:
    _shade(axes, spec)
    axes.plot(*np.vstack([_CORNERS, _CORNERS[:1]]).T, color=_GREY, linewidth=1)
    for (x, y), name, down in zip(_CORNERS, ("rock", "paper", "scissors"), (True, True, False), strict=True):
        axes.annotate(name, (x, y), (0, -16 if down else 10), textcoords="offset points", ha="center", fontsize=11)
    for run in runs:
        axes.plot(*_xy(run.policies).T, color=run.colour, linewidth=1.2, alpha=0.8, zorder=3)
    for run in runs:
        _end(axes, _xy(run.policies[-1]), run)
    game = spec.build()
    regularised = table_chances(equilibrium(game, alpha))
    _point(axes, table_chances(game.mu), "*", 15, "μ", (0.27, 0.155))
    _point(axes, mixed_equilibrium(spec), "+", 12, "mixed\nequilibrium", (0.8, 0.52))
    _point(axes, regularised, "x", 9, f"equilibrium\nat α = {alpha:g}", (0.9, 0.35))
    axes.set_xlim(-0.06, 1.14)
    axes.set_anchor("N")
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("Where the policies go from μ (darker: more exploitable)", loc="left", fontsize=13, pad=26)
    wins = ", ".join(f"{winner} {p:g}" for winner, p in zip(_DUELS, spec.strengths, strict=True))
    axes.annotate(
        f"Win rates: {wins}.", (0.5, 0), (0, -36), textcoords="offset points", ha="center", fontsize=9, color=_GREY
    )


def _end(axes: Axes, at: Floats, run: Run) -> None:
    """The mark of a run's last policy, at a point [2]."""
    axes.plot(*at, run.marker, color=run.colour, markersize=9, markeredgecolor="white", zorder=5, clip_on=False)


def _shade(axes: Axes, spec: RockPaperScissors) -> None:
    """The triangle, darker where a policy is more exploitable."""
    steps = np.linspace(0, 1, 61)
    grid = np.array([(rock, paper, 1 - rock - paper) for rock in steps for paper in steps if rock + paper < 1 + 1e-9])
    grid = np.clip(grid, 0, 1)
    x, y = _xy(grid).T
    shades = unregularised_exploitability(spec, grid)
    axes.tricontourf(x, y, shades, np.linspace(0, 0.5, 11), cmap="Greys", vmax=1.2, zorder=0)


def _point(axes: Axes, chances: Floats, marker: str, size: float, name: str, at: tuple[float, float]) -> None:
    """A point of the triangle, with its name at ``at`` in the triangle's coordinates and a line to it."""
    x, y = (float(value) for value in _xy(chances))
    axes.plot(x, y, marker, color=_BLACK, markersize=size, markeredgewidth=1.8, zorder=6)
    line = {"arrowstyle": "-", "color": _BLACK, "linewidth": 0.8, "shrinkB": 5}
    left = at[0] < x
    axes.annotate(name, (x, y), at, fontsize=10, ha="right" if left else "left", va="center", zorder=7, arrowprops=line)


def _draw_exploitability(axes: Axes, runs: Sequence[Run], spec: RockPaperScissors, alpha: float) -> None:
    for run in runs:
        gains = unregularised_exploitability(spec, run.policies)
        axes.plot(run.iterations, gains, color=run.colour, linewidth=1.4, zorder=3 if run.marker != "s" else 2)
        axes.plot([], [], color=run.colour, marker=run.marker, markersize=9, markeredgecolor="white", label=run.name)
        _end(axes, np.array([run.iterations[-1], gains[-1]]), run)
    limit = table_chances(equilibrium(spec.build(), alpha))[None]
    axes.axhline(
        unregularised_exploitability(spec, limit)[0], color=_BLACK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=4,
        label=f"the equilibrium at α = {alpha:g}",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.005, 0.6)
    axes.set_yticks([0.01, 0.03, 0.1, 0.3], [".01", ".03", ".1", ".3"])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlim(1, max(run.iterations[-1] for run in runs))
    axes.set_title("How exploitable they are", loc="left", fontsize=13, pad=26)
    axes.set_xlabel("iteration", fontsize=11)
    axes.set_ylabel("win rate of the best answer, less ½", fontsize=11)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the exact runs and print where they end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.cycle", description=__doc__)
    parser.add_argument("--alpha", type=float, default=0.03, help="weight of the divergence from μ (default .03)")
    parser.add_argument("--steps", type=int, default=1000, help="iterations (default 1000)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the picture (default results)")
    options = parser.parse_args(arguments)
    spec = RockPaperScissors()
    runs = exact_runs(spec, options.alpha, options.steps)
    for run in runs:
        ends, gain = run.policies[-1], unregularised_exploitability(spec, run.policies[-1:])[0]
        print(
            f"{run.name:38} rock {ends[0]:.3f}  paper {ends[1]:.3f}  scissors {ends[2]:.3f}  exploitability {gain:.4f}"
        )
    print(*draw(runs, spec, options.alpha, options.out))


if __name__ == "__main__":
    main()
