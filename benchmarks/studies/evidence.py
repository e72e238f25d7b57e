"""What the cells of a study came to, as claims are judged by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.build import Experiment
from benchmarks.cells import Standing
from benchmarks.checkpoint import RunFolder
from benchmarks.evaluate import recorded
from benchmarks.judging import judge_runs, load_judge
from benchmarks.progress import RunError, say
from results.preferences import AsymmetryError
from results.record import Evaluation, Record
from results.statistics import Estimate, Floats, matrix
from results.winrates import WinRates, win_rates


@dataclass(frozen=True, slots=True)
class Judging:
    """How the conversations of a study's runs are compared."""

    judge: str
    """A name in ``conf/judge``: the judge of the examination, whatever judge the methods learnt from."""
    overrides: Sequence[str] = ()
    """Of that judge, as on a run's command line: ``judge.flip=0.2``."""
    user: str | None = None
    """Whom they were held with; null: whom the methods learnt with."""
    split: str | None = None
    """Null: the main one."""


@dataclass(frozen=True)
class Comparison:
    """Every finished run's conversations judged against every other's, scenario by scenario."""

    judged: Floats
    """[runs, runs, scenarios] the probability that the row's conversation is preferred; NaN where there is none."""
    method_of: tuple[str, ...]
    """Whose run each is."""
    clusters: tuple[str, ...]
    """Each scenario's key."""

    @classmethod
    def of(cls, standings: Sequence[Standing], judging: Judging) -> Comparison | None:
        """Judge the finished runs' conversations; None if fewer than two methods have any.

        Raises ``RunError`` when they are not on the same scenarios.
        """
        done = [(one.cell, one.record) for one in standings if one.record]
        if len({cell.method for cell, _ in done}) < 2:
            return None
        runs = [recorded(_file(cell.experiment, record, judging), record.command) for cell, record in done]
        for (cell, _), run in zip(done, runs, strict=True):
            if [(t.seed, t.key) for t in run] != [(t.seed, t.key) for t in runs[0]]:
                raise RunError(
                    f"{cell.name} and {done[0][0].name} were evaluated on different scenarios, so their conversations "
                    "can't be compared; run them with one budget."
                )
        say(f"Judging the conversations of {len(runs)} runs on {len(runs[0])} scenarios (judge={judging.judge}).")
        methods = tuple(cell.method for cell, _ in done)
        judged = judge_runs(load_judge(judging.judge, judging.overrides), runs, methods)
        return cls(judged, methods, tuple(t.key for t in runs[0]))

    @cached_property
    def rates(self) -> WinRates:
        """Win rates of the methods, with intervals over their training seeds and the clusters of scenarios.

        Raises ``RunError`` for a judge whose two orders contradict each other.
        """
        try:
            return win_rates(self.judged, self.method_of, self.clusters, np.random.default_rng(0))
        except AsymmetryError as error:
            raise RunError(str(error)) from error

    def estimate(self, row: str, column: str) -> Estimate:
        """The row's win rate over the column."""
        return self.rates.estimate(self.rates.agents.index(row), self.rates.agents.index(column))

    def between(self, row: str, column: str) -> Floats:
        """``[row's runs, column's runs, scenarios]``."""
        rows, columns = ([i for i, one in enumerate(self.method_of) if one == method] for method in (row, column))
        return self.judged[np.ix_(rows, columns)]


@dataclass(frozen=True)
class Evidence:
    """The records that there are, method by method, and how the methods' conversations compare."""

    planned: Mapping[str, int]
    """How many cells each method of the study has."""
    records: Mapping[str, Sequence[Record]]
    """Those that are finished, by seed."""
    comparison: Comparison | None = None
    """None if the study compares no conversations, or nothing is finished."""

    @classmethod
    def of(cls, standings: Sequence[Standing], judging: Judging | None) -> Evidence:
        planned = Counter(one.cell.method for one in standings)
        ordered = sorted((one for one in standings if one.record), key=lambda one: one.cell.seed)
        records = {m: [one.record for one in ordered if one.record and one.cell.method == m] for m in planned}
        return cls(planned, records, Comparison.of(standings, judging) if judging else None)

    def finished(self, method: str) -> Sequence[Record]:
        """The method's records; raises ``RunError`` for a name that the study does not have."""
        if method not in self.planned:
            raise RunError(f"{method!r} is no method of this study; it has {', '.join(self.planned)}.")
        return self.records.get(method, ())

    def lacking(self, methods: Iterable[str]) -> str:
        """Why a claim about ``methods`` can't be judged: one of them has nothing, or learns and has one seed only;
        empty if it can be."""
        reasons = []
        for method in dict.fromkeys(methods):
            have = self.finished(method)
            if not have:
                reasons.append(f"none of the {self.planned[method]} cells of {method} is finished")
            elif have[0].learns and len(have) == 1:
                reasons.append(f"{method} has one training seed only")
        return "; ".join(reasons)

    def caveat(self, methods: Iterable[str]) -> str:
        """How many of the cells that were planned are behind a claim about ``methods``; empty if all are."""
        short = {m: len(self.finished(m)) for m in dict.fromkeys(methods) if len(self.finished(m)) < self.planned[m]}
        return "".join(f"Only {have} of {self.planned[method]} seeds of {method}. " for method, have in short.items())

    def returns(self, method: str) -> tuple[Floats, list[str]]:
        """``[seeds, scenarios]`` of the training user on the main split, and the scenarios' keys."""
        evaluations = [main_evaluation(record) for record in self.finished(method)]
        if any(one.seeds != evaluations[0].seeds for one in evaluations):
            raise RunError(f"The runs of {method} were evaluated on different scenarios; run them with one budget.")
        return matrix([one.returns for one in evaluations]), evaluations[0].keys


def check_conversations(standings: Sequence[Standing], judging: Judging) -> None:
    """Whether every finished cell has its conversations. Raises ``RunError`` naming those that have none: this is
    asked before hours are spent on the others."""
    done = [(one.cell, one.record) for one in standings if one.record is not None]
    if bare := [cell.name for cell, record in done if not _file(cell.experiment, record, judging).exists()]:
        raise RunError(
            f"{len(bare)} finished cells have no conversations to compare: {', '.join(bare[:4])}"
            f"{', …' if len(bare) > 4 else ''}. Published runs are packed without them. Move those folders away, or "
            "run everything elsewhere with results=FOLDER."
        )


def _file(experiment: Experiment, record: Record, judging: Judging) -> Path:
    main = main_evaluation(record)
    name = f"{judging.user or main.user}-{judging.split or main.split}.jsonl"
    return RunFolder(experiment.folder).trajectories / name


def main_evaluation(record: Record) -> Evaluation:
    """With the training user on the main split: the first one."""
    return record.evaluations[0]
