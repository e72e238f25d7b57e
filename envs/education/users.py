"""Students for ``parley/Education-v0``: the program decides, a voice words what it decided.

Two voices: templates (``user=program``: exact and fastest) and a small language model (``user=hybrid``). Whatever the
voice, what is grasped, felt and told and the test come from ``envs.education.program``, so no wording can be paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from envs.acts import Act
from envs.education import program
from envs.education.language import student_phrasebook, understood
from envs.education.program import Mind, Profile
from envs.env import Episode
from envs.users import Reply, UserSimulator

VOICE_FOLDER = Path(__file__).parent.parent / "simulators" / "education_voice"
"""The wording model that ships with Parley."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a student is about to say, before it has words."""

    moves: tuple[Act, ...]
    style: str
    topic: str
    heard: str
    """What the teacher has just said."""


class Voice(Protocol):
    """Puts lines into words."""

    name: str

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[tuple[str, int]]:
        """One text per line, and how many tokens a model generated for it."""


class TemplateVoice:
    """Words from the student's phrasebook."""

    name = "program"

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[tuple[str, int]]:
        return [(template_words(line, rng), 0) for line, rng in zip(lines, rngs, strict=True)]


def template_words(line: Line, rng: np.random.Generator) -> str:
    """A line worded from the phrasebook: one sentence per move."""
    book, values = student_phrasebook(), {"topic": line.topic}
    return " ".join(book.say(move, rng, style=line.style, values=values) for move in line.moves)


def opening_words(opening: Act, profile: Profile, rng: np.random.Generator) -> str:
    """The student's first words; they name the topic."""
    return template_words(Line((opening,), profile.style, profile.topic, ""), rng)


class Student(UserSimulator):
    """A student whose mind is the program and whose words come from ``voice``.

    ``Episode.memory`` is the student's ``Mind``. The scenario's facts must be a ``Profile``.
    """

    def __init__(self, voice: Voice):
        self.voice = voice

    @property
    def name(self) -> str:
        return self.voice.name

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        heard = [episode.turns[-1].text for episode in episodes]
        acts = understood(heard, [episode.scenario.facts.topic for episode in episodes])
        decided = [_decide(*triple) for triple in zip(episodes, acts, rngs, strict=True)]
        worded = self.voice.say([line for line, _ in decided], rngs)
        return [Reply(text, mind, tokens) for (text, tokens), (_, mind) in zip(worded, decided, strict=True)]


def program_student() -> Student:
    """``user=program``: template words."""
    return Student(TemplateVoice())


def hybrid_student(folder: str | Path = VOICE_FOLDER, temperature: float = 0.5) -> Student:
    """``user=hybrid``: words by the language model in ``folder``, sampled at ``temperature``."""
    from envs.education.voice import ModelVoice

    return Student(ModelVoice(folder, temperature))


def _decide(episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, Mind]:
    """Draw what happens from the program."""
    profile: Profile = episode.scenario.facts
    mind = episode.memory if isinstance(episode.memory, Mind) else Mind.of(profile)
    outcome = program.draw(program.respond(profile, mind, act), rng)
    return Line(outcome.moves, profile.style, profile.topic, episode.turns[-1].text), outcome.mind
