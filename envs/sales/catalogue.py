"""The bicycle shop: what people need, what worries them, what is on sale, and the names of everything said there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envs.acts import Act

NEEDS: Final = ("commute", "touring", "trail", "racing", "cargo", "folding")
"""What the bicycle is for."""
TIERS: Final = ("basic", "premium")
BUDGETS: Final = ("tight", "ample")
"""A tight budget wants the basic bicycle of its kind, an ample one the premium bicycle."""
WORRIES: Final = ("theft", "upkeep", "comfort", "durability")
"""What holds the buyer back once a bicycle fits. Each is answered by one thing the shop offers (``OFFERS``)."""
OFFERS: Final = {
    "theft": "a heavy lock and theft insurance come with it",
    "upkeep": "the shop does free tune-ups and repairs",
    "comfort": "the shop fits saddle and handlebar to the rider, with a test ride",
    "durability": "frame and parts carry a ten-year warranty",
}
STYLES: Final = ("chatty", "plain", "guarded", "curt")
"""How the buyer talks. ``curt`` occurs only in the out-of-distribution split."""


@dataclass(frozen=True, slots=True)
class Product:
    name: str
    need: str
    tier: str
    price: int
    """List price in dollars."""


CATALOGUE: Final = (
    Product("Metro", "commute", "basic", 480),
    Product("Avenue", "commute", "premium", 940),
    Product("Nomad", "touring", "basic", 620),
    Product("Odyssey", "touring", "premium", 1280),
    Product("Ridge", "trail", "basic", 590),
    Product("Summit", "trail", "premium", 1340),
    Product("Dash", "racing", "basic", 680),
    Product("Falcon", "racing", "premium", 1460),
    Product("Mule", "cargo", "basic", 740),
    Product("Caravan", "cargo", "premium", 1520),
    Product("Pocket", "folding", "basic", 450),
    Product("Origami", "folding", "premium", 980),
)
PRODUCTS: Final = {product.name: product for product in CATALOGUE}


SELLER_ACTS: Final = (
    Act("greet"),
    Act("small_talk"),
    Act("ask_need"),
    Act("ask_budget"),
    Act("ask_worry"),
    *(Act("pitch", product.name) for product in CATALOGUE),
    *(Act("reassure", worry) for worry in WORRIES),
    Act("discount"),
    Act("close"),
    Act("goodbye"),
)
BUYER_ACTS: Final = (
    Act("open"),  # "Hi, I'm looking for a bike."
    Act("open_idle"),  # the same from a buyer who is only killing time
    *(Act("open_need", need) for need in NEEDS),
    Act("greet_back"),
    Act("chat"),
    *(Act("tell_need", need) for need in NEEDS),
    *(Act("tell_budget", budget) for budget in BUDGETS),
    *(Act("tell_worry", worry) for worry in WORRIES),
    Act("tell_no_worry"),  # asked about a worry before there is a bicycle to worry about, or after it was resolved
    Act("withhold"),  # asked, but does not say
    Act("like"),  # right kind, right tier
    Act("too_dear"),  # right kind, over the budget
    Act("too_basic"),  # right kind, below what the buyer wants
    Act("wrong_kind"),  # not what the bicycle is for
    Act("convinced"),  # the reassurance met the worry
    Act("unmoved"),  # the reassurance was about something else
    Act("premature"),  # reassured or offered something before a bicycle fits
    Act("pleased"),  # by a discount
    Act("no_further"),  # a discount beyond the second, or anything said again to no effect
    Act("not_yet"),  # asked to buy, not ready
    Act("confused"),  # did not understand the seller
    Act("hurry"),  # has little time left; only ever said beside another act
    Act("buy"),
    Act("leave"),
)
