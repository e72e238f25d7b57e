"""Students that are played by language models told in words what to be (``envs.prompted``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from envs.acts import Act
from envs.conversation import one_line
from envs.education.catalogue import TEACHER_ACTS
from envs.education.language import student_phrasebook, teacher_phrasebook
from envs.education.program import HORIZON
from envs.education.users import Student, TeacherParser
from envs.education.voice import TOPIC
from envs.env import Episode, Scenario
from envs.language_models import LanguageModel
from envs.prompted import Exam, PromptedPerson, PromptedReader, PromptedVoice, Scene
from envs.wording import Reader

SCENE: Final = Scene("in a lesson", "student", "teacher")


def prompted_reader(model: LanguageModel) -> PromptedReader:
    """Understands teachers that speak freely."""
    rng, values = np.random.default_rng(0), {"topic": "the topic"}
    return PromptedReader(
        model, SCENE, {act: teacher_phrasebook().say(act, rng, values=values) for act in TEACHER_ACTS}
    )


def prompted_student(model: LanguageModel, reader: LanguageModel | None = None) -> Student:
    """A student whose mind is the program and whose words are ``model``'s.

    ``reader`` understands the teacher in the place of the parser that ships.
    """
    voice = PromptedVoice(model, SCENE, student_phrasebook(), {TOPIC: "topic"})
    return Student(voice, prompted_reader(reader) if reader else None)


def prompted_person(model: LanguageModel, reader: LanguageModel | None = None, attempts: int = 3) -> PromptedPerson:
    """A student that is ``model`` altogether: it speaks, decides when it walks out, and says whether it would pass the
    test. Nothing but its own judgement keeps it from passing without having been taught."""
    return PromptedPerson(model, StudentPersona(prompted_reader(reader) if reader else TeacherParser()), attempts)


@dataclass(frozen=True, slots=True)
class Told:
    """What a student that is a model altogether has decided."""

    outcome: Literal["open", "walked_out", "passed", "failed"] = "open"


class StudentPersona:
    """The lesson's side: it ends when the teacher ends it or the bell rings, and then comes the test."""

    scene = SCENE
    decisions: Mapping[str, str] = {
        "continue": "you stay in the lesson",
        "leave": "you have had enough and walk out for good",
    }

    def __init__(self, reader: Reader):
        self.reader = reader

    def told(self, scenario: Scenario) -> str:
        return scenario.user_brief

    def note(self, episode: Episode, act: Act) -> str:
        return ""

    def memory(self, episode: Episode, act: Act, decision: str) -> Told | Exam:
        if decision == "leave":
            return Told("walked_out")
        return _exam(episode) if act.kind == "end" or episode.exchanges + 1 >= HORIZON else Told()


def _exam(episode: Episode) -> Exam:
    topic = one_line(episode.scenario.attributes["topic"])
    question = (
        f"The lesson is over, and there is a test on {topic} that nobody has told you of. You answer from what was "
        "taught in this lesson and from nothing else; what you had got wrong before and nobody put right, you get "
        "wrong. Be honest: would you pass? Answer with one word, pass or fail."
    )
    return Exam(question, {"pass": Told("passed"), "fail": Told("failed")})
