"""The examination: the same fixed scenarios for every agent, with every user, on every split.

Scenario seeds are 0, 1, …; the learning curve has seeds of its own, so that whoever tunes by the curve does not tune on
what is reported. Agents speak as they were trained, sampling (``explore=True``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any

from tqdm import tqdm

from agents.agent import Agent
from agents.practice import Practice
from agents.rollout import Moment, play, rollout
from benchmarks.build import Experiment
from benchmarks.checkpoint import RunFolder
from benchmarks.health import health
from benchmarks.progress import RunError, bar
from envs.endpoint import EndpointError
from envs.env import ConversationEnv
from envs.trajectory import Trajectory, failure_kind, read_jsonl, write_jsonl
from envs.users import UserSimulator
from results.record import CurvePoint, Evaluation

CURVE_SEEDS = range(1 << 31, 1 << 32)
"""Scenarios of the learning curve: above the final evaluation's, below those of practice."""
_CHUNK = 250
"""Conversations between two savings. A constant, so that a resumed evaluation has the same batches."""


def evaluate(agent: Agent, experiment: Experiment, user: UserSimulator, folder: RunFolder) -> list[Evaluation]:
    """Let ``agent`` converse with every user on every split; what an earlier process finished is read back.

    ``user`` is the training user, already built.
    """
    folder.trajectories.mkdir(exist_ok=True)
    seeds, evaluations = range(experiment.scenarios), list[Evaluation]()
    with withdrawing() as written:
        for name in experiment.users:
            one = user if name == experiment.user else experiment.build_user(name)
            envs = {folder.trajectories / f"{name}-{s}.jsonl": experiment.build_env(one, s) for s in experiment.splits}
            converse(agent, envs, seeds, written)
            evaluations += [summarise(name, env, kept(path, seeds)) for path, env in envs.items()]
    return evaluations


@contextmanager
def withdrawing() -> Iterator[list[Path]]:
    """For the files that ``converse`` writes. If a server is given up on, those with conversations that ended unscored
    are taken back: it may have been dying already, and the same command asks again. Answers that came are kept
    elsewhere, so this costs little."""
    written: list[Path] = []
    try:
        yield written
    except EndpointError:
        for path in written:
            if path.exists() and not all(one.judged for one in read_jsonl(path)):
                path.unlink()
        raise


def converse(agent: Agent, envs: Mapping[Path, ConversationEnv], seeds: Sequence[int], written: list[Path]) -> None:
    """One conversation per seed in each of ``envs``, which differ in their split alone, into the file that stands for
    it; until those are whole, in chunks beside them.

    All are played together, which a batch of few scenarios gains from. A file that is there is left alone; if only some
    are, everything is played anew and those that lack are written. The files that it makes are added to ``written``
    (``withdrawing``).
    """
    first_path, *others = envs
    parts = first_path.with_name("+".join(path.stem for path in envs) + ".parts")
    if not all(path.exists() for path in envs):
        size = max(1, _CHUNK // len(envs))
        parts.mkdir(exist_ok=True)
        name = f"{first_path.stem} and {len(others)} more" if others else first_path.stem
        with bar(f"evaluation {name}", len(envs) * len(seeds)) as progress:
            for first in range(0, len(seeds), size):
                part, chunk = parts / f"{first:06d}.jsonl", seeds[first : first + size]
                if part.exists():
                    progress.update(len(envs) * len(chunk))
                else:
                    write_jsonl(part, _played(agent, list(envs.values()), chunk, progress))
                    written.append(part)
        for k, path in enumerate(envs):
            if not path.exists():
                written.append(path)
                write_jsonl(path, _of(k, len(envs), sorted(parts.glob("[0-9]*.jsonl"))))
    if parts.exists():  # if the process ended here before, all files were there already
        rmtree(parts)


def _played(agent: Agent, envs: Sequence[ConversationEnv], seeds: Sequence[int], progress: tqdm) -> list[Trajectory]:
    """The conversations of the first of ``envs``, then those of the second, …: how a conversation goes on is for its
    scenario and its user to say, never for the split (``envs.checks`` looks), so any of them can play all."""
    moments = [Moment(env.begin(seed)) for env in envs for seed in seeds]
    return play(agent, envs[0], moments, on_done=lambda _: progress.update())


def _of(k: int, n: int, parts: Sequence[Path]) -> Iterator[Trajectory]:
    """The conversations of the ``k``-th of ``n`` environments."""
    for part in parts:
        trajectories = list(read_jsonl(part))
        size = len(trajectories) // n
        yield from trajectories[k * size : (k + 1) * size]


def kept(path: Path, seeds: Sequence[int]) -> list[Trajectory]:
    """The conversations of ``converse``. Raises ``RunError`` if they are not those of ``seeds``."""
    try:
        trajectories = list(read_jsonl(path))
    except ValueError as error:
        raise RunError(f"{error}. Move that file away; the same command makes it again.") from error
    if [t.seed for t in trajectories] != list(seeds):
        raise RunError(f"{path} is not complete. Move it away; the same command makes it again.")
    return trajectories


def recorded(path: Path, command: str) -> list[Trajectory]:
    """The conversations of a finished run, which ``command`` made. Raises ``RunError`` if they can't be read."""
    anew = f"Leave that run out, or make it anew: {command}{'' if 'resume=never' in command else ' resume=never'}"
    try:
        return list(read_jsonl(path))
    except FileNotFoundError as error:
        raise RunError(f"{path} is not there; published runs are packed without conversations. {anew}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{error}. {anew}") from error


def summarise(user: str, env: ConversationEnv, trajectories: Sequence[Trajectory]) -> Evaluation:
    """The numbers of one user on the split of ``env``, unscored conversations as null."""
    names = dict.fromkeys(name for t in trajectories for name in t.attributes)
    return Evaluation(
        user=user,
        split=env.split,
        seeds=[t.seed for t in trajectories],
        keys=[t.key for t in trajectories],
        returns=[t.returns() if t.judged else None for t in trajectories],
        successes=[bool(t.success) if t.judged else None for t in trajectories],
        mean_exchanges=sum(t.exchanges for t in trajectories) / len(trajectories),
        unscored=sum(not t.judged for t in trajectories),
        failures=dict(Counter(failure_kind(t.failure) for t in trajectories if not t.judged)),
        attributes={name: [t.attributes.get(name, "") for t in trajectories] for name in names},
        stop_reasons=dict(Counter(t.stop_reason for t in trajectories)),
        health=health(env, trajectories),
    )


def examine(agent: Agent, experiment: Experiment, user: UserSimulator, practice: Practice) -> dict[str, Any] | None:
    """The agent as it is now on the learning curve's scenarios, a ``CurvePoint`` in plain values; None if not due."""
    every, scenarios = experiment.curve.every, experiment.curve.scenarios
    if every == 0 or (practice.iteration % every and not practice.exhausted):
        return None
    env = experiment.build_env(user, experiment.splits[0])
    trajectories = rollout(agent, env, CURVE_SEEDS[:scenarios])
    scored = [t for t in trajectories if t.judged]
    return asdict(
        CurvePoint(
            iteration=practice.iteration,
            conversations=practice.spent.conversations,
            mean_return=math.fsum(t.returns() for t in scored) / len(scored) if scored else None,
            success_rate=sum(bool(t.success) for t in scored) / len(scored) if scored else None,
            unscored=len(trajectories) - len(scored),
        )
    )
