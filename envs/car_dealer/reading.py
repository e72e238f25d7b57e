"""What a reader of a conversation at the car dealer's should have understood: facts at two places of every exchange.

Where the dealer is about to speak, what the buyer has told and how things stand. Where the buyer is about to answer,
besides what the dealer has just done, and whether that goes with what the buyer told. (Dialogue-state tracking.) The
labels come from the rules of the world: they are most of what the optimum is planned on. All of it can be known from
the words so far; nothing about what will come, or what would be wise.
"""

from __future__ import annotations

from typing import Final

from envs.acts import Act
from envs.car_dealer.catalogue import BRANDS, BUDGETS, DEALER_ACTS, FEATURES, MSRPS, TYPES
from envs.car_dealer.knowledge import Knowledge
from envs.car_dealer.program import MAX_DISCOUNTS, MAX_TRUST, MAX_WANTED

_SUITS: Final = ("none", "fits", "dear", "plain")
_KINDS: Final = tuple(dict.fromkeys(act.kind for act in DEALER_ACTS))
_FEATURES: Final = tuple(FEATURES)
_NOT_TOLD, _GOES_WITH, _GOES_AGAINST = 0, 1, 2

STANDING: Final = {
    "type": 1 + len(TYPES),
    "type_fits": 2,
    "brand": 1 + len(BRANDS),
    "brand_fits": 2,
    "feature": 1 + len(_FEATURES),
    "hits": 1 + MAX_WANTED,
    "budget": 1 + len(BUDGETS),
    "suits": len(_SUITS),
    "trust": 1 + MAX_TRUST,
    "discounts": 1 + MAX_DISCOUNTS,
    "named": 2,
}
"""How things stand before the dealer speaks: each fact and how many values it has; of what is told, 0 is not told.
``feature`` is one that was told and not pointed out; ``named``, whether an offer of the buyer's own stands."""
DOING: Final = {"act": len(_KINDS), "type_match": 3, "brand_match": 3, "feature_match": 3, "price_match": 3}
"""What the dealer has just done, and whether it goes with (1) or against (2) what was told; 0 where nothing was told or
it is about something else."""
FACTS: Final = {**STANDING, **DOING}


def standing(known: Knowledge) -> tuple[int, ...]:
    """The facts of ``STANDING``."""
    mind = known.mind
    return (
        1 + TYPES.index(known.type) if known.type else 0,
        int(known.type_fits),
        1 + BRANDS.index(known.brand) if known.brand else 0,
        int(known.brand_fits),
        1 + _FEATURES.index(known.open_feature) if known.open_feature else 0,
        min(MAX_WANTED, known.hits),
        1 + BUDGETS.index(known.budget) if known.budget else 0,
        _SUITS.index(known.suits),
        mind.trust,
        mind.discounts,
        int(mind.named > mind.discounts),
    )


def doing(known: Knowledge, act: Act) -> tuple[int, ...]:
    """The facts of ``DOING`` of an act that is done when ``known`` is what is known."""
    price = str(MSRPS[BUDGETS.index(known.budget)]) if known.budget else None
    told = {"show_type": known.type, "show_brand": known.brand, "feature": known.open_feature, "quote": price}
    matches = (_match(act.about, told[kind]) if act.kind == kind else _NOT_TOLD for kind in told)
    return _KINDS.index(act.kind), *matches


def _match(offered: str | None, told: str | None) -> int:
    if told is None:
        return _NOT_TOLD
    return _GOES_WITH if offered == told else _GOES_AGAINST
