"""What a run tells the person who started it: bars, plain lines, and errors in one sentence."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from tqdm import tqdm

from results.crossed import mean_interval
from results.record import Record, RecordError
from results.statistics import matrix


class RunError(CompactHydraException):
    """Something the person can mend. The message names the value and the remedy; Hydra prints it alone."""


def say(line: str) -> None:
    """A line on standard output, above any bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def warn(line: str) -> None:
    """A line on standard error that stands out."""
    tqdm.write(f"WARNING: {line}", file=sys.stderr)


def bar(what: str, total: int, done: int = 0) -> tqdm:
    """A progress bar of conversations with the time left; silent when standard error is no terminal."""
    return tqdm(total=total, initial=done, desc=what, unit=" conversations", disable=not sys.stderr.isatty())


def counter(what: str, total: int) -> Callable[[object], None]:
    """What to call ``total`` times; a bar stands from the first call to the last."""
    drawn: list[tqdm] = []

    def count(_: object) -> None:
        if not drawn:
            drawn.append(bar(what, total))
        drawn[0].update()
        if drawn[0].n >= total:
            drawn[0].close()

    return count


def quieten_libraries() -> None:
    """Keep transformers from drawing a bar for every model it loads or saves; the run has its own."""
    if transformers := sys.modules.get("transformers"):
        transformers.utils.logging.disable_progress_bar()


def readable_errors(task: Callable[[Any], None]) -> Callable[[Any], None]:
    """``task`` with errors fit for reading: those of the operating system become a sentence, an interruption a hint.

    Tracebacks are shown in full with ``PARLEY_TRACEBACK=1`` or ``HYDRA_FULL_ERROR=1``. In a sweep every failure is told
    when it happens, and the other runs go on.
    """

    @functools.wraps(task)
    def guarded(config: Any) -> None:
        if os.environ.get("PARLEY_TRACEBACK") == "1":
            os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            task(config)
        except KeyboardInterrupt:
            say("Interrupted. The same command continues from the last checkpoint.")
            sys.exit(130)
        except (OSError, RecordError) as error:
            _tell(failure := RunError(f"{error} What was recorded before is kept."))
            raise failure from error
        except Exception as error:
            _tell(error)
            raise

    return guarded


def tell(row: Mapping[str, Any]) -> None:
    """One line about the iteration that just ended."""
    evaluation = row["evaluation"] or {}
    reached = evaluation.get("mean_return")
    mean = "" if reached is None else f", mean return {reached:.3f}"
    minutes = row["seconds"]["learning"] / 60
    say(
        f"  iteration {row['iteration']}: {row['conversations']} conversations{mean}, {minutes:.1f} minutes of learning"
    )


def report(record: Record, path: Path) -> None:
    """The last lines of a run: where its record is, and the mean return with its interval for each user and split."""
    say(f"{record.agent} on {record.env}, seed {record.seed}: {path} ({record.date})")
    for one in record.evaluations:
        estimate = mean_interval(matrix([one.returns]), one.keys)
        kinds = ", ".join(f"{n} {kind}" for kind, n in one.failures.items())
        unscored = f", {one.unscored} unscored ({kinds})" if one.unscored else ""
        say(f"  {one.user}, {one.split}: mean return {estimate} over {len(one.seeds)} scenarios{unscored}")
    for user, figures in record.models.items():
        say(f"  {user}'s model: " + ", ".join(f"{name} {value:g}" for name, value in figures.items() if value))


def _tell(error: Exception) -> None:
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        warn(f"{' '.join(hydra.overrides.task)} failed: {error}")
