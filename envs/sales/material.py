"""What the small models of the bicycle shop are made from and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from envs.acts import Act
from envs.sales.catalogue import BUYER_ACTS, CATALOGUE, PRODUCTS, SELLER_ACTS, STYLES
from envs.sales.corpus import any_line, converse
from envs.sales.env import SalesEnv
from envs.sales.language import buyer_parser, buyer_phrasebook, seller_phrasebook
from envs.sales.reading import FACTS, doing, standing
from envs.sales.sellers import RULES, SellerInWords, in_habit
from envs.sales.users import hybrid_buyer, program_buyer
from envs.sales.voice import PRICE, chat_of, model_voice
from envs.simulators.worlds import Material, Phase
from envs.wording import Line, template_words


def annotation(act: Act) -> str:
    """What an utterance does, in words: the act, what it is about, and which bicycles or needs go with that."""
    words = [act.kind, *([act.about] if act.about else [])]
    words += [product.name for product in CATALOGUE if product.need == act.about]
    if act.about in PRODUCTS:
        words += [PRODUCTS[act.about].need, PRODUCTS[act.about].tier]
    return " ".join(["", *words])


def _seller_says(act: Act, rng: np.random.Generator) -> str:
    return seller_phrasebook().say(act, rng)


def _buyer_says(act: Act, rng: np.random.Generator, style: str) -> str:
    return buyer_phrasebook().say(act, rng, style=style, values={"price": "$590"})


def _parse_buyer(texts: Sequence[str]) -> list[tuple[Act, ...]]:
    return buyer_parser().parse_moves(texts)


def _as_learnt(move: Act, line: Line) -> Line:
    return replace(line, moves=(move,), values={"price": PRICE})


MATERIAL: Final = Material(
    world="sales",
    role="seller",
    agent_acts=SELLER_ACTS,
    user_acts=BUYER_ACTS,
    user_styles=STYLES[:3],
    agent_says=_seller_says,
    agent_says_in_habit=in_habit,
    user_says=_buyer_says,
    parse_user=_parse_buyer,
    annotation=annotation,
    rules=RULES,
    converse=converse,
    any_line=any_line,
    template_words=lambda line, rng: template_words(buyer_phrasebook(), line, rng),
    chat_of=chat_of,
    as_learnt=_as_learnt,
    placeholders=(),
    voice=model_voice,
    voice_lines=180_000,
    facts=FACTS,
    standing=standing,
    doing=doing,
    phases=(
        Phase("attentive", 16_000, 8_000, 6_000, "constant_with_warmup"),
        Phase("sloppy", 12_000, 8_000, 1_000, "constant_with_warmup"),
        Phase("behaviour", 40_000, 12_000, 1_000, "cosine"),
    ),
    environment=lambda user, split: SalesEnv(user, split=split),
    program_user=program_buyer,
    hybrid_user=hybrid_buyer,
    speaker=lambda rule: SellerInWords(rule).speak,
    compared=("random", "behaviour", "myopic", "expert", "optimum"),
    voice_card=(
        "Words what the program behind Parley's simulated bicycle buyer has decided: the chat's system message holds "
        "the buyer's manner and moves, the user message what the seller said, and the model answers with the buyer's "
        "words. It decides nothing: prices (written as $PRICE and filled in), reactions and outcomes are the program's."
    ),
    agent_card=(
        "The start of every learner in Parley's sales world: a seller that imitates a sloppy scripted one. It knows "
        "the shop's twelve bicycles and speaks one short sentence at a time. Besides imitating, its trunk has learnt "
        "to read: linear heads, since thrown away, told from its states what the buyer had said, how things stand (the "
        "buyer's trust and how the bicycle suits it included) and whether what the seller just did goes with it, by "
        "labels from the world's rules. Before the seller it imitates it learnt from an attentive one that never sells "
        "and from the same one without its noise, which earns .26; no expert and no return had a part in its making."
    ),
    limits="It speaks only of the bicycle shop, in short English sentences. It is no assistant and knows nothing else.",
)
