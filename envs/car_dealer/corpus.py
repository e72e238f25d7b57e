"""Conversations between the scripted dealers and the program, act by act: the material of the small models.

No parser and no environment is in the loop: both sides are told each other's acts, so a corpus is exact and fast to
make. Only phrasings that are not held out are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.acts import Act
from envs.car_dealer import program
from envs.car_dealer.catalogue import BUYER_ACTS, DEALER_ACTS, PERSONALITIES, UNSEEN_PERSONALITIES
from envs.car_dealer.dealers import Rule
from envs.car_dealer.env import opening_act, sample_profile
from envs.car_dealer.knowledge import Knowledge, begin, learn
from envs.car_dealer.language import buyer_phrasebook, dealer_phrasebook
from envs.car_dealer.program import HORIZON, Mind, Profile
from envs.car_dealer.rewards import REWARDS
from envs.car_dealer.users import line_of
from envs.conversation import Conversation
from envs.wording import Line, template_words

USUAL_PERSONALITIES = tuple(one for one in PERSONALITIES if one not in UNSEEN_PERSONALITIES)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, as acts and as words."""

    known: Knowledge
    """What the dealer knew before."""
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
    mind: Mind
    """The buyer's at the end."""

    @property
    def conversation(self) -> Conversation:
        conversation = Conversation().then("user", self.opening)
        for exchange in self.exchanges:
            conversation = conversation.then("agent", exchange.utterance).then("user", exchange.reply)
        return conversation

    def reward(self, name: str = "revenue") -> float:
        """What it is worth by the reward of this name."""
        return REWARDS[name](self.profile, self.mind)


Say = Callable[[Act, np.random.Generator], str]


def converse(rule: Rule, rng: np.random.Generator, say: Say | None = None) -> Dialogue:
    """One conversation of ``rule`` with a buyer of the training split; ``say`` words the dealer's acts."""
    say = say or dealer_phrasebook().say
    profile = sample_profile("train", rng)
    opening = opening_act(profile, rng)
    words = buyer_phrasebook().say(opening, rng, style=profile.personality)
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
    return Dialogue(profile, words, tuple(exchanges), mind)


def any_line(rng: np.random.Generator) -> Line:
    """A line that a buyer may have to say, drawn evenly over moves and manners and not as conversations have them."""
    first = [act for act in BUYER_ACTS if not act.kind.startswith("open")]
    moves: tuple[Act, ...] = (first[int(rng.integers(len(first)))],)
    told = [act for act in BUYER_ACTS if act.kind == _TOLD_WITH.get(moves[0].kind)]
    if told and rng.random() < 0.4:
        moves = (*moves, told[int(rng.integers(len(told)))])
    priced = moves[0].kind in ("buy", "counter")
    values = {"price": f"${100 * int(rng.integers(77, 991))}"} if priced else {}
    heard = dealer_phrasebook().say(DEALER_ACTS[int(rng.integers(len(DEALER_ACTS)))], rng)
    return Line(moves, USUAL_PERSONALITIES[int(rng.integers(len(USUAL_PERSONALITIES)))], heard, values)


_TOLD_WITH = {"tell_type": "tell_brand", "wrong_type": "tell_type", "too_dear": "tell_budget"}
"""What a buyer may tell, unasked, beside a move."""
