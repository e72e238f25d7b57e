"""What a conversation at the car dealer's is worth: the two definitions of LMRL-Gym, one of them mended.

LMRL-Gym (arXiv 2311.18232; ``compute_reward`` of its ``llm_rl_scripts/car_dealer/env/data.py``), in dollars::

    revenue   accepted: price / 1000                          rejected: 0
    fancy     accepted: price / ((budget + MSRP) / 2)         rejected: -(budget - MSRP) / MSRP

Here:

- ``revenue`` is divided by 100 000 dollars instead of 1000, so that returns lie in [0, 1): the dearest car of the house
  costs 99 000. Nothing else is changed; 100 times the return is LMRL-Gym's.
- ``fancy`` is LMRL-Gym's but for one case. There, rejecting a car whose MSRP exceeds the budget *pays*: with a budget
  of 10 000 and an MSRP of 99 000 a rejection earns +.90, nearly as much as the best sale, so naming the dearest price
  and being turned away is a good policy. Here that case is worth 0, as a rejection at an MSRP equal to the budget is:
  rejected: min(0, -(budget - MSRP) / MSRP). A car below the budget that is rejected costs what it costs there, down to
  -(90 - 11) / 11 = -7.2.

A conversation in which no price was named has no MSRP and is worth 0 by both (LMRL-Gym's MSRP of 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from envs.car_dealer.program import Mind, Profile

Reward = Callable[[Profile, Mind], float]

REVENUE_UNIT: Final = 100_000
"""Dollars of revenue that are worth a return of 1."""


def revenue(profile: Profile, mind: Mind) -> float:
    """The price paid, in units of ``REVENUE_UNIT``; 0 where nothing was bought."""
    return mind.price / REVENUE_UNIT if mind.outcome == "bought" else 0.0


def fancy(profile: Profile, mind: Mind) -> float:
    """The price paid over the mean of budget and MSRP; for a rejection by how much the budget exceeds the MSRP, as a
    share of the MSRP, negative, and never more than 0."""
    if mind.quoted is None:
        return 0.0
    budget = 1000 * profile.budget
    if mind.outcome == "bought":
        return mind.price / ((budget + mind.msrp) / 2)
    return min(0.0, -(budget - mind.msrp) / mind.msrp)


REWARDS: Final[Mapping[str, Reward]] = {"revenue": revenue, "fancy": fancy}
