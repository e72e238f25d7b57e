"""What the one who answers does: everything but the words.

The answers are those of the table, always. Only who is ``distracted`` did not listen, with probability ``MISSES`` at
every exchange and whatever was said, and says so: nothing is learnt, and an exchange is gone. All others always listen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.twenty_questions.table import TABLE, Things, split_by

HORIZON: Final = 20
"""Exchanges in a conversation."""
MANNERS: Final = ("plain", "chatty", "playful", "thoughtful", "formal")
"""How people talk in training. It says nothing about what they think of."""
DISTRACTED: Final = "distracted"
"""The manner that training never shows."""
MISSES: Final = 0.2
"""The share of exchanges in which who is distracted did not listen."""
OPENINGS: Final = ("plain", "invite", "dare", "polite", "brief")
"""How a conversation can begin."""

YES, NO, RIGHT = Act("yes"), Act("no"), Act("right")
PUZZLED: Final = Act("puzzled")
"""The answer to words that are not understood."""
MISSED: Final = Act("missed")
"""The answer of somebody who did not listen."""
ANSWERS: Final = (YES, NO, RIGHT, PUZZLED, MISSED)


@dataclass(frozen=True, slots=True)
class Secret:
    """What one conversation is about: a scenario's facts."""

    thing: str
    manner: str = "plain"
    opening: str = "plain"

    @property
    def misses(self) -> float:
        """The probability of not having listened."""
        return MISSES if self.manner == DISTRACTED else 0.0


@dataclass(frozen=True, slots=True)
class Mind:
    """How the conversation stands."""

    left: Things = TABLE.everything
    """What the thing could be, by all answers so far."""
    found: bool = False
    puzzled: int = 0
    """How often nothing was understood."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen in an exchange."""

    probability: float
    answer: Act
    mind: Mind

    @property
    def reward(self) -> float:
        """Of the exchange, as in LMRL-Gym's and ArCHer's game: 0 for the right guess, else -1."""
        return 0.0 if self.mind.found else -1.0


def respond(secret: Secret, mind: Mind, act: Act) -> tuple[Outcome, ...]:
    """All that may come of ``act``; probabilities sum to 1."""
    if secret.misses:
        missed, heard = Outcome(secret.misses, MISSED, mind), Outcome(1 - secret.misses, *_answer(secret, mind, act))
        return missed, heard
    return (Outcome(1.0, *_answer(secret, mind, act)),)


def _answer(secret: Secret, mind: Mind, act: Act) -> tuple[Act, Mind]:
    """The answer of somebody who listened."""
    if act == UNCLEAR:
        return PUZZLED, replace(mind, puzzled=mind.puzzled + 1)
    yes, no = split_by(TABLE, mind.left, act)
    if not yes & TABLE.alone[secret.thing]:
        return NO, replace(mind, left=no)
    if act.kind == "guess":
        return RIGHT, replace(mind, left=yes, found=True)
    return YES, replace(mind, left=yes)


def draw(outcomes: tuple[Outcome, ...], rng: np.random.Generator) -> Outcome:
    """One of the outcomes, by their probabilities."""
    rest = rng.random()
    for outcome in outcomes:
        rest -= outcome.probability
        if rest < 0:
            return outcome
    return outcomes[-1]  # the probabilities may sum to a rounding error below 1
