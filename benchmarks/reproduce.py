"""Make a row of the leaderboard again: ``python -m benchmarks.reproduce sales/iterppo``.

A row is named ``ENV/AGENT``, and further ``/TRAINED_WITH`` and ``/BUDGET`` where the table has several. Its runs are
made anew, in a folder of their own, with the settings that the table tells; then every mean that the row reports is
compared: it agrees if the runs made anew come to a mean inside the row's interval. With ``--seeds 0`` one run of
several is made, and compared with what that one returned.

Exits 1 if something does not agree. The same source on the same kind of machine gives the same numbers to the last
digit, and is told so; another processor may round otherwise, and then conversations part.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.progress import warn
from benchmarks.provenance import commit
from results.leaderboard import collect
from results.record import Record, RecordError
from results.statistics import matrix, mean

_EXACT = 1e-9
"""Means that differ by less are the same."""
_FEW = 8
"""How many rows an unknown one is told of."""


class RowError(ValueError):
    """The table has no such row; the message says which there are."""


@dataclass(frozen=True)
class Compared:
    """One mean of the row, and the same of the runs made anew."""

    what: str
    there: float
    low: float
    high: float
    here: float

    @property
    def agrees(self) -> bool:
        return self.low - _EXACT <= self.here <= self.high + _EXACT

    def __str__(self) -> str:
        word = "the same" if abs(self.here - self.there) < _EXACT else "agrees" if self.agrees else "DISAGREES"
        return f"  {self.what}: {self.there:.4f} [{self.low:.4f}, {self.high:.4f}] there, {self.here:.4f} here: {word}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduce", description=__doc__)
    parser.add_argument("row", help="ENV/AGENT[/TRAINED_WITH[/BUDGET]], such as sales/iterppo")
    parser.add_argument("--table", type=Path, default=Path("results/leaderboard.csv"), help="the leaderboard")
    parser.add_argument("--seeds", help="of the row's training seeds, only these: 0 or 0,1")
    parser.add_argument("--results", type=Path, default=Path("results/reproduced"), help="where the runs are made")
    options = parser.parse_args(arguments)
    try:
        row = find(_table(options.table), options.row)
        seeds = _chosen(str(row["training_seeds"].iloc[0]).split(), options.seeds)
        records = [_made(row.iloc[0], seed, options.results) for seed in seeds]
        found = list(compare(row, records, whole=options.seeds is None))
    except (RowError, RecordError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.row}, seed {', '.join(seeds)}:")
    print("\n".join(map(str, found)))
    agree = all(one.agrees for one in found)
    print("The row agrees." if agree else "The row does not agree.")
    return int(not agree)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, dtype={"training_seeds": str})
    except FileNotFoundError as error:
        raise RowError(f"--table {path} is not there; give the leaderboard.csv that has the row.") from error


def find(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The lines of one row, one per user and split. Raises ``RowError`` if there is none, or several."""
    columns = ("env", "agent", "trained_with", "budget")
    lines, parts = table, name.split("/")
    for column, part in zip(columns, parts, strict=False):
        lines = lines[lines[column] == part]
    rows = lines[[*columns, "variant"]].drop_duplicates()
    if len(rows) == 1 and len(parts) <= len(columns):
        return lines
    all_rows = table[list(columns)].drop_duplicates()
    known = ["/".join(map(str, one)) for one in (rows[list(columns)] if len(rows) else all_rows).to_numpy()]
    if len(rows) > 1:
        raise RowError(f"{len(rows)} rows are called {name}; name one of {', '.join(known)}.")
    near = get_close_matches(name, known, _FEW, cutoff=0.0)
    raise RowError(f"No row is called {name}; nearest of the {len(known)} are {', '.join(near)}.")


def _chosen(have: Sequence[str], asked: str | None) -> list[str]:
    if asked is None:
        return list(have)
    chosen = asked.split(",")
    if missing := [seed for seed in chosen if seed not in have]:
        raise RowError(f"--seeds {missing[0]} is none of the row's; it has {', '.join(have)}.")
    return chosen


def _made(line: pd.Series, seed: str, results: Path) -> Record:
    """The run of one seed, made or finished here."""
    own = [f"{key}={line[column]}" for key, column in (("agent", "agent"), ("env", "env"), ("user", "trained_with"))]
    words = [*own, f"budget={line['budget']}", f"seed={seed}", *shlex.split(line["variant"]), f"results={results}"]
    if line["commit"] and commit() not in line["commit"].split():
        warn(f"The row was made from {line['commit']}; this is {commit()}. For the same source: git checkout it first.")
    command = [sys.executable, "-m", "benchmarks.run", *words]
    print(shlex.join(["python", *command[1:]]), flush=True)
    if status := subprocess.run(command, check=False, env={**os.environ, "TQDM_DISABLE": "1"}).returncode:
        raise RuntimeError(f"The run ended with exit status {status}; see what it said.")
    records = collect(results, skip_bad=True)  # of other rows; the run has just read its own
    wanted = (line["agent"], line["env"], line["trained_with"], line["budget"], int(seed), line["variant"])
    (record,) = (one for one in records if _named(one) == wanted)
    return record


def _named(one: Record) -> tuple[object, ...]:
    return (one.agent, one.env, one.user, one.budget, one.seed, " ".join(one.variant))


def compare(row: pd.DataFrame, records: Sequence[Record], whole: bool) -> list[Compared]:
    """Every mean return of the row with that of ``records``; those of single seeds with their own, if not ``whole``."""
    found = []
    for _, line in row.iterrows():
        cells = [e for one in records for e in one.evaluations if (e.user, e.split) == (line["user"], line["split"])]
        here = mean(matrix([cell.returns for cell in cells])) if cells else math.nan
        there, low, high = (float(line[name]) for name in ("return", "return_low", "return_high"))
        if not whole:
            if "returns_by_seed" not in row:
                raise RowError("The table does not say what each seed returned; leave --seeds out.")
            by_seed = dict(zip(str(line["training_seeds"]).split(), str(line["returns_by_seed"]).split(), strict=True))
            own = float(np.mean([float(by_seed[str(one.seed)]) for one in records]))
            there, low, high = own, own - (there - low), own + (high - there)
        found.append(Compared(f"{line['user']}, {line['split']}", there, low, high, here))
    return found


if __name__ == "__main__":
    sys.exit(main())
