"""Whom an agent serves how well: families of users, splits, and groups of users with an attribute in common.

The best- and the worst-served of several groups differ even when an agent serves all alike, because the groups' means
are noisy and the extremes are picked. ``group_gap`` therefore says how large a gap comes from dealing the users to the
groups at random, and takes that off. It is still a gap in return, and some users are harder for everybody: compare it
with that of the optimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.crossed import Crossed, crossed_mean
from results.sections import Condition, Entry, Section
from results.statistics import Estimate, Floats, members

Words = npt.NDArray[np.str_]

PERMUTATIONS = 1000
LEAST = 30
"""Scenarios that a group has, to be called the best- or worst-served."""


@dataclass(frozen=True, slots=True)
class Group:
    """The users with one value of an attribute."""

    attribute: str
    value: str
    scenarios: int
    returns: Estimate


@dataclass(frozen=True, slots=True)
class Gap:
    """Between the best- and the worst-served group of the attribute whose groups differ most."""

    attribute: str
    best: str
    worst: str
    seen: float
    """The difference of their means."""
    beyond_chance: float
    """√(seen² - what chance gives), 0 where chance gives as much; attributes were chosen among, and that is in it."""
    p_value: float
    """How often users dealt to the groups at random are served as unequally."""


def lost(section: Section, entry: Entry) -> dict[str, Estimate]:
    """What is lost, in score (in return without references), from the training user on the main split to others.

    To the other users together on the same scenarios, and to each other split with the same user. Both ends are of the
    same runs, so the difference is taken within them.
    """
    users, main = section.condition
    others = tuple(user for user in section.users if user not in users)
    to: dict[str, Condition] = {"other users": (others, main)} if others else {}
    to |= {split: (users, split) for split in section.splits if split != main}
    own = _number(section, entry, section.condition)
    return {label: (own - _number(section, entry, condition)).estimate for label, condition in to.items()}


def _number(section: Section, entry: Entry, condition: Condition) -> Crossed:
    measure = section.measures[entry, condition]
    return measure.position or measure.mean


def groups(section: Section, entry: Entry, condition: Condition) -> list[Group]:
    """The mean return with every group of users, attribute by attribute."""
    values, keys = entry.returns(condition, section.seeds), section.keys(condition)
    found = []
    for attribute, column in section.attributes(condition).items():
        of = np.array(column)
        for value in sorted(set(column)):
            here = np.flatnonzero(of == value)
            mean = crossed_mean(values[:, here], [keys[i] for i in here])
            found.append(Group(attribute, value, len(here), mean.estimate))
    return found


def gap_of(section: Section, entry: Entry) -> Gap | None:
    """Between groups of the training user's population, on the main split; None where records tell no attributes."""
    attributes = section.attributes(section.condition)
    return group_gap(entry.returns(section.condition, section.seeds), section.keys(section.condition), attributes)


def group_gap(
    values: Floats,
    keys: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    permutations: int = PERMUTATIONS,
    least: int = LEAST,
) -> Gap | None:
    """The gap in ``values`` [seeds, scenarios] between groups of at least ``least`` scenarios; None if no attribute has
    two of them.

    Users are dealt to the groups whole clusters at a time, all attributes together.
    """
    served = np.isfinite(values).any(axis=0)
    if not served.any():
        return None
    columns = {name: np.array(column)[served] for name, column in attributes.items()}
    columns = {name: column for name, column in columns.items() if len(_large(column, least)) > 1}
    if not columns:
        return None
    rows = zip(np.array(keys)[served], *columns.values(), strict=True)
    units = members([key and "\0".join((key, *of)) for key, *of in rows])  # a cluster, split if it holds two groups
    means = np.nanmean(values[:, served], axis=0)
    sums = np.array([np.bincount(units, weights) for weights in (means, np.ones_like(means))], dtype=float)
    rng = np.random.default_rng(0)
    order = np.arange(sums.shape[1])
    dealt = np.array([order, *(rng.permutation(order) for _ in range(permutations))])  # the first: as it is
    by_group = {name: _means(sums[:, dealt], units, column, least) for name, column in columns.items()}
    gaps = np.array([found.max(axis=1) - found.min(axis=1) for found in by_group.values()])
    beyond = gaps**2 - (gaps[:, 1:] ** 2).mean(axis=1, keepdims=True)  # [attributes, 1 + permutations]
    widest, largest = int(beyond[:, 0].argmax()), beyond.max(axis=0)
    name = list(columns)[widest]
    values_of, found = _large(columns[name], least), by_group[name][0]
    return Gap(
        attribute=name,
        best=values_of[found.argmax()],
        worst=values_of[found.argmin()],
        seen=float(gaps[widest, 0]),
        beyond_chance=float(np.sqrt(max(0.0, largest[0] - largest[1:].mean()))),
        p_value=float((1 + np.sum(largest[1:] >= largest[0])) / (1 + permutations)),
    )


def _large(column: Words, least: int) -> list[str]:
    """The values that at least ``least`` scenarios have, in order."""
    names, counts = np.unique(column, return_counts=True)
    return [str(name) for name in names[counts >= least]]


def _means(sums: Floats, units: npt.NDArray[np.int64], column: Words, least: int) -> Floats:
    """Of the large groups of ``column`` [scenarios], from sums and counts of units as dealt, ``[2, deals, units]``."""
    member = np.zeros((sums.shape[2], len(_large(column, least))))
    for i, name in enumerate(_large(column, least)):
        member[units[column == name], i] = 1.0  # [units, groups]
    totals, counts = sums @ member
    return np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0)
