"""Conversations between the scripted sellers and the program, act by act: the material of the small models.

No parser and no environment is in the loop: both sides are told each other's acts, so a corpus is exact and fast to
make. Only phrasings that are not held out are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.sales import program
from envs.sales.catalogue import BUYER_ACTS, SELLER_ACTS, STYLES
from envs.sales.env import HORIZON, IDLE, opening_act, profiles_of
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.language import buyer_phrasebook, seller_phrasebook
from envs.sales.program import Mind, Profile
from envs.sales.sellers import Rule
from envs.sales.users import line_of
from envs.wording import Line, template_words


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, as acts and as words."""

    known: Knowledge
    """What the seller knew before."""
    act: Act
    utterance: str
    line: Line
    reply: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation, as acts and as words."""

    profile: Profile
    opening: str
    exchanges: tuple[Exchange, ...]
    reward: float

    @property
    def conversation(self) -> Conversation:
        conversation = Conversation().then("user", self.opening)
        for exchange in self.exchanges:
            conversation = conversation.then("agent", exchange.utterance).then("user", exchange.reply)
        return conversation


Say = Callable[[Act, np.random.Generator], str]


def converse(rule: Rule, rng: np.random.Generator, say: Say | None = None) -> Dialogue:
    """One conversation of ``rule`` with a buyer of the training split; ``say`` words the seller's acts."""
    say = say or seller_phrasebook().say
    profiles = profiles_of("train")
    drawn = profiles[int(rng.integers(len(profiles)))]
    idle = bool(rng.random() < IDLE["train"])
    profile = Profile(drawn.need, drawn.budget, drawn.worry, drawn.patience, drawn.style, idle)
    opening = opening_act(profile, rng)
    words = buyer_phrasebook().say(opening, rng, style=profile.style)
    known, mind = begin(opening), Mind()
    exchanges: list[Exchange] = []
    while mind.outcome == "open" and len(exchanges) < HORIZON:
        act = rule(known, rng)
        utterance = say(act, rng)
        outcome = program.draw(program.respond(profile, mind, act), rng)
        mind = outcome.mind
        line = line_of(profile, outcome, utterance)
        exchanges.append(Exchange(known, act, utterance, line, template_words(buyer_phrasebook(), line, rng)))
        known = learn(known, act, outcome.moves)
    return Dialogue(profile, words, tuple(exchanges), mind.price_share if mind.outcome == "bought" else 0.0)


def any_line(rng: np.random.Generator) -> Line:
    """A line that a buyer may have to say, drawn evenly over moves and styles and not as conversations have them."""
    openings = ("open", "open_idle", "open_need", "hurry")
    first = [act for act in BUYER_ACTS if act.kind not in openings]
    moves: tuple[Act, ...] = (first[int(rng.integers(len(first)))],)
    told = [act for act in BUYER_ACTS if act.kind in _TOLD_WITH.get(moves[0].kind, ())]
    if told and rng.random() < 0.4:
        moves = (*moves, told[int(rng.integers(len(told)))])
    if len(moves) == 1 and moves[0].kind not in ("buy", "leave") and rng.random() < 0.2:
        moves = (*moves, Act("hurry"))
    values = {"price": f"${int(rng.integers(300, 1600))}"} if moves[0].kind == "buy" else {}
    heard = seller_phrasebook().say(SELLER_ACTS[int(rng.integers(len(SELLER_ACTS)))], rng)
    return Line(moves, STYLES[int(rng.integers(len(STYLES)))], heard, values)


_TOLD_WITH = {"like": ("tell_worry",), "not_yet": ("tell_worry",), "wrong_kind": ("tell_need",)}
"""What a buyer may tell, unasked, beside a move."""
