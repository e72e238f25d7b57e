"""The best suggestions for the bicycle shop, computed: dynamic programming through the business.

The state is what can be known of the buyer (``envs.sales.knowledge``) and how far the business trusts. Of a business
whose attributes are known, the value of every state and suggestion follows exactly, by backward induction over the
exchanges: from the probabilities of the four modes, from what the business writes by itself (exact too, see
``envs.suggested_response.sending``), and from the buyer's program. Auto-reply is one more business, that sends all.

What approximates: ``value`` is that of an adviser who is told who the business is, and bounds from above what one can
get who has to find out. ``envs.suggested_response.advisers`` finds out: it weighs these values by its belief. And as in
``envs.sales.planner`` the buyer's style is averaged over instead of inferred.

    python -m envs.suggested_response.planner     # which optimum holds where; a few minutes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from envs.acts import Act
from envs.sales.catalogue import BUDGETS, NEEDS, PRODUCTS, SELLER_ACTS, STYLES, WORRIES
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.planner import HORIZON
from envs.sales.program import Outcome, Profile, respond
from envs.suggested_response.business import (
    HABITS,
    MAX_TRUST,
    MODES,
    START_TRUST,
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
    share = 1.0 / (len(known.patience) * len(styles))
    for (p_need, need), (p_budget, budget), (p_worry, worry) in product(needs, budgets, worries):
        for patience, style in product(known.patience, styles):
            profile = Profile(
                need or known.candidate_need(), budget, worry or known.candidate_worry(), patience, style, known.idle
            )
            for outcome in respond(profile, known.mind, act):
                yield p_need * p_budget * p_worry * share * outcome.probability, outcome


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
        need = PRODUCTS[act.about].need
        return act.kind, PRODUCTS[act.about].tier, need == known.need, need in known.not_needs
    if act.kind == "reassure":
        return act.kind, act.about == known.worry, act.about in known.not_worries
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
        follow: a fixed choice of what to suggest, whose value is then computed; None: the best for each business.
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

    def value(self, known: Knowledge) -> Floats:
        """[B, T] expected reward from here on, by business and trust."""
        if known.mind.outcome != "open" or known.exchanges >= HORIZON:
            return np.zeros((len(self.businesses), MAX_TRUST + 1))
        key = known.key
        if key not in self._values:
            acts = None if self.follow is None else [self.follow(known)]
            self._values[key] = np.max(list(self.act_values(known, acts).values()), axis=0)
        return self._values[key]

    def act_values(self, known: Knowledge, acts: Sequence[Suggested] | None = None) -> dict[Suggested, Floats]:
        """[B, T] what each suggestion is worth, if all later ones are as they should be; one act of every sort and
        abstaining, if ``acts`` do not say which."""
        state = _State(self, known)
        if acts is None:
            acts = [*{sort_of(known, act): act for act in reversed(SUGGESTIBLE)}.values(), None]
        return {act: state.worth(act) for act in acts}

    @property
    def states(self) -> int:
        """Information states solved so far, up to renaming."""
        return len(self._values)


class _State:
    """One information state, while its suggestions are valued."""

    def __init__(self, planner: Planner, known: Knowledge):
        self.planner, self.known, self.businesses = planner, known, planner.businesses
        self.own = own_acts(planner.speaker, known)
        self._after: dict[tuple[object, ...], list[tuple[After, Floats]]] = {}
        self._sent: dict[tuple[object, ...], Floats] = {}

    def worth(self, suggested: Suggested) -> Floats:
        """[B, T] the expected reward after a suggestion."""
        chances = self.businesses.modes(suggested)
        worth: Floats = chances["ignored"] * (1 - self.businesses.silent) * self._mean(self.own, suggested)
        if suggested is not None:
            drift = world().drift(suggested)
            worth = worth + (chances["verbatim"] + chances["edited"]) * self._sending(suggested, suggested)
            worth = worth + chances["influenced"] * self._mean(dict.fromkeys(drift, 1 / len(drift)), suggested)
        return worth

    def _mean(self, acts: Mapping[Act, float], suggested: Suggested) -> Floats:
        return np.sum([p * self._sending(act, suggested) for act, p in acts.items()], axis=0)

    def _sending(self, sent: Act, suggested: Suggested) -> Floats:
        """[B, T] the expected reward once ``sent`` was sent after ``suggested``."""
        sort = sort_of(self.known, sent)
        annoys = None if suggested is None else suggested.kind  # all else of a suggestion is in whether it was done
        key = sort, sent == suggested, annoys
        if key not in self._sent:
            total = np.zeros((len(self.businesses), MAX_TRUST + 1))
            for after, value in self._afterwards(sent, sort):
                trust = self.businesses.trust_after(suggested, sent == suggested, after.welcome)
                total += after.probability * (after.gain + value[self.businesses.rows, trust])
            self._sent[key] = total
        return self._sent[key]

    def _afterwards(self, sent: Act, sort: tuple[object, ...]) -> list[tuple[After, Floats]]:
        """What may follow, and its value by the trust that there is then."""
        if sort not in self._after:
            nothing = np.zeros((len(self.businesses), MAX_TRUST + 1))
            self._after[sort] = [
                (after, nothing if after.known is None else self.planner.value(after.known))
                for after in afterwards(self.known, sent, self.planner.reward)
            ]
        return self._after[sort]


def afterwards(known: Knowledge, sent: Act, reward: str) -> list[After]:
    """What may follow, by what the buyer says."""
    by_moves: dict[tuple[Act, ...], list[float]] = {}
    for probability, outcome in possible_outcomes(known, sent):
        bought = outcome.mind.outcome == "bought"
        gain = (outcome.mind.price_share if reward == "world" else 1.0) if bought else 0.0
        by_moves.setdefault(outcome.moves, [0.0, gain])[0] += probability
    return [
        After(p, gain, world().welcomed(moves), None if _over(moves) else learn(known, sent, moves))
        for moves, (p, gain) in by_moves.items()
        if p > 0
    ]


def _over(moves: Sequence[Act]) -> bool:
    return moves[0].kind in ("buy", "leave")


def openings() -> list[tuple[float, Knowledge]]:
    """How conversations of the training split begin, with their probabilities (``envs.sales.env``)."""
    from envs.sales.env import _OPENS_WITH_NEED, IDLE

    told = float(np.mean([_OPENS_WITH_NEED[style] for style in STYLES[:3]]))
    idle = IDLE["train"]
    return [
        ((1 - idle) * (1 - told), begin(Act("open"))),
        ((1 - idle) * told, begin(Act("open_need", NEEDS[0]))),
        (idle, begin(Act("open_idle"))),
    ]


def training_businesses() -> list[Business]:
    """All that training may show, equally likely."""
    from envs.suggested_response.env import UNSEEN_HABITS

    return [Business(habit, dislike) for habit in HABITS if habit not in UNSEEN_HABITS for dislike in world().dislikes]


def at_the_start(planner: Planner) -> Floats:
    """[B] the mean value of a conversation, by business."""
    return np.sum([p * planner.value(known)[:, START_TRUST] for p, known in openings()], axis=0)
