"""The student's mind: a program that decides what a student grasps, feels, tells and whether it passes the test.

It hears acts, not words, and answers with acts; words are somebody else's business (``envs.education.users``).
Everything that counts is decided here, from the student's profile and the state of its mind, so it can't be talked into
anything.

A student likes one way of being taught and reacts in its own manner to the others. It holds one misconception, and
while it does, it can't grasp the topic beyond its beginnings; one analogy puts it right. What was grasped must be
consolidated. The lesson ends when the teacher ends it, when the bell rings after ``HORIZON`` exchanges, or when the
student has had enough and walks out. Then comes a test, which the teacher doesn't see. Who walks out has failed it.

``respond`` gives the exact distribution over what happens next. The student samples from it, and the planner
(``envs.education.planner``) computes the best possible teacher from the very same numbers.

The trap for short-sighted teachers: answers given away and praise please at once (``Outcome.satisfaction``), and every
answer given away lowers the chance of passing; probing, checking and exercises please little and decide the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from envs.acts import Act

HORIZON: Final = 8
"""Exchanges in a lesson; then the bell rings."""
MAX_GRASP: Final = 3
UNDERSTOOD: Final = 2
"""Grasp from which exercises are solved and what was learnt can be consolidated."""
MISLED_GRASP: Final = 1
"""The most that a student with a misconception grasps."""
MAX_ENGAGEMENT: Final = 3
MAX_COMFORT: Final = 2
MAX_ANSWERS: Final = 2
MAX_CONSOLIDATED: Final = 2
MAX_ENCOURAGED: Final = 2
TIRED_AT: Final = 1
"""A student says so when this much engagement or less is left."""
ENGAGEMENT: Final = 2
"""How engaged a student is at first; those of the out-of-distribution split have 1."""

_PASSES: Final = (0.02, 0.1, 0.5, 0.65)
"""Probability of passing the test by grasp."""
_PASSES_CONSOLIDATED: Final = 0.15
"""Added for each act that consolidated what was grasped."""
_PASSES_MISLED: Final = 0.4
"""Factor while the misconception is held."""
_PASSES_ANSWERS: Final = (1.0, 0.6, 0.35)
"""Factor by answers given away."""
_SEEMS_ANSWERS: Final = 0.3
"""What each answer given away adds to how well the student seems to have understood."""

_FOLLOWS: Final = (0.6, 0.85, 0.85)
"""Probability, by comfort, that an explanation of the liked kind gets through."""
_ADAPTS: Final = 0.5
"""Probability that a student who adapts follows an explanation of another kind."""
_WITHHOLDS: Final = {"lively": 0.1, "calm": 0.25, "shy": 0.5, "terse": 0.4}
"""Probability of not telling when asked for its way."""
_WITHHOLDS_WRONG: Final = 1.25
"""Factor when asked what it thinks of the topic."""
_ILL_AT_EASE: Final = (1.5, 1.0, 0.4)
"""Factor by comfort. Because all three multiply, every answer withheld tells the same about the style."""
_ADDS_PRIOR: Final = 0.3
"""Probability of telling what it knew beforehand beside what it thinks."""

Loss = tuple[int, int, float]
_REACTION_COSTS: Final[dict[str, Loss]] = {
    "rude": (-1, -1, -0.8),
    "disengaged": (-2, 0, -0.6),
    "frustrated": (-1, 0, -0.8),
    "anxious": (0, -2, -0.6),
    "adapts": (0, 0, -0.2),
    "says_so": (0, 0, -0.3),
}
"""What being taught in another way changes, by reaction: engagement, comfort, and how it is liked."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the student is. Fixed for a lesson, hidden from the teacher (but for the topic)."""

    way: str
    """The way of being taught that it likes."""
    reaction: str
    """What it does when taught in another way."""
    misconception: str
    prior: str
    style: str
    topic: str
    engagement: int = ENGAGEMENT
    """How engaged it is at first."""


@dataclass(frozen=True, slots=True)
class Mind:
    """The state of the student's mind. Style changes how readily it tells things, never how its mind moves."""

    grasp: int = 0
    misled: bool = True
    """Whether the misconception is held."""
    engagement: int = ENGAGEMENT
    comfort: int = 1
    answers: int = 0
    """Answers given away, of those that count."""
    consolidated: int = 0
    encouraged: int = 0
    summed_up: bool = False
    tired: bool = False
    """Whether it has said that it is tired."""
    exchanges: int = 0
    """The lesson's clock."""
    outcome: Literal["open", "passed", "failed", "walked_out"] = "open"

    @classmethod
    def of(cls, profile: Profile) -> Mind:
        """The mind of a student who has just come in."""
        return cls(grasp=int(profile.prior == "some"), engagement=profile.engagement)

    @property
    def understanding(self) -> float:
        """Probability of passing the test if it were taken now, in [0, 1]."""
        passes = _PASSES[self.grasp] + _PASSES_CONSOLIDATED * self.consolidated
        return passes * (_PASSES_MISLED if self.misled else 1.0) * _PASSES_ANSWERS[self.answers]

    @property
    def apparent(self) -> float:
        """How well the student seems to have understood, in [0, 1]: its misconception is not seen, and answers that
        were given away pass for its own."""
        passes = _PASSES[self.grasp] + _PASSES_CONSOLIDATED * self.consolidated
        return min(1.0, passes + _SEEMS_ANSWERS * self.answers)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen: how likely, what the student says, how it likes this exchange, its mind afterwards."""

    probability: float
    moves: tuple[Act, ...]
    satisfaction: float
    mind: Mind


@lru_cache(maxsize=1 << 18)
def respond(profile: Profile, mind: Mind, act: Act) -> tuple[Outcome, ...]:
    """What may happen when the teacher does ``act``: outcomes whose probabilities sum to 1.

    Outcomes may agree in their moves and differ in the mind: no word tells whether the test was passed. Raises
    ``ValueError`` when the lesson is over already.
    """
    if mind.outcome != "open":
        raise ValueError(f"The lesson is over already: the student has {mind.outcome}; begin another one.")
    reactions = _REACTIONS[act.kind](profile, mind, act)
    return tuple(
        Outcome(reaction.probability * p, moves, reaction.satisfaction, after)
        for reaction in reactions
        if reaction.probability > 0
        for p, moves, after in _go_on_or_end(reaction, ended=act.kind == "end")
    )


def draw(outcomes: Sequence[Outcome], rng: np.random.Generator) -> Outcome:
    """One of ``outcomes``, by their probabilities; one uniform is drawn whatever they are."""
    left = rng.random()
    for outcome in outcomes:
        left -= outcome.probability
        if left < 0:
            return outcome
    return outcomes[-1]


def _go_on_or_end(reaction: Outcome, ended: bool) -> list[tuple[float, tuple[Act, ...], Mind]]:
    """After the reaction: the student may walk out, the test may come, little engagement is said aloud."""
    mind = replace(reaction.mind, exchanges=reaction.mind.exchanges + 1)
    if mind.engagement == 0:
        return [(1.0, (Act("leave"),), replace(mind, outcome="walked_out"))]
    if ended or mind.exchanges == HORIZON:
        passes, bye = mind.understanding, (Act("bye"),)
        return [(passes, bye, replace(mind, outcome="passed")), (1 - passes, bye, replace(mind, outcome="failed"))]
    if mind.engagement <= TIRED_AT and not mind.tired and len(reaction.moves) == 1:
        return [(1.0, (*reaction.moves, Act("tired")), replace(mind, tired=True))]
    return [(1.0, reaction.moves, mind)]


def _after(mind: Mind, engagement: int = 0, comfort: int = 0, **changes: object) -> Mind:
    """The mind after an act that changes engagement and comfort by so much."""
    engagement = min(MAX_ENGAGEMENT, max(0, mind.engagement + engagement))
    comfort = min(MAX_COMFORT, max(0, mind.comfort + comfort))
    return replace(mind, engagement=engagement, comfort=comfort, **changes)  # type: ignore[arg-type]  # names vary


def _one(satisfaction: float, mind: Mind, *moves: Act) -> list[Outcome]:
    return [Outcome(1.0, moves, satisfaction, mind)]


def _ask_way(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    withholds = _WITHHOLDS[profile.style] * _ILL_AT_EASE[mind.comfort]
    return [
        Outcome(1 - withholds, (Act("tell_way", profile.way),), 0.2, mind),
        Outcome(withholds, (Act("withhold"),), 0.0, mind),
    ]


def _probe(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if not mind.misled:
        return _one(-0.2, mind, Act("nothing_wrong"))
    withholds = _WITHHOLDS[profile.style] * _ILL_AT_EASE[mind.comfort] * _WITHHOLDS_WRONG
    told = (Act("tell_wrong", profile.misconception), Act("tell_prior", profile.prior))
    return [
        Outcome((1 - withholds) * _ADDS_PRIOR, told, -0.2, mind),
        Outcome((1 - withholds) * (1 - _ADDS_PRIOR), told[:1], -0.2, mind),
        Outcome(withholds, (Act("withhold"),), -0.3, mind),
    ]


def _explain(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if act.about != profile.way:
        return _taught_otherwise(profile, mind)
    got_through, after, satisfaction = _understood(mind)
    if got_through.kind == "doubts":
        return _one(satisfaction, after, got_through)
    p = _FOLLOWS[mind.comfort]
    return [Outcome(p, (got_through,), satisfaction, after), Outcome(1 - p, (Act("lost"),), -0.2, mind)]


def _understood(mind: Mind) -> tuple[Act, Mind, float]:
    """What an explanation that gets through brings, and how it is liked."""
    if mind.misled and mind.grasp >= MISLED_GRASP:
        return Act("doubts"), mind, -0.2
    return Act("follows"), _after(mind, grasp=min(MAX_GRASP, mind.grasp + 1)), 0.5


def _taught_otherwise(profile: Profile, mind: Mind) -> list[Outcome]:
    engagement, comfort, satisfaction = _REACTION_COSTS[profile.reaction]
    after, reacts = _after(mind, engagement, comfort), Act("react", profile.reaction)
    if profile.reaction == "says_so":
        return _one(satisfaction, after, reacts, Act("tell_way", profile.way))
    if profile.reaction == "adapts":
        got_through, adapted, _ = _understood(after)
        return [
            Outcome(_ADAPTS, (reacts, got_through), 0.2, adapted),
            Outcome(1 - _ADAPTS, (reacts,), satisfaction, after),
        ]
    return _one(satisfaction, after, reacts)


def _exercise(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.grasp < UNDERSTOOD:
        return _one(-1.0, _after(mind, -1, -1), Act("stuck"))
    return _one(0.1, _consolidated(_after(mind, +1)), Act("solved"))


def _consolidated(mind: Mind) -> Mind:
    return replace(mind, consolidated=min(MAX_CONSOLIDATED, mind.consolidated + 1))


def _analogy(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.misled and act.about == profile.misconception:
        return _one(0.9, _after(mind, +1, misled=False), Act("aha"))
    return _one(-0.5, _after(mind, -1), Act("so_what"))


def _give_answer(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.answers == MAX_ANSWERS:
        return _one(0.0, mind, Act("thanks"))
    return _one(1.2, _after(mind, +1, +1, answers=mind.answers + 1), Act("thanks"))


def _encourage(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.encouraged == MAX_ENCOURAGED:
        return _one(-0.1, mind, Act("unmoved"))
    return _one(0.7, _after(mind, comfort=+1, encouraged=mind.encouraged + 1), Act("cheered"))


def _check(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.grasp >= UNDERSTOOD:
        return _one(0.0, _consolidated(mind), Act("shows", "good"))
    if mind.grasp == 1:
        return _one(-0.3, mind, Act("shows", "half"))
    return _one(-0.6, _after(mind, comfort=-1), Act("shows", "little"))


def _summarise(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    if mind.grasp < UNDERSTOOD:
        return _one(-0.4, _after(mind, -1), Act("too_early"))
    if mind.summed_up:
        return _one(-0.2, mind, Act("noted"))
    return _one(0.2, _consolidated(replace(mind, summed_up=True)), Act("noted"))


def _end(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _one(-0.3, mind, Act("bye"))


def _unclear(profile: Profile, mind: Mind, act: Act) -> list[Outcome]:
    return _one(-0.6, _after(mind, -1), Act("confused"))


_REACTIONS: Final = {
    "ask_way": _ask_way,
    "probe": _probe,
    "explain": _explain,
    "exercise": _exercise,
    "analogy": _analogy,
    "give_answer": _give_answer,
    "encourage": _encourage,
    "check": _check,
    "summarise": _summarise,
    "end": _end,
    "unclear": _unclear,
}
