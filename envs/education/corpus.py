"""Lessons of the scripted teachers with the program, act by act: the material of the small models.

No parser and no environment is in the loop: both sides are told each other's acts, so a corpus is exact and fast to
make. Only phrasings that are not held out are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.education import program
from envs.education.briefs import agent_brief
from envs.education.catalogue import MISCONCEPTIONS, STUDENT_ACTS, STYLES, TEACHER_ACTS, TOPICS
from envs.education.env import draw_profile, opening_act
from envs.education.knowledge import Knowledge, begin, learn
from envs.education.language import student_phrasebook
from envs.education.program import Mind, Outcome, Profile
from envs.education.teachers import Rule, in_any_words
from envs.education.users import line_of, opening_words
from envs.wording import Line, template_words


@dataclass(frozen=True, slots=True)
class Step:
    """One exchange, as acts."""

    known: Knowledge
    """What the teacher knew before."""
    act: Act
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lesson:
    """One lesson, as acts."""

    profile: Profile
    teacher_way: str
    opening: Act
    steps: tuple[Step, ...]

    @property
    def passed(self) -> bool:
        return self.steps[-1].outcome.mind.outcome == "passed"


def play(rule: Rule, rng: np.random.Generator, split: str = "train") -> Lesson:
    """One lesson of ``rule`` with a student of a split."""
    profile, teacher_way = draw_profile(split, rng)
    opening = opening_act(profile, rng)
    known, mind = begin(opening, teacher_way=teacher_way), Mind.of(profile)
    steps: list[Step] = []
    while mind.outcome == "open":
        act = rule(known, rng)
        outcome = program.draw(program.respond(profile, mind, act), rng)
        steps.append(Step(known, act, outcome))
        known, mind = learn(known, act, outcome.moves), outcome.mind
    return Lesson(profile, teacher_way, opening, tuple(steps))


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, as acts and as words."""

    known: Knowledge
    """What the teacher knew before."""
    act: Act
    utterance: str
    line: Line
    reply: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One lesson, as acts and as words."""

    profile: Profile
    brief: str
    opening: str
    exchanges: tuple[Exchange, ...]
    reward: float

    @property
    def conversation(self) -> Conversation:
        conversation = Conversation(self.brief).then("user", self.opening)
        for exchange in self.exchanges:
            conversation = conversation.then("agent", exchange.utterance).then("user", exchange.reply)
        return conversation


Say = Callable[[Act, np.random.Generator, str], str]
"""Words for an act and a topic."""


def converse(rule: Rule, rng: np.random.Generator, say: Say | None = None) -> Dialogue:
    """One lesson of ``rule`` with a student of the training split; ``say`` words the teacher's acts."""
    say = say or in_any_words
    lesson = play(rule, rng)
    profile, exchanges = lesson.profile, []
    for step in lesson.steps:
        utterance = say(step.act, rng, profile.topic)
        line = line_of(profile, step.outcome.moves, utterance)
        words = template_words(student_phrasebook(), line, rng)
        exchanges.append(Exchange(step.known, step.act, utterance, line, words))
    opening = opening_words(lesson.opening, profile, rng)
    brief = agent_brief(profile.topic, lesson.teacher_way)
    return Dialogue(profile, brief, opening, tuple(exchanges), float(lesson.passed))


def any_line(rng: np.random.Generator) -> Line:
    """A line that a student may have to say, drawn evenly over moves and styles and not as lessons have them."""
    first = [act for act in STUDENT_ACTS if act.kind not in ("open", "open_new", "open_some", "tired", "tell_prior")]
    moves: tuple[Act, ...] = (first[int(rng.integers(len(first)))],)
    beside = [act for act in STUDENT_ACTS if act.kind in _TOLD_WITH.get(moves[0], ())]
    if beside and rng.random() < 0.4:
        moves = (*moves, beside[int(rng.integers(len(beside)))])
    if len(moves) == 1 and moves[0].kind not in ("bye", "leave") and rng.random() < 0.2:
        moves = (*moves, Act("tired"))
    topic = TOPICS[int(rng.integers(len(TOPICS)))]
    heard = in_any_words(TEACHER_ACTS[int(rng.integers(len(TEACHER_ACTS)))], rng, topic)
    return Line(moves, STYLES[int(rng.integers(len(STYLES)))], heard, {"topic": topic})


_TOLD_WITH = {
    **{Act("tell_wrong", misconception): ("tell_prior",) for misconception in MISCONCEPTIONS},
    Act("react", "adapts"): ("follows", "doubts"),
    Act("react", "says_so"): ("tell_way",),
}
"""What a student says beside a move."""
