"""The lesson (``parley/Education-v0``) as a world whose teacher is helped by suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from envs.acts import Act
from envs.education.catalogue import MISCONCEPTIONS, WAYS
from envs.education.env import USERS, EducationEnv
from envs.education.judging import LessonTurns
from envs.education.language import student_parser
from envs.education.teachers import TeacherInWords, in_any_words
from envs.education.users import TeacherParser
from envs.env import Episode
from envs.suggested_response.world import Dislike, World

_DRIFTS: Final = (
    (Act("ask_way"), Act("probe")),
    tuple(Act("explain", way) for way in WAYS),
    tuple(Act("analogy", wrong) for wrong in MISCONCEPTIONS),
    (Act("exercise"), Act("check"), Act("summarise")),
    (Act("give_answer"), Act("encourage")),
)
DISLIKES: Final = {
    "answers": Dislike(frozenset({"give_answer"}), "You don't give answers away."),
    "questions": Dislike(frozenset({"ask_way", "probe", "check"}), "You don't like to question students."),
    "pictures": Dislike(frozenset({"analogy"}), "You don't like to speak in pictures."),
    "praise": Dislike(frozenset({"encourage"}), "You think that praise spoils students."),
}


def drift(act: Act) -> Sequence[Act]:
    """The acts of the same drift: another question, another way to explain, another picture …"""
    return next((acts for acts in _DRIFTS if act in acts), (act,))


def _say(act: Act, episode: Episode, rng: np.random.Generator) -> str:
    return in_any_words(act, rng, episode.scenario.facts.topic)


@cache
def world() -> World:
    """``world=education``."""
    return World(
        name="education",
        environment=lambda customer, split: EducationEnv(customer, split=split),
        customers=USERS,
        reader=TeacherParser(),
        speaker=TeacherInWords,
        say=_say,
        hear=student_parser().parse_moves,
        drift=drift,
        dislikes=DISLIKES,
        welcome=frozenset(
            {"tell_prior", "tell_way", "tell_wrong", "follows", "aha", "solved", "shows", "thanks", "cheered", "noted"}
        ),
        unwelcome=frozenset(
            {"lost", "doubts", "react", "so_what", "stuck", "too_early", "unmoved", "confused", "leave"}
        ),
        turn_judge=LessonTurns,
    )
