"""From configuration to objects: names, environments, users, agents, practice.

The constructor is the schema: a YAML file names a class (``_target_``) and sets values, and every value is checked
against the constructor's signature before anything is built. ``conf/env/NAME.yaml`` holds the environment's values and
beside them what the runner needs to know of it, ``RUNNER_KEYS``.
"""

from __future__ import annotations

import hashlib
import inspect
import pkgutil
import re
import shlex
import tempfile
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.agent import Agent
from agents.practice import Budget, Practice
from benchmarks.learn import seed_libraries
from benchmarks.progress import RunError, counter
from envs.dataset import Dataset, content_of, read_dataset
from envs.env import ConversationEnv
from envs.judges import PreferenceJudge, TurnJudge
from envs.trajectory import Trajectory
from envs.users import UserSimulator

OmegaConf.register_new_resolver("tempdir", tempfile.gettempdir, replace=True)  # where sweeps keep Hydra's own notes

CONF = Path(__file__).parents[1] / "conf"
RUNNER_KEYS = (
    "users",
    "behaviour",
    "behaviour_user",
    "start",
    "scripted",
    "turn_judge",
    "evaluation",
    "references",
)
"""Keys of ``conf/env/NAME.yaml`` that are not the environment's own arguments:

- ``users``: name → who can be talked with. The first is the default; all are evaluated.
- ``guests``: name → who else can be talked with, such as a model on a server; evaluated where it is the run's own user.
  The run's own guest is ``guest`` in its configuration, and the others are no part of it. Optional.
- ``behaviour``: the agent that speaks in the logged data. Optional.
- ``behaviour_user``: the name of the user it speaks with, whomever a run learns with. Optional; the run's own user.
- ``start``: folder of the starting model, for agents to refer to as ``${env.start}``. Optional.
- ``scripted``: dotted path of the class that speaks by a rule, for agents to refer to as ``${env.scripted}``. Optional.
- ``turn_judge``: who compares two utterances at one moment (``envs.judges.TurnJudge``). Optional.
- ``evaluation``: ``{split: …, also: […]}``. Optional; all splits but ``train``, or ``train`` if there is no other.
- ``references``: ``{start: AGENT, optimum: AGENT}``, whose mean returns are score 0 and score 1. Optional.
"""
IDENTITY = ("agent", "env", "user", "budget", "seed")
"""What a run is named by."""
HOW_NOT_WHAT = ("resume", "threads", "results", "forks", "logger")
"""Keys that change how a run is done, not what it is; configurations that differ in these alone are the same run."""
MODELS = ("model", "endpoint")
"""Groups that guests and agents refer to."""
HOW_NOT_WHAT_OF_MODELS = ("max_cost", "timeout", "attempts", "pause", "concurrency", "give_up_after", "cache")
"""The same of a model behind a server: what it says does not depend on them."""


@dataclass(frozen=True, slots=True)
class Curve:
    """When the learning curve is taken, and on how many scenarios."""

    every: int
    scenarios: int


@dataclass(frozen=True, slots=True)
class Forks:
    """How many moments an agent's critic is compared with the truth at, and how often each is played on from."""

    moments: int
    continuations: int


@dataclass(frozen=True)
class Experiment:
    """One run as configured: its names, its values, and how to build what it needs."""

    agent: str
    env: str
    user: str
    budget: str
    seed: int
    config: dict[str, Any]
    """Resolved, plain."""
    overrides: tuple[str, ...]
    command: str

    @classmethod
    def of(cls, config: DictConfig) -> Experiment:
        """Read and check a composed configuration. Raises ``RunError`` naming what is wrong with it."""
        hydra = HydraConfig.get()
        names = {group: str(hydra.runtime.choices[group]).replace("/", "-") for group in ("agent", "env", "budget")}
        values = _resolve(config, names, str(OmegaConf.to_container(hydra.overrides.task)))
        _check_the_judge(values, hydra)
        users = values["env"].get("users") or {}
        if not users:
            raise RunError(f"conf/env/{names['env']}.yaml names no users; add `users: {{NAME: {{_target_: …}}}}`.")
        guests = values["env"].pop("guests", None) or {}
        user = values["user"] or next(iter(users))
        _choose("user", user, [*users, *guests], f"the users of env={names['env']}")
        values["user"] = user
        _take_in_the_logged(values)
        _seat_the_guest(values, guests.get(user) if user not in users else None)
        _put_in_the_solver(values, names["agent"], hydra.overrides.task)
        _choose("resume", values["resume"], ("auto", "never"), "the ways to resume")
        for key in ("seed", "threads"):
            _check_value(key, values[key], int)
        if values["threads"] < 1:
            raise RunError(f"threads={values['threads']}; give at least 1.")
        if not 0 <= values["seed"] < 4096:
            raise RunError(f"seed={values['seed']} is outside 0…4095; choose one inside.")
        _check_budget(values["budget"])
        if "forks" in values:  # commands that hold no run have none
            _check_forks(values["forks"])
        folders = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
        options = [f"--config-dir={folder}" for folder in folders]
        overrides = tuple(hydra.overrides.task)
        command = shlex.join(["python", "-m", "benchmarks.run", *options, *overrides])
        return cls(**names, user=user, seed=values["seed"], config=values, overrides=overrides, command=command)

    @cached_property
    def variant(self) -> list[str]:
        """The overrides that are not in the run's name, sorted; empty for the standard settings."""
        last = {override.split("=", 1)[0].lstrip("+~"): override for override in self.overrides}
        if last.pop("logged", None) and "logged" in self.config:
            last["logged"] = f"logged={self.config['logged']['content']}"
        return sorted(override for key, override in last.items() if not self._says_nothing(key))

    def _says_nothing(self, key: str) -> bool:
        """Whether an override is in the run's name already, or changes nothing about what the run is."""
        group, _, rest = key.partition(".")
        if group in MODELS:
            return group not in self.config or rest in HOW_NOT_WHAT_OF_MODELS
        return key in IDENTITY or group in HOW_NOT_WHAT

    @property
    def folder(self) -> Path:
        """results/env/user/agent/budget/seedK, with a hash of the variant if there is one."""
        suffix = "-" + hashlib.sha256("\n".join(self.variant).encode()).hexdigest()[:8] if self.variant else ""
        name = f"seed{self.seed}{suffix}"
        return Path(self.config["results"]) / self.env / self.user / self.agent / self.budget / name

    @property
    def identity(self) -> dict[str, Any]:
        """The configuration without what changes only how the run is done."""
        found = {key: _without_how(value) for key, value in self.config.items() if key not in HOW_NOT_WHAT}
        return found | ({"logged": found["logged"]["content"]} if "logged" in found else {})

    @property
    def users(self) -> list[str]:
        """Everyone the agent is evaluated with, the training user first."""
        if self.config["budget"].get("users") == "own":
            return [self.user]
        return [self.user, *(name for name in self.config["env"]["users"] if name != self.user)]

    @property
    def known_splits(self) -> tuple[str, ...]:
        """All that the environment has."""
        return tuple(_find(self.config["env"]["_target_"], "env").splits)

    @cached_property
    def splits(self) -> list[str]:
        """The splits that are evaluated, the main one first."""
        evaluation = self.config["env"].get("evaluation")
        have = self.known_splits
        if not evaluation:
            return [split for split in have if split != "train"] or ["train"]
        chosen = [evaluation["split"], *(evaluation.get("also") or ())]
        for split in chosen:
            _choose("env.evaluation", split, have, f"the splits of env={self.env}")
        return chosen

    @property
    def scenarios(self) -> int:
        """How many scenarios of each split are evaluated."""
        return int(self.config["budget"]["scenarios"])

    @property
    def curve(self) -> Curve:
        return Curve(**self.config["budget"]["curve"])

    @property
    def forks(self) -> Forks:
        """Without a number of moments, one for every eight scenarios."""
        forks = dict(self.config["forks"])
        return Forks(**forks | {"moments": self.scenarios // 8 if forks["moments"] is None else forks["moments"]})

    def check(self) -> None:
        """Check every value against the constructor it is for, before anything is built: models load slowly."""
        env = dict(self.config["env"])
        beside = {key: env.pop(key, None) for key in RUNNER_KEYS}
        _check_node(self.config["agent"], "agent")
        _check_node(env, "env", given=("user", "split"))
        _check_node(beside["users"], "env.users")
        _check_node(self.config.get("guest"), "guest")
        _check_node(beside["behaviour"], "env.behaviour")
        _check_node(beside["turn_judge"], "env.turn_judge")
        _check_node(self.config.get("judge"), "judge")
        _check_node(self.config.get("logger"), "logger")
        if beside["behaviour_user"]:
            _choose("env.behaviour_user", beside["behaviour_user"], beside["users"], f"the users of env={self.env}")
        _ = self.splits

    def build_user(self, name: str) -> UserSimulator:
        if name in self.config["env"]["users"]:
            return _build(self.config["env"]["users"][name], f"env.users.{name}")
        return _build(self.config["guest"], f"env.guests.{name}")

    def build_env(self, user: UserSimulator, split: str) -> ConversationEnv:
        """The environment with this user and split; everything else as its YAML says."""
        node = {key: value for key, value in self.config["env"].items() if key not in RUNNER_KEYS}
        return _build(node, "env", user=user, split=split)

    def build_agent(self) -> Agent:
        """The agent; what it draws while it is built follows from the seed."""
        seed_libraries(self.seed, 0)
        return _build(self.config["agent"], "agent")

    def build_logger(self) -> Any:
        """Who is told the run's numbers (``benchmarks.loggers.Logger``), or None."""
        logger = self.config.get("logger")
        return _build(logger, "logger") if logger else None

    def build_practice(self, user: UserSimulator, on_conversation: Callable[[Trajectory], Any]) -> Practice:
        """Metered access to the training split with the training user."""
        env = self.build_env(user, "train")
        behaviour = self.config["env"].get("behaviour")
        speaker = _build(behaviour, "env.behaviour") if behaviour else None
        budget = Budget(**{field.name: self.config["budget"][field.name] for field in fields(Budget)})
        name = self.config["env"].get("behaviour_user")
        logged_env = self.build_env(self.build_user(name), "train") if name else None
        on_logged = counter("logged data, made anew", budget.logged)
        return Practice(
            env, budget, self.seed, speaker, logged_env, *self.build_judges(),
            on_conversation=on_conversation, on_logged=on_logged, given=self.read_logged(),
        )  # fmt: skip

    def read_logged(self) -> Dataset | None:
        """What stands in for the world's own logged data; None if nothing does. ``RunError`` if it can't be read."""
        if (logged := self.config.get("logged")) is None:
            return None
        try:
            dataset = read_dataset(logged["path"])
            if dataset.conversations:
                dataset.first(self.config["budget"]["logged"])
        except (ValueError, OSError) as error:
            raise RunError(f"logged={logged['path']} can't be used: {error}") from error
        return dataset

    def build_judges(self) -> tuple[PreferenceJudge | None, TurnJudge | None]:
        """Who compares conversations, and who compares utterances; None where none is named."""
        judge, turns = self.config.get("judge"), self.config["env"].get("turn_judge")
        return _build(judge, "judge") if judge else None, _build(turns, "env.turn_judge") if turns else None


_LACKS = re.compile(r"Interpolation key '(env\.\w+)' not found")


def _resolve(config: DictConfig, names: Mapping[str, str], overrides: str) -> dict[str, Any]:
    try:
        return typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or "the configuration"
        lacking = _LACKS.search(str(error))  # unless the command line itself refers to what is not there
        if lacking and where.startswith("agent.") and lacking[1] not in overrides:
            raise RunError(
                f"agent={names['agent']} needs {lacking[1]}, which conf/env/{names['env']}.yaml does not have: choose "
                "another agent, or another environment."
            ) from None
        raise RunError(f"{where} can't be read: {str(error).splitlines()[0]}. Set it on the command line.") from None


def _check_the_judge(values: Mapping[str, Any], hydra: Any) -> None:
    """An env without a judge of its name has none; but one that was asked for must be there, and Hydra doesn't say."""
    asked = [word.removeprefix("judge=") for word in hydra.overrides.task if word.startswith("judge=")]
    if values.get("judge") is not None or not asked or asked[-1] in ("", "''", '""'):
        return
    _choose("judge", asked[-1], names_of("judge"), "conf/judge (~judge: none)")


def names_of(group: str) -> list[str]:
    """What a group of the configuration can be set to, the command line's ``--config-dir`` among its places."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path, group) for source in sources if source.schema == "file"]
    files = {path.relative_to(folder) for folder in folders for path in folder.rglob("*.yaml")}
    return sorted(file.with_suffix("").as_posix() for file in files)


def _take_in_the_logged(values: dict[str, Any]) -> None:
    """Name what is given as logged data by its content: a run is the same wherever the files lie."""
    if (path := values.pop("logged", None)) is None:
        return
    try:
        values["logged"] = {"path": str(path), "content": content_of(Path(path))}
    except (ValueError, OSError) as error:
        raise RunError(f"logged={path} can't be used: {error}") from error


def _put_in_the_solver(values: dict[str, Any], agent: str, overrides: Sequence[str]) -> None:
    """Let the solver that was chosen take the place of the agent's own."""
    if (solver := values.pop("solver", None)) is None:
        return
    if "solver" not in values["agent"]:
        raise RunError(f"agent={agent} has no single-turn solver, so none can take its place; leave solver=… out.")
    if lost := next((word for word in overrides if word.lstrip("+~").startswith("agent.solver.")), None):
        raise RunError(f"{lost} is for the agent's own solver, whose place solver=… has taken; say solver.… instead.")
    values["agent"]["solver"] = solver


def _seat_the_guest(values: dict[str, Any], guest: Any) -> None:
    """Put the run's own guest into its configuration, with the models that it or the agent refers to: what a run does
    not meet is no part of what it is."""
    for group in MODELS:
        if not (group in values and any(_holds(node, values[group]) for node in (guest, values.get("agent")))):
            values.pop(group, None)
    if guest is not None:
        values["guest"] = guest


def _holds(node: Any, part: Any) -> bool:
    """Whether ``part`` stands anywhere in ``node``."""
    return node == part or (isinstance(node, Mapping) and any(_holds(one, part) for one in node.values()))


def _without_how(node: Any) -> Any:
    """``node`` without what only says how a model behind a server is asked."""
    if not isinstance(node, Mapping):
        return node
    left_out = HOW_NOT_WHAT_OF_MODELS if node.get("_target_") == "envs.endpoint.EndpointModel" else ()
    return {key: _without_how(value) for key, value in node.items() if key not in left_out}


def _choose(key: str, value: Any, choices: Collection[Any], what: str) -> None:
    if value not in choices:
        raise RunError(f"{key}={value} is none of {what}; choose one of {', '.join(map(str, choices))}.")


def _check_budget(budget: dict[str, Any]) -> None:
    required = {**{field.name: int for field in fields(Budget)}, "scenarios": int, "curve": dict}
    _check_mapping(budget, {**required, "users": str}, required, "budget")
    _choose("budget.users", budget.get("users", "all"), ("all", "own"), "those an agent can be evaluated with")
    hints = typing.get_type_hints(Curve)
    _check_mapping(budget["curve"], hints, hints, "budget.curve")
    for key, least in (("per_iteration", 1), ("scenarios", 1), ("conversations", 0), ("logged", 0)):
        if budget[key] < least:
            raise RunError(f"budget.{key}={budget[key]}; give at least {least}.")


def _check_forks(forks: dict[str, Any]) -> None:
    _check_mapping(forks, {"moments": int | None, "continuations": int}, ("moments", "continuations"), "forks")
    for key, least in (("moments", 0), ("continuations", 2)):
        if forks[key] is not None and forks[key] < least:
            raise RunError(f"forks.{key}={forks[key]}; give at least {least}.")


# ---- building an object from its node -----------------------------------------------------------------------------

_SAID_IN_WORDS = (ValueError, OSError, ImportError)
"""What constructors raise when a value is wrong or something is missing; anything else is a defect of theirs."""


def _build(node: Mapping[str, Any], where: str, **given: Any) -> Any:
    """The object that ``node`` describes, or a ``RunError`` that says in one sentence why it can't be built."""
    try:
        return instantiate({**node, "_partial_": True, "_convert_": "all"})(**given)
    except (InstantiationException, *_SAID_IN_WORDS) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, _SAID_IN_WORDS):
            raise
        raise RunError(f"{where} ({node['_target_']}) can't be built: {cause}") from error


def _check_node(node: Any, where: str, given: Collection[str] = ()) -> None:
    """Check every ``_target_`` in ``node`` against its signature, from the outside in."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_node(item, f"{where}.{i}")
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        target = _find(node["_target_"], where)
        values = {key: value for key, value in node.items() if not (key.startswith("_") and key.endswith("_"))}
        hints, required, closed = _signature(target)
        known = hints if closed else {**dict.fromkeys(values, Any), **hints}
        _check_mapping(values, known, [key for key in required if key not in given], where)
    for key, value in node.items():
        _check_node(value, f"{where}.{key}")


def _find(target: str, where: str) -> Any:
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise RunError(f"{where}._target_={target} can't be imported: {error}.") from error


def _signature(target: Any) -> tuple[dict[str, Any], list[str], bool]:
    """The type of each argument, the names without a default, and whether these are all the arguments there are.

    Where a constructor hands ``**kwargs`` to its base class, the base's arguments are among them.
    """
    bases = target.__mro__ if inspect.isclass(target) else ()
    makers = [vars(base)["__init__"] for base in bases if "__init__" in vars(base)] or [target]
    hints: dict[str, Any] = {}
    required: list[str] = []
    for maker in makers:
        parameters = list(inspect.signature(maker).parameters.values())[inspect.isclass(target) :]
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        required += [p.name for p in named if p.default is p.empty and p.name not in hints]
        hints = {p.name: hint for p, hint in zip(named, _hints(maker, named), strict=True)} | hints
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return hints, required, True
    return hints, required, False


def _hints(maker: Any, parameters: Sequence[inspect.Parameter]) -> list[Any]:
    try:
        hints = typing.get_type_hints(maker)
    except NameError:  # a type that is imported for type checkers only
        hints = {}
    return [hints.get(parameter.name, Any) for parameter in parameters]


def _check_mapping(values: Any, hints: Mapping[str, Any], required: Collection[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise RunError(f"{where}={values!r} is no group of values; it takes {', '.join(hints)}.")
    if unknown := [key for key in values if key not in hints]:
        raise RunError(f"{where}.{unknown[0]} is not known; {where} takes {', '.join(hints)}.")
    if missing := [key for key in required if key not in values]:
        raise RunError(f"{where}.{missing[0]} is missing; add +{where}.{missing[0]}=… to the command line.")
    for key, value in values.items():
        _check_value(f"{where}.{key}", value, hints[key])


def _check_value(key: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        kind = re.sub(r"[\w.]+\.", "", _name(hint))
        if value is None:
            raise RunError(f"{key} has no value here, and takes {kind}: give {key}=…, or choose what needs none.")
        raise RunError(f"{key}={value!r} is of the wrong type: it takes {kind}.")


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can stand for an argument of type ``hint``; True for types that YAML does not know."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    if hint in (str, Path):
        return isinstance(value, str)
    if (origin or hint) in (list, tuple, Sequence):
        return isinstance(value, list)
    if (origin or hint) in (dict, Mapping):
        return isinstance(value, Mapping)
    return True
