"""What the small model of the car dealer's is made from and measured on. The world has no voice of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from envs.acts import Act
from envs.car_dealer.catalogue import BUDGETS, BUYER_ACTS, DEALER_ACTS, MSRPS
from envs.car_dealer.corpus import USUAL_PERSONALITIES, any_line, converse
from envs.car_dealer.dealers import RULES, DealerInWords, in_habit
from envs.car_dealer.env import CarDealerEnv
from envs.car_dealer.language import buyer_parser, buyer_phrasebook, dealer_phrasebook
from envs.car_dealer.reading import FACTS, doing, standing
from envs.car_dealer.users import program_buyer
from envs.simulators.worlds import Material, Phase
from envs.wording import template_words


def annotation(act: Act) -> str:
    """What an utterance does, in words: the act, what it is about, and which price or budget goes with that."""
    words = [act.kind, *([act.about] if act.about else [])]
    if act.kind == "tell_budget":
        words.append(str(MSRPS[BUDGETS.index(int(str(act.about)))]))
    if act.kind == "quote":
        words.append(str(BUDGETS[MSRPS.index(int(str(act.about)))]))
    return " ".join(["", *words])


def _dealer_says(act: Act, rng: np.random.Generator) -> str:
    return dealer_phrasebook().say(act, rng)


def _buyer_says(act: Act, rng: np.random.Generator, style: str) -> str:
    return buyer_phrasebook().say(act, rng, style=style, values={"price": "$29700"})


def _parse_buyer(texts: Sequence[str]) -> list[tuple[Act, ...]]:
    return buyer_parser().parse_moves(texts)


MATERIAL: Final = Material(
    world="car_dealer",
    role="seller",
    agent_acts=DEALER_ACTS,
    user_acts=BUYER_ACTS,
    user_styles=USUAL_PERSONALITIES,
    agent_says=_dealer_says,
    agent_says_in_habit=in_habit,
    user_says=_buyer_says,
    parse_user=_parse_buyer,
    annotation=annotation,
    rules=RULES,
    converse=converse,
    any_line=any_line,
    template_words=lambda line, rng: template_words(buyer_phrasebook(), line, rng),
    facts=FACTS,
    standing=standing,
    doing=doing,
    phases=(
        Phase("attentive", 12_000, 4_000, 4_000, "constant_with_warmup"),
        Phase("sloppy", 10_000, 4_000, 800, "constant_with_warmup"),
        Phase("behaviour", 30_000, 8_000, 1_000, "cosine"),
    ),
    environment=lambda user, split: CarDealerEnv(user, split=split),
    program_user=program_buyer,
    speaker=lambda rule: DealerInWords(rule).speak,
    compared=("random", "behaviour", "myopic", "expert", "optimum"),
    agent_card=(
        "The start of every learner in Parley's car dealer world: a dealer that imitates a sloppy scripted one. It "
        "knows the house's types, brands, features and prices and speaks one short sentence at a time. Besides "
        "imitating, its trunk has learnt to read: linear heads, since thrown away, told from its states what the buyer "
        "had said, how things stand (the buyer's trust and how the price suits it included) and whether what the "
        "dealer just did goes with it, by labels from the world's rules. Before the dealer it imitates it learnt from "
        "an attentive one that never sells and from the same one without its noise; no expert and no return had a part "
        "in its making."
    ),
    limits="It speaks only of the car dealer's, in short English sentences. It is no assistant and knows nothing else.",
)
