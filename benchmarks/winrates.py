"""Win rates of agents from the conversations of finished runs: ``python -m benchmarks.winrates``.

    python -m benchmarks.winrates --env education --user program --agents start,mtpo --judge education judge.flip=0.2

Reads the records and the evaluation's conversations below ``--runs``, has every pair of conversations on a scenario
judged in both orders, and writes winrates-ENV-USER-BUDGET as CSV, Markdown and a heat map. Agents are compared within a
section of the leaderboard: learners with one training user and one budget, and agents that don't learn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.evaluate import recorded
from benchmarks.judging import judge_runs, load_judge
from benchmarks.progress import RunError
from envs.judges import PreferenceJudge
from envs.trajectory import Trajectory
from results.leaderboard import collect_folders
from results.preferences import AsymmetryError
from results.record import Record, RecordError
from results.sections import Entry, Section, sections_of
from results.winrates import WinRates, win_rates, write


@dataclass(frozen=True, slots=True)
class Run:
    """The evaluation of one training seed of an agent."""

    agent: str
    conversations: Sequence[Trajectory]
    """One per scenario, the same scenarios for every run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and write; 0, or 1 with a message when something is missing."""
    options = _parser().parse_args(arguments)
    try:
        judge = load_judge(options.judge, options.overrides)
        folders = _folders(options.runs)
        section = _section([record for record, _ in folders], options.env, options.user, options.budget)
        user, split = options.talked_with or section.users[0], options.split or section.splits[0]
        seeds = section.seeds[: options.scenarios]
        _check_known("--talked-with", user, section.users)
        _check_known("--split", split, section.splits)
        entries = _chosen(section, options.agents)
        runs = [
            Run(entry.agent, _conversations(folder / "trajectories" / f"{user}-{split}.jsonl", seeds, record.command))
            for entry in entries
            for one in entry.records
            for record, folder in folders
            if record is one
        ]
        rates = compare(judge, runs)
    except (RunError, RecordError, AsymmetryError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    judged_by = " ".join([options.judge, *options.overrides])
    notes = [f"Judge: {judged_by}. Conversations with {user} on {split}; learners were trained with {section.user}."]
    if few := [entry.agent for entry in entries if entry.first.learns and len(entry.records) == 1]:
        notes.append(f"One training seed only, so the intervals speak of scenarios alone: {', '.join(few)}.")
    paths = write(rates, options.out, section.name, f"{section.title}, judge {judged_by}", notes)
    print("\n".join(map(str, paths)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.winrates", description="Win rates from finished runs.")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="where the run folders lie")
    parser.add_argument("--env", default="education", help="the environment")
    parser.add_argument("--user", default="program", help="whom the learners learnt with")
    parser.add_argument("--budget", default="default", help="with which budget")
    parser.add_argument("--judge", required=True, help="who compares: a file of conf/judge")
    parser.add_argument("--agents", help="names as in the leaderboard, commas between; all by default")
    parser.add_argument("--talked-with", help="whose conversations are compared; the training user's by default")
    parser.add_argument("--split", help="on which split; the main one by default")
    parser.add_argument("--scenarios", type=int, help="the first so many scenarios only")
    parser.add_argument(
        "--out", type=Path, default=Path("results/mine"), help="where the table and the picture are written"
    )
    parser.add_argument("overrides", nargs="*", help="settings of the judge, such as judge.flip=0.2")
    return parser


def compare(judge: PreferenceJudge, runs: Sequence[Run], seed: int = 0) -> WinRates:
    """Win rates of the agents of ``runs``; ``seed`` is the bootstrap's. Raises ``AsymmetryError`` for a judge whose two
    orders contradict each other, and ``RunError`` for runs on different scenarios."""
    named = [[(t.seed, t.key) for t in run.conversations] for run in runs]
    if other := next((run.agent for run, scenarios in zip(runs, named, strict=True) if scenarios != named[0]), None):
        raise RunError(f"{other} and {runs[0].agent} did not converse on the same scenarios; evaluate both again.")
    agents = [run.agent for run in runs]
    judged = judge_runs(judge, [run.conversations for run in runs], agents)
    return win_rates(judged, agents, [key for _, key in named[0]], np.random.default_rng(seed))


def _folders(runs: Path) -> list[tuple[Record, Path]]:
    """Every record below ``runs`` that was not moved aside, and its folder."""
    return [(record, folder) for folder, record in collect_folders(runs).items()]


def _section(records: Sequence[Record], env: str, user: str, budget: str) -> Section:
    """The section of the usual settings of ``env``. Raises ``RunError`` if there is none."""
    sections = sections_of([record for record in records if record.env == env])
    for section in sorted(sections, key=lambda one: one.special):
        if (section.user, section.budget) == (user, budget):
            return section
    known = "; ".join(f"--user {one.user} --budget {one.budget}" for one in sections) or "none"
    raise RunError(f"There are no finished runs of env={env} with --user {user} --budget {budget}; there are: {known}.")


def _check_known(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise RunError(
            f"{option} {value} is none that all agents were evaluated with; choose one of {', '.join(known)}."
        )


def _chosen(section: Section, names: str | None) -> list[Entry]:
    """The entries named, in that order."""
    have = {entry.agent: entry for entry in section.entries}
    chosen = names.split(",") if names else sorted(have)
    if unknown := [name for name in chosen if name not in have]:
        raise RunError(f"--agents: {unknown[0]!r} has no finished run here; there are {', '.join(sorted(have))}.")
    if len(chosen) < 2:
        raise RunError(f"--agents names {len(chosen)}; win rates need two or more of {', '.join(sorted(have))}.")
    return [have[name] for name in chosen]


def _conversations(path: Path, seeds: Sequence[int], command: str) -> list[Trajectory]:
    """The conversations of these scenarios. Raises ``RunError`` if the file lacks one or can't be read."""
    at = {trajectory.seed: trajectory for trajectory in recorded(path, command)}
    if missing := [seed for seed in seeds if seed not in at]:
        raise RunError(f"{path} lacks the scenario of seed {missing[0]}; run that agent again.")
    return [at[seed] for seed in seeds]


if __name__ == "__main__":
    sys.exit(main())
