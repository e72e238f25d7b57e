"""The runs behind the published tables, packed: ``python -m results.published unpack`` puts them into ``results/runs``.

There they count as finished: a suite or a study runs only what is missing beside them, and one's own runs stand on a
leaderboard with them, compared scenario by scenario. ``python -m results.published pack`` adds the finished runs of
``results/runs`` to what is packed. A packed run is what tables are made of (record, configuration, command, the lines
of its iterations); checkpoints and transcripts are not in it.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import shlex
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from results.leaderboard import collect_folders, placed
from results.record import Record, RecordError

FOLDER = Path(__file__).parent / "published"
"""Where the archives lie, one per environment."""
FILES = ("config.yaml", "overrides.json", "metrics.jsonl", "record.json")
"""What is kept of a run; the record, which says that it is finished, comes last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 with a message when something can't be read or written."""
    parser = argparse.ArgumentParser(prog="python -m results.published", description=__doc__)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="where the run folders lie")
    parser.add_argument("--archives", type=Path, default=FOLDER, help="where the archives lie")
    options = parser.parse_args(arguments)
    try:
        if options.what == "pack":
            for path, added, total in pack(options.runs, options.archives):
                print(f"{path}: {added} runs added or renewed, {total} in all, {path.stat().st_size / 1e6:.1f} MB")
        else:
            new, there = unpack(options.archives, options.runs)
            print(f"{new} runs unpacked into {options.runs}, {there} were there already.")
    except (RecordError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def pack(runs: Path, archives: Path) -> Iterator[tuple[Path, int, int]]:
    """Add the finished runs below ``runs`` to the archives; yields each archive, how many were added, and of how many.

    A run that is packed already is renewed. The same runs give the same bytes, whenever they are packed. Raises
    ``RecordError`` for a record that can't be read.
    """
    by_env: dict[str, dict[str, dict[str, bytes]]] = {}
    for folder, record in collect_folders(runs).items():
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
        told = _without_place(record)
        files["record.json"] = told.to_json().encode("utf-8")
        if "overrides.json" in files:
            about = {"command": told.command, "overrides": told.overrides}
            files["overrides.json"] = (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
        by_env.setdefault(record.env, {})[folder.relative_to(runs).as_posix()] = files
    if not by_env:
        raise RecordError(f"There are no finished runs below {runs}; make one: python -m benchmarks.run")
    with placed("--archives FOLDER"):
        archives.mkdir(parents=True, exist_ok=True)
    for env, found in sorted(by_env.items()):
        path = archives / f"{env}.tar.xz"
        whole = (dict(_read(path)) if path.exists() else {}) | found
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with tarfile.open(temporary, "w:xz", preset=6) as archive:
            for name, files in sorted(whole.items()):
                for file, content in files.items():
                    one = tarfile.TarInfo(f"{name}/{file}")
                    one.size = len(content)
                    archive.addfile(one, io.BytesIO(content))
        temporary.replace(path)
        yield path, len(found), len(whole)


def _without_place(record: Record) -> Record:
    """The record without ``results=``: where its folder lay is no part of a run, and nobody else's business."""
    command = shlex.join(word for word in shlex.split(record.command) if not word.startswith("results="))
    return replace(
        record, command=command, overrides=[word for word in record.overrides if not word.startswith("results=")]
    )


def unpack(archives: Path, runs: Path) -> tuple[int, int]:
    """Put the packed runs into ``runs``; returns how many were put there, and how many were left as they are there.

    Raises ``RecordError`` when there are no archives, one holds what no run folder holds, or nothing can be written.
    """
    paths = sorted(archives.glob("*.tar.xz"))
    if not paths:
        raise RecordError(f"There are no archives (*.tar.xz) in {archives}.")
    new = there = 0
    for path in paths:
        for name, files in _read(path):
            folder = runs / name
            if (folder / "record.json").exists():
                there += 1
                continue
            with placed("--runs FOLDER"):
                folder.mkdir(parents=True, exist_ok=True)
                for file, content in files.items():
                    temporary = folder / f".{file}.{os.getpid()}"
                    temporary.write_bytes(content)
                    temporary.replace(folder / file)
            new += 1
    return new, there


def _read(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The packed runs: the folder's name, and the files by name, the record last."""
    runs: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path, "r:xz") as archive:
            for one in archive:
                place = PurePosixPath(one.name)
                content = archive.extractfile(one)
                if content is None or place.name not in FILES or place.is_absolute() or ".." in place.parts:
                    raise RecordError(f"{path} holds {one.name}, which is no part of a run; get the archive again.")
                runs.setdefault(place.parent.as_posix(), {})[place.name] = content.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise RecordError(f"{path} can't be read: {error}. Get the archive again.") from error
    for name, files in runs.items():
        if "record.json" not in files:
            raise RecordError(f"{path}: {name} has no record.json; get the archive again.")
        Record.from_json(files["record.json"].decode("utf-8"))
        yield name, {file: files[file] for file in FILES if file in files}


if __name__ == "__main__":
    sys.exit(main())
