"""Moments of sales conversations, to teach and to probe buyers that are language models (``envs.sales.person``).

A moment is a buyer in some state of mind, what the seller says to it, and what the program would have done. Half are
drawn from conversations of sellers of every kind, half from all states of mind there are, so that the model also learns
what no conversation ever came to: the wrong argument at the right time, a bicycle of the wrong kind to a buyer that
trusts, a close before anything was shown. A seventh of what is said does nothing: broken, spliced, denied, forged or
off the subject, and orders to the reader.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.conversation import Message
from envs.sales import program
from envs.sales.catalogue import BUDGETS, CATALOGUE, NEEDS, PRODUCTS, SELLER_ACTS, STYLES, WORRIES
from envs.sales.corpus import converse
from envs.sales.language import buyer_phrasebook, seller_parser, seller_phrasebook, side
from envs.sales.person import BuyersNotes, Decision
from envs.sales.program import HURRY_AT, MAX_DISCOUNTS, MAX_TRUST, PATIENCE, Mind, Outcome, Profile
from envs.sales.sellers import RULES, in_habit
from envs.sales.users import line_of
from envs.sales.voice import PRICE
from envs.simulators.tongue import Tongue, by_act
from envs.simulators.worlds import Taught
from envs.wording import template_words

_SELLERS = ("random", "behaviour", "sloppy", "clumsy", "myopic", "expert", "optimum")
_KINDS = {
    "close": 0.22, "pitch": 0.2, "reassure": 0.17, "unclear": 0.14, "discount": 0.08, "ask_worry": 0.05,
    "ask_need": 0.04, "ask_budget": 0.03, "greet": 0.03, "small_talk": 0.03, "goodbye": 0.01,
}  # fmt: skip
"""How often each kind of act is drawn where it is drawn at all."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A buyer, what the seller says to it, and what comes of it."""

    profile: Profile
    mind: Mind
    act: Act
    utterance: str
    outcome: Outcome


def seller_tongue(said: Sequence[str] = (), nonsense: int = 40_000, seed: int = 0) -> Tongue:
    """What sellers say."""
    by = by_act(said, seller_parser().parse)
    return Tongue(side("seller"), seller_phrasebook().say, in_habit, by, nonsense=nonsense, seed=seed)


def any_profile(rng: np.random.Generator) -> Profile:
    """A buyer, drawn evenly over all there are, those of the splits that nobody trains on among them: whoever plays
    people must be able to play them all."""
    one, some = rng.random, rng.integers
    patience = (4, *PATIENCE)[int(some(4))]
    need, budget, worry, style = (
        options[int(some(len(options)))] for options in (NEEDS, BUDGETS, WORRIES, STYLES)
    )  # fmt: skip
    return Profile(need, budget, worry, patience, style, idle=bool(one() < 0.3))


def any_mind(profile: Profile, rng: np.random.Generator) -> Mind:
    """A state of mind, drawn evenly over more than conversations come to."""
    spent = int(rng.integers(profile.patience))
    u, pick = rng.random(), CATALOGUE[int(rng.integers(len(CATALOGUE)))]
    fitting = [one for one in CATALOGUE if one.need == profile.need]
    shown = None if u < 0.1 else pick.name if u < 0.35 else fitting[int(rng.integers(2))].name
    return Mind(
        trust=int(rng.integers(MAX_TRUST + 1)),
        spent=spent,
        shown=shown,
        worried=bool(rng.random() < 0.5),
        discounts=int(rng.integers(MAX_DISCOUNTS + 1)),
        greeted=bool(spent and rng.random() < 0.5),
        chatted=bool(spent and rng.random() < 0.5),
        hurried=profile.patience - spent <= HURRY_AT and bool(rng.random() < 0.8),
    )


def any_act(profile: Profile, rng: np.random.Generator) -> Act:
    """An act, the fitting one of its kind about as often as not."""
    kinds = list(_KINDS)
    kind = kinds[int(rng.choice(len(kinds), p=list(_KINDS.values())))]
    if kind == "unclear":
        return UNCLEAR
    options = [act for act in SELLER_ACTS if act.kind == kind]
    fitting = [act for act in options if act.about == profile.worry or _serves(act.about, profile.need)]
    if fitting and rng.random() < 0.45:
        options = fitting
    return options[int(rng.integers(len(options)))]


def _serves(name: str | None, need: str) -> bool:
    return name in PRODUCTS and PRODUCTS[name].need == need


def moment(profile: Profile, mind: Mind, act: Act, tongue: Tongue, rng: np.random.Generator) -> Moment:
    """What the program does then and there."""
    outcome = program.draw(program.respond(profile, mind, act), rng)
    return Moment(profile, mind, act, tongue.say(act, rng), outcome)


def moments(n: int, tongue: Tongue, rng: np.random.Generator) -> list[Moment]:
    """``n`` moments; see the module's docstring."""
    rules = [RULES[name]() for name in _SELLERS]
    found: list[Moment] = []
    while len(found) < n // 2:
        found += _walk(rules[int(rng.integers(len(rules)))], tongue, rng)
    while len(found) < n:
        profile = any_profile(rng)
        found.append(moment(profile, any_mind(profile, rng), any_act(profile, rng), tongue, rng))
    return found


def closes(n: int, tongue: Tongue, rng: np.random.Generator) -> list[Taught]:
    """``n`` moments at which the buyer is asked to buy, with everything that may come of each, weighed by its chance:
    drawn outcomes would have to be very many before a model told .3 from .4."""
    notes, found = BuyersNotes(), []
    while n:
        profile = any_profile(rng)
        mind, act = any_mind(profile, rng), Act("close")
        if program.fit(profile, mind.shown) in ("none", "wrong") and rng.random() < 0.8:
            continue
        n -= 1
        chances: dict[tuple[str, ...], float] = defaultdict(float)
        for outcome in program.respond(profile, mind, act):
            chances[tuple(notes.written(profile, act, outcome)[:2])] += outcome.probability
        told = [*notes.profile(profile), *notes.feeling(profile, mind)]
        chat: list[Message] = [{"role": "user", "content": tongue.say(act, rng)}]
        found += [Taught(told, chat, written, None, weight=chance) for written, chance in chances.items()]
    return found


def _walk(rule: object, tongue: Tongue, rng: np.random.Generator) -> list[Moment]:
    """The moments of a conversation; after each, with one chance in four, another act at the same moment."""
    dialogue, mind, found = converse(rule, rng, tongue.say), Mind(), []  # type: ignore[arg-type]
    profile = dialogue.profile
    for exchange in dialogue.exchanges:
        after = _as_it_went(profile, mind, exchange.act, exchange.line.moves)
        found.append(Moment(profile, mind, exchange.act, exchange.utterance, after))
        if rng.random() < 0.25:
            found.append(moment(profile, mind, any_act(profile, rng), tongue, rng))
        mind = after.mind
    return found


def _as_it_went(profile: Profile, mind: Mind, act: Act, moves: tuple[Act, ...]) -> Outcome:
    """The outcome with these moves."""
    return next(one for one in program.respond(profile, mind, act) if one.moves == moves)


def taught(one: Moment, rng: np.random.Generator) -> Taught:
    """A moment as ``user=model`` learns it."""
    notes = BuyersNotes()
    line = replace(line_of(one.profile, one.outcome, one.utterance), values={"price": PRICE})
    return Taught(
        [*notes.profile(one.profile), *notes.feeling(one.profile, one.mind)],
        [{"role": "user", "content": one.utterance}],
        notes.written(one.profile, one.act, one.outcome),
        template_words(buyer_phrasebook(), line, rng),
    )


def logged(n: int, rng: np.random.Generator) -> list[Taught]:
    """The exchanges of ``n`` logged conversations of the behaviour seller, as ``user=naive_model`` learns them."""
    rule, decision = RULES["behaviour"](), Decision()
    found = []
    for _ in range(n):
        dialogue = converse(rule, rng, in_habit)
        told, conversation = decision.profile(dialogue.profile), dialogue.conversation
        for k, exchange in enumerate(dialogue.exchanges):
            kinds = {move.kind for move in exchange.line.moves}
            outcome = "bought" if "buy" in kinds else "left" if "leave" in kinds else "open"
            chat = type(conversation)(turns=conversation.turns[: 2 * k + 2]).messages("user")
            line = replace(exchange.line, values={"price": PRICE})
            words = template_words(buyer_phrasebook(), line, rng) if outcome == "bought" else exchange.reply
            found.append(Taught(told, chat, decision.written(outcome), words))
    return found
