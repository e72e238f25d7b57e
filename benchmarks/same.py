"""Whether runs came out the same: ``python -m benchmarks.same results/runs elsewhere/runs``.

Compares the records, metrics and trajectories of every run below two folders, all to the last digit. What tells the
time, the source or the place is left out. Exits 1 and names what differs, if anything does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from results.record import record_paths

VOLATILE = ("seconds", "date", "commit", "dirty", "earlier_sources", "overrides", "command", "models")
"""Keys that may differ between two runs of one command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all runs are equal, 1 if not or if one is missing, 2 if there are none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same", description=__doc__)
    parser.add_argument("first", type=Path, help="a folder with run folders in it")
    parser.add_argument("second", type=Path, help="another")
    options = parser.parse_args(arguments)
    runs = [{path.parent.relative_to(one) for path in record_paths(one)} for one in vars(options).values()]
    if not any(runs):
        print(f"There is no finished run below {options.first} or {options.second}.", file=sys.stderr)
        return 2
    status = 0
    for run in sorted(runs[0] | runs[1]):
        missing = [str(one) for one, of in zip(vars(options).values(), runs, strict=True) if run not in of]
        try:
            differences = [] if missing else list(compare(options.first / run, options.second / run))
        except (OSError, ValueError) as error:
            differences = [f"can't be compared: {error}"]
        status |= bool(missing or differences)
        print(f"{run}: {'missing below ' + missing[0] if missing else 'DIFFERS' if differences else 'equal'}")
        print("".join(f"  {difference}\n" for difference in differences), end="")
    return status


def compare(first: Path, second: Path) -> Iterator[str]:
    """What differs between two run folders, beside ``VOLATILE`` keys."""
    for name in ("record.json", "metrics.jsonl"):  # agents that don't learn have no metrics
        here, there = (_stable(_read(folder / name)) for folder in (first, second))
        yield from _differences(name, here, there)
    files = [sorted(path.name for path in (folder / "trajectories").iterdir()) for folder in (first, second)]
    yield from _differences("trajectories", *files)
    for name in set(files[0]) & set(files[1]):
        if (first / "trajectories" / name).read_bytes() != (second / "trajectories" / name).read_bytes():
            yield f"trajectories/{name}"


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} can't be read: {error}") from error


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _differences(where: str, here: Any, there: Any) -> Iterator[str]:
    """The places, as dotted paths, at which two JSON values differ."""
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        for key in here:
            yield from _differences(f"{where}.{key}", here[key], there[key])
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for i, pair in enumerate(zip(here, there, strict=True)):
            yield from _differences(f"{where}[{i}]", *pair)
    elif here != there:
        yield f"{where}: {str(here)[:60]} in the first, {str(there)[:60]} in the second"


if __name__ == "__main__":
    sys.exit(main())
