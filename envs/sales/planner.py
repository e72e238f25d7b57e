"""The best possible seller, computed: exact dynamic programming on the information state.

``Knowledge`` holds all that a seller can know, and the program gives the exact distribution of what comes next, so the
value of every information state and act follows by backward induction over the at most ``horizon`` exchanges. States
with the same future, such as those that differ only in the names of needs and worries, are solved once
(``Knowledge.key``). Acts that can't help in a state (asking what is known, pitching what is ruled out, greeting again)
are left out. The prior is that of the training split: every attribute uniform and independent.

One thing is approximated: the buyer's style, which shifts only how readily it tells things, is averaged over at every
question as if drawn afresh, so the planner expects a little more than can be had. ``value`` of a ``Knowledge`` whose
style is given plans for a seller that is told the style, which bounds the exact optimum from above.
``python -m envs.sales.planner`` prints both.

The same recursion with horizon 1 and the buyer's satisfaction as reward gives the myopic seller: the best possible one
for the next turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from envs.acts import Act
from envs.sales.catalogue import BUDGETS, NEEDS, STYLES, WORRIES
from envs.sales.env import HORIZON, IDLE, OPENS_WITH_NEED
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.program import MAX_DISCOUNTS, Mind, Outcome, Profile, respond

_TOLD_BY_STYLE = ("ask_need", "ask_budget", "ask_worry", "pitch", "close")


def useful_acts(known: Knowledge) -> list[Act]:
    """The acts that may help in this state, most ordinary first."""
    mind, acts = known.mind, []
    fits = known.fit in ("dear", "basic", "full")
    if known.need is None:
        acts.append(Act("ask_need"))
    if known.fit != "full":
        tiers = ("basic", "premium") if known.budget is None else (known.best_tier(),)
        acts += [Act("pitch", known.product(tier)) for tier in tiers]
        if known.budget is None:
            acts.append(Act("ask_budget"))
    if mind.worried and fits:
        acts.append(Act("reassure", known.candidate_worry()))
        if known.worry is None:
            acts.append(Act("ask_worry"))
    if fits:
        acts.append(Act("close"))
    if mind.discounts < MAX_DISCOUNTS:
        acts.append(Act("discount"))
    if not mind.chatted:
        acts.append(Act("small_talk"))
    if not mind.greeted and mind.spent == 0:
        acts.append(Act("greet"))
    return acts


def possible_outcomes(known: Knowledge, act: Act) -> Iterator[tuple[float, Outcome]]:
    """Everything that may follow ``act``, given what is known, with its probability."""
    needs = _cases(known.need, known.candidate_need(), NEEDS, known.not_needs) if act.kind == "pitch" else [(1.0, None)]
    unknown_budget = act.kind in ("pitch", "ask_budget") and known.budget is None
    budgets = [(0.5, b) for b in BUDGETS] if unknown_budget else [(1.0, known.budget or BUDGETS[0])]
    worried = act.kind == "reassure"
    worries = _cases(known.worry, known.candidate_worry(), WORRIES, known.not_worries) if worried else [(1.0, None)]
    styles = STYLES[:3] if known.style is None and act.kind in _TOLD_BY_STYLE else (known.style or STYLES[1],)
    share = 1.0 / (len(known.patience) * len(styles))
    for p_need, need in needs:
        for p_budget, budget in budgets:
            for p_worry, worry in worries:
                for patience, style in product(known.patience, styles):
                    profile = Profile(
                        need or known.candidate_need(), budget, worry or known.candidate_worry(),
                        patience, style, known.idle,
                    )  # fmt: skip
                    for outcome in respond(profile, known.mind, act):
                        yield p_need * p_budget * p_worry * share * outcome.probability, outcome


def _cases(
    known: str | None, candidate: str, values: tuple[str, ...], ruled_out: frozenset[str]
) -> list[tuple[float, str]]:
    """The candidate is right, or (standing for all the others) another value is."""
    if known is not None:
        return [(1.0, known)]
    others = [value for value in values if value not in ruled_out and value != candidate]
    p = 1.0 / (1 + len(others))
    return [(p, candidate), (1 - p, others[0])] if others else [(1.0, candidate)]


def by_answer(outcomes: Iterable[tuple[float, Outcome]]) -> list[tuple[tuple[Act, ...], float, Mind]]:
    """What the buyer may say, how likely that is, and its mind then, which what it says tells (unless it leaves)."""
    shares: dict[tuple[Act, ...], float] = {}
    minds: dict[tuple[Act, ...], Mind] = {}
    for probability, outcome in outcomes:
        shares[outcome.moves] = shares.get(outcome.moves, 0.0) + probability
        minds[outcome.moves] = outcome.mind
    return [(moves, p, minds[moves]) for moves, p in shares.items()]


class Planner:
    """Values of information states and acts under optimal play, solved when first asked for."""

    def __init__(self, horizon: int = HORIZON):
        self.horizon = horizon
        self._values: dict[tuple[object, ...], float] = {}
        self._best: dict[tuple[object, ...], int] = {}

    def value(self, known: Knowledge) -> float:
        """Expected reward (price paid over list price) from here on under optimal play."""
        if known.mind.outcome != "open" or known.exchanges >= self.horizon:
            return 0.0
        key = known.key(self.horizon)
        if key not in self._values:
            self._values[key] = max(self.act_value(known, act) for act in useful_acts(known))
        return self._values[key]

    def act_value(self, known: Knowledge, act: Act) -> float:
        """Expected reward of ``act`` now and optimal play afterwards."""
        answers = by_answer(possible_outcomes(known, act))
        return sum(p * self._afterwards(known, act, moves, mind) for moves, p, mind in answers)

    def _afterwards(self, known: Knowledge, act: Act, moves: tuple[Act, ...], mind: Mind) -> float:
        if moves[0].kind in ("buy", "leave"):
            return mind.price_share if mind.outcome == "bought" else 0.0
        return self.value(learn(known, act, moves, mind))

    def best(self, known: Knowledge) -> Act:
        """An act of greatest value; the first of equals in the order of ``useful_acts``."""
        acts, key = useful_acts(known), known.key(self.horizon)
        if key not in self._best:
            self._best[key] = max(range(len(acts)), key=lambda i: self.act_value(known, acts[i]))
        return acts[self._best[key]]

    @property
    def states(self) -> int:
        """Information states solved so far, as ``Knowledge.key`` tells them apart."""
        return len(self._values)


class Pleaser:
    """The myopic seller: the act that pleases the buyer most in the next exchange, and nothing further."""

    def __init__(self) -> None:
        self._best: dict[tuple[object, ...], int] = {}

    def best(self, known: Knowledge) -> Act:
        acts, key = useful_acts(known), known.key(HORIZON)
        if key not in self._best:
            self._best[key] = max(range(len(acts)), key=lambda i: pleasure(known, acts[i]))
        return acts[self._best[key]]


def pleasure(known: Knowledge, act: Act) -> float:
    """Expected satisfaction of the buyer with the next exchange: all that the myopic seller looks at."""
    return sum(probability * outcome.satisfaction for probability, outcome in possible_outcomes(known, act))


def openings(style: str | None = None) -> list[tuple[float, Knowledge]]:
    """How conversations of the training split begin, with their probabilities (``envs.sales.env``)."""
    told = float(np.mean([OPENS_WITH_NEED[one] for one in ([style] if style else STYLES[:3])]))
    idle = IDLE["train"]
    return [
        ((1 - idle) * (1 - told), begin(Act("open"), style)),
        ((1 - idle) * told, begin(Act("open_need", NEEDS[0]), style)),
        (idle, begin(Act("open_idle"), style)),
    ]


if __name__ == "__main__":
    planner = Planner()
    value, *of_styles = (sum(p * planner.value(known) for p, known in openings(one)) for one in (None, *STYLES[:3]))
    print(f"{value:.4f} expected in the training split, averaging over style; told the style {np.mean(of_styles):.4f}")
