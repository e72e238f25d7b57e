"""What can be compared: records gathered into entries, entries into sections, and what each entry reached."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from results.crossed import Crossed, crossed_mean, crossed_score
from results.record import Evaluation, Record
from results.statistics import Estimate, Floats, matrix

Condition = tuple[tuple[str, ...], str]
"""Users and a split; several users are averaged scenario by scenario."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One agent under one training user and budget: its records, one per training seed, on common scenarios."""

    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def agent(self) -> str:
        """The agent's name, with what was set for it otherwise; settings of the environment belong to the section."""
        return " ".join([self.first.agent, *(word for word in self.first.variant if word not in self.env_settings)])

    @property
    def env_settings(self) -> list[str]:
        """The overrides of the environment."""
        return [word for word in self.first.variant if word.lstrip("+~").startswith("env.")]

    def cells(self, user: str, split: str) -> list[Evaluation]:
        """The evaluation with ``user`` on ``split`` in each record; raises ``LookupError`` where one has none."""
        found = [one for record in self.records for one in record.evaluations if (one.user, one.split) == (user, split)]
        if len(found) != len(self.records):
            raise LookupError(f"{self.agent} was not evaluated with {user} on {split}.")
        return found

    def covers(self, user: str, split: str, seeds: Sequence[int]) -> bool:
        """Whether every record has all these scenarios."""
        try:
            return all(set(seeds) <= set(cell.seeds) for cell in self.cells(user, split))
        except LookupError:
            return False

    def returns(self, condition: Condition, seeds: Sequence[int]) -> Floats:
        """``[training seeds, scenarios]``; NaN where a conversation ended unscored."""
        return self._values(condition, seeds, "returns")

    def successes(self, condition: Condition, seeds: Sequence[int]) -> Floats:
        """As ``returns``: 1 where the purpose was reached, 0 where not."""
        return self._values(condition, seeds, "successes")

    def health(self, users: Sequence[str], split: str) -> dict[str, float]:
        """How the conversations with ``users`` on ``split`` went: each figure's mean over them and the runs, without
        those that were not measured."""
        cells = [cell for user in users for cell in self.cells(user, split)]
        names = dict.fromkeys(name for cell in cells for name in cell.health)
        known = {name: [v for cell in cells if (v := cell.health.get(name)) is not None] for name in names}
        return {name: float(np.mean(values)) for name, values in known.items() if values}

    def _values(self, condition: Condition, seeds: Sequence[int], name: str) -> Floats:
        users, split = condition
        tables = [matrix([_aligned(cell, name, seeds) for cell in self.cells(user, split)]) for user in users]
        values = np.stack(tables)
        scored = np.isfinite(values)
        total, count = np.where(scored, values, 0).sum(axis=0), scored.sum(axis=0)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _aligned(cell: Evaluation, name: str, seeds: Sequence[int]) -> list[float | bool | None]:
    at = dict(zip(cell.seeds, getattr(cell, name), strict=True))
    return [at[seed] for seed in seeds]


@dataclass(frozen=True, eq=False)
class Measure:
    """What an agent reached under a condition."""

    mean: Crossed
    """The mean return. Means of one section can be added and subtracted: they are paired by scenario."""
    position: Crossed | None
    """The score: the mean return's place between start (0) and optimum (1); None when their records are missing."""
    successes: Estimate

    @property
    def returns(self) -> Estimate:
        return self.mean.estimate

    @property
    def score(self) -> Estimate | None:
        return self.position.estimate if self.position else None


@dataclass(frozen=True, eq=False)
class Section:
    """What can be compared: one environment, one training user, one budget."""

    env: str
    user: str
    budget: str
    users: tuple[str, ...]
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    """The scenarios, common to all entries and conditions."""
    entries: tuple[Entry, ...]
    references: dict[str, Entry | None]
    """``start`` and ``optimum``, None where there is no record of them; empty if the environment names none."""
    special: bool
    """Whether the environment is set unlike usual, or unlike that of another section with the same words."""

    @property
    def title(self) -> str:
        """For people."""
        settings = "".join(f", {word}" for word in self.entries[0].env_settings)
        return f"{self.env}, trained with {self.user}, budget {self.budget}{settings}"

    @property
    def name(self) -> str:
        """For files: unlike any other section's."""
        suffix = f"-{hashlib.sha256(_world(self.entries[0].first).encode()).hexdigest()[:8]}" if self.special else ""
        return f"{self.env}-{self.user}-{self.budget}{suffix}"

    @property
    def conditions(self) -> dict[str, Condition]:
        """What the main table shows: the training user, then the others together, on each split."""
        others = tuple(user for user in self.users if user != self.user)
        who = {"training user": (self.user,), "other users": others} if others else {"training user": (self.user,)}
        return {f"{label}, {split}": (users, split) for label, users in who.items() for split in self.splits}

    @property
    def cells(self) -> list[Condition]:
        """Every user and split by itself."""
        return [((user,), split) for user in self.users for split in self.splits]

    @cached_property
    def measures(self) -> dict[tuple[Entry, Condition], Measure]:
        """Every entry under every condition."""
        conditions = dict.fromkeys([*self.conditions.values(), *self.cells])
        return {
            (entry, condition): measure
            for condition in conditions
            for entry, measure in zip(self.entries, self._measure(condition), strict=True)
        }

    def _measure(self, condition: Condition) -> list[Measure]:
        keys, seeds = self.keys(condition), self.seeds
        means = {
            entry: crossed_mean(entry.returns(condition, seeds), keys, entry.agent, condition[1])
            for entry in self.entries
        }
        start, optimum = self.references.get("start"), self.references.get("optimum")
        measures = []
        for entry, own in means.items():
            position = crossed_score(own, means[start], means[optimum]) if start and optimum else None
            successes = crossed_mean(entry.successes(condition, seeds), keys).share
            measures.append(Measure(own, position, successes))
        return measures

    def keys(self, condition: Condition) -> list[str]:
        """Each scenario's key: equal keys mean equal facts."""
        cell = self.entries[0].cells(condition[0][0], condition[1])[0]
        key_of = dict(zip(cell.seeds, cell.keys, strict=True))
        return [key_of[seed] for seed in self.seeds]

    def attributes(self, condition: Condition) -> dict[str, list[str]]:
        """What each scenario's user is like, by attribute; empty where the first record does not tell."""
        cells = [cell for entry in self.entries for cell in entry.cells(condition[0][0], condition[1])]
        cell = next((one for one in cells if one.attributes), cells[0])
        at = {seed: i for i, seed in enumerate(cell.seeds)}
        return {name: [column[at[seed]] for seed in self.seeds] for name, column in cell.attributes.items()}

    @property
    def condition(self) -> Condition:
        """What the section is sorted by: the training user on the main split."""
        return (self.user,), self.splits[0]

    def main(self, entry: Entry) -> Measure:
        """What the entry reached there."""
        return self.measures[entry, self.condition]

    @property
    def ranked(self) -> list[Entry]:
        """The entries from best to worst, by mean return (which orders as the score does), equal ones by name."""
        return sorted(self.entries, key=lambda entry: (-self._level(entry), entry.agent))

    def _level(self, entry: Entry) -> float:
        # Rounded: means that are equal but for the order of a sum shall be equal here.
        return round(float(np.nan_to_num(self.main(entry).returns.value, nan=-np.inf)), 9)

    @property
    def notes(self) -> list[str]:
        """What a reader has to know before believing the table."""
        notes = []
        for role, entry in self.references.items():
            if entry is None:
                agent = next(e.first.references[role] for e in self.entries if role in e.first.references)
                words = [f"agent={agent}", f"env={self.env}", f"user={self.user}", f"budget={self.budget}"]
                command = shlex.join(["python", "-m", "benchmarks.run", *words, *self.entries[0].env_settings])
                notes.append(f"No record of the {role}, {agent}: there are no scores. `{command}` makes it.")
        if not self.references:
            notes.append(f"conf/env/{self.env}.yaml names no references: there are no scores.")
        few = [entry.agent for entry in self.ranked if entry.first.learns and len(entry.records) == 1]
        if few:
            notes.append(
                "One training seed only, so the interval speaks of scenarios alone, and no letter compares it: "
                f"{', '.join(few)}."
            )
        dirty = [entry.agent for entry in self.ranked if any(record.dirty for record in entry.records)]
        if dirty:
            notes.append(f"Made from uncommitted source: {', '.join(dirty)}.")
        mixed = [entry.agent for entry in self.ranked if len({record.commit for record in entry.records}) > 1]
        if mixed:
            notes.append(f"Seeds from different commits: {', '.join(mixed)}.")
        return notes


# ---- from records to sections ------------------------------------------------------------------------------------


def entries_of(records: Iterable[Record]) -> list[Entry]:
    """Records that differ in the training seed alone, together."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for one in records:
        key = (one.env, _world(one), one.agent, one.user, one.budget, *one.variant)
        groups.setdefault(key, []).append(one)
    return [Entry(tuple(sorted(group, key=lambda record: record.seed))) for group in groups.values()]


def _world(record: Record) -> str:
    """The environment's settings: records of differently set environments are never compared."""
    return repr(record.config.get("env"))


def sections_of(records: Iterable[Record]) -> list[Section]:
    """Everything that can be compared, section by section."""
    entries = entries_of(records)
    learners = [entry for entry in entries if entry.first.learns]
    worlds_with_learners = {_world(entry.first) for entry in learners}
    heads = [e for e in entries if e.first.learns or _world(e.first) not in worlds_with_learners]
    places = dict.fromkeys((e.first.env, _world(e.first), e.first.user, e.first.budget) for e in heads)
    usual = {(e.first.env, _world(e.first)) for e in heads if not e.env_settings}
    worlds = Counter(env for env, _ in usual)
    sections = (_section(entries, *place, place[:2] not in usual or worlds[place[0]] > 1) for place in places)
    return sorted(sections, key=lambda section: section.name)


def _section(entries: Sequence[Entry], env: str, world: str, user: str, budget: str, special: bool) -> Section:
    here = [e for e in entries if (e.first.env, _world(e.first)) == (env, world)]
    own = [e for e in here if (e.first.user, e.first.budget) == (user, budget)]
    head = next((e for e in own if e.first.learns), own[0]).first
    splits = tuple(dict.fromkeys(one.split for one in head.evaluations))
    users = tuple(dict.fromkeys(one.user for one in head.evaluations))
    seeds = tuple(head.evaluations[0].seeds)
    cells = [(one, split) for one in users for split in splits]
    own = [e for e in own if all(e.covers(*cell, seeds) for cell in cells)]
    guests = [e for e in here if not e.first.learns and all(e.covers(*cell, seeds) for cell in cells)]
    present = {entry.agent: entry for entry in [*guests, *own]}  # of the same agent, the one run here
    references = {role: present.get(agent) for role, agent in head.references.items() if role in ("start", "optimum")}
    return Section(env, user, budget, users, splits, seeds, tuple(present.values()), references, special)
