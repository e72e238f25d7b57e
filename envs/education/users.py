"""Students for ``parley/Education-v0``: the program decides, a voice words what it decided.

Whatever the voice, what is grasped, felt and told and the test come from ``envs.education.program``, so no wording can
be paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.acts import Act
from envs.education import program
from envs.education.language import student_phrasebook, understood
from envs.education.program import Mind, Profile
from envs.env import Episode
from envs.wording import Heard, Line, Reader, TemplateVoice, Voice, WordedUser, template_words

VOICE_FOLDER = Path(__file__).parent.parent / "simulators" / "education_voice"
"""The wording model that ships with Parley."""


def line_of(profile: Profile, moves: tuple[Act, ...], heard: str) -> Line:
    """What a student says; whatever it says, it can name the topic."""
    return Line(moves, profile.style, heard, {"topic": profile.topic})


def opening_words(opening: Act, profile: Profile, rng: np.random.Generator) -> str:
    """The student's first words; they name the topic."""
    return template_words(student_phrasebook(), line_of(profile, (opening,), ""), rng)


class TeacherParser:
    """Understands the teacher by the parser that ships."""

    name = "parser"
    deterministic = True

    def read(self, episodes: Sequence[Episode]) -> list[Heard]:
        said = [episode.turns[-1].text for episode in episodes]
        return [Heard(act) for act in understood(said, [episode.scenario.facts.topic for episode in episodes])]


class Student(WordedUser):
    """A student whose mind is the program; the scenario's facts must be a ``Profile``. Its memory is a ``Mind``."""

    def __init__(self, voice: Voice, reader: Reader | None = None):
        super().__init__(voice, reader or TeacherParser())

    def decide(self, episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, Mind]:
        profile: Profile = episode.scenario.facts
        mind = episode.memory if isinstance(episode.memory, Mind) else Mind.of(profile)
        outcome = program.draw(program.respond(profile, mind, act), rng)
        return line_of(profile, outcome.moves, episode.turns[-1].text), outcome.mind


def program_student() -> Student:
    """``user=program``: template words."""
    return Student(TemplateVoice(student_phrasebook()))


def hybrid_student(folder: str | Path = VOICE_FOLDER, temperature: float = 0.5) -> Student:
    """``user=hybrid``: words by the language model in ``folder``, sampled at ``temperature``."""
    from envs.education.voice import model_voice

    return Student(model_voice(folder, temperature))
