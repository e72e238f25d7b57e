"""``parley/CarDealer-v0``: sell a car to a buyer who haggles, and whose wishes and budget must be found out.

After LMRL-Gym's Car Dealer (arXiv 2311.18232; the comparison of preferences with rewards in MTPO, arXiv 2405.14655, is
made there). The agent is the dealer. Each buyer has the attributes of LMRL-Gym, hidden from the dealer: one of ten
personalities, the brand (of 13), type (of 6) and features (1 to 4 of 8) that it prefers, and a budget of 10, 30, 50, 70
or 90 thousand dollars. The buyer opens; then dealer and buyer take turns until the buyer decides, at the latest after
ten exchanges (fewer with shorter tempers). Its decision is a line ``Output: Decision=…`` of the user's side that is
stripped from what the dealer sees.

The reward is sparse, at the end alone, and one of LMRL-Gym's two (``reward``):

- ``revenue``: the price paid, in units of 100 000 dollars (LMRL-Gym: 1000), else 0;
- ``fancy``: price / ((budget + MSRP) / 2) for a sale, else min(0, −(budget − MSRP) / MSRP). LMRL-Gym has no ``min``:
  there, being rejected at an MSRP above the budget pays. ``envs.car_dealer.rewards`` has both in full.

What differs from LMRL-Gym besides: the buyer's mind is a program with known probabilities and not a fine-tuned language
model; MSRP and price are the ledger's and not read off what was said; the buyer speaks first, as in Parley's other
worlds; a conversation is shorter, one act an utterance; and the buyer that is out of patience rejects, where LMRL-Gym
asks its buyer again for a decision after 50 lines.

``success`` says whether the car was bought. ``Assessment.parts`` of a decided conversation: ``msrp`` (dollars) and
``discounts`` once a price was named, and of a sale ``price`` (dollars) and ``budget_share``, the price over the budget.

Splits. ``train`` and ``iid_test`` share every attribute value and no combination of personality, brand, type and
budget: a fifth of the combinations, balanced in every attribute, is kept for ``iid_test``; features are drawn apart.
``ood_test`` has personalities that training never shows, ``toxic`` and ``uncommunicative``: one of the hot temperament
and one of the cool, which tell less, each with its own manner of speaking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np

from envs.acts import Act
from envs.car_dealer.catalogue import (
    BRANDS,
    BUDGETS,
    FEATURES,
    MOST_FEATURES,
    MSRPS,
    PERSONALITIES,
    TYPES,
    UNSEEN_PERSONALITIES,
)
from envs.car_dealer.language import buyer_parser, buyer_phrasebook, dealer_parser
from envs.car_dealer.program import HORIZON, Mind, Profile
from envs.car_dealer.rewards import REWARDS, Reward
from envs.car_dealer.users import program_buyer
from envs.conversation import Speaker, Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.users import UserSimulator
from envs.vector import ConversationVectorEnv

_OPENS_WITH: Final = {"warm": (0.4, 0.2), "cool": (0.15, 0.1), "hot": (0.25, 0.15)}
"""Probability that the first words tell the type, or else the brand, by temperament."""

AGENT_BRIEF: Final = (
    "You sell cars. Find out what type of car, brand and features the customer wants and what they can spend, show "
    "them the car, name its price, and ask them to buy before they lose patience. A discount lowers what you earn. "
    f"Types: {', '.join(TYPES)}. Brands: {', '.join(BRANDS)}. A car may have {', '.join(FEATURES.values())}. Every "
    f"car comes in trims for {', '.join(f'${1000 * msrp:,}' for msrp in MSRPS)}. Say one short sentence at a time."
)


class CarDealerEnv(ConversationEnv):
    """See the module's docstring. ``user`` is a ``UserSimulator`` whose memory is the buyer's ``Mind``.

    Args:
        reward: what a conversation is worth, ``revenue`` or ``fancy``.
    """

    splits = ("train", "iid_test", "ood_test")

    def __init__(
        self,
        user: UserSimulator,
        *,
        reward: str = "revenue",
        split: str = "train",
        max_exchanges: int = HORIZON,
        **kwargs: Any,
    ):
        if reward not in REWARDS:
            raise ValueError(f"reward={reward!r} is not a reward of this world; choose one of {', '.join(REWARDS)}.")
        super().__init__(user, split=split, max_exchanges=max_exchanges, **kwargs)
        self.reward = reward

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        profile = sample_profile(self.split, rng)
        opening = opening_act(profile, rng)
        words = buyer_phrasebook().say(opening, rng, style=profile.personality)
        attributes = {
            "personality": profile.personality,
            "brand": profile.brand,
            "type": profile.type,
            "features": "+".join(profile.features),
            "budget": str(profile.budget),
        }
        key = "/".join(attributes.values())
        return Scenario(AGENT_BRIEF, user_brief(profile), (Turn("user", words),), profile, key, attributes)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        reward = REWARDS[self.reward]
        return [_assess(episode.scenario.facts, episode.memory, reward) for episode in episodes]

    def acts_in(self, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]]:
        if speaker == "agent":
            return [(act,) for act in dealer_parser().parse(texts)]
        return buyer_parser().parse_moves(texts)


def _assess(profile: Profile, mind: object, reward: Reward) -> Assessment:
    if not isinstance(mind, Mind):
        return Assessment(judged=False)
    if mind.outcome == "open":
        return Assessment()
    earned, parts = reward(profile, mind), _parts(profile, mind)
    if mind.outcome == "bought":
        return Assessment(earned, True, True, stop_reason=StopReason.OUTCOME, parts=parts)
    reason = StopReason.AGENT_LEFT if mind.outcome == "sent_away" else StopReason.USER_LEFT
    return Assessment(earned, True, False, stop_reason=reason, parts=parts)


def _parts(profile: Profile, mind: Mind) -> dict[str, float]:
    if mind.quoted is None:
        return {}
    parts = {"msrp": float(mind.msrp), "discounts": float(mind.discounts)}
    if mind.outcome != "bought":
        return parts
    return {**parts, "price": float(mind.price), "budget_share": mind.price / (1000 * profile.budget)}


@cache
def combinations_of(split: str) -> tuple[tuple[str, str, str, int], ...]:
    """Every personality, brand, type and budget of a split."""
    if split == "ood_test":
        return tuple(product(UNSEEN_PERSONALITIES, BRANDS, TYPES, BUDGETS))
    usual = [one for one in PERSONALITIES if one not in UNSEEN_PERSONALITIES]
    values: tuple[Sequence[Any], ...] = (usual, BRANDS, TYPES, BUDGETS)
    return tuple(
        (personality, brand, kind, budget)
        for (p, personality), (b, brand), (t, kind), (u, budget) in product(*(enumerate(each) for each in values))
        # A residue of a weighted sum of indices: of any three values given, exactly one budget is kept for the test.
        if ((p + 2 * b + 3 * t + u) % 5 == 0) == (split == "iid_test")
    )


def sample_profile(split: str, rng: np.random.Generator) -> Profile:
    """A buyer of a split: its combination uniform, then the number of features it wants, then which, in which order."""
    combinations = combinations_of(split)
    personality, brand, kind, budget = combinations[int(rng.integers(len(combinations)))]
    features = rng.permutation(list(FEATURES))[: int(rng.integers(1, MOST_FEATURES + 1))]
    return Profile(personality, brand, kind, tuple(str(one) for one in features), budget)


def opening_act(profile: Profile, rng: np.random.Generator) -> Act:
    """What the buyer's first words do."""
    with_type, with_brand = _OPENS_WITH[profile.temperament]
    u = rng.random()
    if u < with_type:
        return Act("open_type", profile.type)
    return Act("open_brand", profile.brand) if u < with_type + with_brand else Act("open")


def user_brief(profile: Profile) -> str:
    """The persona in words, for users that are told who they are."""
    features = ", ".join(FEATURES[one] for one in profile.features)
    return (
        f"You want to buy a car: a {profile.brand}, of the type {profile.type}, with {features}. You can spend "
        f"${1000 * profile.budget:,}, but you would rather spend less, and you haggle. Your manner is "
        f"{profile.personality}. If the dealer annoys you or wastes your time, you walk away."
    )


USERS: Final[Mapping[str, Callable[[], UserSimulator]]] = {"program": program_buyer}
"""The buyers that can be named in ``gymnasium.make("parley/CarDealer-v0", user=…)``."""


def make_car_dealer(user: str | UserSimulator = "program", split: str = "train", **kwargs: Any) -> CarDealerEnv:
    """``parley/CarDealer-v0``. ``user`` is a name of ``USERS`` or a ``UserSimulator``."""
    if isinstance(user, str):
        if user not in USERS:
            raise ValueError(f"user={user!r} is not a buyer of this world; choose one of {', '.join(USERS)}.")
        user = USERS[user]()
    return CarDealerEnv(user, split=split, **kwargs)


def make_car_dealer_vec(num_envs: int = 1, autoreset_mode: str = "NextStep", **kwargs: Any) -> ConversationVectorEnv:
    """``parley/CarDealer-v0`` as a vector environment: one user call for all conversations."""
    return ConversationVectorEnv(make_car_dealer(**kwargs), num_envs, autoreset_mode)
