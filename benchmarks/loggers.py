"""Experiment trackers that a run tells its numbers to, if asked: ``logger=tensorboard``, ``wandb``, ``trackio``.

By default there is none. What is told is the run's configuration, then what ``metrics.jsonl`` has, iteration by
iteration, and at the end the means of the final evaluation. Nothing leaves the machine unless the configuration says
where to. The choice is no part of what a run is: it may change, or be left out, when a run is continued.

A class of your own with the methods of ``Logger`` serves as well: a YAML that names it as ``_target_``, in ``logger/``
of a folder that is given with ``--config-dir``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from benchmarks.build import Experiment
from benchmarks.checkpoint import write_whole
from benchmarks.progress import warn
from results.record import Record


@dataclass(frozen=True, slots=True)
class About:
    """Which run it is."""

    name: str
    """Environment, user, agent, budget and seed, as its folder is named."""
    id: str
    """Drawn when the run was first logged: equal over all processes that work on it, and no other run has it."""
    folder: Path
    """Its folder."""
    config: dict[str, Any]
    """What it is, as ``record.json`` says it."""


class Logger(Protocol):
    """Who is told. Whatever its methods raise ends the logging with a warning, and never the run."""

    def begin(self, run: About, told: int) -> int:
        """Get ready. ``told`` rows of this run were told by earlier processes; returns how many of them to leave out
        now: ``told``, or 0 to hear all of them again."""

    def row(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """What an iteration came to; names have a group before a slash (``agent/entropy``)."""

    def final(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """What the final evaluation came to, after the last iteration."""

    def close(self) -> None:
        """Nothing more comes from this process, whether the run is finished or not."""


class Log:
    """A run's logger, if it has one: told every row once, and left alone when it fails. Use it in a ``with`` statement.

    Args:
        logger: who is told; None: nobody.
        experiment: what the run is.
        folder: the run's; how much was told stands in ``logger.json`` in it.
    """

    def __init__(self, logger: Logger | None, experiment: Experiment, folder: Path):
        self._logger, self._experiment, self._note = logger, experiment, folder / "logger.json"
        self._id, self._told = "", dict[str, int]()
        self._iteration = 0

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        if self._id:
            self._try(lambda logger: logger.close())

    def begin(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Begin, or go on with, a run that has these rows already."""
        self._try(lambda logger: self._begin(logger, rows))

    def row(self, row: Mapping[str, Any]) -> None:
        """Tell what an iteration came to, a line of ``metrics.jsonl``."""
        self._try(lambda logger: self._tell(logger, row))

    def final(self, record: Record) -> None:
        """Tell what the final evaluation came to."""
        self._try(lambda logger: logger.final(self._iteration, dict(means(record))))

    def _begin(self, logger: Logger, rows: Sequence[Mapping[str, Any]]) -> None:
        known = json.loads(self._note.read_text(encoding="utf-8")) if self._note.exists() else {}
        self._id, self._told = known.get("id", uuid.uuid4().hex[:8]), known.get("told", {})
        folder = self._note.parent
        name = folder.relative_to(self._experiment.config["results"]).as_posix()
        about = About(name, self._id, folder, self._experiment.identity)
        told = min(self._told.get(type(logger).__name__, 0), len(rows))
        for row in rows[logger.begin(about, told) :]:
            self._tell(logger, row)

    def _tell(self, logger: Logger, row: Mapping[str, Any]) -> None:
        self._iteration = row["iteration"]
        logger.row(self._iteration, dict(numbers(row)))
        self._told[type(logger).__name__] = self._iteration + 1  # row 0 is that of before any iteration
        write_whole(self._note, json.dumps({"id": self._id, "told": self._told}) + "\n")

    def _try(self, call: Callable[[Logger], None]) -> None:
        if self._logger is None:
            return
        try:
            call(self._logger)
        except Exception as error:  # whatever a library may raise: a run is worth more than its log
            failed, self._logger = type(self._logger).__name__, None
            warn(f"{failed} failed ({error}) and is told nothing more; the run goes on, and metrics.jsonl has it all.")


def numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a line of ``metrics.jsonl`` under one name each; those that were not finite are left out."""
    yield "conversations", row["conversations"]
    for group in ("evaluation", "agent", "seconds"):
        for name, value in (row[group] or {}).items():
            if value is not None and name not in ("iteration", "conversations"):
                yield f"{group}/{name}", float(value)


def means(record: Record) -> Iterator[tuple[str, float]]:
    """Mean return and success rate of every user and split, over what was scored."""
    for one in record.evaluations:
        for name, values in (("mean_return", one.returns), ("success_rate", one.successes)):
            if scored := [value for value in values if value is not None]:
                yield f"final/{one.user}/{one.split}/{name}", float(np.mean(scored))


# ---- those that are known --------------------------------------------------------------------------------------------


class TensorBoard:
    """Event files for TensorBoard, in ``tensorboard/`` of the run's folder or in ``folder``.

    Read them with ``tensorboard --logdir results/runs``. A continued run tells all rows again; TensorBoard shows the
    last telling alone.
    """

    def __init__(self, folder: str | None = None):
        _need("tensorboard", "pip install 'parley-gym[tensorboard]'")
        self.folder = folder

    def begin(self, run: About, told: int) -> int:
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(self.folder) / run.name if self.folder else run.folder / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=0)
        return 0

    def row(self, iteration: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, iteration)
        self._writer.flush()

    final = row

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases, by default ``offline``: files in ``wandb/`` of the run's folder, which ``wandb sync`` uploads.

    A continued run is the same run there (``online``), or a file of its own that has all rows (``offline``: sync the
    last). Crash reports to its makers, code, console and machine statistics are off.

    Args:
        project, entity: where it belongs; see ``wandb.init``.
        mode: ``offline`` or ``online``. ``ValueError`` for others.
    """

    def __init__(
        self, project: str = "parley", entity: str | None = None, mode: Literal["offline", "online"] = "offline"
    ):
        if mode not in ("offline", "online"):
            raise ValueError(f"mode={mode!r}; choose offline or online.")
        _need("wandb", "pip install wandb")
        self.project, self.entity, self.mode = project, entity, mode

    def begin(self, run: About, told: int) -> int:
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # read when it is imported
        import wandb

        self._run = wandb.init(
            project=self.project, entity=self.entity, mode=self.mode, dir=str(run.folder), id=run.id, name=run.name,
            resume="allow" if self.mode == "online" else None, config=run.config, save_code=False,
            settings=wandb.Settings(disable_git=True, console="off", x_disable_stats=True, x_disable_meta=True),
        )  # fmt: skip
        return told if self.mode == "online" else 0

    def row(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=iteration)

    def final(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self._run.summary.update(dict(numbers))

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """Trackio's local database, which ``trackio show`` opens; with ``space_id`` a Hugging Face Space as well.

    A continued run is the same run there.

    Args:
        project: where it belongs.
        space_id: a Space to upload to; None: nothing is uploaded. ``ValueError`` if the environment names one
            instead: what is uploaded is asked for here.
    """

    _ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")

    def __init__(self, project: str = "parley", space_id: str | None = None):
        if space_id is None and (named := [name for name in self._ELSEWHERE if os.environ.get(name)]):
            raise ValueError(
                f"{named[0]} is set, so it would upload; unset it, or name a Space with logger.space_id=…."
            )
        _need("trackio", "pip install trackio")
        self.project, self.space_id = project, space_id

    def begin(self, run: About, told: int) -> int:
        import trackio

        self._run = trackio.init(
            project=self.project, name=f"{run.name}-{run.id}", space_id=self.space_id, config=run.config,
            resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        return told

    def row(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=iteration)

    final = row

    def close(self) -> None:
        self._run.finish()


def _need(module: str, command: str) -> None:
    """Raises ``ModuleNotFoundError`` with what to do about it."""
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"it needs {module}, which is not installed; run: {command}")
