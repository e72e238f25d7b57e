"""The buyer's mind: a program that decides what a buyer feels, tells, pays and when it walks away.

It hears acts, not words, and answers with acts; words are somebody else's business (``envs.car_dealer.users``).
Everything that pays is decided here, from the buyer's profile and the state of its mind, so it can't be talked into
anything. ``respond`` gives the exact distribution over what happens next; the buyer samples from it, and the planner
(``envs.car_dealer.planner``) plans on the very same numbers.

A car is settled on step by step: the type first, without which nothing else is heard; then, in any order, the brand,
what it has, and its sticker price (MSRP). The right brand and each wanted feature raise the buyer's interest, and
interest raises what it is ready to pay: its reservation price is random, higher than the price asked with the
probability in ``_ACCEPTS``. A buyer that is asked to buy and does not may name the price at which it would (it haggles)
and keeps its word. Whoever is annoyed (shown the wrong type, asked for more than the budget, pressed to buy, talked to
unclearly) loses trust, and may walk away at once: the sooner the less it trusts and the hotter its temper.

Of the ten personalities the program knows three temperaments (``envs.car_dealer.catalogue.TEMPERAMENTS``): how readily
they tell things, how they haggle, how soon they walk away and how long they stay at all.

The trade-off: asked at once and at the full price, most buyers walk away; a discount pleases at once
(``Outcome.satisfaction``) and is lost for good; finding out what is wanted takes time, pleases little, and decides what
can be earned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from envs.acts import Act
from envs.car_dealer.catalogue import BUDGETS, MSRPS, TEMPERAMENT_OF

PATIENCE: Final = {"warm": 10, "cool": 9, "hot": 8}
"""How many exchanges a buyer stays, by temperament; then it has decided against it."""
HORIZON: Final = max(PATIENCE.values())
"""Exchanges in a conversation. LMRL-Gym allows 50 lines; here one utterance is one act, and the fullest way to a sale
(greet; ask for type, brand, features and budget; show type and brand; a feature; the price; close) is ten of them."""
MAX_TRUST: Final = 2
MAX_INTEREST: Final = 3
MAX_WANTED: Final = 2
"""Wanted features that count towards interest; the right brand counts one."""
MAX_DISCOUNTS: Final = 3
DISCOUNT: Final = 0.1
"""Share of the sticker price that one discount takes off."""

_TELLS: Final = {"warm": 0.9, "cool": 0.55, "hot": 0.65}
"""Probability of answering when asked for type, brand or features."""
_TELLS_BUDGET: Final = {"warm": 0.75, "cool": 0.4, "hot": 0.45}
_VOLUNTEERS: Final = {"warm": 0.4, "cool": 0.1, "hot": 0.25}
"""Probability of adding, unasked, the brand to the type, the type to a refusal of another, the budget to ``too_dear``.
"""
_TRUSTING: Final = (-0.25, 0.0, 0.2)
"""Added to the probability of telling, by trust."""
_WALKS: Final = {"warm": (0.2, 0.06, 0.02), "cool": (0.3, 0.1, 0.04), "hot": (0.45, 0.2, 0.08)}
"""Probability of walking away when annoyed, by trust before."""
_HAGGLES: Final = {"warm": 0.4, "cool": 0.7, "hot": 0.5}
"""Probability that a buyer that does not buy names its price, where a discount would bring it into reach."""
_ACCEPTS: Final = (
    (1.1, (0.15, 0.35, 0.55, 0.75)),
    (1.0, (0.35, 0.55, 0.75, 0.92)),
    (0.9, (0.5, 0.7, 0.85, 0.95)),
    (0.8, (0.6, 0.8, 0.9, 0.97)),
)
"""Probability of buying by interest, for prices up to this share of the budget; the lowest share is for all below it.
Above the highest nobody buys."""
_PLAIN: Final = 0.5
"""Factor for every trim by which the car is below what the buyer could pay for."""
_ACCEPTS_TRUST: Final = (0.7, 0.9, 1.0)
"""Factor by trust."""
_KEEPS_WORD: Final = 0.95
"""Probability of buying at the price that the buyer named itself, if that is more."""

Level = Literal["none", "dear", "plain", "fits"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the buyer is. Fixed for a conversation, hidden from the dealer."""

    personality: str
    brand: str
    type: str
    features: tuple[str, ...]
    """In the order in which they are told."""
    budget: int
    """In thousands of dollars."""

    @property
    def temperament(self) -> str:
        return TEMPERAMENT_OF[self.personality]


@dataclass(frozen=True, slots=True)
class Mind:
    """The state of the buyer's mind; ``Mind()`` is that of a buyer who has just come in. Prices come from here alone:
    it is the ledger."""

    trust: int = 1
    type: str | None = None
    """The type that was shown last."""
    brand: str | None = None
    """The brand that was shown last."""
    pointed_out: frozenset[str] = frozenset()
    """The features that were pointed out."""
    quoted: int | None = None
    """The sticker price (MSRP) that was named last, in thousands of dollars."""
    discounts: int = 0
    named: int = 0
    """At how many discounts the buyer has said that it would buy; 0 if it has not."""
    exchanges: int = 0
    outcome: Literal["open", "bought", "left", "sent_away"] = "open"

    @property
    def msrp(self) -> int:
        """The sticker price in dollars. Raises ``ValueError`` before one was named."""
        if self.quoted is None:
            raise ValueError("No price was named, so there is no MSRP; quote one first.")
        return 1000 * self.quoted

    @property
    def price(self) -> int:
        """What the car costs now, in dollars, discounts taken off. Raises ``ValueError`` before a price was named."""
        return self.price_at(self.discounts)

    def price_at(self, discounts: int) -> int:
        """What it costs after so many discounts, in dollars."""
        return round(self.msrp * (1 - DISCOUNT * discounts))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen: how likely, what the buyer says, how it likes this exchange, its mind afterwards."""

    probability: float
    moves: tuple[Act, ...]
    satisfaction: float
    mind: Mind


def interest(profile: Profile, mind: Mind) -> int:
    """How much the buyer wants the car: the right brand and the wanted features that were pointed out."""
    wanted = len(mind.pointed_out.intersection(profile.features))
    return int(mind.brand == profile.brand) + min(MAX_WANTED, wanted)


def level(profile: Profile, quoted: int | None) -> Level:
    """How a sticker price suits the budget."""
    if quoted is None:
        return "none"
    trim, own = MSRPS.index(quoted), BUDGETS.index(profile.budget)
    return "fits" if trim == own else "dear" if trim > own else "plain"


def buying_probability(profile: Profile, mind: Mind) -> float:
    """Probability that the buyer says yes if asked now."""
    if mind.quoted is None or mind.type != profile.type:
        return 0.0
    accepts = _accepts(profile, mind) * _PLAIN ** max(0, BUDGETS.index(profile.budget) - MSRPS.index(mind.quoted))
    accepts *= _ACCEPTS_TRUST[mind.trust]
    return max(accepts, _KEEPS_WORD) if 0 < mind.named <= mind.discounts else accepts


def _accepts(profile: Profile, mind: Mind) -> float:
    share = mind.price / (1000 * profile.budget)
    fitting = [by_interest for most, by_interest in _ACCEPTS if share <= most + 1e-9]
    return fitting[-1][interest(profile, mind)] if fitting else 0.0


@lru_cache(maxsize=1 << 18)
def respond(profile: Profile, mind: Mind, act: Act) -> tuple[Outcome, ...]:
    """What may happen when the dealer does ``act``: outcomes whose probabilities sum to 1.

    Raises ``ValueError`` when the conversation is over already.
    """
    if mind.outcome != "open":
        raise ValueError(f"The buyer has {mind.outcome} already; begin another conversation.")
    reactions = _REACTIONS[act.kind](profile, mind, act)
    return tuple(_going_home(profile, reaction) for reaction in reactions if reaction.probability > 0)


def draw(outcomes: Sequence[Outcome], rng: np.random.Generator) -> Outcome:
    """One of ``outcomes``, by their probabilities; one uniform is drawn whatever they are."""
    left = rng.random()
    for outcome in outcomes:
        left -= outcome.probability
        if left < 0:
            return outcome
    return outcomes[-1]


def _going_home(profile: Profile, reaction: Outcome) -> Outcome:
    """The reaction, one exchange later; a buyer whose patience is out then has decided against it."""
    mind = replace(reaction.mind, exchanges=reaction.mind.exchanges + 1)
    if mind.outcome == "open" and mind.exchanges >= PATIENCE[profile.temperament]:
        return replace(reaction, moves=(Act("leave"),), mind=replace(mind, outcome="left"))
    return replace(reaction, mind=mind)


def _one(satisfaction: float, mind: Mind, *moves: Act) -> list[Outcome]:
    return [Outcome(1.0, moves, satisfaction, mind)]


def _trusting(mind: Mind, change: int, **changes: object) -> Mind:
    """The mind with so much more trust."""
    trust = min(MAX_TRUST, max(0, mind.trust + change))
    return replace(mind, trust=trust, **changes)  # type: ignore[arg-type]  # field names vary


def _annoyed(profile: Profile, mind: Mind, share: float, satisfaction: float, *moves: Act) -> list[Outcome]:
    """With probability ``share`` the buyer is annoyed: it says ``moves`` and trusts less, or walks away."""
    walks = _WALKS[profile.temperament][mind.trust]
    return [
        Outcome(share * (1 - walks), moves, satisfaction, _trusting(mind, -1)),
        Outcome(share * walks, (Act("leave"),), satisfaction, replace(mind, outcome="left")),
    ]


def _tells(profile: Profile, mind: Mind, probability: float, *said: Act) -> list[Outcome]:
    """The buyer says ``said`` with this probability, more or less as it trusts, else nothing of it."""
    p = min(0.97, max(0.05, probability + _TRUSTING[mind.trust]))
    return [Outcome(p, said, 0.1, mind), Outcome(1 - p, (Act("withhold"),), 0.0, mind)]


def _greet(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.exchanges:
        return _one(-0.2, mind, Act("no_further"))
    return _one(0.5, _trusting(mind, +1), Act("greet_back"))


def _ask_type(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    told, withheld = _tells(profile, mind, _TELLS[profile.temperament], Act("tell_type", profile.type))
    adds = 0.0 if mind.brand == profile.brand else _VOLUNTEERS[profile.temperament]
    both = replace(told, probability=told.probability * adds, moves=(*told.moves, Act("tell_brand", profile.brand)))
    return [both, replace(told, probability=told.probability * (1 - adds)), withheld]


def _ask_brand(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _tells(profile, mind, _TELLS[profile.temperament], Act("tell_brand", profile.brand))


def _ask_budget(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _tells(profile, mind, _TELLS_BUDGET[profile.temperament], Act("tell_budget", str(profile.budget)))


def _ask_features(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    """A buyer asked again tells the first of those that were not pointed out: it does not know what it has told."""
    left = [feature for feature in profile.features if feature not in mind.pointed_out]
    said = Act("tell_feature", left[0]) if left else Act("that_is_all")
    return _tells(profile, mind, _TELLS[profile.temperament], said)


def _show_type(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if act.about == mind.type:
        return _one(-0.2, mind, Act("no_further"))
    shown = replace(mind, type=act.about)
    if act.about == profile.type:
        return _one(0.6, shown, Act("right_type"))
    tells = _VOLUNTEERS[profile.temperament]
    wrong = Act("wrong_type")
    return [
        *_annoyed(profile, shown, tells, -0.8, wrong, Act("tell_type", profile.type)),
        *_annoyed(profile, shown, 1 - tells, -0.8, wrong),
    ]


def _show_brand(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.type != profile.type:
        return _one(-0.3, mind, Act("premature"))
    if act.about == mind.brand:
        return _one(-0.2, mind, Act("no_further"))
    shown = replace(mind, brand=act.about)
    if act.about == profile.brand:
        return _one(0.5, shown, Act("right_brand"))
    return _one(-0.3, shown, Act("other_brand"))


def _feature(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.type != profile.type:
        return _one(-0.3, mind, Act("premature"))
    if act.about in mind.pointed_out:
        return _one(-0.2, mind, Act("no_further"))
    shown = replace(mind, pointed_out=mind.pointed_out | {str(act.about)})
    if act.about in profile.features:
        return _one(0.5, shown, Act("wants_it"))
    return _one(-0.2, shown, Act("no_use"))


def _quote(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.type != profile.type:
        return _one(-0.3, mind, Act("premature"))
    quoted = int(act.about or 0)
    if quoted == mind.quoted:
        return _one(-0.2, mind, Act("no_further"))
    after = replace(mind, quoted=quoted, named=0)
    suits = level(profile, quoted)
    if suits != "dear":
        return _one(0.3, after, Act("in_range")) if suits == "fits" else _one(0.1, after, Act("too_plain"))
    tells, dear = _VOLUNTEERS[profile.temperament], Act("too_dear")
    return [
        *_annoyed(profile, after, tells, -0.6, dear, Act("tell_budget", str(profile.budget))),
        *_annoyed(profile, after, 1 - tells, -0.6, dear),
    ]


def _discount(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.quoted is None:
        return _one(-0.3, mind, Act("premature"))
    if mind.discounts == MAX_DISCOUNTS:
        return _one(0.0, mind, Act("no_further"))
    return _one(1.2, replace(mind, discounts=mind.discounts + 1), Act("pleased"))


def _close(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    p = buying_probability(profile, mind)
    bought = Outcome(p, (Act("buy"),), 1.5, replace(mind, outcome="bought"))
    counters = _HAGGLES[profile.temperament] if _within_reach(profile, mind) else 0.0
    named = replace(mind, named=mind.discounts + 1)
    return [
        bought,
        Outcome((1 - p) * counters, (Act("counter"),), -0.4, named),
        *_annoyed(profile, mind, (1 - p) * (1 - counters), -1.0, Act("not_yet")),
    ]


def _within_reach(profile: Profile, mind: Mind) -> bool:
    """Whether one more discount makes it a car that the buyer would buy; no second offer below one that stands."""
    if mind.type != profile.type or mind.quoted is None or mind.discounts == MAX_DISCOUNTS:
        return False
    return level(profile, mind.quoted) == "fits" and mind.named <= mind.discounts


def _goodbye(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _one(-0.5, replace(mind, outcome="sent_away"), Act("leave"))


def _unclear(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _annoyed(profile, mind, 1.0, -0.6, Act("confused"))


_REACTIONS: Final = {
    "greet": _greet,
    "ask_type": _ask_type,
    "ask_brand": _ask_brand,
    "ask_features": _ask_features,
    "ask_budget": _ask_budget,
    "show_type": _show_type,
    "show_brand": _show_brand,
    "feature": _feature,
    "quote": _quote,
    "discount": _discount,
    "close": _close,
    "goodbye": _goodbye,
    "unclear": _unclear,
}
