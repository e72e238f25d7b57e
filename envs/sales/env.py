"""``parley/Sales-v0``: sell a bicycle to a buyer whose need, budget and worry must be found out.

The agent is a seller in a bicycle shop with six kinds of bicycles in two tiers. The buyer opens; then seller and buyer
take turns, at most eight exchanges. The reward is sparse: when the buyer buys, the price paid over the list price
(discounts lower it), else 0; ``success`` says whether it bought.

Splits. ``train`` and ``iid_test`` share every attribute value and no attribute combination (need × budget × worry ×
patience × style: a fifth of the combinations, balanced in every attribute, is kept for ``iid_test``). ``ood_test`` has
attribute values that training never shows: the ``curt`` style and a patience of 4, and half of its buyers are only
killing time and may leave at any moment (an eighth elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np

from envs.acts import Act
from envs.conversation import Speaker, Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.sales.arbiter import SalesArbiter
from envs.sales.catalogue import BUDGETS, CATALOGUE, NEEDS, OFFERS, WORRIES
from envs.sales.language import buyer_parser, buyer_phrasebook, seller_parser
from envs.sales.person import model_buyer, naive_model_buyer
from envs.sales.program import PATIENCE, Mind, Profile
from envs.sales.users import hybrid_buyer, program_buyer
from envs.users import UserSimulator
from envs.vector import ConversationVectorEnv

HORIZON: Final = 8
IDLE: Final = {"train": 0.125, "iid_test": 0.125, "ood_test": 0.5}
OPENS_WITH_NEED: Final = {"chatty": 0.45, "plain": 0.3, "guarded": 0.1, "curt": 0.2}
_OPEN_STYLES: Final = ("chatty", "plain", "guarded")

AGENT_BRIEF: Final = (
    "You sell bicycles. Find out what the customer needs, offer one bicycle that suits, settle what worries them, and "
    "ask them to buy. A discount lowers what you earn. Stock: "
    + "; ".join(f"{p.name} ({p.need}, {p.tier}, ${p.price})" for p in CATALOGUE)
    + ". The shop's offers: "
    + "; ".join(f"for {worry}, {offer}" for worry, offer in OFFERS.items())
    + ". Say one short sentence at a time."
)


class SalesEnv(ConversationEnv):
    """See the module's docstring. ``user`` is a ``UserSimulator`` whose memory is the buyer's ``Mind``."""

    splits = ("train", "iid_test", "ood_test")

    def __init__(self, user: UserSimulator, *, split: str = "train", max_exchanges: int = HORIZON, **kwargs: Any):
        super().__init__(user, split=split, max_exchanges=max_exchanges, **kwargs)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        profiles = profiles_of(self.split)
        profile = profiles[int(rng.integers(len(profiles)))]
        idle = bool(rng.random() < IDLE[self.split])
        profile = Profile(profile.need, profile.budget, profile.worry, profile.patience, profile.style, idle)
        opening = opening_act(profile, rng)
        words = buyer_phrasebook().say(opening, rng, style=profile.style)
        attributes = {
            "need": profile.need,
            "budget": profile.budget,
            "worry": profile.worry,
            "patience": str(profile.patience),
            "style": profile.style,
            "idle": "yes" if idle else "no",
        }
        key = "/".join(attributes.values())
        return Scenario(AGENT_BRIEF, user_brief(profile), (Turn("user", words),), profile, key, attributes)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [_assess(episode.memory) for episode in episodes]

    def acts_in(self, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]]:
        if speaker == "agent":
            return [(act,) for act in seller_parser().parse(texts)]
        return buyer_parser().parse_moves(texts)

    def arbiter(self) -> SalesArbiter:
        """Who keeps the books when somebody else sits in the buyer's seat."""
        return SalesArbiter()


def _assess(mind: object) -> Assessment:
    if not isinstance(mind, Mind):
        return Assessment(judged=False)
    if mind.outcome == "open":
        return Assessment()
    if mind.outcome == "bought":
        parts = {"price": mind.price, "discounts": float(mind.discounts)}
        return Assessment(mind.price_share, True, True, stop_reason=StopReason.OUTCOME, parts=parts)
    reason = StopReason.AGENT_LEFT if mind.outcome == "sent_away" else StopReason.USER_LEFT
    return Assessment(0.0, True, False, stop_reason=reason, parts={"discounts": float(mind.discounts)})


@cache
def profiles_of(split: str) -> tuple[Profile, ...]:
    """Every attribute combination of a split (all not idle; idleness is drawn apart)."""
    if split == "ood_test":
        return tuple(Profile(n, b, w, p, "curt") for n, b, w, p in product(NEEDS, BUDGETS, WORRIES, (4, *PATIENCE[:2])))
    values: tuple[Sequence[Any], ...] = (NEEDS, BUDGETS, WORRIES, PATIENCE, _OPEN_STYLES)
    combinations = product(*(enumerate(each) for each in values))
    return tuple(
        Profile(need, budget, worry, patience, style)
        for (n, need), (b, budget), (w, worry), (p, patience), (s, style) in combinations
        # A residue of a weighted sum of indices: a fifth of the combinations, spread evenly over each attribute.
        if ((n + 2 * w + 3 * p + b + 4 * s) % 5 == 0) == (split == "iid_test")
    )


def opening_act(profile: Profile, rng: np.random.Generator) -> Act:
    """What the buyer's first words do."""
    if profile.idle:
        return Act("open_idle")
    if rng.random() < OPENS_WITH_NEED[profile.style]:
        return Act("open_need", profile.need)
    return Act("open")


def user_brief(profile: Profile) -> str:
    """The persona in words, for users that are told who they are."""
    budget = "little money: only the basic model is within reach" if profile.budget == "tight" else (
        "plenty of money and no wish for a basic model"
    )  # fmt: skip
    idle = " You are only killing time and may walk away at any moment." if profile.idle else ""
    return (
        f"You want a bicycle for {profile.need}. You have {budget}. What worries you is {profile.worry}. You are "
        f"{profile.style} in manner and put up with about {profile.patience} exchanges before you leave.{idle}"
    )


USERS: Final[Mapping[str, Callable[[], UserSimulator]]] = {
    "program": program_buyer,
    "hybrid": hybrid_buyer,
    "model": model_buyer,
    "naive_model": naive_model_buyer,
}
"""The buyers that can be named in ``gymnasium.make("parley/Sales-v0", user=…)``."""


def make_sales(user: str | UserSimulator = "hybrid", split: str = "train", **kwargs: Any) -> SalesEnv:
    """``parley/Sales-v0``. ``user`` is a name of ``USERS`` or a ``UserSimulator``."""
    if isinstance(user, str):
        if user not in USERS:
            raise ValueError(f"user={user!r} is not a buyer of this world; choose one of {', '.join(USERS)}.")
        user = USERS[user]()
    return SalesEnv(user, split=split, **kwargs)


def make_sales_vec(num_envs: int = 1, autoreset_mode: str = "NextStep", **kwargs: Any) -> ConversationVectorEnv:
    """``parley/Sales-v0`` as a vector environment: one user call for all conversations."""
    return ConversationVectorEnv(make_sales(**kwargs), num_envs, autoreset_mode)
