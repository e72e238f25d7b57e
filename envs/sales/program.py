"""The buyer's mind: a program that decides what a buyer feels, tells, pays and when it leaves.

It hears acts, not words, and answers with acts; words are somebody else's business (``envs.sales.users``). Everything
that pays is decided here, from the buyer's profile and the state of its mind, so it can't be talked into anything.

``respond`` gives the exact distribution over what happens next. The buyer samples from it, and the planner
(``envs.sales.planner``) computes the best possible seller from the very same numbers.

The trap for short-sighted sellers: a discount and small talk please at once (``Outcome.satisfaction``) and cost price,
trust and time; asking and reassuring please little and decide whether the buyer buys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from envs.acts import Act
from envs.sales.catalogue import PRODUCTS

MAX_TRUST: Final = 3
MAX_DISCOUNTS: Final = 2
DISCOUNT: Final = 0.15
"""Share of the list price that one discount takes off."""
PATIENCE: Final = (5, 7, 9)
"""How much a buyer puts up with; an act costs at least 1. Buyers of the out-of-distribution split may have 4."""
DEAREST: Final = 2
"""The most patience that one act costs."""
HURRY_AT: Final = 2
"""A buyer says so when this much patience or less is left."""

_TELLS_NEED: Final = {"chatty": 0.95, "plain": 0.9, "guarded": 0.5, "curt": 0.7}
_TELLS_BUDGET: Final = {"chatty": 0.8, "plain": 0.65, "guarded": 0.3, "curt": 0.5}
_TELLS_WORRY: Final = {"chatty": 0.95, "plain": 0.85, "guarded": 0.5, "curt": 0.6}
_VOLUNTEERS: Final = {"chatty": 0.5, "plain": 0.3, "guarded": 0.1, "curt": 0.0}
"""Probability of telling, unasked, the worry after a bicycle fits and the need after one does not."""
_TRUSTING: Final = 0.3
"""Added to the probability of telling when trust is 2 or more."""
_BUYS_FIT: Final = {"full": (0.9, 0.93, 0.96), "dear": (0.05, 0.4, 0.75), "basic": (0.3, 0.35, 0.4)}
"""Probability of buying by fit and number of discounts, before worry and trust."""
_BUYS_WORRIED: Final = (0.2, 0.3, 0.4)
"""Factor while the worry is open, by number of discounts."""
_BUYS_TRUST: Final = (0.3, 0.75, 1.0, 1.0)
"""Factor by trust."""
_IDLE_BUYS: Final = 0.7
_IDLE_LEAVES: Final = 0.15
"""A buyer that is only killing time: a factor on buying, and the probability of leaving after any exchange."""

Fit = Literal["none", "wrong", "dear", "basic", "full"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the buyer is. Fixed for a conversation, hidden from the seller (idleness can be heard at once)."""

    need: str
    budget: str
    worry: str
    patience: int
    style: str
    idle: bool = False
    """Only killing time: says so at the start, may leave at any moment."""


@dataclass(frozen=True, slots=True)
class Mind:
    """The state of the buyer's mind; ``Mind()`` is that of a buyer who has just walked in. Style changes how readily
    the buyer tells things, never how its mind moves. Prices come from here alone: it is the ledger."""

    trust: int = 1
    spent: int = 0
    """Patience used up."""
    shown: str | None = None
    """The product that was pitched last."""
    worried: bool = True
    """Whether the buyer's worry is still open."""
    discounts: int = 0
    greeted: bool = False
    chatted: bool = False
    hurried: bool = False
    """Whether the buyer has said that it must go soon."""
    outcome: Literal["open", "bought", "left", "sent_away"] = "open"

    @property
    def price_share(self) -> float:
        """Price paid over list price if it is bought now."""
        return 1.0 - DISCOUNT * self.discounts

    @property
    def price(self) -> float:
        """What the product shown costs now, in dollars, discounts taken off. Raises ``ValueError`` before a pitch."""
        if self.shown is None:
            raise ValueError("No product was shown, so there is no price; pitch one first.")
        return round(PRODUCTS[self.shown].price * self.price_share, 2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen: how likely, what the buyer says, how it likes this exchange, its mind afterwards."""

    probability: float
    moves: tuple[Act, ...]
    satisfaction: float
    mind: Mind


def fit(profile: Profile, shown: str | None) -> Fit:
    """How the product shown suits the buyer."""
    if shown is None:
        return "none"
    product = PRODUCTS[shown]
    if product.need != profile.need:
        return "wrong"
    if product.tier == "premium" and profile.budget == "tight":
        return "dear"
    return "basic" if product.tier == "basic" and profile.budget == "ample" else "full"


@lru_cache(maxsize=1 << 18)
def respond(profile: Profile, mind: Mind, act: Act) -> tuple[Outcome, ...]:
    """What may happen when the seller does ``act``: outcomes whose probabilities sum to 1.

    Raises ``ValueError`` when the conversation is over already.
    """
    if mind.outcome != "open":
        raise ValueError(f"The buyer has {mind.outcome} already; begin another conversation.")
    reactions = _REACTIONS[act.kind](profile, mind, act)
    return tuple(
        Outcome(reaction.probability * p, moves, reaction.satisfaction, after)
        for reaction in reactions
        if reaction.probability > 0
        for p, moves, after in _stay_or_leave(profile, reaction)
    )


def draw(outcomes: Sequence[Outcome], rng: np.random.Generator) -> Outcome:
    """One of ``outcomes``, by their probabilities; one uniform is drawn whatever they are."""
    left = rng.random()
    for outcome in outcomes:
        left -= outcome.probability
        if left < 0:
            return outcome
    return outcomes[-1]


def buying_probability(profile: Profile, mind: Mind) -> float:
    """Probability that the buyer says yes if asked now."""
    suits = fit(profile, mind.shown)
    if suits in ("none", "wrong"):
        return 0.0
    probability = _BUYS_FIT[suits][mind.discounts] * _BUYS_TRUST[mind.trust]
    if mind.worried:
        probability *= _BUYS_WORRIED[mind.discounts]
    return probability * (_IDLE_BUYS if profile.idle else 1.0)


def _stay_or_leave(profile: Profile, reaction: Outcome) -> list[tuple[float, tuple[Act, ...], Mind]]:
    """After the reaction: patience may be out, an idle buyer may drift off, little patience is said aloud."""
    mind, left = reaction.mind, (Act("leave"),)
    if mind.outcome != "open":
        return [(1.0, reaction.moves, mind)]
    if mind.spent >= profile.patience:
        return [(1.0, left, replace(mind, outcome="left"))]
    moves, stays = reaction.moves, mind
    if not mind.hurried and profile.patience - mind.spent <= HURRY_AT:
        moves, stays = (*moves[:1], Act("hurry")), replace(mind, hurried=True)
    if not profile.idle:
        return [(1.0, moves, stays)]
    return [(1 - _IDLE_LEAVES, moves, stays), (_IDLE_LEAVES, left, replace(mind, outcome="left"))]


def _trust(mind: Mind, change: int, cost: int = 1, **changes: object) -> Mind:
    """The mind after an act that costs ``cost`` patience and changes trust by ``change``."""
    trust = min(MAX_TRUST, max(0, mind.trust + change))
    return replace(mind, trust=trust, spent=mind.spent + cost, **changes)  # type: ignore[arg-type]  # field names vary


def _one(satisfaction: float, mind: Mind, *moves: Act) -> list[Outcome]:
    return [Outcome(1.0, moves, satisfaction, mind)]


def _tells(probability: float, mind: Mind, said: Act, satisfaction: float, after: Mind, *else_: Act) -> list[Outcome]:
    """The buyer says ``said`` with ``probability`` (more when it trusts), else ``else_``."""
    p = min(0.97, probability + (_TRUSTING if mind.trust >= 2 else 0.0))
    return [Outcome(p, (said,), satisfaction, after), Outcome(1 - p, else_, satisfaction - 0.2, after)]


def _greet(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.greeted or mind.spent:
        return _one(-0.2, _trust(mind, 0), Act("no_further"))
    return _one(0.4, _trust(mind, +1, greeted=True), Act("greet_back"))


def _small_talk(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.chatted:
        return _one(0.2, _trust(mind, 0, cost=2), Act("chat"))
    return _one(0.6, _trust(mind, +1, chatted=True), Act("chat"))


def _ask_need(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    told = Act("tell_need", profile.need)
    return _tells(_TELLS_NEED[profile.style], mind, told, 0.2, _trust(mind, 0), Act("withhold"))


def _ask_budget(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    told = Act("tell_budget", profile.budget)
    return _tells(_TELLS_BUDGET[profile.style], mind, told, 0.0, _trust(mind, 0), Act("withhold"))


def _ask_worry(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if not mind.worried or fit(profile, mind.shown) in ("none", "wrong"):
        return _one(-0.1, _trust(mind, 0), Act("tell_no_worry"))
    told = Act("tell_worry", profile.worry)
    return _tells(_TELLS_WORRY[profile.style], mind, told, 0.2, _trust(mind, 0), Act("withhold"))


def _pitch(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    suits = fit(profile, act.about)
    volunteers = _VOLUNTEERS[profile.style]
    if suits == "wrong":
        after = _trust(mind, -1, shown=act.about)
        told = (Act("wrong_kind"), Act("tell_need", profile.need))
        return [Outcome(volunteers, told, -0.8, after), Outcome(1 - volunteers, told[:1], -0.8, after)]
    after = _trust(mind, 0, shown=act.about)
    if suits == "dear":
        return _one(-0.3, after, Act("too_dear"))
    if suits == "basic":
        return _one(0.1, after, Act("too_basic"))
    if not mind.worried:
        return _one(1.0, after, Act("like"))
    told = (Act("like"), Act("tell_worry", profile.worry))
    return [Outcome(volunteers, told, 1.0, after), Outcome(1 - volunteers, told[:1], 1.0, after)]


def _reassure(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if fit(profile, mind.shown) in ("none", "wrong"):
        return _one(-0.3, _trust(mind, 0), Act("premature"))
    if not mind.worried:
        return _one(-0.1, _trust(mind, 0), Act("no_further"))
    if act.about == profile.worry:
        return _one(0.8, _trust(mind, +1, worried=False), Act("convinced"))
    return _one(-0.5, _trust(mind, -1), Act("unmoved"))


def _discount(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.discounts == MAX_DISCOUNTS:
        return _one(0.0, _trust(mind, 0), Act("no_further"))
    suits = fit(profile, mind.shown) not in ("none", "wrong")
    return _one(1.2, _trust(mind, 0 if suits else -1, discounts=mind.discounts + 1), Act("pleased"))


def _close(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    p = buying_probability(profile, mind)
    refused = _trust(mind, -1, cost=2)
    bought = Outcome(p, (Act("buy"),), 1.5, _trust(mind, 0, outcome="bought"))
    if not mind.worried or fit(profile, mind.shown) in ("none", "wrong"):
        return [bought, Outcome(1 - p, (Act("not_yet"),), -1.0, refused)]
    voiced = (Act("not_yet"), Act("tell_worry", profile.worry))
    tells, refuses = _VOLUNTEERS[profile.style], 1 - p
    return [
        bought,
        Outcome(refuses * tells, voiced, -1.0, refused),
        Outcome(refuses * (1 - tells), voiced[:1], -1.0, refused),
    ]


def _goodbye(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _one(-0.5, _trust(mind, 0, outcome="sent_away"), Act("leave"))


def _unclear(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _one(-0.6, _trust(mind, -1, cost=2), Act("confused"))


_REACTIONS: Final = {
    "greet": _greet,
    "small_talk": _small_talk,
    "ask_need": _ask_need,
    "ask_budget": _ask_budget,
    "ask_worry": _ask_worry,
    "pitch": _pitch,
    "reassure": _reassure,
    "discount": _discount,
    "close": _close,
    "goodbye": _goodbye,
    "unclear": _unclear,
}
