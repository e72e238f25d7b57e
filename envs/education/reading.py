"""What a reader of a lesson should have understood: facts at two places of every exchange.

Where the teacher is about to speak, what the student has told and how things stand. Where the student is about to
answer, besides what the teacher has just done, and whether that goes with what the student told. (Dialogue-state
tracking.) The labels come from the rules of the world: they are most of the information state on which the optimum is
planned. All of it can be known from the words so far; nothing about what will come, or what would be wise.
"""

from __future__ import annotations

from typing import Final

from envs.acts import Act
from envs.education.catalogue import MISCONCEPTIONS, PRIORS, REACTIONS, TEACHER_ACTS, WAYS
from envs.education.knowledge import Knowledge
from envs.education.program import (
    HORIZON,
    MAX_ANSWERS,
    MAX_COMFORT,
    MAX_CONSOLIDATED,
    MAX_ENGAGEMENT,
    MAX_GRASP,
    UNDERSTOOD,
)

_WRONG_IDEAS: Final = tuple(MISCONCEPTIONS)
_NEED_GRASP: Final = ("exercise", "check", "summarise")
"""Acts that consolidate what was understood, and are too early before."""
_NOT_TOLD, _GOES_WITH, _GOES_AGAINST = 0, 1, 2

STANDING: Final = {
    "way": 1 + len(WAYS),
    "reaction": 1 + len(REACTIONS),
    "misconception": 1 + len(_WRONG_IDEAS),
    "prior": 1 + len(PRIORS),
    "misled": 2,
    "least_grasp": 1 + MAX_GRASP,
    "most_grasp": 1 + MAX_GRASP,
    "engagement": 1 + MAX_ENGAGEMENT,
    "comfort": 1 + MAX_COMFORT,
    "answers": 1 + MAX_ANSWERS,
    "consolidated": 1 + MAX_CONSOLIDATED,
    "exchanges": HORIZON,
}
"""How things stand before the teacher speaks: each fact and how many values it has; of what is told, 0 is not told."""
DOING: Final = {"act": len(TEACHER_ACTS), "way_match": 3, "misconception_match": 3, "grasp_match": 3}
"""What the teacher has just done, and whether it goes with (1) or against (2) the way, misconception or grasp that is
known; 0 where it is not known or the act is about something else."""
FACTS: Final = {**STANDING, **DOING}


def standing(known: Knowledge) -> tuple[int, ...]:
    """The facts of ``STANDING``."""
    mind = known.mind
    return (
        _told(WAYS, known.way),
        _told(REACTIONS, known.reaction),
        _told(_WRONG_IDEAS, known.misconception),
        _told(PRIORS, known.prior),
        int(mind.misled),
        mind.grasp,
        known.most_grasp,
        mind.engagement,
        mind.comfort,
        mind.answers,
        mind.consolidated,
        mind.exchanges,
    )


def doing(known: Knowledge, act: Act) -> tuple[int, ...]:
    """The facts of ``DOING`` of an act that is done when ``known`` is what is known."""
    way = _match(act.about, known.way) if act.kind == "explain" else _NOT_TOLD
    wrong = _match(act.about, known.misconception) if act.kind == "analogy" else _NOT_TOLD
    grasp = _NOT_TOLD
    if act.kind in _NEED_GRASP and known.mind.grasp >= UNDERSTOOD:
        grasp = _GOES_WITH
    elif act.kind in _NEED_GRASP and known.most_grasp < UNDERSTOOD:
        grasp = _GOES_AGAINST
    return TEACHER_ACTS.index(act), way, wrong, grasp


def _told(names: tuple[str, ...], name: str | None) -> int:
    return 0 if name is None else 1 + names.index(name)


def _match(offered: str | None, told: str | None) -> int:
    if told is None:
        return _NOT_TOLD
    return _GOES_WITH if offered == told else _GOES_AGAINST
