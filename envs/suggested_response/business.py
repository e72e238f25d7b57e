"""The business's mind: a program that decides what becomes of a suggestion.

There are the four modes of arXiv 2511.21638: the suggestion is sent as it is (``verbatim``), sent in the
business's own words (``edited``), turned down but followed in its drift (``influenced``), or turned down and without
effect (``ignored``). How likely each is depends on who the business is (``Business``), on what the suggestion does (an
act; words that are not understood are rarely sent) and on how far the business trusts the one who suggests.

``modes`` gives the exact probabilities. The business samples from them, and the planner
(``envs.suggested_response.planner``) computes with the very same numbers.

Trust grows by one when what was suggested was done and the customer welcomed it, and falls by one when the customer did
not, and with every suggestion that is not understood. A suggestion of what the business dislikes offends it, sent or
not: all trust is gone, and then hardly anything is accepted. So what is good for the outcome must be acceptable first,
and to suggest nothing can be the best there is to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Mode = Literal["verbatim", "edited", "influenced", "ignored"]
MODES: Final[tuple[Mode, ...]] = ("verbatim", "edited", "influenced", "ignored")
MAX_TRUST: Final = 3
START_TRUST: Final = 2
_TRUSTED: Final = (0.02, 0.7, 0.9, 1.0)
"""Factor on accepting, by trust."""
_DISLIKED: Final = 0.1
"""Factor on accepting an act that the business dislikes."""
_UNCLEAR: Final = 0.02
"""Probability of sending what is not understood, unread."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How a business deals with suggestions."""

    accepts: float
    """Probability of accepting an act that it does not dislike, at full trust."""
    keeps: float
    """Share of what it accepts that it sends word for word."""
    swayed: float
    """Share of what it turns down that influences what it writes instead."""
    silent: float
    """Probability of sending nothing where it has to find words of its own."""


HABITS: Final[Mapping[str, Habit]] = {
    "eager": Habit(0.97, 0.9, 0.5, 0.01),
    "steady": Habit(0.8, 0.6, 0.4, 0.02),
    "wary": Habit(0.55, 0.5, 0.3, 0.03),
    "stubborn": Habit(0.3, 0.3, 0.1, 0.05),
}
"""Habits by name."""
UNSEEN_HABITS: Final = ("stubborn",)
"""Those of the out-of-distribution split, which no other split has."""


@dataclass(frozen=True, slots=True)
class Business:
    """Who the business is. Fixed for a conversation, hidden from the agent."""

    habit: str
    dislikes: str
    """Names the acts that it would rather not send; which these are, the world says."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a suggestion is to the business. ``abstains``: there is none."""

    understood: bool = True
    disliked: bool = False
    abstains: bool = False


def modes(business: Business, trust: int, suggestion: Suggestion) -> dict[Mode, float]:
    """The probability of each mode. Raises ``ValueError`` for a habit that nobody has."""
    if business.habit not in HABITS:
        raise ValueError(f"habit={business.habit!r} is no habit of a business; choose one of {', '.join(HABITS)}.")
    habit = HABITS[business.habit]
    if suggestion.abstains:
        return dict(zip(MODES, (0.0, 0.0, 0.0, 1.0), strict=True))
    if not suggestion.understood:
        return dict(zip(MODES, (_UNCLEAR, 0.0, 0.0, 1 - _UNCLEAR), strict=True))
    accepts = habit.accepts * _TRUSTED[trust] * (_DISLIKED if suggestion.disliked else 1.0)
    turned_down = 1 - accepts
    kept, swayed = accepts * habit.keeps, turned_down * habit.swayed
    return dict(zip(MODES, (kept, accepts - kept, swayed, turned_down - swayed), strict=True))


def draw_mode(probabilities: Mapping[Mode, float], rng: np.random.Generator) -> Mode:
    """One of the modes, by their probabilities; one uniform is drawn whatever they are."""
    left = rng.random()
    for mode, probability in probabilities.items():
        left -= probability
        if left < 0:
            return mode
    return "ignored"


def trust_after(trust: int, suggestion: Suggestion, done: bool, welcome: int) -> int:
    """The trust after an exchange.

    Args:
        done: whether what was sent does what was suggested.
        welcome: how the customer took it: 1, 0 or -1.
    """
    if suggestion.disliked:
        return 0
    return min(MAX_TRUST, max(0, trust + (welcome if done else 0) - int(not suggestion.understood)))


def business_brief(business: Business, what_it_dislikes: str) -> str:
    """The business in words, for records and for models that are to play it."""
    manner = {
        "eager": "You are glad of every suggestion and mostly say it as it is.",
        "steady": "You weigh each suggestion and put about every other one into your own words.",
        "wary": "You are slow to trust suggestions and would rather find your own words.",
        "stubborn": "You hardly ever listen to suggestions.",
    }[business.habit]
    return f"Somebody shows you what you could say. {manner} {what_it_dislikes}"
