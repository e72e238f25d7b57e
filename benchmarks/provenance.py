"""Where a record comes from: source version, library versions, machine, time."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from agents.agent import Agent
from agents.practice import Practice
from benchmarks.build import Experiment
from benchmarks.checkpoint import Journal
from envs.users import UserSimulator
from results.record import CurvePoint, Evaluation, Record, Seconds, Spending

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("envs", "agents", "benchmarks", "conf")
_SOURCES = (*_PACKAGES, "results/*.py", "pyproject.toml")
_SUFFIXES = (".py", ".yaml")
_LIBRARIES = ("parley-gym", "numpy", "gymnasium", "torch", "transformers", "trl")


class Clock:
    """Books the time since the last booking under a name."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def book(self, seconds: dict[str, float], part: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        seconds[part] += wall - self._wall
        seconds["cpu"] += cpu - self._cpu
        self._wall, self._cpu = wall, cpu


def commit() -> str | None:
    """The git commit of the source, or None outside a repository."""
    return _git("rev-parse", "HEAD")


def source() -> str:
    """Commit and digest of the code and configuration as they are on disk: equal words mean an equal source."""
    digest = hashlib.sha256()
    for path in sorted(path for name in _PACKAGES for path in (_ROOT / name).rglob("*") if path.suffix in _SUFFIXES):
        digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    return f"{(commit() or 'no commit')[:12]}+{digest.hexdigest()[:12]}"


def dirty() -> bool | None:
    """Whether code or configuration differs from the commit; None outside a repository."""
    changes = _git("status", "--porcelain", "--", *_SOURCES)
    return None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Python's and the libraries' versions, read from their metadata: nothing is imported for it."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def make_record(
    experiment: Experiment,
    agent: Agent,
    practice: Practice,
    journal: Journal,
    evaluations: Sequence[Evaluation],
    diagnostics: Mapping[str, float | None],
    user: UserSimulator,
) -> Record:
    """Everything about a finished run."""
    return Record(
        agent=experiment.agent,
        env=experiment.env,
        user=experiment.user,
        budget=experiment.budget,
        seed=experiment.seed,
        variant=experiment.variant,
        learns=agent.learns,
        references=dict(experiment.config["env"].get("references") or {}),
        config=experiment.identity,
        overrides=list(experiment.overrides),
        command=experiment.command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        dirty=dirty(),
        earlier_sources=journal.sources[:-1],
        versions=versions(),
        platform=f"{platform.platform()}, {platform.machine()}",
        evaluations=list(evaluations),
        spent=Spending(**asdict(practice.spent)),
        seconds=Seconds(**journal.seconds),
        metrics=journal.rows[-1]["agent"] if journal.rows else {},
        diagnostics=dict(diagnostics),
        models={
            name: dict(figures)
            for name, figures in ((experiment.user, user.figures()), (experiment.agent, agent.figures()))
            if figures
        },
        curve=[CurvePoint(**row["evaluation"]) for row in journal.rows if row["evaluation"]],
    )
