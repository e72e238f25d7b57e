"""What a teacher can know: everything the student has said, as the few facts that matter for what to do next.

It is the information state of the world seen as a partially observed Markov decision process over acts: given it, no
other act so far changes the distribution of what comes next. (The words do a little: they tell the manner of talking.)
What is not known of the way, the reaction, the misconception
and the prior is evenly spread over what is not ruled out; of the manner of talking there is a belief, because how
readily a student told things tells how readily it will. ``envs.education.planner`` plans on it; the scripted teachers
act on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from envs.acts import UNCLEAR, Act
from envs.education.catalogue import MISCONCEPTIONS, PRIORS, REACTIONS, STYLES, TOPICS, WAYS
from envs.education.program import HORIZON, TIRED_AT, Mind, Outcome, Profile, respond

USUAL_STYLES: Final = STYLES[:3]
"""Those of the training split."""
TOLD_BY_STYLE: Final = ("ask_way", "probe")
"""The acts whose answer depends on the manner of talking."""
_WRONG_IDEAS: Final = tuple(MISCONCEPTIONS)
_NEW: Final = tuple((prior, Mind(grasp=int(prior == "some"))) for prior in PRIORS)
_TIRED: Final = Act("tired")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the teacher knows before its next act."""

    minds: tuple[tuple[str, Mind], ...] = _NEW
    """By prior, which may be the student's with equal probability, its mind if it is: two that differ in their grasp
    alone, or one. All else of the mind is revealed by its reactions step by step. It is taken to have come in as
    engaged as students of the training split are."""
    styles: tuple[float, ...] = ()
    """Probability of each of ``USUAL_STYLES``; empty where the style is known."""
    style: str | None = None
    way: str | None = None
    not_ways: frozenset[str] = frozenset()
    """Ways that the student does not like."""
    reaction: str | None = None
    misconception: str | None = None
    not_misconceptions: frozenset[str] = frozenset()
    """Misconceptions that an analogy without effect has ruled out."""
    teacher_way: str | None = None
    """The way that the teacher itself prefers, as its brief says. No student knows or cares."""
    over: bool = False

    @property
    def mind(self) -> Mind:
        """The student's mind, with the least grasp that it may have."""
        return self.minds[0][1]

    @property
    def prior(self) -> str | None:
        return self.minds[0][0] if len(self.minds) == 1 else None

    @property
    def most_grasp(self) -> int:
        """The greatest grasp that the student may have."""
        return self.minds[-1][1].grasp

    @property
    def exchanges(self) -> int:
        return self.mind.exchanges

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be found out: the way, the misconception while it is held, what was known before.

        A teacher that knows as much need not lose the student's engagement or comfort any more.
        """
        return self.way is not None and self.prior is not None and not (self.mind.misled and self.misconception is None)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for states of equal value: those that differ only in the names of ways and misconceptions, which the
        world treats alike, or in what no longer matters. How a student reacts to other ways does not once its own is
        known, nor does how readily it tells what is known, nor that it has said it is tired; and when all is
        ``settled``, no engagement can be lost and comfort beyond the first step changes nothing."""
        m, settled = self.mind, self.settled
        wrong = -2 if not m.misled else len(self.not_misconceptions) if self.misconception is None else -1
        asks = self.way is None or (m.misled and (self.misconception is None or self.prior is None))
        asks = asks and m.exchanges < HORIZON - 1
        comfort = min(m.comfort, 1) if settled else m.comfort
        return (
            m.exchanges, m.grasp, self.most_grasp, wrong, 0 if settled else m.engagement, comfort, m.answers,
            m.consolidated, -1 if settled and comfort else m.encouraged, m.summed_up,
            len(self.not_ways) if self.way is None else -1,
            self.reaction if self.way is None else None, (self.style, self.styles) if asks else None,
        )  # fmt: skip

    @property
    def weighed_styles(self) -> list[tuple[float, str]]:
        """The styles that the student may have, each with its probability."""
        return [(1.0, self.style)] if self.style else list(zip(self.styles, USUAL_STYLES, strict=True))

    def candidate_way(self) -> str:
        """The way if known, else the first that is not ruled out."""
        return self.way or next((way for way in WAYS if way not in self.not_ways), WAYS[0])

    def candidate_misconception(self) -> str:
        return self.misconception or next(
            (m for m in _WRONG_IDEAS if m not in self.not_misconceptions), _WRONG_IDEAS[0]
        )

    def someone(
        self,
        prior: str,
        style: str = "calm",
        way: str | None = None,
        reaction: str | None = None,
        misconception: str | None = None,
    ) -> Profile:
        """Some student about whom everything known is true, or what is given instead."""
        reaction = reaction or self.reaction or REACTIONS[0]
        misconception = misconception or self.candidate_misconception()
        return Profile(way or self.candidate_way(), reaction, misconception, prior, style, TOPICS[0])


def begin(opening: Act, style: str | None = None, teacher_way: str | None = None) -> Knowledge:
    """What the student's first words tell."""
    told = {"open_new": "none", "open_some": "some"}.get(opening.kind)
    minds = tuple((prior, mind) for prior, mind in _NEW if told in (None, prior))
    styles = () if style else _normalised([1.0 for _ in USUAL_STYLES])
    return Knowledge(minds, styles, style, teacher_way=teacher_way)


def learn(known: Knowledge, act: Act, moves: tuple[Act, ...]) -> Knowledge:
    """What is known after the teacher did ``act`` and the student answered ``moves``.

    Moves that the program could not have answered (a misheard reply) leave the mind as it was, one exchange older. A
    student that did not understand has heard no act.
    """
    if moves[0].kind in ("bye", "leave"):
        return replace(known, over=True)
    act = UNCLEAR if moves[0].kind == "confused" else act
    facts = _facts(known, act, moves)
    return replace(facts, minds=_minds_after(facts, act, moves), styles=_styles_after(facts, act, moves))


def _facts(known: Knowledge, act: Act, moves: tuple[Act, ...]) -> Knowledge:
    found: dict[str, Any] = {}
    for move in moves:
        if move.kind == "tell_way":
            found["way"] = move.about
        elif move.kind == "tell_wrong":
            found["misconception"] = move.about
        elif move.kind == "tell_prior":
            found["minds"] = tuple(each for each in known.minds if each[0] == move.about) or known.minds
        elif move.kind == "react" and act.kind == "explain" and act.about:
            found |= {"reaction": move.about, "not_ways": known.not_ways | {act.about}}
            if known.way == act.about:  # one of the two was misheard
                found["way"] = None
        elif move.kind == "aha" and act.kind == "analogy":
            found["misconception"] = act.about
        elif move.kind == "so_what" and act.kind == "analogy" and act.about and known.mind.misled:
            found["not_misconceptions"] = known.not_misconceptions | {act.about}
            if known.misconception == act.about:
                found["misconception"] = None
        elif move.kind in ("follows", "lost", "doubts") and act.kind == "explain" and moves[0].kind != "react":
            found["way"] = act.about
    return _by_elimination(replace(known, **found)) if found else known


def _by_elimination(known: Knowledge) -> Knowledge:
    if known.way is None and len(known.not_ways) == len(WAYS) - 1:
        known = replace(known, way=known.candidate_way())
    if known.misconception is None and len(known.not_misconceptions) == len(MISCONCEPTIONS) - 1:
        known = replace(known, misconception=known.candidate_misconception())
    return known


def _possible(known: Knowledge, prior: str, mind: Mind, act: Act, moves: tuple[Act, ...], style: str) -> list[Outcome]:
    """The outcomes of ``act`` that have these moves, whether or not the student said that it is tired."""
    heard = [move for move in moves if move != _TIRED]
    outcomes = respond(known.someone(prior, style), mind, act)
    return [outcome for outcome in outcomes if [move for move in outcome.moves if move != _TIRED] == heard]


def _minds_after(known: Knowledge, act: Act, moves: tuple[Act, ...]) -> tuple[tuple[str, Mind], ...]:
    after = tuple(
        (prior, outcome.mind)
        for prior, mind in known.minds
        for outcome in _possible(known, prior, mind, act, moves, "calm")[:1]
    )
    if not after:
        after = tuple((prior, replace(mind, exchanges=mind.exchanges + 1)) for prior, mind in known.minds)
    if _TIRED in moves:
        after = tuple((prior, replace(mind, engagement=TIRED_AT, tired=True)) for prior, mind in after)
    return after


def _styles_after(known: Knowledge, act: Act, moves: tuple[Act, ...]) -> tuple[float, ...]:
    """Bayes' rule: how readily it told things, or did not."""
    if known.style or act.kind not in TOLD_BY_STYLE:
        return known.styles
    prior, mind = known.minds[0]
    weights = [
        p * sum(outcome.probability for outcome in _possible(known, prior, mind, act, moves, style))
        for p, style in known.weighed_styles
    ]
    return _normalised(weights) if sum(weights) > 0 else known.styles


def _normalised(weights: list[float]) -> tuple[float, ...]:
    """Rounded, so that beliefs that agree are equal."""
    return tuple(round(weight / sum(weights), 9) for weight in weights)
