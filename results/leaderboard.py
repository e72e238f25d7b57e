"""The leaderboard, from records: ``python -m results.leaderboard [--runs FOLDER] [--env sales …] [--out FOLDER]``.

Agents are compared within a section: one environment, one training user, one budget, the same scenarios. Agents that
don't learn need no training user and no budget, and stand in every section whose scenarios they were evaluated on.
Writes leaderboard.md, leaderboard.csv (one line per agent, user and split) and learning curves, a plot per section, to
results/mine: the published ones lie in results itself.

``python -m results.leaderboard validate FOLDER`` says whether somebody's runs can go on it (``results.validation``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from results.record import Record, RecordError, record_paths
from results.sections import Section, sections_of
from results.validation import validate

SKIP = " Or go on without it: --skip-bad."
"""What a command that takes this option adds to what it says of a bad record."""


def collect(runs: Path, skip_bad: bool = False, remedy: str = "") -> list[Record]:
    """Every record below ``runs`` that was not moved aside. Raises ``RecordError`` at the first that can't be read,
    with ``remedy`` as its last words."""
    return list(collect_folders(runs, skip_bad, remedy).values())


def collect_folders(runs: Path, skip_bad: bool = False, remedy: str = "") -> dict[Path, Record]:
    """The same by run folder."""
    if not runs.is_dir():
        raise RecordError(f"--runs {runs} is no folder; give the one that holds the runs, such as results/runs.")
    records = {}
    for path in record_paths(runs):
        try:
            records[path.parent] = Record.load(path)
        except RecordError as error:
            if not skip_bad:
                raise RecordError(f"{error}{remedy}") from error
            print(f"WARNING: left out: {error}", file=sys.stderr)
    return records


@contextmanager
def placed(option: str) -> Iterator[None]:
    """Around what writes to the place that ``option`` names: a ``RecordError`` if nothing can be written there."""
    try:
        yield
    except OSError as error:
        raise RecordError(f"{error}. Give another place with {option}.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the leaderboard; 0, or 1 with a message when there is nothing to write or a record is bad."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["validate"]:
        return _validate(words[1:])
    parser = argparse.ArgumentParser(prog="python -m results.leaderboard", description="Tables and plots from records.")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="where the run folders lie")
    parser.add_argument("--env", nargs="+", help="these environments only")
    parser.add_argument("--budget", nargs="+", help="these budgets only")
    parser.add_argument("--out", type=Path, default=Path("results/mine"), help="where tables and plots are written")
    parser.add_argument("--skip-bad", action="store_true", help="leave out records that can't be read, with a warning")
    options = parser.parse_args(words)
    try:
        records = collect(options.runs, options.skip_bad, SKIP)
        chosen = [one for one in records if not options.env or one.env in options.env]
        sections = [one for one in sections_of(chosen) if not options.budget or one.budget in options.budget]
        missing = {*(options.env or ())} - {one.env for one in records}
        missing |= {*(options.budget or ())} - {one.budget for one in records}
        if missing or not sections:
            raise RecordError(_nothing(options, records, sorted(missing)))
        with placed("--out FOLDER"):
            write(sections, options.out)
    except (RecordError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _nothing(options: argparse.Namespace, records: Sequence[Record], missing: Sequence[str]) -> str:
    """Why there is nothing to write, or not all that was asked for."""
    asked = [f"{key}={' or '.join(own)}" for key in ("env", "budget") if (own := getattr(options, key))]
    of = f" of {missing[0]}" if missing else f" of {' and '.join(asked)}" if asked else ""
    there = ", ".join(sorted({f"{one.env} with budget {one.budget}" for one in records}))
    have = f" There are some of {there}." if there else ""
    make = "Make one: python -m benchmarks.run agent=… env=… seed=0"
    return f"There are no records{of} below {options.runs}.{have} {make}"


def _validate(words: Sequence[str]) -> int:
    """0 if the folder's runs can go on a leaderboard, 1 with what keeps them off."""
    parser = argparse.ArgumentParser(
        prog="python -m results.leaderboard validate", description="Whether runs can go on the leaderboard."
    )
    parser.add_argument("folder", type=Path, help="holds run folders, at any depth")
    parser.add_argument("--no-replay", action="store_true", help="look at the files alone")
    options = parser.parse_args(words)
    try:
        return validate(options.folder, not options.no_replay)
    except (RecordError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def write(sections: Sequence[Section], out: Path) -> None:
    """All tables and plots into ``out``."""
    from results.curves import draw  # matplotlib takes a second to import, which an error need not wait for
    from results.sheets import csv, groups_csv, pairs_csv
    from results.tables import markdown

    out.mkdir(parents=True, exist_ok=True)
    plots = {section.name: draw(section, out) for section in sections}
    (out / "leaderboard.csv").write_text(csv(sections), encoding="utf-8")
    (out / "leaderboard-pairs.csv").write_text(pairs_csv(sections), encoding="utf-8")
    if groups := groups_csv(sections):
        (out / "leaderboard-groups.csv").write_text(groups, encoding="utf-8")
    (out / "leaderboard.md").write_text(markdown(sections, plots), encoding="utf-8")
    print(f"{out / 'leaderboard.md'}, {out / 'leaderboard.csv'} and {sum(map(len, plots.values()))} plots")


if __name__ == "__main__":
    sys.exit(main())
