"""Conversations that were held before, as files: what ``benchmarks.data`` writes, and what others have logged.

A folder that ``benchmarks.data`` made holds for each split

    conversations/SPLIT.jsonl        trajectories, and how they came about (``Logged``)
    pairs/SPLIT.jsonl                two conversations on one scenario, and what a judge said of them (``Judged``)
    messages/SPLIT.jsonl             whole conversations as chat messages
    prompt_completion/SPLIT.jsonl    every turn of the agent, after what was said before it
    preferences/SPLIT.jsonl          two utterances at one moment: ``prompt``, ``chosen``, ``rejected``

The last three are TRL's columns. ``read_dataset`` reads such a folder, and JSON Lines of other origin with one of these
sets of columns:

- ``messages``: a list of ``{"role": …, "content": …}``; beside it ``reward`` or ``return`` (a number, or a list with
  one per message of the assistant), or ``success`` (true counts as 1, false as 0). A conversation without any of them
  can be imitated, and is left out where rewards are learnt from.
- ``prompt``, ``chosen``, ``rejected``: messages, the last two beginning with the assistant's, or its text alone.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from envs.chat_logs import compared, trajectory_of
from envs.conversation import Message
from envs.judges import Pair, Preference
from envs.trajectory import Step, Trajectory, null_if_nan

KINDS = ("conversations", "pairs", "messages", "prompt_completion", "preferences")
"""The folders of JSON Lines, which are the configurations of the dataset."""
_OWN = ("policy", "split", "return", "turn_mask", "acts", "logprob_of", "logprobs", "user_states")
"""What stands in a row of ``conversations`` beside the trajectory's own columns."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A conversation, and how it came about."""

    trajectory: Trajectory
    policy: str = ""
    """Who spoke for the agent."""
    split: str = ""
    """Of the environment."""
    acts: tuple[str, ...] | None = None
    """[K] what each utterance of a rule does; None for speakers without acts."""
    logprob_of: Literal["act", "tokens"] | None = None
    """What ``logprobs`` are of; None where nobody can say."""
    logprobs: tuple[float, ...] | None = None
    """[K] log-probability of each turn under who spoke it: of its act, or of all its tokens together."""
    user_states: tuple[Any, ...] | None = None
    """[K] ``Episode.memory`` after each exchange, in plain values. For analysis; agents never see it."""

    def row(self) -> dict[str, Any]:
        """A line of ``conversations``."""
        messages = self.trajectory.messages()
        return {
            **self.trajectory.to_row(),
            "policy": self.policy,
            "split": self.split,
            "return": null_if_nan(self.trajectory.returns()),
            "turn_mask": turn_mask(messages),
            "acts": self.acts,
            "logprob_of": self.logprob_of,
            "logprobs": None if self.logprobs is None else [round(logprob, 6) for logprob in self.logprobs],
            "user_states": self.user_states,
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Logged:
        """Read a line of ``conversations``; ``ValueError`` if it is none."""
        own = {name: row.get(name) for name in ("acts", "logprobs", "user_states")}
        return cls(
            Trajectory.from_row({name: value for name, value in row.items() if name not in _OWN}),
            row.get("policy", ""),
            row.get("split", ""),
            logprob_of=row.get("logprob_of"),
            **{name: None if value is None else tuple(value) for name, value in own.items()},
        )

    def message_row(self) -> dict[str, Any]:
        """A line of ``messages``."""
        one, messages = self.trajectory, self.trajectory.messages()
        return {
            "messages": messages,
            "turn_mask": turn_mask(messages),
            "return": null_if_nan(one.returns()),
            "success": one.success,
            **self._origin,
        }

    def turn_rows(self) -> Iterator[dict[str, Any]]:
        """The lines of ``prompt_completion``: one per turn of the agent."""
        to_go = self.trajectory.returns_to_go()
        for k, step in enumerate(self.trajectory.steps):
            yield {
                "prompt": self.trajectory.prefix(k).messages("agent"),
                "completion": [_said(step)],
                "reward": null_if_nan(step.reward),
                "return_to_go": null_if_nan(to_go[k]),
                "exchange": k,
                **self._origin,
            }

    @property
    def _origin(self) -> dict[str, Any]:
        return {"policy": self.policy, "seed": self.trajectory.seed}


@dataclass(frozen=True, slots=True)
class Judged:
    """Two conversations on one scenario, and what a judge said of them."""

    pair: Pair
    preference: Preference
    label: float
    """Drawn from the preference: 1 for the first, 0 for the second, ½ for a tie; NaN where the judge failed."""
    policies: tuple[str, str]
    judge: str

    def row(self) -> dict[str, Any]:
        """A line of ``pairs``."""
        return {
            "first": self.pair[0].to_row(),
            "second": self.pair[1].to_row(),
            "probability": null_if_nan(self.preference.probability),
            "tie": self.preference.tie,
            "label": null_if_nan(self.label),
            "failure": self.preference.failure,
            "policies": list(self.policies),
            "judge": self.judge,
        }


@dataclass(frozen=True, slots=True)
class Parting:
    """One moment and two conversations from there on, and which was judged the better."""

    exchange: int
    """The agent's turn (0-based) at which they part."""
    judged: Judged

    @property
    def decided(self) -> bool:
        """Whether one of two different utterances was preferred."""
        first, second = (one.steps[self.exchange].utterance.text for one in self.judged.pair)
        return self.judged.label in (0.0, 1.0) and first != second

    def row(self) -> dict[str, Any]:
        """A line of ``preferences``, of a parting that is ``decided``."""
        won = self.judged.label == 1.0
        chosen, rejected = self.judged.pair if won else self.judged.pair[::-1]
        probability = self.judged.preference.probability
        return {
            "prompt": chosen.prefix(self.exchange).messages("agent"),
            "chosen": [_said(chosen.steps[self.exchange])],
            "rejected": [_said(rejected.steps[self.exchange])],
            "probability": probability if won else 1 - probability,
            "exchange": self.exchange,
            "policy": self.judged.policies[0],
            "seed": chosen.seed,
        }


def turn_mask(messages: Sequence[Message]) -> list[int]:
    """[M] 1 where the agent speaks, 0 for the user and the brief."""
    return [int(message["role"] == "assistant") for message in messages]


def _said(step: Step) -> Message:
    return {"role": "assistant", "content": step.utterance.text}


def plain(value: Any) -> Any:
    """A user's private state in values that JSON knows. Raises ``ValueError`` for what is neither a number, a text, nor
    made of such."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Set):
        return sorted((plain(one) for one in value), key=str)
    if isinstance(value, Sequence | np.ndarray):
        return [plain(one) for one in value]
    raise ValueError(
        f"The user's memory holds a {type(value).__name__}, which can't be written; make it of dataclasses, numbers, "
        "texts, lists and dicts."
    )


# ---- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dataset:
    """What was read."""

    source: str
    """Where from, for messages."""
    conversations: tuple[Logged, ...]
    labelled: tuple[tuple[Pair, float], ...]
    """Pairs of conversations and their labels, as in ``Judged``."""

    def first(self, n: int) -> list[Trajectory]:
        """The first ``n`` conversations. Raises ``ValueError`` when there are fewer."""
        self._check("conversations", len(self.conversations), n, n, "`messages`")
        return [one.trajectory for one in self.conversations[:n]]

    def first_pairs(self, n: int) -> tuple[list[Pair], npt.NDArray[np.float64]]:
        """The first ``n`` pairs and their labels [n]. Raises ``ValueError`` when there are fewer."""
        self._check("pairs", len(self.labelled), n, 2 * n, "`prompt`, `chosen` and `rejected`")
        return [pair for pair, _ in self.labelled[:n]], np.array([label for _, label in self.labelled[:n]])

    def _check(self, what: str, there: int, wanted: int, budget: int, columns: str) -> None:
        if there == 0 < wanted:
            raise ValueError(f"{self.source} holds no {what}, which are asked for; add lines with {columns}.")
        if there < wanted:
            raise ValueError(
                f"{self.source} holds {there} {what}, and budget.logged={budget} asks for {wanted}; give more of them, "
                f"or budget.logged={there * budget // wanted}."
            )


def files_of(path: Path, split: str = "train") -> list[Path]:
    """The files that ``read_dataset`` reads. Raises ``ValueError`` when there are none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; give a folder of JSON Lines (*.jsonl), or one such file.")
    own = [path / kind / f"{split}.jsonl" for kind in ("conversations", "pairs")]
    if (path / "conversations").is_dir() and not own[0].is_file():
        there = ", ".join(sorted(one.stem for one in (path / "conversations").glob("*.jsonl"))) or "none"
        raise ValueError(f"{path} holds no split {split}; its splits are {there}.")
    found = [one for one in own if one.is_file()] or sorted(path.glob("*.jsonl"))
    if not found:
        raise ValueError(f"{path} holds no JSON Lines (*.jsonl); give a folder that does, or one such file.")
    return found


def content_of(path: Path, split: str = "train") -> str:
    """A name for the content of what ``read_dataset`` reads, wherever it lies."""
    found = hashlib.sha256()
    for file in files_of(path, split):
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def read_dataset(path: str | Path, split: str = "train") -> Dataset:
    """Conversations and pairs of a folder or file, see the module's docstring; ``split`` is for folders that
    ``benchmarks.data`` made.

    Raises ``ValueError`` for files that are missing, empty or lack columns, naming file, line and remedy.
    """
    conversations: list[Logged] = []
    labelled: list[tuple[Pair, float]] = []
    for file in files_of(Path(path), split):
        before = len(conversations) + len(labelled)
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    one = _read(json.loads(line), number - 1)
                except (ValueError, TypeError) as error:
                    raise ValueError(f"{file}, line {number}: {error}") from error
                if isinstance(one, Logged):
                    conversations.append(one)
                else:
                    labelled.append(one)
        if len(conversations) + len(labelled) == before:
            raise ValueError(f"{file} is empty; give a file with one JSON object per line.")
    return Dataset(str(path), tuple(conversations), tuple(labelled))


def _read(row: Any, index: int) -> Logged | tuple[Pair, float]:
    """A line of any of the kinds that can be read."""
    if not isinstance(row, dict):
        raise ValueError(f"This is a {type(row).__name__}; each line is one JSON object.")
    if "steps" in row:
        return Logged.of_row(row)
    if "first" in row and "second" in row and "label" in row:
        first, second = Trajectory.from_row(row["first"]), Trajectory.from_row(row["second"])
        return (first, second), math.nan if row["label"] is None else float(row["label"])
    if "chosen" in row or "rejected" in row:
        return compared(row, index)
    if "messages" in row:
        return Logged(trajectory_of(row["messages"], index, row))
    raise ValueError(
        f"It has the columns {', '.join(row)}; a conversation needs `messages`, and a comparison `prompt`, `chosen` "
        "and `rejected`."
    )
