"""Offline data of a world: ``python -m benchmarks.data env=sales n=2000 out=FOLDER``.

Behaviour policies talk with a user; what was said, felt and earned is written as JSON Lines (``envs.dataset``), in
TRL's columns, as a Minari dataset and with a card whose figures are measured from it.
``policies='[behaviour,start,expert]'`` mixes speakers, conversation by conversation. Everything follows from the seed,
and the scenarios' seeds are those of logged data, so that what is learnt from the files can be evaluated as ever.

- Conversation ``i`` is held by the policies in turn, on the ``i``-th scenario.
- The first ``pairs`` scenarios are talked about once more, so that with P policies every P² pairs compare every two of
  them, themselves included. With one policy these are the pairs that runs get (``Practice.logged_pairs``).
- The first ``preferences`` conversations are continued once more by the same policy from one of their moments, drawn
  evenly; the judge compares both ends, and the two utterances at that moment are ``chosen`` and ``rejected``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.agent import Agent
from agents.practice import LOGGED_SEEDS
from benchmarks.build import CONF, Experiment, names_of
from benchmarks.collect import Collector, Part
from benchmarks.data_card import card
from benchmarks.learn import use_threads
from benchmarks.progress import RunError, counter, quieten_libraries, readable_errors, say
from envs.dataset import KINDS
from envs.trajectory import write_rows

_SEEDS_EACH = 1 << 20
"""Scenarios that one seed has for itself."""


@dataclass(frozen=True)
class Plan:
    """What ``conf/data_config.yaml`` says."""

    n: int
    pairs: int
    preferences: int
    policies: Sequence[str]
    splits: Sequence[str]
    minari: bool
    out: Path
    seed: int

    @classmethod
    def of(cls, experiment: Experiment) -> Plan:
        """Read and check. Raises ``RunError`` naming what is wrong."""
        options = dict(experiment.config)
        n = _count("n", options["n"], least=1)
        if n > _SEEDS_EACH:
            raise RunError(
                f"n={n} is more than the {_SEEDS_EACH} scenarios of a seed; make more datasets, of other seeds."
            )
        for name in ("policies", "splits"):
            if not isinstance(options[name], list) or not options[name]:
                raise RunError(f"{name}={options[name]!r} is no list of names; give it as {name}=[…].")
        have = experiment.known_splits
        for split in options["splits"]:
            if split not in have:
                known = ", ".join(have)
                raise RunError(f"splits: {split} is none of the splits of env={experiment.env}; it has {known}.")
        pairs = _compared("pairs", options, default=n // 2 if options.get("judge") else 0)
        preferences = _compared("preferences", options, default=pairs)
        out = Path(options["out"] or Path("results", "data", experiment.env))
        if out.exists():
            raise RunError(f"out={out} is there already; give a new folder, or move that one away.")
        if not isinstance(options["minari"], bool):
            raise RunError(f"minari={options['minari']!r}; give true or false.")
        return cls(
            n, pairs, preferences, options["policies"], options["splits"], options["minari"], out, experiment.seed
        )

    @property
    def seeds(self) -> range:
        first = LOGGED_SEEDS.start + self.seed * _SEEDS_EACH
        return range(first, first + self.n)


def _count(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RunError(f"{name}={value!r}; give a whole number from {least}.")
    return value


def _compared(name: str, options: Mapping[str, Any], default: int) -> int:
    """How many comparisons of a kind there are to be."""
    number = default if options[name] is None else _count(name, options[name], least=0)
    if number > options["n"]:
        raise RunError(f"{name}={number} is more than n={options['n']}; give at most as many.")
    if number and not options.get("judge"):
        raise RunError(f"{name}={number} needs a judge; name one of conf/judge, such as judge=outcome.")
    return number


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="data_config")
@readable_errors
def main(config: DictConfig) -> None:
    """Check, let everybody talk, write."""
    if config.user is None:
        config.user = OmegaConf.select(config, "env.behaviour_user")
    experiment = Experiment.of(config)
    plan = Plan.of(experiment)
    speaking = {name: as_spoken_by(name, experiment) for name in plan.policies}
    for one in speaking.values():
        one.check()
    write_minari = _minari() if plan.minari else None
    use_threads(experiment.config["threads"])
    policies = [(name, _speaker(name, one)) for name, one in speaking.items()]
    judge, _ = experiment.build_judges()
    user = experiment.build_user(experiment.user)
    quieten_libraries()
    parts = []
    with _whole(plan.out) as folder:
        for split in plan.splits:
            env = experiment.build_env(user, split)
            progress = counter(f"conversations of {split}", plan.n + plan.pairs + plan.preferences)
            part = Collector(env, policies, judge, plan.seeds, progress).collect(plan.pairs, plan.preferences)
            write_split(folder, part)
            if write_minari and (scored := [one for one in part.logged if one.trajectory.judged]):
                about = f"Conversations of env={experiment.env} with user={experiment.user}; see the card beside it."
                write_minari(folder / "minari", f"parley/{experiment.env}-{split}-v0", scored, env, about)
            parts.append(part)
        (folder / "README.md").write_text(card(experiment, parts), encoding="utf-8")
    say(f"{sum(len(part.logged) for part in parts)} conversations: {plan.out}")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``out`` when all is written."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"out={out} can't be written: {error}. Give another place with out=FOLDER.") from error
    try:
        yield temporary
        temporary.rename(out)
    except KeyboardInterrupt:
        say("Interrupted; nothing was written.")
        sys.exit(130)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _minari() -> Callable[..., None]:
    try:
        from envs.minari_dataset import write
    except ImportError as error:
        raise RunError(
            f"minari=true needs Minari ({error}); pip install 'parley-gym[data]', or leave it out with minari=false."
        ) from error
    return write


# ---- who speaks ----------------------------------------------------------------------------------------------------


def as_spoken_by(name: str, experiment: Experiment) -> Experiment:
    """The experiment with the policy ``name`` as its agent. Raises ``RunError`` where there is none of that name."""
    if name == "behaviour":
        node = experiment.config["env"].get("behaviour")
        if node is None:
            raise RunError(
                f"env={experiment.env} names no behaviour policy; add `behaviour:` to its YAML, or name others of "
                "conf/agent with policies=[…]."
            )
    else:
        node = _agent_node(name)
    return replace(experiment, agent=name, config={**experiment.config, "agent": node})


def _agent_node(name: str) -> Any:
    """conf/agent/NAME.yaml, in the light of the command line."""
    try:
        config = compose("data_config", [*HydraConfig.get().overrides.task, f"agent={name}"])
        return OmegaConf.to_container(config.agent, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        why = str(error).splitlines()[0]
        if isinstance(error, MissingConfigException):
            near = get_close_matches(name, [*names_of("agent"), "behaviour"], 5, cutoff=0.0)
            why = f"conf/agent has none of that name; nearest are {', '.join(dict.fromkeys(near))}."
        raise RunError(f"policies: {name} can't be composed: {why}") from error


def _speaker(name: str, experiment: Experiment) -> Agent:
    agent = experiment.build_agent()
    if agent.learns:
        raise RunError(
            f"policies: {name} has not learnt anything here; what a run has learnt speaks as start with "
            "env.start=RUN/checkpoints/NNNNNN/agent/policy."
        )
    return agent


# ---- writing -------------------------------------------------------------------------------------------------------


def write_split(folder: Path, part: Part) -> None:
    """The JSON Lines of one split, in the folders of ``envs.dataset.KINDS``. What could not be scored or decided is in
    ``conversations`` and ``pairs`` alone."""
    scored = [one for one in part.logged if one.trajectory.judged]
    rows: dict[str, Iterable[Mapping[str, Any]]] = {
        "conversations": (one.row() for one in part.logged),
        "pairs": (one.row() for one in part.pairs),
        "messages": (one.message_row() for one in scored),
        "prompt_completion": (row for one in scored for row in one.turn_rows()),
        "preferences": (one.row() for one in part.partings if one.decided),
    }
    for kind in KINDS:
        first = next(iter(rows[kind]), None)  # a file without lines can't be read by anybody
        if first is not None:
            (folder / kind).mkdir(exist_ok=True)
            write_rows(folder / kind / f"{part.split}.jsonl", chain([first], rows[kind]))


if __name__ == "__main__":
    main()
