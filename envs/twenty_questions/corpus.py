"""Conversations between the scripted askers and the program, act by act: the material of the starting policy.

No reader and no environment is in the loop: both sides are told each other's acts. Only secrets of training are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.twenty_questions import program
from envs.twenty_questions.askers import Rule, in_any_words
from envs.twenty_questions.env import opening_words, secrets_of
from envs.twenty_questions.knowledge import Knowledge, learn
from envs.twenty_questions.language import answerer_phrasebook
from envs.twenty_questions.program import Mind, Secret


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, as acts and as words."""

    known: Knowledge
    """What the asker knew before."""
    act: Act
    utterance: str
    reply: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation, as acts and as words."""

    secret: Secret
    opening: str
    exchanges: tuple[Exchange, ...]

    @property
    def conversation(self) -> Conversation:
        conversation = Conversation().then("user", self.opening)
        for exchange in self.exchanges:
            conversation = conversation.then("agent", exchange.utterance).then("user", exchange.reply)
        return conversation


Say = Callable[[Act, np.random.Generator], str]


def converse(rule: Rule, rng: np.random.Generator, say: Say = in_any_words) -> Dialogue:
    """One conversation of ``rule`` about a secret of the training split; ``say`` words the asker's acts."""
    secrets = secrets_of("train")
    secret = secrets[int(rng.integers(len(secrets)))]
    opening = opening_words(secret, rng)
    known, mind = Knowledge(), Mind()
    exchanges: list[Exchange] = []
    while known.exchanges_left and not mind.found:
        act = rule(known, rng)
        utterance = say(act, rng)
        outcome = program.draw(program.respond(secret, mind, act), rng)
        reply = answerer_phrasebook().say(outcome.answer, rng, style=secret.manner)
        exchanges.append(Exchange(known, act, utterance, reply))
        known, mind = learn(known, act, outcome.answer), outcome.mind
    return Dialogue(secret, opening, tuple(exchanges))
