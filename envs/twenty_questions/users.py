"""Who answers in ``parley/TwentyQuestions-v0``: the program, in template words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.env import Episode
from envs.twenty_questions import program
from envs.twenty_questions.language import answerer_phrasebook, question_of
from envs.twenty_questions.program import Mind, Secret
from envs.wording import Heard, Line, Reader, TemplateVoice, Voice, WordedUser


class StrictReader:
    """Understands the asker's words when they are the phrasebook's, and nothing else."""

    name = "strict"
    deterministic = True

    def read(self, episodes: Sequence[Episode]) -> list[Heard]:
        return [Heard(question_of(episode.turns[-1].text) or UNCLEAR) for episode in episodes]


class Answerer(WordedUser):
    """Knows the thing; the scenario's facts must be a ``Secret``. Its memory is a ``Mind``."""

    def __init__(self, voice: Voice, reader: Reader | None = None):
        super().__init__(voice, reader or StrictReader())

    def decide(self, episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, Mind]:
        secret: Secret = episode.scenario.facts
        mind = episode.memory if isinstance(episode.memory, Mind) else Mind()
        outcome = program.draw(program.respond(secret, mind, act), rng)
        return Line((outcome.answer,), secret.manner, episode.turns[-1].text), outcome.mind


def program_answerer() -> Answerer:
    """``user=program``: template words."""
    return Answerer(TemplateVoice(answerer_phrasebook()))
