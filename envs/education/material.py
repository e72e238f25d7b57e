"""What the small models of the lesson are made from and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from envs.acts import Act
from envs.education.catalogue import STUDENT_ACTS, TEACHER_ACTS, TOPICS
from envs.education.corpus import any_line, converse
from envs.education.env import EducationEnv
from envs.education.knowledge import USUAL_STYLES
from envs.education.language import student_parser, student_phrasebook
from envs.education.reading import FACTS, doing, standing
from envs.education.teachers import RULES, TeacherInWords, in_any_words, in_habit
from envs.education.users import hybrid_student, program_student
from envs.education.voice import TOPIC, chat_of, model_voice
from envs.simulators.worlds import Material, Phase
from envs.wording import Line, template_words

_GOES_WITH: Final = {"tell_way": "explain", "tell_wrong": "analogy"}
"""What answers what a student tells."""


def annotation(act: Act) -> str:
    """What an utterance does, in words: the act, what it is about, and which of the other side's acts go with that."""
    words = [act.kind, *([act.about] if act.about else [])]
    for told, answer in _GOES_WITH.items():
        words += {told: [answer], answer: [told]}.get(act.kind, [])
    return " ".join(["", *words])


def _student_says(act: Act, rng: np.random.Generator, style: str) -> str:
    topic = TOPICS[int(rng.integers(len(TOPICS)))]
    return student_phrasebook().say(act, rng, style=style, values={"topic": topic})


def _parse_student(texts: Sequence[str]) -> list[tuple[Act, ...]]:
    return student_parser().parse_moves(texts)


def _as_learnt(move: Act, line: Line) -> Line:
    return replace(line, moves=(move,), values={"topic": TOPIC})


MATERIAL: Final = Material(
    world="education",
    role="teacher",
    agent_acts=TEACHER_ACTS,
    user_acts=STUDENT_ACTS,
    user_styles=USUAL_STYLES,
    agent_says=in_any_words,
    agent_says_in_habit=in_habit,
    user_says=_student_says,
    parse_user=_parse_student,
    annotation=annotation,
    rules=RULES,
    converse=converse,
    any_line=any_line,
    template_words=lambda line, rng: template_words(student_phrasebook(), line, rng),
    chat_of=chat_of,
    as_learnt=_as_learnt,
    placeholders=(TOPIC,),
    voice=model_voice,
    voice_lines=180_000,
    facts=FACTS,
    standing=standing,
    doing=doing,
    phases=(
        Phase("attentive", 20_000, 8_000, 6_000, "constant_with_warmup"),
        Phase("sloppy", 12_000, 8_000, 1_000, "constant_with_warmup"),
        Phase("behaviour", 40_000, 12_000, 1_000, "cosine"),
    ),
    environment=lambda user, split: EducationEnv(user, split=split),
    program_user=program_student,
    hybrid_user=hybrid_student,
    speaker=lambda rule: TeacherInWords(rule).speak,
    compared=("random", "behaviour", "give_away", "myopic", "expert", "optimum"),
    voice_card=(
        "Words what the program behind Parley's simulated student has decided: the chat's system message holds the "
        "student's manner and moves, the user message what the teacher said, and the model answers with the student's "
        "words. It decides nothing: what is grasped and told and whether the test is passed are the program's. The "
        "topic of the lesson is written as $TOPIC on both sides and filled in."
    ),
    agent_card=(
        "The start of every learner in Parley's education world: a teacher that imitates a sloppy scripted one and "
        "speaks one short sentence at a time. Besides imitating, its trunk has learnt to read: linear heads, since "
        "thrown away, told from its states what the student had said, how things stand (the student's grasp, "
        "engagement and comfort included) and whether what the teacher just did goes with it, by labels from the "
        "world's rules. Before the teacher it imitates it learnt from an attentive one that never lets anything be "
        "practised and from the same one without its noise; no expert and no return had a part in its making."
    ),
    limits="It speaks only of lessons, in short English sentences. It is no tutor and knows nothing of any topic.",
)
