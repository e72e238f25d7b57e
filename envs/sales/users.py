"""Buyers for ``parley/Sales-v0``: the program decides, a voice words what it decided.

Two voices: templates (``user=program``: exact and fastest) and a small language model (``user=hybrid``). Whatever the
voice, reaction, disclosure, price and outcome come from ``envs.sales.program``, so no wording can be paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from envs.acts import Act
from envs.env import Episode
from envs.sales import program
from envs.sales.language import buyer_phrasebook, seller_parser
from envs.sales.program import Mind, Profile
from envs.users import Reply, UserSimulator

VOICE_FOLDER = Path(__file__).parent.parent / "simulators" / "sales_voice"
"""The wording model that ships with Parley."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a buyer is about to say, before it has words."""

    moves: tuple[Act, ...]
    style: str
    price: str | None
    """The ledger's price, such as ``$590``, when the buyer buys."""
    heard: str
    """What the seller has just said."""


class Voice(Protocol):
    """Puts lines into words."""

    name: str

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[tuple[str, int]]:
        """One text per line, and how many tokens a model generated for it."""


class TemplateVoice:
    """Words from the buyer's phrasebook."""

    name = "program"

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[tuple[str, int]]:
        return [(template_words(line, rng), 0) for line, rng in zip(lines, rngs, strict=True)]


def template_words(line: Line, rng: np.random.Generator) -> str:
    """A line worded from the phrasebook: one sentence per move."""
    book, values = buyer_phrasebook(), {"price": line.price or ""}
    return " ".join(book.say(move, rng, style=line.style, values=values) for move in line.moves)


class Buyer(UserSimulator):
    """A buyer whose mind is the program and whose words come from ``voice``.

    ``Episode.memory`` is the buyer's ``Mind``. The scenario's facts must be a ``Profile``.
    """

    def __init__(self, voice: Voice):
        self.voice = voice
        self.parser = seller_parser()

    @property
    def name(self) -> str:
        return self.voice.name

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        acts = self.parser.parse([episode.turns[-1].text for episode in episodes])
        decided = [_decide(*triple) for triple in zip(episodes, acts, rngs, strict=True)]
        worded = self.voice.say([line for line, _ in decided], rngs)
        return [Reply(text, mind, tokens) for (text, tokens), (_, mind) in zip(worded, decided, strict=True)]


def program_buyer() -> Buyer:
    """``user=program``: template words."""
    return Buyer(TemplateVoice())


def hybrid_buyer(folder: str | Path = VOICE_FOLDER, temperature: float = 0.5) -> Buyer:
    """``user=hybrid``: words by the language model in ``folder``, sampled at ``temperature``."""
    from envs.sales.voice import ModelVoice

    return Buyer(ModelVoice(folder, temperature))


def _decide(episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, Mind]:
    """Draw what happens from the program."""
    profile: Profile = episode.scenario.facts
    mind = episode.memory if isinstance(episode.memory, Mind) else Mind()
    outcome = program.draw(program.respond(profile, mind, act), rng)
    price = f"${outcome.mind.price:.0f}" if outcome.mind.outcome == "bought" else None
    return Line(outcome.moves, profile.style, price, episode.turns[-1].text), outcome.mind
