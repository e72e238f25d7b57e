"""Buyers for ``parley/CarDealer-v0``: the program decides, a voice words what it decided.

Whatever the voice, reaction, disclosure, price and outcome come from ``envs.car_dealer.program``, so no wording can be
paid for. A buyer that has decided adds the decision line, which is stripped before the dealer sees its words
(``envs.car_dealer.decision``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.acts import Act
from envs.car_dealer import program
from envs.car_dealer.decision import stripped, with_decision
from envs.car_dealer.language import buyer_phrasebook, dealer_parser
from envs.car_dealer.program import Mind, Outcome, Profile
from envs.env import Episode
from envs.users import Reply
from envs.wording import Heard, Line, Reader, TemplateVoice, Voice, WordedUser


def line_of(profile: Profile, outcome: Outcome, heard: str) -> Line:
    """What a buyer says of what happened. A buyer that buys, or says at what price it would, names the ledger's."""
    mind, values = outcome.mind, {}
    if mind.outcome == "bought":
        values = {"price": f"${mind.price}"}
    elif outcome.moves == (Act("counter"),):
        values = {"price": f"${mind.price_at(mind.named)}"}
    return Line(outcome.moves, profile.personality, heard, values)


class DealerParser:
    """Understands the dealer by the parser that ships."""

    name = "parser"
    deterministic = True

    def read(self, episodes: Sequence[Episode]) -> list[Heard]:
        return [Heard(act) for act in dealer_parser().parse([episode.turns[-1].text for episode in episodes])]


class Buyer(WordedUser):
    """A buyer whose mind is the program; the scenario's facts must be a ``Profile``. Its memory is a ``Mind``."""

    def __init__(self, voice: Voice, reader: Reader | None = None):
        super().__init__(voice, reader or DealerParser())

    def decide(self, episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, Mind]:
        profile: Profile = episode.scenario.facts
        mind = episode.memory if isinstance(episode.memory, Mind) else Mind()
        outcome = program.draw(program.respond(profile, mind, act), rng)
        return line_of(profile, outcome, episode.turns[-1].text), outcome.mind

    def said(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        """What the user's side says, with the decision line where it has decided."""
        replies = super().reply(episodes, rngs)
        return [
            replace(one, text=with_decision(one.text, one.memory)) if isinstance(one.memory, Mind) else one
            for one in replies
        ]

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        return [replace(one, text=stripped(one.text)) for one in self.said(episodes, rngs)]


def program_buyer() -> Buyer:
    """``user=program``: template words."""
    return Buyer(TemplateVoice(buyer_phrasebook()))
