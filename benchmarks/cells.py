"""The cells of a study: each is one ``benchmarks.run`` in a process of its own, in the folder it would have by itself.

So cells are shared between studies and with the leaderboard, a finished one is left alone, one that was killed goes on
from its checkpoint, and one that dies takes no other with it. A cell that another process is at work on is waited for.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import FrameType

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from benchmarks.build import Experiment
from benchmarks.checkpoint import RunFolder
from benchmarks.progress import RunError, say, warn
from results.record import Record, RecordError

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
            config = compose("config", list(self.overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
            return Experiment.of(config)
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
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


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


def run_cells(cells: Sequence[Cell], jobs: int) -> dict[str, str]:
    """Run what is not finished, ``jobs`` processes at a time; returns what failed and why, by the cells' names.

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
                    running.append(_Job.start(cell))
                if waiting and not running and not told:
                    say(f"  other processes are at work on {', '.join(cell.name for cell in waiting)}: waiting")
                    told = True
                time.sleep(_POLL)
                for job in running:
                    job.relay()
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    _conclude(job, failures)
                    done = total - len(waiting) - len(running)
                    say(_progress(done, total, time.monotonic() - began))
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


def _progress(done: int, total: int, seconds: float) -> str:
    left = seconds / done * (total - done) / 60
    return f"  {done} of {total} cells run in {seconds / 60:.1f} minutes" + (f", about {left:.0f} left" if left else "")


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
