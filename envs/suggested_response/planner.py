"""The best suggestions for the bicycle shop, computed: dynamic programming through the business.

The state is what can be known of the buyer (``envs.sales.knowledge``) and how far the business trusts. Of a business
whose attributes are known, the value of every state and suggestion follows exactly, by backward induction over the
exchanges: from the probabilities of the four modes, from what the business writes by itself (exact too, see
``envs.suggested_response.sending``), and from the buyer's program. Auto-reply is one more business, that sends all.

What approximates: ``value`` is that of an adviser who is told who the business is, and bounds from above what one can
get who has to find out. ``envs.suggested_response.advisers`` finds out: it weighs these values by its belief. And as in
``envs.sales.planner`` the buyer's style is averaged over instead of inferred.

``python -m envs.suggested_response.comparison`` prints which optimum holds where.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from envs.acts import Act
from envs.sales.catalogue import BUDGETS, NEEDS, PRODUCTS, SELLER_ACTS, STYLES, WORRIES
from envs.sales.env import HORIZON
from envs.sales.knowledge import Knowledge, learn
from envs.sales.planner import by_answer, openings
from envs.sales.program import DEAREST, HURRY_AT, Mind, Outcome, Profile, respond
from envs.suggested_response.business import (
    HABITS,
    MAX_TRUST,
    MODES,
    START_TRUST,
    UNSEEN_HABITS,
    Business,
    Mode,
    modes,
    trust_after,
)
from envs.suggested_response.sales import world
from envs.suggested_response.sending import own_acts

Floats = npt.NDArray[np.float64]
Suggested = Act | None
"""What a suggestion does; None abstains."""
SUGGESTIBLE: Final = tuple(act for act in SELLER_ACTS if act.kind != "goodbye")
_TOLD_BY_STYLE: Final = ("ask_need", "ask_budget", "ask_worry", "pitch", "close")
_TRUSTS: Final = range(MAX_TRUST + 1)


@dataclass(frozen=True, slots=True)
class After:
    """One thing that may follow what was sent."""

    probability: float
    gain: float
    welcome: int
    """How the buyer took it: 1, 0 or -1."""
    known: Knowledge | None
    """What is known then; None when it is over."""


def possible_outcomes(known: Knowledge, act: Act) -> Iterator[tuple[float, Outcome]]:
    """Everything that may follow any act, sensible or not, given what is known, with its probability."""
    needs = worries = _ANY
    if act.kind == "pitch" and act.about:
        needs = _cases(known.need, PRODUCTS[act.about].need, NEEDS, known.not_needs)
    if act.kind == "reassure" and act.about:
        worries = _cases(known.worry, act.about, WORRIES, known.not_worries)
    unknown_budget = act.kind in ("pitch", "ask_budget") and known.budget is None
    budgets = [(0.5, b) for b in BUDGETS] if unknown_budget else [(1.0, known.budget or BUDGETS[0])]
    styles = STYLES[:3] if act.kind in _TOLD_BY_STYLE else STYLES[1:2]
    for (p_need, need), (p_budget, budget), (p_worry, worry) in product(needs, budgets, worries):
        for (p_patience, patience), style in product(_patiences(known), styles):
            profile = Profile(
                need or known.candidate_need(), budget, worry or known.candidate_worry(), patience, style, known.idle
            )
            for outcome in respond(profile, known.mind, act):
                yield p_need * p_budget * p_worry * p_patience / len(styles) * outcome.probability, outcome


def _patiences(known: Knowledge) -> list[tuple[float, int]]:
    """How patient the buyer may be, with probabilities; where the next exchange makes no difference, as one.

    It makes one if patience may run out in it, or come so low that the buyer says so.
    """
    ample = known.mind.spent + DEAREST + (0 if known.mind.hurried else HURRY_AT) + 1
    shares: dict[int, float] = {}
    for patience in known.patience:
        alike = min(patience, ample)
        shares[alike] = shares.get(alike, 0.0) + 1 / len(known.patience)
    return [(share, patience) for patience, share in shares.items()]


_ANY: list[tuple[float, str | None]] = [(1.0, None)]
"""Where it makes no difference."""


def _cases(
    known: str | None, named: str, values: Sequence[str], ruled_out: frozenset[str]
) -> list[tuple[float, str | None]]:
    """What was named is right, or (standing for all the others) another value is."""
    if known is not None:
        return [(1.0, known)]
    others = [value for value in values if value not in ruled_out and value != named]
    if named in ruled_out:
        return [(1.0, others[0])]
    p = 1.0 / (1 + len(others))
    return [(p, named), (1 - p, others[0])] if others else [(1.0, named)]


def sort_of(known: Knowledge, act: Act) -> tuple[object, ...]:
    """Equal for acts between which what is known makes no difference, such as pitches for needs never mentioned."""
    if act.kind == "pitch" and act.about:
        need, unknown = PRODUCTS[act.about].need, known.need is None
        return act.kind, PRODUCTS[act.about].tier, need == known.need, unknown and need in known.not_needs
    if act.kind == "reassure" and known.mind.worried:
        return act.kind, act.about == known.worry, known.worry is None and act.about in known.not_worries
    return (act.kind,)


class Businesses:
    """Businesses side by side, [B], and what they do at every trust, [B, T]."""

    def __init__(self, of: Sequence[Business | None]):
        """``of``: who they are; None is auto-reply, at which abstaining has no value here."""
        self.of = tuple(of)
        self.silent = np.array([[0.0 if one is None else HABITS[one.habit].silent] for one in self.of])  # [B, 1]
        self._modes: dict[Suggested, dict[Mode, Floats]] = {}
        self._trust: dict[tuple[Suggested, bool, int], npt.NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.of)

    def modes(self, suggested: Suggested) -> dict[Mode, Floats]:
        """The probability of each mode, [B, T]."""
        if suggested not in self._modes:
            chances = [[self._chances(one, trust, suggested) for trust in _TRUSTS] for one in self.of]
            self._modes[suggested] = {mode: np.array([[c[mode] for c in row] for row in chances]) for mode in MODES}
        return self._modes[suggested]

    def _chances(self, one: Business | None, trust: int, suggested: Suggested) -> dict[Mode, float]:
        if one is None:
            return {mode: float(mode == "verbatim") for mode in MODES}
        return modes(one, trust, world().suggestion(suggested, one.dislikes))

    def trust_after(self, suggested: Suggested, done: bool, welcome: int) -> npt.NDArray[np.int64]:
        """[B, T] the trust after an exchange."""
        key = suggested, done, welcome
        if key not in self._trust:
            self._trust[key] = np.array([[self._after(one, t, *key) for t in _TRUSTS] for one in self.of])
        return self._trust[key]

    def _after(self, one: Business | None, trust: int, suggested: Suggested, done: bool, welcome: int) -> int:
        suggestion = world().suggestion(suggested, one.dislikes if one else next(iter(world().dislikes)))
        return trust_after(trust, suggestion, done, welcome) if one else trust

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """[B, 1] for picking a trust in every row."""
        return np.arange(len(self.of))[:, None]


class Planner:
    """Values of states and suggestions, solved when first asked for.

    Args:
        businesses: whom it plans for, each as if it were told that it is this one.
        reward: ``outcome``: 1 for a sale; ``world``: the price share.
        follow: a fixed choice of what to suggest, whose value is then computed; None: the best for each business. Like
            what the business does by itself, it must be the same wherever ``Knowledge.key`` is.
    """

    def __init__(
        self,
        businesses: Businesses,
        reward: Literal["outcome", "world"] = "outcome",
        follow: Callable[[Knowledge], Suggested] | None = None,
    ):
        self.businesses, self.reward, self.follow = businesses, reward, follow
        self.speaker = world().speaker(world().skill)
        self._values: dict[tuple[object, ...], Floats] = {}
        self._best: dict[tuple[object, ...], npt.NDArray[np.int64]] = {}

    def value(self, known: Knowledge) -> Floats:
        """[B, T] expected reward from here on, by business and trust."""
        if known.mind.outcome != "open" or known.exchanges >= HORIZON:
            return np.zeros((len(self.businesses), MAX_TRUST + 1))
        key = known.key(HORIZON)
        if key not in self._values:
            suggestions = sensible(known) if self.follow is None else [self.follow(known)]
            values = np.stack(list(self.act_values(known, suggestions).values()))  # [A, B, T]
            self._values[key], self._best[key] = values.max(0), values.argmax(0)
        return self._values[key]

    def act_values(self, known: Knowledge, suggestions: Sequence[Suggested]) -> dict[Suggested, Floats]:
        """[B, T] what each suggestion is worth, if all later ones are as they should be."""
        state = _State(self, known)
        return {suggested: state.worth(suggested) for suggested in suggestions}

    def best(self, known: Knowledge, business: int, trust: int) -> Suggested:
        """What is worth most for the business in that place, if it is known; the first of equals of ``sensible``."""
        self.value(known)
        return sensible(known)[self._best[known.key(HORIZON)][business, trust]]

    @property
    def states(self) -> int:
        """Information states solved so far, as ``Knowledge.key`` tells them apart."""
        return len(self._values)


def sensible(known: Knowledge) -> list[Suggested]:
    """One act of every sort, and to abstain, in an order that names of needs and worries do not change."""
    sorts = {sort_of(known, act): act for act in reversed(SUGGESTIBLE)}
    return [*(sorts[sort] for sort in sorted(sorts, key=repr)), None]


class _State:
    """One information state, while its suggestions are valued."""

    def __init__(self, planner: Planner, known: Knowledge):
        self.planner, self.known, self.businesses = planner, known, planner.businesses
        self._sent: dict[tuple[object, ...], _Sent] = {}
        self.own = own_acts(planner.speaker, known)
        self.by_itself = self._mean(self.own)

    def worth(self, suggested: Suggested) -> Floats:
        """[B, T] the expected reward after a suggestion."""
        chances = self.businesses.modes(suggested)
        ignored = chances["ignored"] * (1 - self.businesses.silent)
        annoyed = self.businesses.trust_after(suggested, False, 0)
        worth: Floats = ignored * self.by_itself[self.businesses.rows, annoyed]
        if suggested is None:
            return worth
        drift = world().drift(suggested)
        worth += chances["influenced"] * self._mean(dict.fromkeys(drift, 1 / len(drift)))[self.businesses.rows, annoyed]
        sent = self._sending(suggested)
        done = sent.done(suggested)
        worth += (chances["verbatim"] + chances["edited"]) * done
        # What the business writes instead may be what was suggested all the same; then it is the adviser's merit.
        by_chance = ignored * self.own.get(suggested, 0.0) + chances["influenced"] / len(drift)
        return worth + by_chance * (done - sent.undone[self.businesses.rows, annoyed])

    def _mean(self, acts: Mapping[Act, float]) -> Floats:
        """[B, T] the expected reward, by the trust that there is then, if one of the acts is sent."""
        shares: dict[tuple[object, ...], float] = {}
        of_sort = {sort_of(self.known, act): act for act in acts}
        for act, p in acts.items():
            sort = sort_of(self.known, act)
            shares[sort] = shares.get(sort, 0.0) + p
        return _total(p * self._sending(of_sort[sort]).undone for sort, p in shares.items())

    def _sending(self, act: Act) -> _Sent:
        sort = sort_of(self.known, act)
        if sort not in self._sent:
            self._sent[sort] = _Sent(self.planner, self.known, act)
        return self._sent[sort]


class _Sent:
    """What an act is worth once it is sent."""

    def __init__(self, planner: Planner, known: Knowledge, act: Act):
        self.businesses = planner.businesses
        nothing = np.zeros((len(self.businesses), MAX_TRUST + 1))
        self.by_welcome: dict[int, Floats] = {}
        """[B, T] what it adds, by how the buyer takes it and by the trust that there is then."""
        for after in afterwards(known, act, planner.reward):
            value = after.gain + (nothing if after.known is None else planner.value(after.known))
            self.by_welcome[after.welcome] = self.by_welcome.get(after.welcome, nothing) + after.probability * value
        self.undone: Floats = _total(self.by_welcome.values())
        """[B, T] by the trust that there is then, if it is not what was suggested."""

    def done(self, suggested: Suggested) -> Floats:
        """[B, T] by the trust before, if it is what was suggested."""
        return _total(
            value[self.businesses.rows, self.businesses.trust_after(suggested, True, welcome)]
            for welcome, value in self.by_welcome.items()
        )


def _total(values: Iterable[Floats]) -> Floats:
    """[B, T] the sum; for a few small arrays faster than numpy's."""
    return reduce(operator.add, values)


def afterwards(known: Knowledge, sent: Act, reward: str) -> list[After]:
    """What may follow, by what the buyer says."""
    return [
        After(
            p, _gain(mind, reward), world().welcomed(moves), None if _over(moves) else learn(known, sent, moves, mind)
        )
        for moves, p, mind in by_answer(possible_outcomes(known, sent))
        if p > 0
    ]


def _gain(mind: Mind, reward: str) -> float:
    if mind.outcome != "bought":
        return 0.0
    return mind.price_share if reward == "world" else 1.0


def _over(moves: Sequence[Act]) -> bool:
    return moves[0].kind in ("buy", "leave")


def training_businesses() -> list[Business]:
    """All that training may show, equally likely."""
    return [Business(habit, dislike) for habit in HABITS if habit not in UNSEEN_HABITS for dislike in world().dislikes]


def at_the_start(planner: Planner) -> Floats:
    """[B] the mean value of a conversation, by business."""
    return np.sum([p * planner.value(known)[:, START_TRUST] for p, known in openings()], axis=0)
