"""The cells of a study or a suite: each is one ``benchmarks.run`` in a process of its own, in the folder it would have
by itself.

So cells are shared between studies, suites and the leaderboard, a finished one is left alone, one that was killed goes
on from its checkpoint, and one that dies takes no other with it. A cell that another process is at work on is waited
for.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from benchmarks.build import Experiment
from benchmarks.checkpoint import RunFolder
from benchmarks.progress import RunError, say, warn
from results.record import Record, RecordError

_FEW = 12
"""So many cells are named in an error."""
_POLL = 0.2
"""Seconds between two looks at the processes."""
_GRACE = 10
"""Seconds that an interrupted process is given to end before it is killed; its folder is whole either way."""


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    method: str
    """What the study calls it; a method has a cell per seed."""
    seed: int
    overrides: tuple[str, ...]
    """Words of ``benchmarks.run``'s command line."""

    @property
    def name(self) -> str:
        return f"{self.method}/{self.seed}"

    @cached_property
    def experiment(self) -> Experiment:
        """The run as configured. Raises ``RunError`` naming what is wrong with it. Needs Hydra to be initialised."""
        ours = HydraConfig.instance().cfg
        try:
            return Experiment.of(_composed(self.overrides))
        except RunError:
            raise
        except (HydraException, OmegaConfBaseException) as error:
            raise RunError(f"{self.name} can't be composed: {error}") from error
        finally:
            HydraConfig.instance().cfg = ours

    @property
    def command(self) -> list[str]:
        """What runs it, with this interpreter."""
        return [sys.executable, *shlex.split(self.experiment.command)[1:]]

    @property
    def log(self) -> Path:
        """What its processes said, beside its record."""
        return self.experiment.folder / "study.log"

    def record(self) -> Record | None:
        """What came of it; None while it is not finished.

        Raises ``RunError`` when its folder holds a run of another configuration, ``RecordError`` when it can't be read.
        """
        folder = RunFolder(self.experiment.folder)
        if not folder.finished:
            return None
        RunFolder.claim(self.experiment)
        return Record.load(folder.record)

    @property
    def held(self) -> bool:
        """Whether a process is at work on it."""
        try:
            with (self.experiment.folder / ".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except BlockingIOError:
            return True
        return False


def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """The configuration of a run; Hydra's own part becomes the ``HydraConfig``, which the caller restores.

    To compose takes a fifth of a second, so of runs that differ in their seeds alone it is done once.
    """
    seeds = [word for word in overrides if word.split("=", 1)[0].lstrip("+~") == "seed"]
    if len(seeds) == 1 and re.fullmatch(r"seed=(0|[1-9]\d*)", seeds[0]):
        config = _composed_once(GlobalHydra.instance().hydra, tuple(word for word in overrides if word not in seeds))
        config.seed = int(seeds[0].removeprefix("seed="))
        said = (*config.hydra.overrides.task, *seeds)  # all but those for Hydra itself
        with read_write(config.hydra):
            config.hydra.overrides.task = [word for word in overrides if word in said]
    else:
        config = compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@lru_cache(maxsize=256)
def _composed_once(hydra: object, overrides: tuple[str, ...]) -> DictConfig:
    """One for all seeds: who asks sets the seed in it. ``hydra`` says where the files are; a command has one."""
    return compose("config", list(overrides), return_hydra_config=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """A cell, and what there is of it."""

    cell: Cell
    state: str = "not begun"
    """``finished``, ``begun``, ``not begun``, or why it can't be or was not finished."""
    record: Record | None = None
    """Present when it is finished."""

    @classmethod
    def of(cls, cell: Cell, failures: Mapping[str, str]) -> Standing:
        """As the disk has it; ``failures`` are those of ``run_cells``."""
        try:
            if record := cell.record():
                return cls(cell, "finished", record)
            begun = RunFolder(cell.experiment.folder).begun
        except (RunError, RecordError, OSError) as error:
            return cls(cell, f"failed: {error}")
        if cell.name in failures:
            return cls(cell, f"failed: {failures[cell.name]}")
        return cls(cell, "begun" if begun else "not begun")


# ---- naming and choosing them -------------------------------------------------------------------------------------

_NAMED = ("agent", "env", "user", "budget", "seed")
"""What a run is named by comes first on its command line."""


def words(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Overrides as words of a command line; those whose value is null are left out.

    Raises ``RunError`` for a value that is no plain word or number.
    """
    ordered = [*(key for key in _NAMED if key in values), *(key for key in values if key not in _NAMED)]
    return tuple(f"{key}={_word(values[key])}" for key in ordered if values[key] is not None)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise RunError(f"{value!r} is no plain value; a method's overrides are words and numbers.")
    return str(value)


def choose(cells: Sequence[Cell], only: str | Sequence[str] | None, shard: str) -> list[Cell]:
    """The cells that match one of the names or patterns in ``only``, and of these every n-th for ``shard`` k/n."""
    patterns = [only] if isinstance(only, str) else list(only or ["*"])
    for pattern in patterns:
        if cells and not any(_matches(cell, pattern) for cell in cells):
            raise RunError(f"only={pattern} is no cell; {_there_are([cell.name for cell in cells], str(pattern))}.")
    found = re.fullmatch(r"(\d+)/(\d+)", str(shard))
    if not found or not int(found[1]) < int(found[2]):
        raise RunError(f"shard={shard} is no part of a whole; give 0/4 for the first of four, 3/4 for the last.")
    chosen = [cell for cell in cells if any(_matches(cell, pattern) for pattern in patterns)]
    return chosen[int(found[1]) :: int(found[2])]


def _there_are(names: Sequence[str], wanted: str) -> str:
    """All of a few names; of many the nearest."""
    if len(names) <= _FEW:
        return f"there are {', '.join(names)}"
    near = get_close_matches(wanted, names, _FEW, cutoff=0.0)
    return f"nearest of {len(names)} are {', '.join(near)} (in a pattern * stands for anything, [12] for 1 or 2)"


def _matches(cell: Cell, pattern: str) -> bool:
    return fnmatchcase(cell.name, str(pattern)) or fnmatchcase(cell.method, str(pattern))


def check_jobs(jobs: object) -> None:
    """Raises ``RunError`` unless ``jobs`` is a number of processes, or 0 for none."""
    if not isinstance(jobs, int) or jobs < 0:
        raise RunError(f"jobs={jobs} is no number of processes; give 1 or more, or 0 to run none.")


# ---- running them -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Job:
    """A cell's process, and what it has said so far."""

    cell: Cell
    process: subprocess.Popen[bytes]
    said: int
    """How far its log has been told."""
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, cell: Cell) -> _Job:
        """Start it in a session of its own: what interrupts the study reaches it through ``stop`` alone."""
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        with cell.log.open("ab") as log:
            log.write(f"=== {datetime.now():%Y-%m-%d %H:%M:%S} {shlex.join(cell.command)}\n".encode())
            said = log.tell()
            log.flush()
            process = subprocess.Popen(
                cell.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TQDM_DISABLE": "1"},  # a log is no place for bars, and libraries draw them anyway
                start_new_session=True,
            )
        return cls(cell, process, said)

    def relay(self) -> None:
        """Say the whole lines that it has said since."""
        with self.cell.log.open("rb") as log:
            log.seek(self.said)
            whole = log.read().rpartition(b"\n")[0]
        if whole:
            self.said += len(whole) + 1
            for line in filter(str.strip, whole.decode(errors="replace").splitlines()):
                say(f"    {self.cell.name}: {line}")

    def stop(self) -> None:
        """End the process and its children. It can go on later: a run's folder is whole at every moment."""
        for word in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, word)
                self.process.wait(timeout=_GRACE)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def run_cells(
    cells: Sequence[Cell], jobs: int, expected: Callable[[Cell], float | None] = lambda cell: None
) -> dict[str, str]:
    """Run what is not finished, ``jobs`` processes at a time; returns what failed and why, by the cells' names.

    ``expected`` says how many seconds a cell takes, None if that is not known; it is for telling how long it takes yet.
    Raises ``KeyboardInterrupt`` when interrupted or terminated, after its processes have ended.
    """
    failures: dict[str, str] = {}
    due = [cell for cell in cells if _is_due(cell, failures)]
    say(f"{len(cells) - len(due) - len(failures)} of {len(cells)} cells are finished, {len(due)} to run.")
    waiting = deque({cell.experiment.folder: cell for cell in due}.values())  # methods may share a cell
    total, running, told, began = len(waiting), list[_Job](), False, time.monotonic()
    with _terminations_interrupt():
        try:
            while waiting or running:
                while len(running) < jobs and (cell := _next_free(waiting)):
                    say(f"  {cell.name} starts: {cell.experiment.folder}")
                    try:
                        running.append(_Job.start(cell))
                    except OSError as error:
                        total -= 1
                        failures[cell.name] = f"can't be begun: {error}. Another place is given with results=FOLDER."
                        warn(f"{cell.name} {failures[cell.name]}")
                if waiting and not running and not told:
                    say(f"  other processes are at work on {', '.join(cell.name for cell in waiting)}: waiting")
                    told = True
                time.sleep(_POLL)
                for job in running:
                    job.relay()
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    _conclude(job, failures)
                    left = [*waiting, *(other.cell for other in running)]
                    say(_progress(total, left, jobs, time.monotonic() - began, expected))
        finally:
            for job in running:
                job.stop()
    return failures


def _is_due(cell: Cell, failures: dict[str, str]) -> bool:
    """Whether ``cell`` is to be run; one that can't be is noted in ``failures``."""
    try:
        cell.experiment.check()
        return cell.record() is None
    except (RunError, RecordError, OSError) as error:
        failures[cell.name] = str(error)
        warn(f"{cell.name} can't be run: {error}")
        return False


def _next_free(waiting: deque[Cell]) -> Cell | None:
    """The next cell that no process holds, taken out of ``waiting``; None if all are held, or none is left."""
    for cell in list(waiting):
        if not cell.held:
            waiting.remove(cell)
            if not RunFolder(cell.experiment.folder).finished:
                return cell
            say(f"  {cell.name} was finished by another process")
    return None


def _conclude(job: _Job, failures: dict[str, str]) -> None:
    """Tell how a process ended, and note it if it did not finish its cell."""
    job.relay()
    cell, minutes = job.cell, (time.monotonic() - job.began) / 60
    try:
        if cell.record():
            say(f"  {cell.name} finished in {minutes:.1f} minutes")
            return
        failures[cell.name] = f"ended with exit status {job.process.returncode}, see {cell.log}"
    except (RunError, RecordError, OSError) as error:
        failures[cell.name] = str(error)
    warn(f"{cell.name} {failures[cell.name]}")


def _progress(
    total: int, left: Sequence[Cell], jobs: int, seconds: float, expected: Callable[[Cell], float | None]
) -> str:
    """How far it is, and how long it takes yet: by what is expected of each cell, else as those that are done took."""
    done = total - len(left)
    pace = seconds * jobs / done
    ahead = sum(pace if (one := expected(cell)) is None else one for cell in left) / jobs
    return f"  {done} of {total} cells run in {in_words(seconds)}" + (f", about {in_words(ahead)} left" if left else "")


def in_words(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


@contextmanager
def _terminations_interrupt() -> Iterator[None]:
    """Let SIGTERM end the study as Ctrl-C does, with its processes."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
