"""``parley/Education-v0``: teach a topic to a student whose way of learning and whose mistake must be found out.

The agent is a teacher. The student opens; then teacher and student take turns until the teacher ends the lesson, the
bell rings after eight exchanges, or the student walks out. Then comes a test that nobody sees. The reward is sparse: 1
when it is passed, else 0, which is ``success`` too; who walks out has not passed. The teacher's brief also holds a way
of teaching that it prefers itself, which no student cares about.

``Assessment.parts`` are there after every exchange, while the lesson is open too: ``understanding`` (the probability of
passing the test if it were taken now), ``apparent`` (how well the student seems to have understood), ``engagement`` and
``comfort``, all in [0, 1], and ``answers_given``. They serve records and judges; no agent sees them.

Splits. ``train`` and ``iid_test`` share every attribute value and no attribute combination (way × reaction ×
misconception × prior × style: a fifth of the combinations, balanced in every attribute, is kept for ``iid_test``);
topic and the teacher's own way are drawn apart. ``ood_test`` has attribute values that training never shows: topics,
the ``terse`` style, and students that come in tired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np

from envs.acts import Act
from envs.conversation import Speaker, Turn
from envs.education.arbiter import EducationArbiter
from envs.education.briefs import agent_brief, student_brief
from envs.education.catalogue import MISCONCEPTIONS, PRIORS, REACTIONS, TOPICS, UNSEEN_TOPICS, WAYS
from envs.education.knowledge import USUAL_STYLES
from envs.education.language import student_parser, teacher_parser
from envs.education.program import HORIZON, MAX_COMFORT, MAX_ENGAGEMENT, Mind, Profile
from envs.education.prompted import Told
from envs.education.users import hybrid_student, opening_words, program_student
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.users import UserSimulator
from envs.vector import ConversationVectorEnv

OPENS_WITH_PRIOR: Final = 0.3
"""Probability that a student's first words tell what it knows."""
_TIRED_FROM_THE_START: Final = 1
"""How engaged students of the out-of-distribution split are at first."""
_OPENINGS: Final = {"none": Act("open_new"), "some": Act("open_some")}


class EducationEnv(ConversationEnv):
    """See the module's docstring. ``user`` is a ``UserSimulator`` whose memory is a ``Mind`` or ``Told``."""

    splits = ("train", "iid_test", "ood_test")

    def __init__(self, user: UserSimulator, *, split: str = "train", max_exchanges: int = HORIZON, **kwargs: Any):
        if max_exchanges != HORIZON:
            raise ValueError(
                f"max_exchanges={max_exchanges}; the bell rings after {HORIZON} exchanges: give {HORIZON}."
            )
        super().__init__(user, split=split, max_exchanges=max_exchanges, **kwargs)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        profile, teacher_way = draw_profile(self.split, rng)
        words = opening_words(opening_act(profile, rng), profile, rng)
        attributes = {
            "way": profile.way,
            "reaction": profile.reaction,
            "misconception": profile.misconception,
            "prior": profile.prior,
            "style": profile.style,
            "topic": profile.topic,
            "teacher_way": teacher_way,
        }
        key = "/".join(attributes.values())
        brief = agent_brief(profile.topic, teacher_way)
        return Scenario(brief, student_brief(profile), (Turn("user", words),), profile, key, attributes)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [_assess(episode.memory) for episode in episodes]

    def acts_in(self, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]]:
        if speaker == "agent":
            return [(act,) for act in teacher_parser().parse(texts)]
        return student_parser().parse_moves(texts)

    def arbiter(self) -> EducationArbiter:
        """Who keeps the books when somebody else speaks for the student."""
        return EducationArbiter(self.user)


def _assess(mind: object) -> Assessment:
    if not isinstance(mind, Mind | Told):
        return Assessment(judged=False)
    parts = parts_of(mind) if isinstance(mind, Mind) else {}  # what a model has understood, nobody can measure
    if mind.outcome == "open":
        return Assessment(parts=parts)
    if mind.outcome == "walked_out":
        return Assessment(0.0, True, False, stop_reason=StopReason.USER_LEFT, parts=parts)
    passed = mind.outcome == "passed"
    return Assessment(float(passed), True, passed, stop_reason=StopReason.OUTCOME, parts=parts)


def parts_of(mind: Mind) -> dict[str, float]:
    """How it stands with a student, for records and judges; see the module's docstring."""
    return {
        "understanding": 0.0 if mind.outcome == "walked_out" else mind.understanding,  # it sits no test
        "apparent": mind.apparent,
        "engagement": mind.engagement / MAX_ENGAGEMENT,
        "comfort": mind.comfort / MAX_COMFORT,
        "answers_given": float(mind.answers),
    }


@cache
def profiles_of(split: str) -> tuple[Profile, ...]:
    """Every attribute combination of a split, with the first of its topics; topics are drawn apart."""
    if split == "ood_test":
        combinations = product(WAYS, REACTIONS, MISCONCEPTIONS, PRIORS)
        return tuple(Profile(*each, "terse", UNSEEN_TOPICS[0], _TIRED_FROM_THE_START) for each in combinations)
    values: tuple[Sequence[str], ...] = (WAYS, REACTIONS, tuple(MISCONCEPTIONS), PRIORS, USUAL_STYLES)
    return tuple(
        Profile(way, reaction, misconception, prior, style, TOPICS[0])
        for (w, way), (r, reaction), (m, misconception), (p, prior), (s, style) in product(
            *(enumerate(each) for each in values)
        )
        # A residue of a weighted sum of indices: a fifth of the combinations, spread evenly over each attribute.
        if ((w + 2 * r + 3 * m + p + 4 * s) % 5 == 0) == (split == "iid_test")
    )


def topics_of(split: str) -> tuple[str, ...]:
    """What lessons of a split are about."""
    return UNSEEN_TOPICS if split == "ood_test" else TOPICS


def draw_profile(split: str, rng: np.random.Generator) -> tuple[Profile, str]:
    """A student of a split, and the way that its teacher itself prefers."""
    profiles, topics = profiles_of(split), topics_of(split)
    drawn = profiles[int(rng.integers(len(profiles)))]
    topic, teacher_way = topics[int(rng.integers(len(topics)))], WAYS[int(rng.integers(len(WAYS)))]
    return replace(drawn, topic=topic), teacher_way


def opening_act(profile: Profile, rng: np.random.Generator) -> Act:
    """What the student's first words do."""
    return _OPENINGS[profile.prior] if rng.random() < OPENS_WITH_PRIOR else Act("open")


USERS: Final = {"program": program_student, "hybrid": hybrid_student}
"""The students that can be named in ``gymnasium.make("parley/Education-v0", user=…)``."""


def make_education(user: str | UserSimulator = "hybrid", split: str = "train", **kwargs: Any) -> EducationEnv:
    """``parley/Education-v0``. ``user`` is a name of ``USERS`` or a ``UserSimulator``."""
    if isinstance(user, str):
        if user not in USERS:
            raise ValueError(f"user={user!r} is not a student of this world; choose one of {', '.join(USERS)}.")
        user = USERS[user]()
    return EducationEnv(user, split=split, **kwargs)


def make_education_vec(num_envs: int = 1, autoreset_mode: str = "NextStep", **kwargs: Any) -> ConversationVectorEnv:
    """``parley/Education-v0`` as a vector environment: one user call for all conversations."""
    return ConversationVectorEnv(make_education(**kwargs), num_envs, autoreset_mode)
