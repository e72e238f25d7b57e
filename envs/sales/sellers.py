"""Sellers as rules: which act to do, given what is known. The yardsticks of ``parley/Sales-v0``.

- ``random``: any act. The floor of all.
- ``behaviour``: a sloppy seller that makes the logged data: asks sometimes, guesses often, gives discounts away, asks
  to buy too soon, and does something at random a quarter of the time.
- ``sloppy``: the same without the random quarter.
- ``attentive``: answers what it heard, and never asks to buy, so it never sells.
- ``clumsy``: gets as far as having something to answer, and then does the fitting thing or another, by the toss of a
  coin. Its conversations are for learning to read: in those of the others a wrong answer is rare.
- ``myopic``: the best possible seller for the buyer's satisfaction with the next exchange alone.
- ``expert``: asks, pitches, asks what worries, reassures, closes.
- ``optimum``: acts by dynamic programming on the information state (``envs.sales.planner``).

``SellerInWords`` gives a rule ears and a mouth: it reads the buyer's words back into moves and words its own acts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from envs.acts import Act
from envs.rule_in_words import RuleInWords
from envs.sales.catalogue import CATALOGUE, SELLER_ACTS, WORRIES
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.language import buyer_parser, seller_parser, seller_phrasebook
from envs.sales.planner import Planner, Pleaser
from envs.sales.program import MAX_DISCOUNTS

Rule = Callable[[Knowledge, np.random.Generator], Act]
NOISE = 0.25
"""Share of the behaviour seller's acts that are random."""


def random(known: Knowledge, rng: np.random.Generator) -> Act:
    """Any act at all."""
    return SELLER_ACTS[int(rng.integers(len(SELLER_ACTS)))]


def myopic() -> Rule:
    """What pleases the buyer most, now."""
    pleaser = Pleaser()
    return lambda known, rng: pleaser.best(known)


def expert(known: Knowledge, rng: np.random.Generator) -> Act:
    """Ask for the need, pitch (the basic tier first), ask for the worry if there is time, reassure, close."""
    patience_left = min(known.patience) - known.mind.spent
    if known.fit in ("none", "wrong") and known.need is None and known.exchanges < 2:
        return Act("ask_need")
    if known.fit != "full":
        return Act("pitch", known.product(known.best_tier()))
    if not known.mind.worried or patience_left <= 1:
        return Act("close")
    if known.worry is None and patience_left >= 3 and not known.not_worries:
        return Act("ask_worry")
    return Act("reassure", known.candidate_worry())


def behaviour(known: Knowledge, rng: np.random.Generator) -> Act:
    """A sloppy seller that a quarter of the time does anything at all."""
    if rng.random() < NOISE:
        return SELLER_ACTS[int(rng.integers(len(SELLER_ACTS) - 1))]  # all but goodbye
    return sloppy(known, rng)


def sloppy(known: Knowledge, rng: np.random.Generator) -> Act:
    """The behaviour seller without its noise: it does what it means to do, which is not much."""
    u, discounts_left = rng.random(), known.mind.discounts < MAX_DISCOUNTS
    if known.exchanges == 0 and u < 0.5:
        return Act("greet") if rng.random() < 0.5 else Act("small_talk")
    if known.need is None:
        any_product = CATALOGUE[int(rng.integers(len(CATALOGUE)))].name
        return Act("ask_need") if u < 0.55 else Act("ask_budget") if u < 0.65 else Act("pitch", any_product)
    if known.fit != "full":
        return _sloppy_pitch(known, u, rng)
    if known.mind.worried:
        if known.worry is not None and u < 0.5:
            return Act("reassure", known.worry)
        if u < 0.4:
            return Act("ask_worry") if u < 0.2 else Act("reassure", WORRIES[int(rng.integers(len(WORRIES)))])
        return Act("discount") if u < 0.6 and discounts_left else Act("close")
    return Act("discount") if u < 0.25 and discounts_left else Act("close")


def _sloppy_pitch(known: Knowledge, u: float, rng: np.random.Generator) -> Act:
    if known.budget is None and u < 0.2:
        return Act("ask_budget")
    if known.fit in ("dear", "basic") and u < 0.4:
        return Act("discount")
    knows = known.budget is not None and u < 0.75
    tier = known.best_tier() if knows else ("basic", "premium")[int(rng.integers(2))]
    return Act("pitch", known.product(tier))


def attentive(known: Knowledge, rng: np.random.Generator) -> Act:
    """Pitches for the need it was told, reassures about the worry it was told, and has no plan.

    It shows a small model what belongs together (which bicycle serves which need) without showing how to sell.
    """
    u = rng.random()
    if known.fit != "full":
        if known.need is None:
            return Act("ask_need") if u < 0.8 else Act("small_talk")
        if known.budget is None and u < 0.3:
            return Act("ask_budget")
        return Act("pitch", known.product(known.best_tier(("basic", "premium")[int(rng.integers(2))])))
    if known.mind.worried:
        return Act("ask_worry") if known.worry is None else Act("reassure", known.worry)
    return (Act("small_talk"), Act("ask_budget"), Act("greet"), Act("discount"))[int(rng.integers(4))]


def clumsy(known: Knowledge, rng: np.random.Generator) -> Act:
    """Asks first, and then does the fitting thing or another one of its kind about equally often."""
    u, pick = rng.random(), rng.integers
    if rng.random() < 0.1:
        return SELLER_ACTS[int(pick(len(SELLER_ACTS) - 1))]  # all but goodbye
    some_pitch = Act("pitch", CATALOGUE[int(pick(len(CATALOGUE)))].name)
    some_reassurance = Act("reassure", WORRIES[int(pick(len(WORRIES)))])
    if known.need is None:
        return Act("ask_need") if u < 0.8 else some_pitch
    if known.fit != "full":
        if known.budget is None and u < 0.3:
            return Act("ask_budget")
        tier = known.best_tier() if rng.random() < 0.6 else ("basic", "premium")[int(pick(2))]
        return Act("pitch", known.product(tier)) if u < 0.75 else some_pitch
    if not known.mind.worried:
        return (Act("close"), Act("discount"), Act("small_talk"))[int(pick(3))]
    if known.worry is None:
        return Act("ask_worry") if u < 0.8 else some_reassurance if u < 0.95 else Act("close")
    return Act("reassure", known.worry) if u < 0.35 else some_reassurance if u < 0.9 else Act("close")


def optimum() -> Rule:
    """The optimal rule, which solves states as it meets them."""
    planner = Planner()
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
}


HABITS = 4
"""How many phrasings of each act a seller with habits uses."""


def in_habit(act: Act, rng: np.random.Generator) -> str:
    """An act in the words of a seller with habits: one of the ``HABITS`` shortest phrasings, with all their variants.

    Every person has a manner of speaking; the behaviour seller, whose conversations are logged, has this one. The
    phrasebook has many more phrasings, all of which the buyer understands.
    """
    book = seller_phrasebook()
    return book.say_pattern(act, _habits(act)[int(rng.integers(len(_habits(act))))], rng)


@cache
def _habits(act: Act) -> list[int]:
    patterns = seller_phrasebook().patterns(act)
    return sorted(range(len(patterns)), key=lambda i: (len(patterns[i]), patterns[i]))[:HABITS]


class SellerInWords(RuleInWords[Knowledge]):
    """A seller's rule that hears and speaks."""

    def __init__(self, rule: str):
        super().__init__(rule, RULES, in_habit if rule == "behaviour" else seller_phrasebook().say, "seller")

    def begin(self, opening: str | None) -> Knowledge:
        return begin(Act("open") if opening is None else buyer_parser().parse_moves([opening])[0][0])

    def learn(self, before: Knowledge, said: str, answer: str) -> Knowledge:
        (act,), (moves,) = seller_parser().parse([said]), buyer_parser().parse_moves([answer])
        return learn(before, act, moves)
