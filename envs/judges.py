"""Preference judges: which of two finished conversations on one scenario is better.

A judge looks at two trajectories of one scenario and gives the probability that the first is preferred. It need not be
a function of one reward: it may cycle. A learner sees labels drawn from these probabilities, never the judge itself.

Here are the judges that go by numbers: ``ByOutcome``, ``BradleyTerry``, ``Criteria`` (the general one), ``Cyclic``; and
``Noisy``, which makes any judge err. ``envs.prompted_judge`` asks a language model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from envs.env import Episode
from envs.trajectory import Trajectory

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

Pair = tuple[Trajectory, Trajectory]
"""Two conversations on one scenario."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What a judge makes of a pair."""

    probability: float
    """That the first is preferred, a tie counted as half of it: the expected label. NaN when ``failure`` says why there
    is none."""
    failure: str | None = None
    tie: float = 0.0
    """The probability that the two are called equal."""

    @property
    def judged(self) -> bool:
        return self.failure is None

    @property
    def decided(self) -> float:
        """The probability that the first is preferred if the two are not called equal; 1/2 if they always are."""
        if self.tie == 0:
            return self.probability
        if self.tie >= 1:
            return 0.5
        upper = min(1.0, 0.5 + (max(self.probability, 1 - self.probability) - 0.5) / (1 - self.tie))
        return upper if self.probability >= 0.5 else 1 - upper

    def swapped(self) -> Preference:
        """The same of the pair in the other order."""
        return Preference(1.0 - self.probability, self.failure, self.tie)


class PreferenceJudge(Protocol):
    """Compares finished conversations. Symmetric: ``prefer([(b, a)])`` is ``prefer([(a, b)])`` swapped."""

    name: str

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        """One preference per pair. A judge that could not decide says so in ``failure``; that is never a ½."""


class TurnJudge(Protocol):
    """Compares two candidate utterances at one moment without playing on. Symmetric as a ``PreferenceJudge``.

    It asks a rater which utterance leads to the better *continued* conversation (arXiv 2405.14655, App. C.1); what is
    not visible yet, such a rater can't weigh.
    """

    name: str

    def prefer_turns(self, moments: Sequence[Episode], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        """One preference per moment, at which it is the agent's turn and it might say ``first`` or ``second``."""


def draw_labels(judge: PreferenceJudge, pairs: Sequence[Pair], rngs: Sequence[np.random.Generator]) -> Floats:
    """What one rater says of each pair, [N], drawn from the judge's probabilities with the generator beside the pair:
    1 for the first, 0 for the second, 1/2 for a tie; NaN where the judge failed (leave these out)."""
    return np.array([draw_label(one, rng) for one, rng in zip(judge.prefer(pairs), rngs, strict=True)])


def draw_label(preference: Preference, rng: np.random.Generator) -> float:
    """One label, as ``draw_labels`` has them. One uniform is drawn whatever the preference is."""
    u = rng.random()
    if preference.failure is not None:
        return math.nan
    first = preference.probability - preference.tie / 2
    return 1.0 if u < first else 0.5 if u < first + preference.tie else 0.0


def logistic(x: Floats) -> Floats:
    """σ(x), mirrored so that σ(-x) is 1 - σ(x) to the last bit."""
    upper = 1.0 / (1.0 + np.exp(-np.abs(x)))
    mirror: Floats = np.where(x >= 0, upper, 1.0 - upper)
    return mirror


def mirrored(probabilities: Floats, change: Callable[[Floats], Floats]) -> Floats:
    """``change`` of the larger of p and 1 - p, mirrored back: symmetric to the last bit if it stays within [1/2, 1]."""
    changed = change(np.maximum(probabilities, 1.0 - probabilities))
    mirror: Floats = np.where(probabilities >= 0.5, changed, 1.0 - changed)
    return mirror


# ---- judges that go by numbers ---------------------------------------------------------------------------------------


def measure(trajectory: Trajectory, name: str) -> float:
    """The number called ``name``: ``returns``, ``exchanges``, or one of the trajectory's parts.

    Raises ``ValueError`` when a scored conversation has no such part.
    """
    if name == "returns":
        return trajectory.returns()
    if name == "exchanges":
        return float(trajectory.exchanges)
    if name not in trajectory.parts:
        known = ", ".join(["returns", "exchanges", *trajectory.parts])
        raise ValueError(
            f"The conversation of seed {trajectory.seed} has no part {name!r}; it has {known}. Judge by one of these."
        )
    return trajectory.parts[name]


class Measured(ABC):
    """A judge that compares numbers, each measured in one conversation by itself.

    Every conversation is measured once per call, and all pairs are compared at once.
    """

    def __init__(self, name: str, measures: Sequence[str]):
        self.name = name
        self.measures = tuple(measures)
        """What is measured, in the order of the columns of ``compare``."""

    @abstractmethod
    def compare(self, first: Floats, second: Floats) -> Floats:
        """The probability that the first is preferred, [N], from the measures of both, each [N, measures].

        Symmetric to the last bit: ``compare(b, a)`` is ``1 - compare(a, b)``.
        """

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        unique = {id(one): one for pair in pairs for one in pair}
        row_of = {key: row for row, key in enumerate(unique)}
        rows = np.array([(row_of[id(a)], row_of[id(b)]) for a, b in pairs], dtype=np.int64).reshape(-1, 2)
        values, failures = self._measure(list(unique.values()))
        scored = np.array([failure is None for failure in failures], dtype=np.bool_)
        fine: Booleans = np.logical_and(scored[rows[:, 0]], scored[rows[:, 1]])
        probabilities = np.full(len(rows), math.nan)
        probabilities[fine] = self.compare(values[rows[fine, 0]], values[rows[fine, 1]])
        return [
            Preference(p) if ok else Preference(math.nan, failures[a] or failures[b])
            for p, ok, (a, b) in zip(probabilities.tolist(), fine.tolist(), rows.tolist(), strict=True)
        ]

    def _measure(self, conversations: Sequence[Trajectory]) -> tuple[Floats, list[str | None]]:
        values = np.full((len(conversations), len(self.measures)), math.nan)
        failures: list[str | None] = []
        for row, one in enumerate(conversations):
            if not one.judged:
                failures.append(f"the conversation of seed {one.seed} is unscored ({one.failure or 'no reason given'})")
                continue
            values[row] = [measure(one, name) for name in self.measures]
            absent = [name for name, value in zip(self.measures, values[row], strict=True) if math.isnan(value)]
            failures.append(f"the conversation of seed {one.seed} has no value of {absent[0]}" if absent else None)
        return values, failures


class ByOutcome(Measured):
    """Prefers the conversation with the greater return, always; of equals, each with probability 1/2."""

    def __init__(self, of: str = "returns", name: str = "outcome"):
        super().__init__(name, [of])

    def compare(self, first: Floats, second: Floats) -> Floats:
        return 0.5 + 0.5 * np.sign(first[:, 0] - second[:, 0])


class BradleyTerry(Measured):
    """P(a ≻ b) = σ(scale · (r_a - r_b)) of one reward r: the returns, or a part. It can't cycle."""

    def __init__(self, scale: float, of: str = "returns", name: str = "bradley_terry"):
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"scale={scale}; give a positive number (greater is more decided).")
        super().__init__(name, [of])
        self.scale = scale

    def compare(self, first: Floats, second: Floats) -> Floats:
        return logistic(self.scale * (first[:, 0] - second[:, 0]))


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that a judge looks at."""

    weight: float
    """Negative where less is better."""
    width: float
    """A difference of this size or more sways the judge fully; smaller ones in proportion."""


class Criteria(Measured):
    """The general judge: every criterion c casts a vote on the pair, in proportion up to its width,

        P(a ≻ b) = σ(sharpness · Σ_c w_c · clip((a_c - b_c) / width_c, -1, 1)).

    Votes saturate, so P is no function of one reward: where one conversation is far better by one criterion, a smaller
    lead there counts as much, and another criterion may turn the vote. Majorities of criteria can cycle (Condorcet).

    Args:
        criteria: what is looked at: ``returns``, ``exchanges`` or a part of the trajectory.
        sharpness: log-odds per unit of weight.
    """

    def __init__(self, criteria: Mapping[str, Criterion], sharpness: float = 1.0, name: str = "criteria"):
        if not criteria:
            raise ValueError("criteria is empty; give at least one part to judge by.")
        for part, one in criteria.items():
            if not (one.width > 0 and math.isfinite(one.width)):
                raise ValueError(f"criteria.{part}.width={one.width}; give a positive number.")
            if not math.isfinite(one.weight):
                raise ValueError(f"criteria.{part}.weight={one.weight}; give a finite number.")
        if not (sharpness > 0 and math.isfinite(sharpness)):
            raise ValueError(f"sharpness={sharpness}; give a positive number (greater is more decided).")
        super().__init__(name, list(criteria))
        self.criteria = tuple(criteria.values())
        self.sharpness = sharpness

    def compare(self, first: Floats, second: Floats) -> Floats:
        votes = np.zeros(len(first))
        for column, one in enumerate(self.criteria):  # one by one: the order of a sum must not depend on the batch
            votes = votes + one.weight * np.clip((first[:, column] - second[:, column]) / one.width, -1.0, 1.0)
        return logistic(self.sharpness * votes)


ROCK_PAPER_SCISSORS: Final = ((0.5, 0.0, 1.0), (1.0, 0.5, 0.0), (0.0, 1.0, 0.5))
"""Probability that the row's move beats the column's: 1 beats 0, 2 beats 1, 0 beats 2."""


class Cyclic(Measured):
    """Compares one categorical part by a table: ``wins[i][j]`` is the probability that i is preferred to j.

    Raises ``ValueError`` for a table in which ``wins[i][j] + wins[j][i]`` is not 1, and for a part outside the table.
    """

    def __init__(self, wins: Sequence[Sequence[float]] = ROCK_PAPER_SCISSORS, part: str = "move", name: str = "cyclic"):
        super().__init__(name, [part])
        self.wins = np.array(wins, dtype=np.float64)
        if self.wins.ndim != 2 or self.wins.shape[0] != self.wins.shape[1]:
            raise ValueError(f"wins has the shape {self.wins.shape}; give a square table.")
        if not (np.all(self.wins + self.wins.T == 1) and np.all(self.wins >= 0)):
            raise ValueError(f"wins={self.wins.tolist()}; wins[i][j] + wins[j][i] must be 1 and none negative.")

    def compare(self, first: Floats, second: Floats) -> Floats:
        wins: Floats = self.wins[self._index(first), self._index(second)]
        return wins

    def _index(self, values: Floats) -> npt.NDArray[np.int64]:
        index = values[:, 0].astype(np.int64)
        if wrong := [value for value in values[:, 0] if value not in range(len(self.wins))]:
            raise ValueError(f"The part {self.measures[0]!r} is {wrong[0]}; the table has 0 to {len(self.wins) - 1}.")
        return index


# ---- judges that err -------------------------------------------------------------------------------------------------


class Noisy:
    """Another judge's preferences, less sure: its log-odds are divided by ``temperature``, then labels are turned round
    with probability ``flip`` (p becomes (1 - flip) p + flip (1 - p)), and a near-equal pair, one at which the other
    judge is within ``margin`` of 1/2, is called a tie with probability ``ties``. Failures stay failures.
    """

    def __init__(
        self,
        judge: PreferenceJudge,
        flip: float = 0.0,
        temperature: float = 1.0,
        ties: float = 0.0,
        margin: float = 0.0,
    ):
        for key, value, high in (("flip", flip, 0.5), ("ties", ties, 1.0), ("margin", margin, 0.5)):
            if not 0 <= value <= high:
                raise ValueError(f"{key}={value}; give a number from 0 to {high}.")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature={temperature}; give a positive number (above 1 is less sure).")
        self.judge, self.flip, self.temperature, self.ties, self.margin = judge, flip, temperature, ties, margin
        usual = {"flip": 0.0, "temperature": 1.0, "ties": 0.0, "margin": 0.0}
        set_here = [f"{key}={getattr(self, key):g}" for key, value in usual.items() if getattr(self, key) != value]
        self.name = " ".join([judge.name, *set_here])

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        given = self.judge.prefer(pairs)
        if not given or (self.flip, self.temperature, self.ties) == (0.0, 1.0, 0.0):
            return given
        ties, decided = np.array([one.tie for one in given]), np.array([one.decided for one in given])
        near = np.abs(decided - 0.5) <= self.margin
        kept = (1 - ties) * (1 - np.where(near, self.ties, 0.0))
        probabilities = mirrored(mirrored(decided, self._less_sure), lambda p: 0.5 + kept * (p - 0.5))
        return [
            one if one.failure is not None else Preference(probability, None, tie)
            for one, probability, tie in zip(given, probabilities.tolist(), (1 - kept).tolist(), strict=True)
        ]

    def _less_sure(self, p: Floats) -> Floats:
        """Of probabilities from 1/2 up; from 1/2 up again."""
        if self.temperature != 1:
            first, second = p ** (1 / self.temperature), (1 - p) ** (1 / self.temperature)
            p = first / (first + second)
        return 0.5 + (1 - 2 * self.flip) * (p - 0.5)
