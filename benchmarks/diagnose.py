"""What an agent's critic knows and how it speaks: ``python -m benchmarks.diagnose agent=iterppo env=sales seed=0``.

Of a finished run, named by the words it was run with. At moments of the agent's conversations the truth is found by
playing on from them many times (``agents.forks``), and what the critic says there is compared with it. A run does the
same at its end and keeps it in its record; this command does it again, with as many moments as it is told
(``forks.moments=400 forks.continuations=32``), and writes ``diagnostics.json`` into the run's folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig

from agents.agent import Agent, Critique
from agents.forks import Forks, fork
from agents.language import language
from agents.rollout import rollout
from benchmarks.build import CONF, Experiment
from benchmarks.build import Forks as Asked
from benchmarks.checkpoint import RunFolder, write_whole
from benchmarks.evaluate import kept
from benchmarks.learn import use_threads
from benchmarks.progress import RunError, counter, quieten_libraries, readable_errors, say
from envs.env import ConversationEnv
from envs.trajectory import Trajectory, null_if_nan
from envs.users import UserSimulator
from results.statistics import correlation_interval, noise_ceiling

FORK_SEEDS = range(1 << 30, 1 << 31)
"""Scenarios that are played on from: above the final evaluation's, below the learning curve's."""
_LISTENED_TO = 256
"""Conversations of the evaluation in which the language is measured."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
@readable_errors
def main(config: DictConfig) -> None:
    """Restore the run's agent, ask its critic, tell and write."""
    experiment = Experiment.of(config)
    use_threads(experiment.config["threads"])
    quieten_libraries()
    if not RunFolder(experiment.folder).finished:
        raise RunError(f"{experiment.folder} is not finished; run it first: {experiment.command}")
    with RunFolder.claim(experiment) as folder, folder.held():
        user = experiment.build_user(experiment.user)
        agent = folder.restored(experiment.build_agent())
        found = diagnose(agent, experiment, user, folder)
        path = folder.path / "diagnostics.json"
        write_whole(path, json.dumps(asdict(experiment.forks) | found, indent=1, allow_nan=False) + "\n")
    for name, value in found.items():
        say(f"  {name}: {'-' if value is None else f'{value:.3f}'}")
    say(str(path))


def diagnose(agent: Agent, experiment: Experiment, user: UserSimulator, folder: RunFolder) -> dict[str, float | None]:
    """The figures of docs/metrics.md, "Diagnostics", of an agent whose evaluation lies in ``folder``; None for what is
    not finite."""
    split = experiment.splits[0]
    path = folder.trajectories / f"{experiment.user}-{split}.jsonl"
    spoken = kept(path, range(experiment.scenarios))[:_LISTENED_TO]
    found = language(spoken)
    env = experiment.build_env(user, split)
    if agent.learns:
        _note_critique(agent, spoken, path.with_suffix(".critique.jsonl"))
        found |= _drift(agent, env, spoken) | of_critic(agent, env, experiment.forks)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _drift(agent: Agent, env: ConversationEnv, spoken: Sequence[Trajectory]) -> dict[str, float]:
    """How far the language went from the start's; empty for learners without one."""
    from agents.behaviour import drift  # torch comes with them, which not every agent needs
    from agents.chat_learner import ChatLearner
    from agents.speaker import Speaker

    if not isinstance(agent, ChatLearner):
        return {}
    return drift(agent.start, rollout(Speaker(agent.start), env, FORK_SEEDS[: len(spoken)]), spoken)


def _note_critique(agent: Agent, spoken: Sequence[Trajectory], path: Path) -> None:
    """Write what the agent's critic said of every turn, a line per conversation, for whoever reads them; no file for an
    agent without a critic."""
    critique = agent.critique(spoken)
    if critique is None:
        return
    ends = np.cumsum([0, *(one.exchanges for one in spoken)])
    rows = []
    for one, begin, end in zip(spoken, ends[:-1], ends[1:], strict=True):
        said = {field.name: getattr(critique, field.name)[begin:end].tolist() for field in fields(critique)}
        plain = {name: [null_if_nan(round(value, 5)) for value in values] for name, values in said.items()}
        rows.append(json.dumps({"seed": one.seed, **plain}, allow_nan=False))
    write_whole(path, "\n".join(rows) + "\n")


def of_critic(agent: Agent, env: ConversationEnv, asked: Asked) -> dict[str, float]:
    """How the agent's critic agrees with what comes of playing on; empty for an agent without one."""
    if not asked.moments or type(agent).critique is Agent.critique:
        return {}
    rng = np.random.default_rng((FORK_SEEDS.start, asked.moments))
    count = counter("critic against truth", asked.moments * (1 + 2 * asked.continuations))
    forks = fork(agent, env, FORK_SEEDS[: asked.moments], asked.continuations, rng, on_done=count)
    critique = agent.critique(forks.trajectories)
    return compared(forks, critique, rng) if critique else {}


def compared(forks: Forks, critique: Critique, rng: np.random.Generator) -> dict[str, float]:
    """Per kind of estimate: its correlation with the truth, the interval, and what the truth itself could come to."""
    turns = forks.turns()
    kinds = {
        "q": (critique.action_values, forks.after),
        "v": (critique.values, forks.anew),
        "advantage": (critique.advantages, forks.after - forks.anew),
    }
    found: dict[str, float] = {}
    for kind, (every, samples) in kinds.items():
        said, truth = every[turns].astype(np.float64), _means(samples)
        if not np.isfinite(said).any():
            continue
        estimate = correlation_interval(said, truth, rng)
        found |= {
            f"{kind}_correlation": estimate.value,
            f"{kind}_correlation_low": estimate.low,
            f"{kind}_correlation_high": estimate.high,
            f"{kind}_ceiling": noise_ceiling(samples),
        }
        if kind == "q":
            found["q_rmse"] = float(np.sqrt(np.nanmean((said - truth) ** 2)))
    return found


def _means(samples: np.ndarray) -> np.ndarray:
    """[N] the means of [N, k] without what is NaN; NaN where all is."""
    counts = np.isfinite(samples).sum(axis=1)
    totals = np.nansum(samples, axis=1)
    return np.divide(totals, counts, out=np.full(len(samples), np.nan), where=counts > 0)


if __name__ == "__main__":
    main()
