"""What a business sends, as a distribution over acts: the transition P(m | s, a) of the suggested-response problem.

How likely a mode is, ``envs.suggested_response.business`` says; what an edit or a drift does, the world; and what the
business writes by itself follows a rule that draws from a generator. ``distribution`` runs such a rule through
everything that it may draw, so the probabilities are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from envs.acts import Act
from envs.suggested_response.business import HABITS, Business, modes
from envs.suggested_response.world import World

T = TypeVar("T")


def distribution(rule: Callable[[np.random.Generator], T]) -> dict[T, float]:
    """The exact distribution of what ``rule`` returns, if it draws by ``rng.random()``, compared with ``<``, and by
    ``rng.integers(n)`` alone."""
    found: dict[T, float] = {}
    todo: list[tuple[int, ...]] = [()]
    while todo:
        draws = _Draws(todo.pop())
        result = rule(cast(np.random.Generator, draws))
        found[result] = found.get(result, 0.0) + draws.probability
        todo += draws.untried
    return found


class _Draws:
    """A generator that makes the choices it is told to, then always the first, and notes the others."""

    def __init__(self, told: tuple[int, ...]):
        self.told = told
        self.made: tuple[int, ...] = ()
        self.probability = 1.0
        self.untried: list[tuple[int, ...]] = []

    def choose(self, weights: list[float]) -> int:
        possible = [i for i, weight in enumerate(weights) if weight > 0]
        if len(self.made) < len(self.told):
            choice = self.told[len(self.made)]
        else:
            choice = possible[0]
            self.untried += [(*self.made, other) for other in possible[1:]]
        self.made = (*self.made, choice)
        self.probability *= weights[choice]
        return choice

    def random(self) -> _Uniform:
        return _Uniform(self)

    def integers(self, n: int) -> int:
        return self.choose([1 / n] * n)


class _Uniform:
    """A number from [0, 1) of which only what was asked is decided."""

    def __init__(self, draws: _Draws):
        self.draws, self.low, self.high = draws, 0.0, 1.0

    def __lt__(self, bound: float) -> bool:
        below = min(1.0, max(0.0, (bound - self.low) / (self.high - self.low)))
        is_below = self.draws.choose([below, 1 - below]) == 0
        self.low, self.high = (self.low, min(self.high, bound)) if is_below else (max(self.low, bound), self.high)
        return is_below


@dataclass(frozen=True)
class Sending:
    """What may be sent in one exchange, and how likely."""

    acts: Mapping[Act, float]
    """By what it does."""
    nothing: float
    """Probability that the business falls silent."""


def sending(world: World, business: Business, trust: int, act: Act | None, own: Mapping[Act, float]) -> Sending:
    """What a business sends when ``act`` is suggested (None: nothing is), if it would write ``own`` by itself."""
    chances = modes(business, trust, world.suggestion(act, business.dislikes))
    sent: dict[Act, float] = {}

    def add(what: Act, probability: float) -> None:
        if probability > 0:
            sent[what] = sent.get(what, 0.0) + probability

    if act is not None:
        add(act, chances["verbatim"] + chances["edited"])
        drift = world.drift(act)
        for other in drift:
            add(other, chances["influenced"] / len(drift))
    silent = HABITS[business.habit].silent
    for other, probability in own.items():
        add(other, chances["ignored"] * (1 - silent) * probability)
    return Sending(sent, chances["ignored"] * silent)


def own_acts(speaker: Any, known: Any) -> dict[Act, float]:
    """What a speaker's rule does, given what is known."""
    return distribution(lambda rng: speaker.rule(known, rng))
