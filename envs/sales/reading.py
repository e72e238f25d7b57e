"""What a reader of a sales conversation should have understood: facts at two places of every exchange.

Where the seller is about to speak, what the buyer has told and how things stand. Where the buyer is about to answer,
besides what the seller has just done, and whether that goes with what the buyer told. (Dialogue-state tracking.) The
labels come from the rules of the world: they are most of the information state on which the optimum is planned, trust
included. All of it can be known from the words so far; nothing about what will come, or what would be wise.
"""

from __future__ import annotations

from typing import Final

from envs.acts import Act
from envs.sales.catalogue import BUDGETS, NEEDS, PRODUCTS, SELLER_ACTS, TIERS, WORRIES
from envs.sales.knowledge import Knowledge
from envs.sales.program import MAX_DISCOUNTS, MAX_TRUST

_FITS: Final = ("none", "wrong", "dear", "basic", "full")
_KINDS: Final = tuple(dict.fromkeys(act.kind for act in SELLER_ACTS))
_NOT_TOLD, _GOES_WITH, _GOES_AGAINST = 0, 1, 2

STANDING: Final = {
    "fit": len(_FITS),
    "worried": 2,
    "worry": 1 + len(WORRIES),
    "need": 1 + len(NEEDS),
    "budget": 1 + len(BUDGETS),
    "trust": 1 + MAX_TRUST,
    "discounts": 1 + MAX_DISCOUNTS,
}
"""How things stand before the seller speaks: each fact and how many values it has; of what is told, 0 is not told."""
DOING: Final = {"act": len(_KINDS), "need_match": 3, "tier_match": 3, "worry_match": 3}
"""What the seller has just done, and whether it goes with (1) or against (2) the need, budget or worry that was told;
0 where nothing was told or it is about something else."""
FACTS: Final = {**STANDING, **DOING}


def standing(known: Knowledge) -> tuple[int, ...]:
    """The facts of ``STANDING``."""
    return (
        _FITS.index(known.fit),
        int(known.mind.worried),
        1 + WORRIES.index(known.worry) if known.worry else 0,
        1 + NEEDS.index(known.need) if known.need else 0,
        1 + BUDGETS.index(known.budget) if known.budget else 0,
        known.mind.trust,
        known.mind.discounts,
    )


def doing(known: Knowledge, act: Act) -> tuple[int, ...]:
    """The facts of ``DOING`` of an act that is done when ``known`` is what is known."""
    need = tier = worry = _NOT_TOLD
    if act.kind == "pitch" and act.about:
        product = PRODUCTS[act.about]
        need = _match(product.need, known.need)
        tier = _match(product.tier, TIERS[BUDGETS.index(known.budget)] if known.budget else None)
    elif act.kind == "reassure":
        worry = _match(act.about, known.worry)
    return _KINDS.index(act.kind), need, tier, worry


def _match(offered: str | None, told: str | None) -> int:
    if told is None:
        return _NOT_TOLD
    return _GOES_WITH if offered == told else _GOES_AGAINST
