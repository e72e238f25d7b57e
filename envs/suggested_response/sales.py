"""The bicycle shop (``parley/Sales-v0``) as a world whose seller is helped by suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from envs.acts import Act
from envs.env import Episode
from envs.sales.catalogue import CATALOGUE, PRODUCTS, WORRIES
from envs.sales.env import USERS, SalesEnv
from envs.sales.judging import SaleTurns
from envs.sales.language import buyer_parser, seller_phrasebook
from envs.sales.sellers import SellerInWords
from envs.sales.users import SellerParser
from envs.suggested_response.world import Dislike, World

_DRIFTS: Final = (
    (Act("greet"), Act("small_talk")),
    (Act("ask_need"), Act("ask_budget"), Act("ask_worry")),
    tuple(Act("reassure", worry) for worry in WORRIES),
    (Act("discount"), Act("close")),
)
DISLIKES: Final = {
    "chatter": Dislike(
        frozenset({"greet", "small_talk", "ask_need", "ask_budget", "ask_worry"}),
        "You think that small talk and questions waste everybody's time.",
    ),
    "promises": Dislike(frozenset({"reassure"}), "You don't like to promise what the shop will do afterwards."),
    "pressure": Dislike(frozenset({"discount", "close"}), "You don't like to haggle or to press people to buy."),
}


def drift(act: Act) -> Sequence[Act]:
    """The acts of the same drift: the same need's bicycle of either tier, another question, another reassurance …"""
    if act.kind == "pitch" and act.about in PRODUCTS:
        need = PRODUCTS[act.about].need
        return [Act("pitch", product.name) for product in CATALOGUE if product.need == need]
    return next((acts for acts in _DRIFTS if act in acts), (act,))


def _say(act: Act, episode: Episode, rng: np.random.Generator) -> str:
    return seller_phrasebook().say(act, rng)


@cache
def world() -> World:
    """``world=sales``."""
    return World(
        name="sales",
        environment=lambda customer, split: SalesEnv(customer, split=split),
        customers=USERS,
        reader=SellerParser(),
        speaker=SellerInWords,
        say=_say,
        hear=buyer_parser().parse_moves,
        drift=drift,
        dislikes=DISLIKES,
        welcome=frozenset(
            {"greet_back", "chat", "tell_need", "tell_budget", "tell_worry", "like", "convinced", "pleased", "buy"}
        ),
        unwelcome=frozenset(
            {
                "too_dear",
                "too_basic",
                "wrong_kind",
                "unmoved",
                "premature",
                "no_further",
                "not_yet",
                "confused",
                "leave",
            }
        ),
        turn_judge=SaleTurns,
    )
