"""The bicycle shop's books, when the buyer's words are somebody else's (``envs.two_seats``).

The buyer's mind is then not the program's but the speaker's own, and what it says decides: nothing is sold until it
says that it buys. What is for sale at which price is still the ledger's (``Mind``), which follows the seller's acts:
the product that was pitched last, less ``DISCOUNT`` for each discount, of which no more than ``MAX_DISCOUNTS`` count.

- The buyer buys: the conversation is over and the seller earns the price share, as ever. Without a product pitched
  there is nothing to buy, and a buyer that names another price than the ledger's has made an offer, not a purchase:
  both change nothing.
- The buyer takes its leave, or the seller does: over, and nothing is earned.
- All else, words that are not understood included: the conversation goes on, until the exchanges are used up.

Patience, trust and idleness are the buyer's own business; its brief tells it to have them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

from envs.acts import Act
from envs.env import Assessment, Episode
from envs.sales.language import buyer_parser, seller_parser
from envs.sales.program import MAX_DISCOUNTS, Mind, fit
from envs.two_seats import Arbiter

_PRICE: Final = re.compile(r"\$\d+")
_CLOSE_ENOUGH: Final = 1.0
"""Dollars by which a price named may differ from the ledger's: one says whole dollars."""


class SalesArbiter(Arbiter):
    """See the module's docstring.

    The buyer's payoff is 1 for a bicycle that suits its need and budget, −1 for one that does not, 0 for none.
    """

    def heard(self, episodes: Sequence[Episode]) -> list[object]:
        acts = seller_parser().parse([episode.turns[-2].text for episode in episodes])
        moves = buyer_parser().parse_moves([episode.turns[-1].text for episode in episodes])
        return [_entered(*each) for each in zip(episodes, acts, moves, strict=True)]

    def payoff(self, episode: Episode, assessment: Assessment) -> float:
        mind = episode.memory
        if not isinstance(mind, Mind) or mind.outcome != "bought":
            return 0.0
        return 1.0 if fit(episode.scenario.facts, mind.shown) == "full" else -1.0


def _entered(episode: Episode, act: Act, moves: tuple[Act, ...]) -> Mind:
    """The ledger after the seller did ``act`` and the buyer, in the episode's last turn, ``moves``."""
    mind = booked(episode.memory if isinstance(episode.memory, Mind) else Mind(), act)
    if mind.outcome != "open":
        return mind
    if Act("buy") in moves and mind.shown is not None and agreed(episode.turns[-1].text, mind.price):
        return replace(mind, outcome="bought")
    return replace(mind, outcome="left") if Act("leave") in moves else mind


Books = TypeVar("Books", bound=Mind)


def booked(mind: Books, act: Act) -> Books:
    """The ledger after the seller did ``act``: what is offered, and at which discount."""
    if act.kind == "goodbye":
        return replace(mind, outcome="sent_away")
    if act.kind == "pitch":
        return replace(mind, shown=act.about)
    if act.kind == "discount":
        return replace(mind, discounts=min(MAX_DISCOUNTS, mind.discounts + 1))
    return mind


def agreed(words: str, price: float) -> bool:
    """Whether every price named is the ledger's."""
    return all(abs(float(named[1:]) - price) < _CLOSE_ENOUGH for named in _PRICE.findall(words))
