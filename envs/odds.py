"""How likely a rule does what it does, exactly.

A rule draws from a generator to decide what to do. ``distribution`` lets it decide once for every way in which the
draws could fall, so the distribution is that of the rule's own code, and no second copy of it has to be kept right. An
``integers(n)`` can fall in n ways; a ``random()`` is known only to lie in an interval, which each comparison with a
number cuts in two.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody who follows a rule chose to do."""

    act: str
    logprob: float
    """Of the act under the rule, given what the speaker knows: 0 where the rule leaves no choice. How the act is then
    put into words is not counted."""


def chosen(rule: Callable[[np.random.Generator], T], rng: np.random.Generator) -> Choice:
    """What ``rule`` does with ``rng``, and how likely that is."""
    act = rule(rng)
    return Choice(str(act), math.log(distribution(rule)[act]))


def distribution(rule: Callable[[np.random.Generator], T]) -> dict[T, float]:
    """The probability of everything that ``rule`` can do, by its own draws: ``random()``, which it may compare with
    numbers, and ``integers(n)``. Raises ``TypeError`` or ``AttributeError`` for a rule that draws otherwise."""
    found: dict[T, float] = defaultdict(float)
    untaken: list[tuple[int, ...]] = [()]
    while untaken:
        path = _Path(untaken.pop())
        found[rule(cast(np.random.Generator, path))] += path.probability
        untaken += path.untaken
    return dict(found)


class _Path:
    """A generator whose draws fall as ``script`` says, and beyond it in the first way that is possible."""

    def __init__(self, script: tuple[int, ...]):
        self.probability = 1.0
        self.untaken: list[tuple[int, ...]] = []
        """The scripts of the other ways that were possible beyond ``script``."""
        self._script, self._taken = script, list[int]()

    def random(self) -> _Uniform:
        return _Uniform(self)

    def integers(self, high: int) -> int:
        return self.fall([1 / high] * int(high))

    def fall(self, chances: Sequence[float]) -> int:
        """Which of several things happens here."""
        depth = len(self._taken)
        if depth < len(self._script):
            way = self._script[depth]
        else:
            way, *others = [i for i, chance in enumerate(chances) if chance > 0]
            self.untaken += [(*self._taken, other) for other in others]
        self._taken.append(way)
        self.probability *= chances[way]
        return way


class _Uniform:
    """A number in [0, 1) of which only what it was compared with is known."""

    __hash__ = None  # type: ignore[assignment]  # it has no value to go by

    def __init__(self, path: _Path):
        self._path, self._low, self._high = path, 0.0, 1.0

    def __lt__(self, other: Any) -> bool:
        if not isinstance(other, int | float):
            return NotImplemented
        cut = min(max(float(other), self._low), self._high)
        share = (cut - self._low) / (self._high - self._low)
        below = self._path.fall([share, 1 - share]) == 0
        self._low, self._high = (self._low, cut) if below else (cut, self._high)
        return below

    def __ge__(self, other: Any) -> bool:
        below = self.__lt__(other)
        return below if below is NotImplemented else not below

    __le__, __gt__ = __lt__, __ge__  # a single number has no probability
