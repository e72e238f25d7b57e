"""Which of two things to say a rater likes better now: short-sighted feedback on single turns.

The rater sees what can be seen right after the exchange: how well the student *seems* to have understood, how engaged
and how comfortable it is, and how it liked what was said. So answers given away do well, and their price is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from envs.education.language import understood
from envs.education.program import MAX_COMFORT, MAX_ENGAGEMENT, Mind, Outcome, Profile, respond
from envs.env import Episode
from envs.judges import Criteria, Criterion, Measured
from envs.turn_judges import Foreseen

SEEN_NOW: Final = {
    "apparent": Criterion(0.4, 0.5),
    "engagement": Criterion(0.2, 0.5),
    "comfort": Criterion(0.15, 0.5),
    "satisfaction": Criterion(0.25, 1.0),
}
"""What is seen right after an exchange, and how it is weighed."""


class LessonTurns(Foreseen):
    """Compares what each utterance can be expected to bring in its exchange, exactly.

    The expectation is over what the program may answer; the utterance is understood as the students understand it.

    Args:
        judge: weighs ``apparent``, ``engagement``, ``comfort`` and ``satisfaction``; by default as ``SEEN_NOW`` does,
            with ``sharpness``.
        sharpness: log-odds per unit of weight.
    """

    def __init__(self, judge: Measured | None = None, sharpness: float = 6.0):
        super().__init__(judge or Criteria(SEEN_NOW, sharpness, name="lesson"))

    def foresee(self, moments: Sequence[Episode], utterances: Sequence[str]) -> list[Mapping[str, float] | str]:
        return [_foreseen(moment, text) for moment, text in zip(moments, utterances, strict=True)]


def _foreseen(moment: Episode, text: str) -> Mapping[str, float] | str:
    profile = moment.scenario.facts
    if not isinstance(profile, Profile):
        return f"the scenario of seed {moment.seed} has no student's profile"
    if not isinstance(moment.memory, Mind | None):
        return "the student's mind is a language model's, and nobody can foresee it; learn from whole conversations"
    (act,) = understood([text], [profile.topic])
    mind = moment.memory if isinstance(moment.memory, Mind) else Mind.of(profile)
    return expected(respond(profile, mind, act))


def expected(outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """The mean of what is seen after an exchange, over its outcomes."""
    seen = [_seen(one) for one in outcomes]
    return {
        name: math.fsum(one.probability * parts[name] for one, parts in zip(outcomes, seen, strict=True))
        for name in SEEN_NOW
    }


def _seen(outcome: Outcome) -> Mapping[str, float]:
    return {
        "apparent": outcome.mind.apparent,
        "engagement": outcome.mind.engagement / MAX_ENGAGEMENT,
        "comfort": outcome.mind.comfort / MAX_COMFORT,
        "satisfaction": outcome.satisfaction,
    }
