"""Does what was learnt with one user hold with others? ``python -m benchmarks.transfer agent=iterppo env=sales``.

Rows are agents by whom they learnt with, columns are users; each cell is the mean return in conversations on the same
scenarios, with an interval over training seeds and clusters of scenarios. Runs that are not finished are run first, as
``benchmarks.study`` would; then every agent talks with every user that it has not met. What is measured is kept in the
run's folder, so that an interrupted command goes on, and another user costs only its own column.

Writes ``transfer-ENV-AGENT-BUDGET`` as CSV, Markdown, JSON and a plot.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from agents.agent import Agent
from benchmarks.build import CONF, Experiment
from benchmarks.cells import Cell, run_cells
from benchmarks.checkpoint import RunFolder
from benchmarks.evaluate import converse, kept, summarise, withdrawing
from benchmarks.learn import use_threads
from benchmarks.progress import RunError, quieten_libraries, readable_errors, say
from benchmarks.provenance import commit, dirty
from envs.env import ConversationEnv
from envs.learnt_person import LearntPerson
from results.record import Evaluation
from results.transfer import Transfer, write

_LISTS = ("seeds", "trained_on", "talks_with", "overrides")


@dataclass(frozen=True)
class Plan:
    """What ``conf/transfer_config.yaml`` says."""

    agent: str
    env: str
    budget: str
    seeds: Sequence[int]
    trained_on: Sequence[str]
    talks_with: Sequence[str]
    reference: str | None
    split: str | None
    overrides: Sequence[str]
    jobs: int
    results: str
    out: str

    def __post_init__(self) -> None:
        for name in _LISTS:
            if not isinstance(value := getattr(self, name), list):
                raise RunError(f"{name}={value!r} is no list; give it as {name}=[…].")
        for name in _LISTS[:3]:
            if not getattr(self, name):
                raise RunError(f"{name}=[] is empty; name one at least.")
        if not isinstance(self.jobs, int) or self.jobs < 0:
            raise RunError(f"jobs={self.jobs} is no number of processes; give 1 or more, or 0 to run none.")

    @property
    def name(self) -> str:
        digest = hashlib.sha256("\n".join(self.overrides).encode()).hexdigest()[:8]
        more = [*([self.split] if self.split else []), *([digest] if self.overrides else [])]
        return "-".join([self.env, self.agent, self.budget, *more])

    def cells(self) -> list[Cell]:
        """The runs: the reference's own, then one per training user and seed."""
        first = self.trained_on[0]
        reference = [self.cell(self.reference, first, self.seeds[0])] if self.reference else []
        return [*reference, *(self.cell(self.agent, user, seed) for seed in self.seeds for user in self.trained_on)]

    def cell(self, agent: str, user: str, seed: int) -> Cell:
        """The run of ``agent`` that learns with ``user``; its name says whom it learnt with."""
        others = [word for word in self.overrides if not word.lstrip("+~").startswith(("agent.", "solver"))]
        more = self.overrides if agent == self.agent else others
        words = (f"agent={agent}", f"env={self.env}", f"user={user}", f"budget={self.budget}", f"seed={seed}", *more)
        return Cell(agent if agent == self.reference else user, seed, (*words, f"results={self.results}"))

    def env_of(self, user: str) -> Experiment:
        """The agent's run with this user: says how the user and the world are built."""
        return self.cell(self.agent, user, self.seeds[0]).experiment


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="transfer_config")
@readable_errors
def main(config: DictConfig) -> None:
    """Run what is missing, let everybody talk with everybody, write. Ends with exit status 1 if runs failed."""
    options: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    choices = HydraConfig.get().runtime.choices
    plan = Plan(**options | {group: choices[group] for group in ("agent", "env", "budget")})
    cells = plan.cells()
    for experiment in [*map(plan.env_of, plan.talks_with), *(cell.experiment for cell in cells)]:
        experiment.check()
    failures = run_cells(cells, plan.jobs) if plan.jobs else {}
    use_threads(1)
    quieten_libraries()
    meet = cache(lambda user, split: _environment(plan.env_of(user), user, split))
    met: dict[str, dict[str, list[Evaluation]]] = {}
    for cell in cells:
        if RunFolder(cell.experiment.folder).finished:
            for evaluation in _evaluations(cell, plan, meet):
                met.setdefault(cell.method, {}).setdefault(evaluation.user, []).append(evaluation)
    failed = "\n".join(["These runs failed:", *(f"  {cell}: {why}" for cell, why in failures.items())])
    if not met:
        nothing = "None of the runs is finished, so there is nothing to show; run them with jobs=1."
        raise RunError(failed if failures else nothing)
    table = Transfer.of(plan.agent, plan.env, met, plan.talks_with)
    path = write(table, Path(plan.out), f"transfer-{plan.name}", _about(plan, cells))
    say(f"{table}\n{path}")
    if failures:
        raise RunError(failed)


def _environment(experiment: Experiment, user: str, split: str) -> ConversationEnv:
    return experiment.build_env(experiment.build_user(user), split)


def _evaluations(cell: Cell, plan: Plan, meet: Callable[[str, str], ConversationEnv]) -> list[Evaluation]:
    """What came of the run's agent with every user; conversations that were held before are read back."""
    experiment, found = cell.experiment, []
    split = plan.split or experiment.splits[0]
    agent: Agent | None = None
    with RunFolder.claim(experiment) as folder, folder.held(), withdrawing() as written:
        for user in plan.talks_with:
            env = meet(user, split)
            which = "" if user == experiment.user else _which(plan.env_of(user), env)
            path = folder.trajectories / f"{user}{which}-{split}.jsonl"
            if not path.exists():
                if not folder.trajectories.is_dir():
                    raise RunError(
                        f"{folder.path} has a record alone, as published runs have, and no agent that could talk with "
                        f"{user}; run it anew (python -m benchmarks.run … resume=never)."
                    )
                agent = agent or folder.restored(experiment.build_agent())
                say(f"  {cell.name} talks with {user}")
                converse(agent, {path: env}, range(experiment.scenarios), written)
            found.append(summarise(user, env, kept(path, range(experiment.scenarios))))
    return found


def _which(experiment: Experiment, env: ConversationEnv) -> str:
    """Behind the name of a user whose name does not say who it is: which model was asked for, or which weights a model
    that is trained here has. Empty for others."""
    about: list[bytes] = []
    guest = experiment.identity.get("guest")
    if isinstance(guest, Mapping) and experiment.user not in experiment.config["env"]["users"]:
        about.append(json.dumps(guest, sort_keys=True, default=str).encode())
    if isinstance(env.user, LearntPerson):
        about.append((env.user.folder / "model.safetensors").read_bytes())
    return "-" + hashlib.sha256(b"\n".join(about)).hexdigest()[:8] if about else ""


def _about(plan: Plan, cells: Sequence[Cell]) -> list[str]:
    """Where the numbers come from."""
    command = shlex.join(["python", "-m", "benchmarks.transfer", *HydraConfig.get().overrides.task])
    unfinished = [cell.name for cell in cells if not RunFolder(cell.experiment.folder).finished]
    records = [record for cell in cells if cell.name not in unfinished and (record := cell.record())]
    commits = sorted({(one.commit or "-")[:9] + ("+" if one.dirty else "") for one in records})
    here = (commit() or "-")[:9] + (" and uncommitted changes" if dirty() else "")
    return [
        f"Command: `{command}`",
        f"Commit: {here}, {datetime.now(UTC).isoformat(timespec='seconds')}; runs of {', '.join(commits)}.",
        f"Training seeds: {', '.join(map(str, plan.seeds))}; "
        + (f"not finished: {', '.join(unfinished)}." if unfinished else "all runs are finished."),
    ]


if __name__ == "__main__":
    main()
