"""Agents over all environments: the numbers of rliable on their scores, with intervals over seeds and scenarios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, groupby

import numpy as np

from results.aggregates import draw_runs, iqm, optimality_gap, probability_of_improvement, spread_runs, wilson
from results.sections import Entry, Section
from results.statistics import Estimate, Floats, interval, resampled_rows, scenario_weights


@dataclass(frozen=True, eq=False)
class Aggregate:
    """An agent's scores in several environments."""

    agent: str
    learns: bool
    scores: Floats
    """``[runs, environments]``; where environments have unlike numbers of runs, the first of each."""
    drawn: Floats
    """``[replicates, runs, environments]``: runs and scenarios drawn anew in each environment."""

    def estimate(self, measure: Callable[[Floats], Floats]) -> Estimate:
        """``measure`` of ``[..., runs, environments]`` with its interval."""
        return interval(float(measure(self.scores)), measure(self.drawn))

    @property
    def improvement(self) -> Estimate:
        """How likely a run is better than the start, whose score is 0, averaged over environments.

        The interval is at least Wilson's for as many runs as there are.
        """
        own = self.estimate(lambda scores: probability_of_improvement(scores, np.zeros((1, self.scores.shape[1]))))
        few = wilson(own.value, self.scores.size)
        return Estimate(own.value, min(own.low, few.low), max(own.high, few.high))


@dataclass(frozen=True, eq=False)
class Across:
    """Environments of one budget that have scores, and the agents that stand in all of them, the best first."""

    title: str
    """For people: which environments, and the budget."""
    names: tuple[str, ...]
    """Of the sections, short: the environment, with its training user where that is needed."""
    sections: tuple[Section, ...]
    aggregates: tuple[Aggregate, ...]


def across(sections: Sequence[Section]) -> list[Across]:
    """Budget by budget, over those sections with scores that have learners in common, the most sections first.

    Where learners stand in unlike environments there are several: each compares at least two learners over all that
    they have in common, unless no two have more than one environment in common.
    """
    scored = [section for section in sections if all(section.references.get(r) for r in ("start", "optimum"))]
    found = []
    for _, group in groupby(sorted(scored, key=lambda one: one.budget), key=lambda one: one.budget):
        everything = tuple(group)
        short, sets = _short(everything), _sets(everything)
        drawn = {task: _Task.of(task) for task in dict.fromkeys(chain(*sets))}
        for tasks in sets:
            names = sorted(set.intersection(*({entry.agent for entry in task.entries} for task in tasks)))
            aggregates = [_aggregate(name, [drawn[task] for task in tasks]) for name in names]
            complete = [one for one in aggregates if np.isfinite(one.scores).all()]
            ordered = tuple(sorted(complete, key=lambda one: -float(iqm(one.scores))))
            if any(one.learns for one in ordered):
                here = tuple(short[task] for task in tasks)
                place = "All environments" if tasks == everything else f"{', '.join(here[:-1])} and {here[-1]}"
                found.append(Across(f"{place}, budget {tasks[0].budget}", here, tasks, ordered))
    return found


def _sets(tasks: Sequence[Section]) -> list[tuple[Section, ...]]:
    """Which sections to put together: all that two learners have in common; each set of learners once, over as many
    sections as they share."""
    places: dict[str, set[int]] = {}
    for i, task in enumerate(tasks):
        for entry in task.entries:
            if entry.first.learns:
                places.setdefault(entry.agent, set()).add(i)
    alone = {tuple(sorted(own)) for own in places.values() if len(own) > 1}
    common = {tuple(sorted(own & other)) for own, other in combinations(places.values(), 2) if len(own & other) > 1}
    ordered = sorted(common or alone, key=lambda one: (-len(one), one))
    return [tuple(tasks[i] for i in one) for one in ordered]


def _short(tasks: Sequence[Section]) -> dict[Section, str]:
    """As few words as tell the sections apart: the environment, then its training user and what was set for it."""
    often = Counter(task.env for task in tasks)

    def words(task: Section) -> str:
        whole = ", ".join([f"{task.env} ({task.user})", *task.entries[0].env_settings])
        return task.env if often[task.env] == 1 else whole

    return {task: words(task) for task in tasks}


def rliable(one: Aggregate) -> dict[str, Estimate]:
    """What the table shows of an agent; only of one that learns, how likely learning makes it better than the start."""
    shown = {"IQM of scores": one.estimate(iqm), "Optimality gap": one.estimate(optimality_gap)}
    return shown | ({"Better than the start": one.improvement} if one.learns else {})


@dataclass(frozen=True, eq=False)
class _Task:
    """An environment's scenarios, as they are (the first row) and as the replicates draw them."""

    section: Section
    weights: Floats
    """``[1 + replicates, scenarios]``"""
    start: Floats
    """``[1 + replicates]`` the mean return that is score 0."""
    optimum: Floats
    """``[1 + replicates]`` the mean return that is score 1."""

    @classmethod
    def of(cls, section: Section) -> _Task:
        keys = section.keys(section.condition)
        drawn = scenario_weights(keys, np.random.default_rng(0))
        weights = np.concatenate([np.ones((1, len(keys))), drawn])
        start, optimum = (
            resampled_rows(entry.returns(section.condition, section.seeds), weights).mean(axis=1)
            for role in ("start", "optimum")
            if (entry := section.references[role])
        )
        return cls(section, weights, start, optimum)

    def scores(self, entry: Entry) -> Floats:
        """Of each training seed with the training user on the main split, ``[1 + replicates, runs]``."""
        own = resampled_rows(entry.returns(self.section.condition, self.section.seeds), self.weights)
        span = (self.optimum - self.start)[:, None]
        return np.divide(own - self.start[:, None], span, out=np.full_like(own, np.nan), where=span != 0)


def _aggregate(agent: str, tasks: Sequence[_Task]) -> Aggregate:
    entries = [next(entry for entry in task.section.entries if entry.agent == agent) for task in tasks]
    runs = min(len(entry.records) for entry in entries)
    scores = np.stack([task.scores(one)[:, :runs] for task, one in zip(tasks, entries, strict=True)], axis=-1)
    picks, environments = draw_runs(scores.shape[1:], np.random.default_rng(1), len(scores) - 1)
    replicate = np.arange(len(scores) - 1)[:, None, None]
    drawn = spread_runs(scores[1:])[replicate, picks, environments]
    return Aggregate(agent, entries[0].first.learns, scores[0], drawn)
