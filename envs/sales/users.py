"""Buyers for ``parley/Sales-v0``: the program decides, a voice words what it decided.

Whatever the voice, reaction, disclosure, price and outcome come from ``envs.sales.program``, so no wording can be paid
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.acts import Act
from envs.env import Episode
from envs.sales import program
from envs.sales.language import buyer_phrasebook, seller_parser
from envs.sales.program import Mind, Outcome, Profile
from envs.wording import Heard, Line, Reader, TemplateVoice, Voice, WordedUser

VOICE_FOLDER = Path(__file__).parent.parent / "simulators" / "sales_voice"
"""The wording model that ships with Parley."""


def line_of(profile: Profile, outcome: Outcome, heard: str) -> Line:
    """What a buyer says of what happened. A buyer that buys names the ledger's price."""
    values = {"price": f"${outcome.mind.price:.0f}"} if outcome.mind.outcome == "bought" else {}
    return Line(outcome.moves, profile.style, heard, values)


class SellerParser:
    """Understands the seller by the parser that ships."""

    name = "parser"
    deterministic = True

    def read(self, episodes: Sequence[Episode]) -> list[Heard]:
        return [Heard(act) for act in seller_parser().parse([episode.turns[-1].text for episode in episodes])]


class Buyer(WordedUser):
    """A buyer whose mind is the program; the scenario's facts must be a ``Profile``. Its memory is a ``Mind``."""

    def __init__(self, voice: Voice, reader: Reader | None = None):
        super().__init__(voice, reader or SellerParser())

    def decide(self, episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, Mind]:
        profile: Profile = episode.scenario.facts
        mind = episode.memory if isinstance(episode.memory, Mind) else Mind()
        outcome = program.draw(program.respond(profile, mind, act), rng)
        return line_of(profile, outcome, episode.turns[-1].text), outcome.mind


def program_buyer() -> Buyer:
    """``user=program``: template words."""
    return Buyer(TemplateVoice(buyer_phrasebook()))


def hybrid_buyer(folder: str | Path = VOICE_FOLDER, temperature: float = 0.5) -> Buyer:
    """``user=hybrid``: words by the language model in ``folder``, sampled at ``temperature``."""
    from envs.sales.voice import model_voice

    return Buyer(model_voice(folder, temperature))
