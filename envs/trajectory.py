"""What happened in a conversation, as a value that learns, is saved and is read again.

A ``Trajectory`` keeps the agent's tokens beside its words: a policy never re-tokenizes what it said. One trajectory is
one line of JSON; every line carries ``SCHEMA_VERSION``, and a reader refuses versions it does not know.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from envs.conversation import Conversation, Message, Turn

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Utterance:
    """What an agent said in one turn."""

    text: str
    tokens: tuple[int, ...] = ()
    """The token ids that were sampled, the end-of-turn token included; empty for agents without a tokenizer."""
    logprobs: tuple[float, ...] = ()
    """The log-probability of each token under the policy that sampled it, at its temperature; as long as ``tokens``."""
    failure: str | None = None
    """Why the agent could not speak (``kind: what happened``), or None. ``text`` is then empty, and the conversation
    ends unscored; its record keeps the reason in ``Trajectory.failure``."""


@dataclass(frozen=True, slots=True)
class Step:
    """One exchange: the agent's utterance, the user's reply, the reward."""

    utterance: Utterance
    reply: str | None
    """None when the user failed, or the agent."""
    reward: float
    """NaN in the last step of an unscored conversation."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One conversation from its first turn to its end."""

    seed: int
    """``env.begin(seed, take)`` begins the same conversation."""
    brief: str
    """The agent's brief. The user's is not recorded here; ``attributes`` tell who it was."""
    opening: tuple[Turn, ...]
    """The turns spoken before the agent's first."""
    steps: tuple[Step, ...]
    terminated: bool
    """Whether the conversation came to an end of its own; otherwise it was truncated."""
    stop_reason: str
    """A ``StopReason``."""
    success: bool | None
    """Whether its purpose was reached; None when undecided or unscored."""
    judged: bool
    """False when the user, the agent or the judge failed: left out of every mean, and counted."""
    key: str = ""
    """``Scenario.key``."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """``Scenario.attributes``."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """``Assessment.parts`` at the end."""
    user_tokens: int = 0
    """Tokens a language model generated to play the user."""
    failure: str | None = None
    """Why it is unscored, in the failing part's own words."""
    take: int = 0
    """Which of several conversations on the scenario of ``seed``."""

    @property
    def exchanges(self) -> int:
        return len(self.steps)

    @property
    def agent_tokens(self) -> int:
        return sum(len(step.utterance.tokens) for step in self.steps)

    def returns(self, gamma: float = 1.0) -> float:
        """The discounted sum of rewards from the first exchange on; NaN if unscored."""
        return self.returns_to_go(gamma)[0] if self.steps else math.nan

    def returns_to_go(self, gamma: float = 1.0) -> list[float]:
        """Monte-Carlo return from each exchange on, [K]: G_k = Σ_{j≥k} gamma^{j-k} r_j (arXiv 2511.21638, Obs. 2, with
        the reward of exchange k counted at k)."""
        returns, following = [0.0] * len(self.steps), 0.0
        for k in range(len(self.steps) - 1, -1, -1):
            following = self.steps[k].reward + gamma * following
            returns[k] = following
        return returns

    def prefix(self, k: int) -> Conversation:
        """The conversation as the agent saw it before its utterance in exchange ``k`` (0-based)."""
        turns = list(self.opening)
        for step in self.steps[:k]:
            turns.append(Turn("agent", step.utterance.text))
            if step.reply is not None:
                turns.append(Turn("user", step.reply))
        return Conversation(self.brief, tuple(turns))

    @property
    def conversation(self) -> Conversation:
        """The whole conversation as the agent saw it."""
        return self.prefix(len(self.steps))

    def messages(self) -> list[Message]:
        """The whole conversation as chat messages, the agent in the assistant's seat (TRL's column ``messages``)."""
        return self.conversation.messages("agent")

    def to_row(self) -> dict[str, Any]:
        """What ``to_json`` writes. NaN is None, so that strict readers can read it; log-probabilities keep 6
        decimals."""
        return {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(self, name) for name in _FIELDS},
            "opening": [{"speaker": turn.speaker, "text": turn.text} for turn in self.opening],
            "steps": [_step_row(step) for step in self.steps],
            "attributes": dict(self.attributes),
            "parts": {name: null_if_nan(value) for name, value in self.parts.items()},
        }

    def to_json(self) -> str:
        """One line of JSON."""
        return to_line(self.to_row())

    @classmethod
    def from_json(cls, line: str) -> Trajectory:
        """Read a line of ``to_json``; raises ``ValueError`` for another schema version and for anything malformed."""
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"A trajectory is a JSON object; this is a {type(row).__name__}.")
        return cls.from_row(row)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Trajectory:
        """The same of a row of ``to_row``, which is used up."""
        version = row.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ValueError(f"Trajectory of schema version {version!r}; this release reads version {SCHEMA_VERSION}.")
        try:
            row["opening"] = tuple(Turn(**turn) for turn in row["opening"])
            row["steps"] = tuple(_read_step(step) for step in row["steps"])
            row["parts"] = {name: _nan_if_null(value) for name, value in row["parts"].items()}
            return cls(**row)
        except KeyError as error:
            raise ValueError(f"The trajectory has no {error}.") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"The trajectory is malformed: {error}") from error


_FIELDS = tuple(field.name for field in fields(Trajectory))


def null_if_nan(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else value


def _nan_if_null(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"A trajectory holds text and numbers; {value!r} of type {type(value).__name__} is neither.")


def _step_row(step: Step) -> dict[str, Any]:
    utterance = {
        "text": step.utterance.text,
        "tokens": list(step.utterance.tokens),
        "logprobs": [round(float(logprob), 6) for logprob in step.utterance.logprobs],
    }
    return {"utterance": utterance, "reply": step.reply, "reward": null_if_nan(step.reward)}


def _read_step(row: Mapping[str, Any]) -> Step:
    said = row["utterance"]
    utterance = Utterance(said["text"], tuple(said["tokens"]), tuple(said["logprobs"]))
    return Step(utterance, row["reply"], _nan_if_null(row["reward"]))


def to_line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON, its end left out. ``ValueError`` for NaN, ``TypeError`` for what is no data."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, default=_plain)


def write_jsonl(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write one trajectory per line; the file appears whole or not at all."""
    write_rows(path, (trajectory.to_row() for trajectory in trajectories))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one row per line; the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(to_line(row) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def failure_kind(failure: str | None) -> str:
    """The kind of a failure, its first word where a colon follows, such as ``timeout``; else ``other``."""
    found = re.match(r"(\w+): ", failure or "")
    return found[1] if found else "other"


def read_jsonl(path: Path) -> Iterator[Trajectory]:
    """Read trajectories back; a line that can't be read raises ``ValueError`` naming the file and the line."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Trajectory.from_json(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
