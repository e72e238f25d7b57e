"""How far preferences are from a ranking: cycles, what no reward explains, and ratings that allow for both.

All functions take a square table P of one set of items, ``P[i, j]`` = probability that i is preferred to j, with
P[i, j] + P[j, i] = 1, and NaN where a pair could not be judged. The diagonal is not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

Floats = npt.NDArray[np.float64]

LOGIT_LIMIT = 6.9
"""Log-odds are cut here (1,000 to 1), so that a judge who is certain has finite ones."""


class AsymmetryError(ValueError):
    """Two probabilities that must sum to 1 don't."""


def check_antisymmetry(table: Floats, tolerance: float = 1e-9) -> None:
    """Raises ``AsymmetryError`` where P[i, j] + P[j, i] is not 1, or only one of the two is there.

    ``table`` is ``[N, N]`` or ``[N, N, …]``; the diagonal must be 1/2 or absent.
    """
    total = table + np.swapaxes(table, 0, 1)
    absent = np.isnan(table)
    one_sided = absent != np.swapaxes(absent, 0, 1)
    off = (np.abs(np.where(np.isnan(total), 1.0, total) - 1) > tolerance) | one_sided
    if off.any():
        i, j, *rest = (int(k) for k in np.argwhere(off)[0])
        where = "".join(f", {k}" for k in rest)
        there, back = table[(i, j, *rest)], table[(j, i, *rest)]
        raise AsymmetryError(
            f"P[{i}, {j}{where}] = {there:.6g} and P[{j}, {i}{where}] = {back:.6g} do not sum to 1: the judge is not "
            "symmetric. Have it asked in both orders and averaged."
        )


@dataclass(frozen=True, slots=True)
class Cycles:
    """Triples, and how many of them go round."""

    cyclic: int
    """i over j over k over i."""
    decided: int
    """Triples all three pairs of which are decided."""

    @property
    def share(self) -> float:
        """NaN when no triple is decided."""
        return self.cyclic / self.decided if self.decided else float("nan")

    def __add__(self, other: Cycles) -> Cycles:
        return Cycles(self.cyclic + other.cyclic, self.decided + other.decided)


def cycles(table: Floats, margin: float = 0.0) -> Cycles:
    """The cyclic triples among those whose pairs are decided, by more than ``margin`` away from 1/2."""
    over = np.nan_to_num(table, nan=0.5) > 0.5 + margin
    np.fill_diagonal(over, False)
    beats = over.astype(np.int64)
    decided = beats + beats.T
    return Cycles(int(np.trace(beats @ beats @ beats)) // 3, int(np.trace(decided @ decided @ decided)) // 6)


@dataclass(frozen=True, slots=True)
class Explained:
    """Sums of squares of log-odds, over the pairs that were judged."""

    total: float
    unexplained: float
    """What the best reward leaves: the part that goes round (the curl of a Hodge decomposition)."""

    @property
    def share(self) -> float:
        """The share that no reward explains; NaN when all pairs are even."""
        return self.unexplained / self.total if self.total > 0 else float("nan")

    def __add__(self, other: Explained) -> Explained:
        return Explained(self.total + other.total, self.unexplained + other.unexplained)


def explained_by_a_reward(table: Floats) -> Explained:
    """Least squares of logit P[i, j] on r_i - r_j (Jiang et al. 2011, HodgeRank); 0 unexplained is Bradley–Terry."""
    first, second = np.triu_indices(len(table), 1)
    judged = np.isfinite(table[first, second])
    first, second = first[judged], second[judged]
    flows = logit(table[first, second])
    incidence = np.zeros((len(flows), len(table)))
    rows = np.arange(len(flows))
    incidence[rows, first], incidence[rows, second] = 1.0, -1.0
    rewards = np.linalg.lstsq(incidence, flows, rcond=None)[0]
    left = flows - incidence @ rewards
    return Explained(float(flows @ flows), float(left @ left))


def logit(probabilities: Floats) -> Floats:
    """Log-odds, cut at ``LOGIT_LIMIT``."""
    with np.errstate(divide="ignore"):
        odds = np.log(probabilities) - np.log1p(-probabilities)
    cut: Floats = np.clip(odds, -LOGIT_LIMIT, LOGIT_LIMIT)
    return cut


@dataclass(frozen=True, slots=True)
class Equilibrium:
    """An equilibrium of the game in which each of two players chooses an item and the preferred one wins."""

    weights: Floats
    """[N] the probability of each item in it."""
    ratings: Floats
    """[N] how often each item is preferred to one drawn from it; 1/2 for those that are in it, less for the others."""


def nash_average(table: Floats) -> Equilibrium:
    """Rate items against an equilibrium of their own (Balduzzi et al. 2018, arXiv 1806.02643), so that a copy of an
    item changes no rating and weak items don't help those that beat them.

    Where there are several equilibria, Balduzzi et al. take that of maximum entropy. Here it is the mean of N of them,
    in each of which another item has the largest weight it can have; it is an equilibrium too, and linear programs find
    it safely. Raises ``ValueError`` when a pair could not be judged.
    """
    diagonal = np.eye(len(table), dtype=bool)
    if np.isnan(table[~diagonal]).any():
        raise ValueError("A pair has no preference, so there is no game; leave out the items that were never compared.")
    gains = np.where(diagonal, 0.0, table - 0.5)
    weights = np.mean([_equilibrium_with_most(gains, item) for item in range(len(table))], axis=0)
    return Equilibrium(weights, 0.5 + gains @ weights)


def _equilibrium_with_most(gains: Floats, item: int) -> Floats:
    """The mixture p with the largest p[item] among those that nothing gains against: gains @ p <= 0, as the value of
    the game is 0."""
    n = len(gains)
    found = linprog(-np.eye(n)[item], A_ub=gains, b_ub=np.zeros(n), A_eq=np.ones((1, n)), b_eq=[1.0], bounds=(0, 1))
    if not found.success:
        raise ValueError(f"The equilibrium was not found: {found.message}")
    p: Floats = np.clip(found.x, 0.0, None)
    return p / p.sum()
