"""The language of the bicycle shop: what either side can say, and how what is said is understood.

Nothing is read before it is asked for. ``python -m envs.sales.language`` retrains both act parsers from the
phrasebooks, prints how well they do, and stores them beside this file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from envs.phrasebook import Phrasebook
from envs.sales.catalogue import CATALOGUE

_HERE: Final = Path(__file__).parent
DETAILS: Final = {
    product.name: {
        "product": product.name,
        "need": product.need,
        "tier": product.tier,
        "price": f"${product.price}",
    }
    for product in CATALOGUE
}
"""What a phrasebook knows of each product."""


@cache
def seller_phrasebook() -> Phrasebook:
    """What the seller can say."""
    return Phrasebook.load(_HERE / "seller.phrases", DETAILS)


@cache
def buyer_phrasebook() -> Phrasebook:
    """What the buyer can say."""
    return Phrasebook.load(_HERE / "buyer.phrases", DETAILS)
