"""The conversations that the page carries: a light index that is read at once, and chunks that are unpacked on demand.

Run folders keep conversations in ``trajectories/USER-SPLIT.jsonl``, one JSON object per line, schema version 1. What a
critic thought of them may lie beside, in ``trajectories/USER-SPLIT.critique.jsonl``: one line per conversation, with
``seed`` and, per exchange, ``values``, ``action_values`` and ``advantages`` (null where not a number).

Where there are more conversations than wanted, the same scenarios are kept of every run of a world, evenly spaced, so
that any two agents can still be laid side by side.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.record import Record

SCHEMA_VERSION = 1
"""Of a line of ``trajectories/*.jsonl``; others are refused."""
PER_CHUNK = 250
"""Conversations that are packed together: many pack better, few unpack faster."""
OUTCOMES = ("success", "no success", "unscored")

_BEGINNING = re.compile(rb'\{"schema_version": 1, "seed": (\d+),')
"""How our own writer begins a line: the seed is read without parsing the rest."""
_NEEDED = {"seed", "brief", "opening", "steps", "stop_reason", "success", "judged"}
_CRITIQUE = ("values", "action_values", "advantages")


class ConversationError(ValueError):
    """A file of conversations can't be read; the message names file, line and remedy."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder and its record."""

    path: str
    """Below the folder of runs, with forward slashes; the first part of a conversation's id."""
    folder: Path
    record: Record
    agent: str
    """With what was set for it otherwise, as in the leaderboard."""
    world: str
    """The environment with its settings; the same words mean the same environment."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One file of conversations: a run, whom it talked with, and on which scenarios."""

    run: int
    user: str
    split: str
    path: Path
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """What the page embeds."""

    index: dict[str, Any]
    """Tables of scenarios, and per file the columns that filters need."""
    chunks: list[str]
    """Base64 of zlib streams of JSON."""
    held: int
    """Conversations that are in the chunks."""
    found: int
    """Conversations that the runs have."""
    notes: list[str]
    """What a reader has to know: what was left out, and why."""


def pack(runs: Sequence[Run], wanted: int) -> Packed:
    """At most about ``wanted`` conversations of ``runs``; raises ``ConversationError`` for a bad file."""
    cells, absent = _cells(runs)
    kept = choose(runs, cells, wanted)
    tables = _Tables()
    files: list[dict[str, Any]] = []
    chunks: list[str] = []
    for cell in cells:
        rows = list(_read(cell, kept[runs[cell.run].world, cell.split]))
        if rows:
            files.append(_file(cell, rows, tables, runs[cell.run].world, len(chunks)))
            chunks += [pack_chunk(rows[i : i + PER_CHUNK]) for i in range(0, len(rows), PER_CHUNK)]
    held, found = sum(len(file["returns"]) for file in files), sum(len(cell.seeds) for cell in cells)
    notes = []
    if held < found:
        notes.append(
            f"{held:,} of {found:,} conversations are on this page: evenly spaced scenarios, the same of every run of "
            "a world, user and split. The numbers under Results are of all of them."
        )
    if absent:
        notes.append(f"{absent} evaluations have no file of conversations beside their record.")
    index = {
        "tables": tables.found,
        "files": files,
        "outcomes": OUTCOMES,
        "stops": tables.stops,
        "per_chunk": PER_CHUNK,
    }
    return Packed(index, chunks, held, found, notes)


def _cells(runs: Sequence[Run]) -> tuple[list[Cell], int]:
    """Every file of conversations, and how many evaluations have none."""
    cells, absent = [], 0
    for number, run in enumerate(runs):
        for one in run.record.evaluations:
            path = run.folder / "trajectories" / f"{one.user}-{one.split}.jsonl"
            if path.is_file():
                cells.append(Cell(number, one.user, one.split, path, tuple(one.seeds)))
            else:
                absent += 1
    return cells, absent


def choose(runs: Sequence[Run], cells: Sequence[Cell], wanted: int) -> dict[tuple[str, str], set[int]]:
    """The scenarios to keep of each world and split: all, or evenly spaced ones, at most ``wanted`` conversations.

    One scenario at least is kept everywhere, so a very small ``wanted`` may be exceeded; 0 keeps none.
    """
    there: dict[tuple[str, str], set[int]] = {}
    if wanted == 0:
        return {(runs[cell.run].world, cell.split): set() for cell in cells}
    for cell in cells:
        there.setdefault((runs[cell.run].world, cell.split), set()).update(cell.seeds)
    ordered = {place: sorted(seeds) for place, seeds in there.items()}

    def kept(share: float) -> dict[tuple[str, str], set[int]]:
        return {place: set(evenly(seeds, max(1, int(share * len(seeds))))) for place, seeds in ordered.items()}

    def count(chosen: Mapping[tuple[str, str], set[int]]) -> int:
        return sum(len(chosen[runs[cell.run].world, cell.split] & set(cell.seeds)) for cell in cells)

    everything = kept(1.0)
    if count(everything) <= wanted:
        return everything
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if count(kept(middle)) <= wanted else (low, middle)
    return kept(low)


def evenly(items: Sequence[int], count: int) -> list[int]:
    """``count`` of ``items``, evenly spaced, the first among them."""
    return [items[i * len(items) // count] for i in range(count)]


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(cell: Cell, kept: set[int]) -> Iterator[dict[str, Any]]:
    """The rows of the kept scenarios, with what a critic thought of them, where there is that, as ``critique``."""
    beside = cell.path.with_name(f"{cell.path.stem}.critique.jsonl")
    thoughts = {row["seed"]: row for row in _lines(beside, kept)} if beside.is_file() else {}
    for row in _lines(cell.path, kept, SCHEMA_VERSION):
        if row["seed"] in thoughts:
            row["critique"] = [thoughts[row["seed"]].get(name) for name in _CRITIQUE]
        yield row


def _lines(path: Path, kept: set[int], version: int | None = None) -> Iterator[dict[str, Any]]:
    """The lines whose ``seed`` is in ``kept``; raises ``ConversationError`` naming the line that can't be read."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            known = _BEGINNING.match(line)
            if known and int(known[1]) not in kept:
                continue
            try:
                row = json.loads(line)
                if version is not None and row.get("schema_version") != version:
                    raise ValueError(
                        f"schema version {row.get('schema_version')!r}; this release reads version {version}"
                    )
                if version is not None and (missing := sorted(_NEEDED - row.keys())):
                    raise ValueError(f"it has no {', '.join(missing)}")
                if row["seed"] in kept:
                    yield row
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConversationError(
                    f"{path}, line {number} can't be read: {error}. Run its command again, or make the page without "
                    "conversations: --conversations 0."
                ) from error


# ---- the index -------------------------------------------------------------------------------------------------------


class _Tables:
    """Scenarios, written once for all the runs that met them, and the reasons for stopping."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.stops: list[str] = []
        self._at: list[dict[int, int]] = []

    def place(self, world: str, split: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, list[int]]:
        """The table that holds the scenarios of ``rows``, and where in it each stands.

        Where a seed means another scenario than in the table, as after a change of the world, there is another table.
        """
        for number, table in enumerate(self.found):
            if (table["world"], table["split"]) == (world, split) and not self._differ(number, rows):
                break
        else:
            number = len(self.found)
            self.found.append({"world": world, "split": split, "seeds": [], "attributes": []})
            self._at.append({})
        table, at = self.found[number], self._at[number]
        for row in rows:
            if row["seed"] not in at:
                at[row["seed"]] = len(table["seeds"])
                table["seeds"].append(row["seed"])
                table["attributes"].append(row.get("attributes", {}))
        return number, [at[row["seed"]] for row in rows]

    def _differ(self, number: int, rows: Sequence[Mapping[str, Any]]) -> bool:
        at, attributes = self._at[number], self.found[number]["attributes"]
        return any(row["seed"] in at and attributes[at[row["seed"]]] != row.get("attributes", {}) for row in rows)

    def stop(self, reason: str) -> int:
        if reason not in self.stops:
            self.stops.append(reason)
        return self.stops.index(reason)


def _file(cell: Cell, rows: Sequence[Mapping[str, Any]], tables: _Tables, world: str, chunk: int) -> dict[str, Any]:
    table, places = tables.place(world, cell.split, rows)
    return {
        "run": cell.run,
        "user": cell.user,
        "split": cell.split,
        "table": table,
        "rows": places,
        "returns": [_return(row) for row in rows],
        "outcomes": "".join(str(_outcome(row)) for row in rows),
        "stops": [tables.stop(row["stop_reason"]) for row in rows],
        "exchanges": [len(row["steps"]) for row in rows],
        "critique": any("critique" in row for row in rows),
        "chunk": chunk,
    }


def _return(row: Mapping[str, Any]) -> float | None:
    rewards = [step["reward"] for step in row["steps"]]
    return None if not row["judged"] or None in rewards else round(sum(rewards), 4)


def _outcome(row: Mapping[str, Any]) -> int:
    """A place in ``OUTCOMES``; undecided is no success."""
    return 2 if not row["judged"] else 0 if row["success"] else 1


# ---- chunks ----------------------------------------------------------------------------------------------------------


def pack_chunk(rows: Sequence[Mapping[str, Any]]) -> str:
    """Conversations as base64 of a zlib stream of JSON: ``{"briefs": […], "conversations": […]}``.

    A conversation is ``[brief, opening, steps, more]``: the number of its brief, ``[speaker, text]`` per turn before
    the agent's first, ``[said, reply, reward]`` per exchange, and an object with what few have.
    """
    briefs = list(dict.fromkeys(row["brief"] for row in rows))
    conversations = [[briefs.index(row["brief"]), *_conversation(row)] for row in rows]
    text = json.dumps({"briefs": briefs, "conversations": conversations}, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")


def _conversation(row: Mapping[str, Any]) -> list[Any]:
    opening = [[turn["speaker"], turn["text"]] for turn in row["opening"]]
    steps = [[step["utterance"]["text"], step["reply"], _short(step["reward"])] for step in row["steps"]]
    more = {name: row[name] for name in ("failure", "parts") if row.get(name)}
    if "critique" in row:
        more["critique"] = [None if one is None else [_short(x) for x in one] for one in row["critique"]]
    return [opening, steps, more]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
