"""Dealers as rules: which act to do, given what is known. The yardsticks of ``parley/CarDealer-v0``.

- ``random``: any act. The floor of all.
- ``behaviour``: a sloppy dealer that makes the logged data: shows what was not asked for, names any price, gives
  discounts away, asks to buy too soon, and does something at random a fifth of the time.
- ``sloppy``: the same without the random fifth.
- ``attentive``: shows and names what it heard of, and never asks to buy, so it never sells.
- ``clumsy``: finds out first, and then does the fitting thing or another, by the toss of a coin. Its conversations are
  for learning to read: in those of the others a wrong answer is rare.
- ``myopic``: the best possible dealer for the buyer's satisfaction with the next exchange alone.
- ``expert``: asks for the type and the budget, shows, raises interest, names the fitting price, asks to buy, haggles.
- ``optimum``: acts by dynamic programming on what a dealer can know, to earn ``revenue``; ``envs.car_dealer.planner``
  says what it leaves out. ``optimum_fancy`` is the same for the other reward.

``DealerInWords`` gives a rule ears and a mouth: it reads the buyer's words back into moves and words its own acts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from envs.acts import Act
from envs.car_dealer.catalogue import BRANDS, DEALER_ACTS, FEATURES, MSRPS, TYPES
from envs.car_dealer.knowledge import Knowledge, begin, learn
from envs.car_dealer.language import buyer_parser, dealer_parser, dealer_phrasebook
from envs.car_dealer.planner import Planner, Pleaser
from envs.car_dealer.program import HORIZON, MAX_DISCOUNTS, MAX_WANTED
from envs.rule_in_words import RuleInWords

Rule = Callable[[Knowledge, np.random.Generator], Act]
NOISE = 0.2
"""Share of the behaviour dealer's acts that are random."""


def random(known: Knowledge, rng: np.random.Generator) -> Act:
    """Any act at all."""
    return _any(rng, DEALER_ACTS)


def _any(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def _noise(rng: np.random.Generator) -> Act:
    """A kind of act at random, and then what it is about; all but goodbye."""
    kind = _any(rng, _KINDS)
    return _any(rng, [act for act in DEALER_ACTS if act.kind == kind])


_KINDS = tuple(dict.fromkeys(act.kind for act in DEALER_ACTS if act.kind != "goodbye"))


def myopic() -> Rule:
    """What pleases the buyer most, now."""
    pleaser = Pleaser()
    return lambda known, rng: pleaser.best(known)


def expert(known: Knowledge, rng: np.random.Generator) -> Act:
    """Ask for the type and show it, ask for the budget once, raise interest while there is time, quote, haggle."""
    mind = known.mind
    left = HORIZON - 2 - mind.exchanges  # most buyers leave two exchanges before the last
    if not known.type_fits:
        asks = known.type is None and mind.exchanges < 3
        return Act("ask_type") if asks else Act("show_type", known.candidate_type())
    if known.suits == "fits":
        if mind.named > mind.discounts:
            return Act("discount")
        return (_raises_interest(known) if left >= 4 else None) or Act("close")
    if known.budget is None and mind.quoted is None and mind.exchanges < 4:
        return Act("ask_budget")
    return Act("quote", str(known.candidate_price()))


def _raises_interest(known: Knowledge) -> Act | None:
    """What raises the buyer's interest, as far as it was told or can be asked for."""
    if known.brand is not None and not known.brand_fits:
        return Act("show_brand", known.brand)
    if known.hits < MAX_WANTED:
        if known.open_feature is not None:
            return Act("feature", known.open_feature)
        if not known.all_told:
            return Act("ask_features")
    return None


def behaviour(known: Knowledge, rng: np.random.Generator) -> Act:
    """A sloppy dealer that a fifth of the time does anything at all but say goodbye."""
    return _noise(rng) if rng.random() < NOISE else sloppy(known, rng)


def sloppy(known: Knowledge, rng: np.random.Generator) -> Act:
    """The behaviour dealer without its noise: it does what it means to do, which is not much."""
    u, mind = rng.random(), known.mind
    if mind.exchanges == 0 and u < 0.2:
        return Act("greet")
    if not known.type_fits:
        if known.type is None:
            return Act("ask_type") if u < 0.85 else Act("show_type", _any(rng, TYPES))
        return Act("show_type", known.type) if u < 0.9 else Act("ask_budget")
    if known.suits in ("none", "dear", "plain"):
        return _sloppy_price(known, rng)
    if u < 0.15:
        return _some_wish(known, rng)
    return Act("discount") if u < 0.5 and mind.discounts < MAX_DISCOUNTS else Act("close")


def _sloppy_price(known: Knowledge, rng: np.random.Generator) -> Act:
    u = rng.random()
    if known.budget is None and u < 0.35:
        return Act("ask_budget")
    if u < 0.45:
        return _some_wish(known, rng)
    if known.suits == "plain" and u < 0.65:
        return Act("close")
    knows = known.budget is not None and u < 0.9
    return Act("quote", str(known.candidate_price() if knows else _any(rng, MSRPS)))


def _some_wish(known: Knowledge, rng: np.random.Generator) -> Act:
    """Asks for the brand or features, or shows what was told, or any."""
    if rng.random() < 0.5:
        if known.brand is None:
            return Act("ask_brand")
        return Act("show_brand", known.brand if rng.random() < 0.8 else _any(rng, BRANDS))
    if known.open_feature is None and rng.random() < 0.6:
        return Act("ask_features")
    told = known.open_feature if rng.random() < 0.8 else None
    return Act("feature", told or _any(rng, tuple(FEATURES)))


def attentive(known: Knowledge, rng: np.random.Generator) -> Act:
    """Shows the type, brand and features it was told of and names the price for the budget it was told, without a plan.

    It shows a small model what belongs together (which price goes with which budget) without showing how to sell.
    """
    if not known.type_fits:
        return Act("ask_type") if known.type is None else Act("show_type", known.type)
    options = []
    if not known.brand_fits:
        options.append(Act("show_brand", known.brand) if known.brand else Act("ask_brand"))
    if known.open_feature is not None:
        options.append(Act("feature", known.open_feature))
    elif not known.all_told:
        options.append(Act("ask_features"))
    if known.suits != "fits":
        options.append(Act("quote", str(known.candidate_price())) if known.budget else Act("ask_budget"))
    return _any(rng, options) if options else _any(rng, (Act("greet"), Act("ask_features"), Act("ask_budget")))


def clumsy(known: Knowledge, rng: np.random.Generator) -> Act:
    """Does what the attentive one does, or another act of the same kind about equally often; then it sells somehow."""
    if rng.random() < 0.1:
        return _noise(rng)
    if known.suits == "fits" and rng.random() < 0.4:
        return _any(rng, (Act("close"), Act("discount"), Act("close")))
    act = attentive(known, rng)
    if act.about is None or rng.random() < 0.55:
        return act
    return _any(rng, [one for one in DEALER_ACTS if one.kind == act.kind])


def optimum(reward: str = "revenue") -> Rule:
    """The planner's rule, which solves states as it meets them."""
    planner = Planner(reward)
    return lambda known, rng: planner.best(known)


RULES: dict[str, Callable[[], Rule]] = {
    "random": lambda: random,
    "behaviour": lambda: behaviour,
    "sloppy": lambda: sloppy,
    "attentive": lambda: attentive,
    "clumsy": lambda: clumsy,
    "myopic": myopic,
    "expert": lambda: expert,
    "optimum": optimum,
    "optimum_fancy": lambda: optimum("fancy"),
}


HABITS = 4
"""How many phrasings of each act a dealer with habits uses."""


def in_habit(act: Act, rng: np.random.Generator) -> str:
    """An act in the words of a dealer with habits: one of the ``HABITS`` shortest phrasings, with all their variants.

    The behaviour dealer, whose conversations are logged, has this manner of speaking. The phrasebook has many more
    phrasings, all of which the buyer understands.
    """
    book = dealer_phrasebook()
    return book.say_pattern(act, _habits(act)[int(rng.integers(len(_habits(act))))], rng)


@cache
def _habits(act: Act) -> list[int]:
    patterns = dealer_phrasebook().patterns(act)
    return sorted(range(len(patterns)), key=lambda i: (len(patterns[i]), patterns[i]))[:HABITS]


class DealerInWords(RuleInWords[Knowledge]):
    """A dealer's rule that hears and speaks."""

    def __init__(self, rule: str):
        super().__init__(rule, RULES, in_habit if rule == "behaviour" else dealer_phrasebook().say, "dealer")

    def begin(self, opening: str | None) -> Knowledge:
        return begin(Act("open") if opening is None else buyer_parser().parse_moves([opening])[0][0])

    def learn(self, before: Knowledge, said: str, answer: str) -> Knowledge:
        (act,), (moves,) = dealer_parser().parse([said]), buyer_parser().parse_moves([answer])
        return learn(before, act, moves)
