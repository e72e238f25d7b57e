"""The best possible teacher, computed: exact dynamic programming on the information state.

``Knowledge`` holds all that a teacher can know, and the program gives the exact distribution of what comes next, so the
value of every information state and act follows by backward induction over the exchanges of a lesson. Ways are
interchangeable to the program, and misconceptions too, so states that differ only in their names are solved once
(``Knowledge.key``); reactions are not. Acts that can't help in a state (asking what is known, an exercise that can't be
solved, an analogy for what was put right) are left out. The prior is that every attribute is uniform
and independent, from which the splits depart a little, since combinations are held out. Of the manner of talking only
what is withheld counts as evidence, not the choice of words: so this is the best teacher that hears acts. One who was
told the manner at once could expect .81 after ``open`` instead of .77, which bounds what words could add.

The same recursion with horizon 1 and the student's satisfaction as reward gives the myopic teacher: the best possible
one for the next turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from envs.acts import Act
from envs.education.catalogue import MISCONCEPTIONS, PRIORS, REACTIONS, WAYS
from envs.education.knowledge import TOLD_BY_STYLE, USUAL_STYLES, Knowledge, learn
from envs.education.program import (
    HORIZON,
    MAX_ANSWERS,
    MAX_COMFORT,
    MAX_CONSOLIDATED,
    MAX_ENCOURAGED,
    MAX_ENGAGEMENT,
    MAX_GRASP,
    UNDERSTOOD,
    Mind,
    Outcome,
    respond,
)

Weighed = list[tuple[float, Outcome]]
"""Outcomes with their probabilities."""
_EQUAL = 1e-9
"""Values that differ by less are equal; of equal acts the first that was looked into is done."""


def useful_acts(known: Knowledge) -> list[Act]:
    """The acts that may help in this state; to end the lesson comes first, because nobody likes a lesson drawn out."""
    mind, acts = known.mind, [Act("end")]
    if mind.grasp < MAX_GRASP:
        acts.append(Act("explain", known.candidate_way()))
    if mind.misled:
        acts.append(Act("analogy", known.candidate_misconception()))
    if known.most_grasp >= UNDERSTOOD and mind.consolidated < MAX_CONSOLIDATED:
        acts.append(Act("exercise"))
        if mind.grasp < UNDERSTOOD:  # otherwise an exercise is sure to be solved, which is better still
            acts += [Act("check"), *([] if mind.summed_up else [Act("summarise")])]
    if known.exchanges == HORIZON - 1:
        return acts
    if known.prior is None and known.most_grasp < UNDERSTOOD:
        acts.append(Act("check"))
    if known.way is None:
        acts.append(Act("ask_way"))
    if mind.misled and (known.misconception is None or known.prior is None):
        acts.append(Act("probe"))
    at_ease, lively = (1, 1) if known.settled else (MAX_COMFORT, MAX_ENGAGEMENT)
    if mind.comfort < at_ease and mind.encouraged < MAX_ENCOURAGED:
        acts.append(Act("encourage"))
    if mind.answers < MAX_ANSWERS and (mind.comfort < at_ease or mind.engagement < lively):
        acts.append(Act("give_answer"))
    return acts


def possible_outcomes(known: Knowledge, act: Act) -> Iterator[tuple[float, Outcome]]:
    """Everything that may follow ``act``, given what is known, with its probability."""
    explains, puts_right = act.kind == "explain", act.kind == "analogy" and known.mind.misled
    ways = _cases(known.way, known.candidate_way(), WAYS, known.not_ways) if explains else _ANY
    reactions = [(1 / len(REACTIONS), r) for r in REACTIONS] if explains and known.reaction is None else _ANY
    wrong, not_wrong = known.candidate_misconception(), known.not_misconceptions
    wrongs = _cases(known.misconception, wrong, tuple(MISCONCEPTIONS), not_wrong) if puts_right else _ANY
    styles = known.weighed_styles if act.kind in TOLD_BY_STYLE else [(1.0, USUAL_STYLES[0])]
    for (p_way, way), (p_wrong, wrong_idea), (p_style, style) in product(ways, wrongs, styles):
        as_taught = way is None or way == act.about
        for p_reaction, reaction in _ANY if as_taught else reactions:
            p = p_way * p_wrong * p_style * p_reaction / len(known.minds)
            for prior, mind in known.minds:
                for outcome in respond(known.someone(prior, style, way, reaction, wrong_idea), mind, act):
                    yield p * outcome.probability, outcome


_ANY: list[tuple[float, str | None]] = [(1.0, None)]
"""Where it makes no difference."""


def _told_all(mind: Mind) -> Knowledge:
    """What a teacher knows that was told everything about a student of this mind, up to names."""
    return Knowledge(((PRIORS[0], mind),), style=USUAL_STYLES[0], way=WAYS[0], misconception=next(iter(MISCONCEPTIONS)))


def _cases(
    known: str | None, candidate: str, values: tuple[str, ...], ruled_out: frozenset[str]
) -> list[tuple[float, str | None]]:
    """The candidate is right, or (standing for all the others) another value is."""
    if known is not None:
        return [(1.0, known)]
    others = [value for value in values if value not in ruled_out and value != candidate]
    p = 1.0 / (1 + len(others))
    return [(p, candidate), (1 - p, others[0])] if others else [(1.0, candidate)]


class Planner:
    """Values of information states and acts under optimal play, solved when first asked for."""

    def __init__(self) -> None:
        self._values: dict[tuple[object, ...], float] = {}
        self._best: dict[tuple[object, ...], int] = {}

    def value(self, known: Knowledge) -> float:
        """Probability that the test is passed if play is optimal from here on."""
        if known.over:
            raise ValueError("The lesson is over, so nothing is left to plan; ask before it ends.")
        key = known.key
        if key not in self._values:
            self._solve(known, key)
        return self._values[key]

    def act_value(self, known: Knowledge, act: Act) -> float:
        """Probability that the test is passed after ``act`` now and optimal play afterwards."""
        return self._after(known, act, list(possible_outcomes(known, act)))

    def best(self, known: Knowledge) -> Act:
        """An act of greatest value; of equals, to end the lesson if that is one of them."""
        self.value(known)
        return useful_acts(known)[self._best[known.key]]

    def _solve(self, known: Knowledge, key: tuple[object, ...]) -> None:
        """Branch and bound: no act is looked into that can't be the best."""
        acts = useful_acts(known)
        outcomes = [list(possible_outcomes(known, act)) for act in acts]
        bounds = [1.0 if known.settled else self._if_told_all(each) for each in outcomes]
        best, value = 0, self._after(known, acts[0], outcomes[0])
        for i in sorted(range(1, len(acts)), key=lambda i: -bounds[i]):
            if bounds[i] > value + _EQUAL:
                this = self._after(known, acts[i], outcomes[i])
                if this > value + _EQUAL:
                    best, value = i, this
        self._values[key], self._best[key] = value, best

    def _after(self, known: Knowledge, act: Act, outcomes: Weighed) -> float:
        passed, by_moves = 0.0, dict[tuple[Act, ...], float]()
        for probability, outcome in outcomes:
            if outcome.mind.outcome == "open":
                by_moves[outcome.moves] = by_moves.get(outcome.moves, 0.0) + probability
            elif outcome.mind.outcome == "passed":
                passed += probability
        return passed + sum(p * self.value(learn(known, act, moves)) for moves, p in by_moves.items())

    def _if_told_all(self, outcomes: Weighed) -> float:
        """The value of an act for a teacher that is told all afterwards: at least what it is for this one."""
        passed, by_mind = 0.0, dict[Mind, float]()
        for probability, outcome in outcomes:
            if outcome.mind.outcome == "open":
                by_mind[outcome.mind] = by_mind.get(outcome.mind, 0.0) + probability
            elif outcome.mind.outcome == "passed":
                passed += probability
        return passed + sum(p * self.value(_told_all(mind)) for mind, p in by_mind.items())

    @property
    def states(self) -> int:
        """Information states solved so far, up to renaming."""
        return len(self._values)


class Pleaser:
    """The myopic teacher: the act that pleases the student most in the next exchange, and nothing further."""

    def __init__(self) -> None:
        self._best: dict[tuple[object, ...], int] = {}

    def best(self, known: Knowledge) -> Act:
        acts, key = useful_acts(known), known.key
        if key not in self._best:
            self._best[key] = max(range(len(acts)), key=lambda i: pleasure(known, acts[i]))
        return acts[self._best[key]]


def pleasure(known: Knowledge, act: Act) -> float:
    """Expected satisfaction of the student with the next exchange: all that the myopic teacher looks at."""
    return sum(probability * outcome.satisfaction for probability, outcome in possible_outcomes(known, act))
