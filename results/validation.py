"""Whether a folder of runs can go on the leaderboard: ``python -m results.leaderboard validate FOLDER``.

Reads the files alone. That the transcripts are what the environments make of them is for ``benchmarks.replay``, which
the command starts afterwards in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.record import Evaluation, Record, RecordError, record_paths

TRANSCRIPT_VERSION = 1
"""Of the lines in trajectories/USER-SPLIT.jsonl."""
FEW_SEEDS = 3
"""Training seeds below which a row is told to have few."""


@dataclass
class Checked:
    """What was found in a folder."""

    runs: int = 0
    errors: list[str] = field(default_factory=list)
    """What keeps a run off the leaderboard."""
    notes: list[str] = field(default_factory=list)
    """What its readers should know."""


def validate(folder: Path, with_replay: bool = True) -> int:
    """Check, tell, and start the replay; 0 if nothing is wrong. Raises ``RecordError`` if there is no run."""
    paths = record_paths(folder) if folder.is_dir() else []
    if not paths:
        raise RecordError(f"There is no record.json below {folder}; give the folder that holds the run folders.")
    found = check(paths)
    for line in [*(f"ERROR: {error}" for error in found.errors), *(f"note: {note}" for note in found.notes)]:
        print(line)
    wrong = f"{len(found.errors)} errors" if found.errors else "the files are in order"
    print(f"{found.runs} runs, {wrong}, {len(found.notes)} notes.", flush=True)
    if found.errors or not with_replay:
        return int(bool(found.errors))
    return subprocess.run([sys.executable, "-m", "benchmarks.replay", str(folder)], check=False).returncode


def check(paths: Sequence[Path]) -> Checked:
    """The records at ``paths`` with the files beside them, one by one and together."""
    found, records = Checked(), []
    for path in paths:
        found.runs += 1
        try:
            record = Record.load(path)
        except RecordError as error:
            found.errors.append(str(error))
            continue
        records.append(record)
        found.errors += [f"{path.parent}: {problem}" for problem in _of_run(path.parent, record)]
        found.notes += [f"{path.parent}: {note}" for note in _notes(record)]
    found.errors += _together(records)
    found.notes += _few_seeds(records)
    return found


def _of_run(folder: Path, record: Record) -> Iterator[str]:
    for name in ("config.yaml", "overrides.json"):
        if not (folder / name).exists():
            yield f"{name} is missing; hand in the run folder as the run has left it"
    if not record.evaluations:
        yield "it has no evaluation"
    for one in record.evaluations:
        where = f"trajectories/{one.user}-{one.split}.jsonl"
        if not (folder / where).exists():
            yield f"{where} is missing; hand in runs with their conversations (published ones are packed without)"
            continue
        try:
            yield from (f"{where}: {problem}" for problem in _of_evaluation(folder / where, one))
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield f"{where} can't be read: {error!r}"


def _of_evaluation(path: Path, one: Evaluation) -> Iterator[str]:
    if one.seeds != list(range(len(one.seeds))):
        yield "the scenarios are not those with the seeds 0, 1, … without a gap"
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    if versions := {row.get("schema_version") for row in rows} - {TRANSCRIPT_VERSION}:
        yield f"transcripts of schema version {versions.pop()!r}; this release reads version {TRANSCRIPT_VERSION}"
        return
    if [row["seed"] for row in rows] != one.seeds or [row["key"] for row in rows] != one.keys:
        yield "its conversations are not those of the record, in its order"
        return
    for row, recorded in zip(rows, one.returns, strict=True):
        scored = _return(row)
        if (scored is None) != (recorded is None) or (
            scored is not None and recorded is not None and not math.isclose(scored, recorded, abs_tol=1e-9)
        ):
            yield f"seed {row['seed']} returned {scored}; the record says {recorded}"
            return


def _return(row: Mapping[str, Any]) -> float | None:
    """The sum of rewards; null for a conversation that ended unscored."""
    return sum(step["reward"] for step in row["steps"]) if row["judged"] else None


def _notes(record: Record) -> Iterator[str]:
    if record.commit is None or record.dirty:
        yield "made from source that no commit names"
    if record.earlier_sources:
        yield f"more than one source worked on it: {', '.join(record.earlier_sources)}"
    if unscored := sum(one.unscored for one in record.evaluations):
        yield f"{unscored} conversations ended unscored"
    for name, version in record.versions.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version != here:
            yield f"made with {name} {version}; {here} is here"


def _together(records: Sequence[Record]) -> Iterator[str]:
    """What makes runs of one environment and budget incomparable."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for one in records:
        groups.setdefault((one.env, one.user, one.budget, repr(one.config.get("env"))), []).append(one)
    for (env, user, budget, _), group in groups.items():
        sets = {tuple((e.user, e.split, len(e.seeds), tuple(e.keys)) for e in one.evaluations) for one in group}
        if len(sets) > 1:
            yield f"runs of env={env} user={user} budget={budget} were evaluated on {len(sets)} different sets"
    seen: dict[tuple[str, ...], int] = {}
    for one in records:
        key = (one.env, one.user, one.agent, one.budget, str(one.seed), *one.variant)
        seen[key] = seen.get(key, 0) + 1
    yield from (f"{n} records of {' '.join(key)}" for key, n in seen.items() if n > 1)


def _few_seeds(records: Sequence[Record]) -> Iterator[str]:
    seeds: dict[tuple[str, ...], set[int]] = {}
    for one in records:
        if one.learns:
            seeds.setdefault((one.agent, one.env, one.user, one.budget, *one.variant), set()).add(one.seed)
    for (agent, env, *_), of in seeds.items():
        if len(of) < FEW_SEEDS:
            yield f"{agent} on {env} has {len(of)} training seed{'s' if len(of) > 1 else ''}; give {FEW_SEEDS} or more"
