"""A run's folder on disk: claimed once, resumed exactly, and whole at every moment.

    config.yaml        the resolved configuration; a run is continued only by the same one
    overrides.json     the command that made it
    checkpoints/N/     after iteration N: the agent, the meter, the log; the last two are kept
    metrics.jsonl      one line per iteration
    trajectories/      the final evaluation's conversations, one file per user and split
    record.json        written last: where it is, the run is finished

Everything is written beside its place, flushed to disk and renamed, so that a process killed at any moment leaves
either the old or the new, never half of one. No record is ever deleted: what is in the way is moved aside.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import yaml

from agents.agent import Agent
from agents.practice import Practice
from benchmarks.build import Experiment
from benchmarks.progress import RunError, say, warn
from results.record import Record

PARTS = ("setup", "learning", "evaluation", "cpu")
"""What time is booked under; ``cpu`` is the processor time of the other three together."""
_KEPT = 2
_SYNCING = 8
"""So many files are brought to disk at once; one after another, each would wait for a write of the journal's."""


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all, even if the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def set_aside(path: Path) -> Path:
    """Rename ``path`` to a name that is free and tells when; returns it."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    aside = path.with_name(f"{path.name}.aside-{stamp}")
    return path.rename(aside)


@dataclass
class Journal:
    """What a run remembers beside agent and meter, so that a resumed run ends with the same record."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    """Time spent so far, over all processes."""
    sources: list[str] = field(default_factory=list)
    """Source versions that worked on the run, in order, the present one last."""

    def note(self, practice: Practice, metrics: Mapping[str, float], evaluation: Mapping[str, Any] | None) -> None:
        """Add the line of the iteration that just ended (of iteration 0: before any)."""
        numbers = {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        self.rows.append(
            {
                "iteration": practice.iteration,
                "conversations": practice.spent.conversations,
                "evaluation": dict(evaluation) if evaluation else None,
                "agent": numbers,
                "seconds": {part: round(spent, 3) for part, spent in self.seconds.items()},
            }
        )

    def note_source(self, source: str) -> None:
        """Remember which source works on the run from here on; warn if it is not the one that began it."""
        if self.sources and source not in self.sources:
            warn(f"The source has changed since this run began ({self.sources[0]}, now {source}). It is recorded.")
        self.sources = [*(name for name in self.sources if name != source), source]


class RunFolder:
    """The folder of one run, held by one process at a time."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: TextIO | None = None

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def trajectories(self) -> Path:
        return self.path / "trajectories"

    # ---- claiming -------------------------------------------------------------------------------------------------

    @classmethod
    def claim(cls, experiment: Experiment) -> RunFolder:
        """Take the folder of this experiment, new or to be continued. Use it in a ``with`` statement.

        ``resume=never`` moves an existing run aside first. Raises ``RunError`` when the folder holds a run of another
        configuration, when another process holds it, or when it can't be written.
        """
        folder, anew = cls(experiment.folder), experiment.config["resume"] == "never"
        if folder.finished and not anew:
            folder._compare(experiment.identity)
            return folder
        folder._hold()
        try:
            folder._take(experiment, anew)
        except BaseException:
            folder._release()
            raise
        return folder

    def _take(self, experiment: Experiment, anew: bool) -> None:
        if anew and self.begun:
            say(f"Moved the earlier run to {set_aside(self.path)}.")
            self._release()
            self._hold()
        if self.begun:
            self._compare(experiment.identity)
        else:
            about = {"command": experiment.command, "overrides": experiment.overrides}
            write_whole(self.path / "overrides.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
            write_whole(self._config, yaml.safe_dump(experiment.identity, sort_keys=False, allow_unicode=True))
        self._sweep()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock:
            self._lock.close()

    @property
    def _config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def begun(self) -> bool:
        """Whether there is anything in it that resuming could build on."""
        return any(path.exists() for path in (self.checkpoints, self.trajectories, self.record))

    @property
    def finished(self) -> bool:
        return self.record.exists()

    def _hold(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunError(
                f"results={self.path} can't be written: {error.strerror}. Give another place with results=FOLDER."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise RunError(f"Another process is at work on {self.path}; wait for it, or end it.") from error
        self._lock = lock

    def _sweep(self) -> None:
        """Remove the half-written files of processes that were killed."""
        for leftover in [*self.path.glob(".*.json*"), *self.path.glob(".*.yaml.*"), *self.path.glob("*/.*")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def _compare(self, config: Mapping[str, Any]) -> None:
        try:
            there = dict(_leaves(yaml.safe_load(self._config.read_text(encoding="utf-8"))))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(
                f"{self._config} can't be read: {error}. Start anew with resume=never (it moves that run aside)."
            ) from error
        here = dict(_leaves(dict(config)))
        differing = [key for key in {**there, **here} if there.get(key, _ABSENT) != here.get(key, _ABSENT)]
        if differing:
            lines = [f"  {key}: {there.get(key, _ABSENT)} there, {here.get(key, _ABSENT)} now" for key in differing]
            raise RunError(
                f"{self.path} holds a run of another configuration:\n" + "\n".join(lines) + "\n"
                "Start anew with resume=never (it moves that run aside), or give another place with results=FOLDER."
            )

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, agent: Agent, practice: Practice, journal: Journal) -> None:
        """Write the checkpoint of this iteration, then metrics.jsonl; then drop checkpoints older than the last two."""
        final = self.checkpoints / f"{practice.iteration:06d}"
        temporary = self.checkpoints / f".{final.name}.{os.getpid()}"
        (temporary / "agent").mkdir(parents=True)
        agent.save(temporary / "agent")
        state = {"practice": practice.state(), "journal": asdict(journal)}
        (temporary / "state.json").write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
        digests = {str(file.relative_to(temporary)): _digest(file) for file in _files(temporary)}
        (temporary / "manifest.json").write_text(json.dumps(digests, indent=1), encoding="utf-8")
        with ThreadPoolExecutor(_SYNCING) as pool:
            list(pool.map(_sync, [*temporary.rglob("*"), temporary]))
        if final.exists():
            set_aside(final)
        temporary.rename(final)
        _sync(self.checkpoints)
        self.write_metrics(journal)
        for old in self._saved()[:-_KEPT]:
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))

    def restore(self, agent: Agent, practice: Practice) -> Journal:
        """Continue from the newest complete checkpoint; an empty journal if there is none yet.

        A damaged checkpoint is moved aside, loudly, for the one before it. Raises ``RunError`` when all are damaged.
        """
        saved = self._saved()
        for path in reversed(saved):
            if damage := _damage(path):
                warn(f"{path} is damaged ({damage}); falling back to the checkpoint before it.")
                continue
            journal = self._restore(path, agent, practice)
            self._discard_after(path)
            self.write_metrics(journal)
            return journal
        if saved:
            raise RunError(
                f"No checkpoint in {self.checkpoints} is complete: {_damage(saved[-1])}. "
                "Start anew with resume=never (it moves this run aside)."
            )
        return Journal()

    def restored(self, agent: Agent) -> Agent:
        """``agent`` as it was when the run was finished, for asking and not for going on; one that does not learn as it
        is.

        Raises ``RunError`` when the last checkpoint is not whole: the one before it is another agent.
        """
        if not agent.learns:
            return agent
        saved = self._saved()
        if not saved or (damage := _damage(saved[-1])):
            why = f"{saved[-1]} is damaged ({damage})" if saved else f"{self.checkpoints} holds no checkpoint"
            raise RunError(f"{why}; make the run anew with resume=never (it moves this one aside).")
        try:
            agent.restore(saved[-1] / "agent")
        except (ValueError, TypeError, LookupError, OSError, RuntimeError) as error:
            raise RunError(
                f"{saved[-1]} is whole, but {type(agent).__name__} can't be restored from it: {error}. If its code has "
                "changed since, make the run anew with resume=never (it moves this one aside)."
            ) from error
        return agent

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a finished run's folder, to add something to it. Raises ``RunError`` if another process does."""
        self._hold()
        try:
            yield
        finally:
            self._release()

    def _restore(self, path: Path, agent: Agent, practice: Practice) -> Journal:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        try:
            agent.restore(path / "agent")
            practice.restore(state["practice"])
            return Journal(**state["journal"])
        except (ValueError, TypeError, LookupError, OSError, RuntimeError) as error:
            raise RunError(
                f"{path} is whole, but {type(agent).__name__} can't continue from it: {error}. If its code has changed "
                "since, start anew with resume=never (it moves this run aside)."
            ) from error

    def _discard_after(self, path: Path) -> None:
        newer = [other for other in self._saved() if other.name > path.name]
        for other in newer:
            set_aside(other)
        if newer and self.trajectories.exists():
            set_aside(self.trajectories)

    def _saved(self) -> list[Path]:
        """Checkpoints from oldest to newest."""
        return sorted(path for path in self.checkpoints.glob("[0-9]*") if path.name.isdigit())

    def write_metrics(self, journal: Journal) -> None:
        lines = [json.dumps(row, allow_nan=False) + "\n" for row in journal.rows]
        write_whole(self.path / "metrics.jsonl", "".join(lines))

    def write_record(self, record: Record) -> None:
        """Write record.json: from now on the run is finished."""
        write_whole(self.record, record.to_json())


_ABSENT = "(absent)"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file must be as its manifest says."""
    manifest = checkpoint / "manifest.json"
    try:
        digests = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{manifest} can't be read: {error}"
    for name, digest in digests.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{file} is missing"
        if _digest(file) != digest:
            return f"{file} is not as it was written"
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
