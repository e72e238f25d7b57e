"""The car dealer's: who the buyers are, what they want, what cars cost, and the names of everything said there.

The attributes of buyers and all their values are those of LMRL-Gym's Car Dealer (arXiv 2311.18232; its
``DEFAULT_PERSONALITIES`` and so on).
"""

from __future__ import annotations

from typing import Final

from envs.acts import Act

PERSONALITIES: Final = (
    "abusive", "angry", "insulting", "polite", "respectful", "rude", "sarcastic", "talkative", "toxic",
    "uncommunicative",
)  # fmt: skip
"""How the buyer is and talks. ``UNSEEN_PERSONALITIES`` occur only in the out-of-distribution split."""
UNSEEN_PERSONALITIES: Final = ("toxic", "uncommunicative")
TEMPERAMENTS: Final = {
    "hot": ("abusive", "angry", "insulting", "rude", "toxic"),
    "warm": ("polite", "respectful", "talkative"),
    "cool": ("sarcastic", "uncommunicative"),
}
"""All that the program knows of personalities: those of one temperament feel alike and talk each in its own way."""
TEMPERAMENT_OF: Final = {one: temperament for temperament, own in TEMPERAMENTS.items() for one in own}
BRANDS: Final = (
    "Volkswagen", "Lexus", "Ford", "Mazda", "Hyundai", "Toyota", "Mercedes", "BMW", "Audi", "Subaru", "Honda",
    "Porsche", "Tesla",
)  # fmt: skip
TYPES: Final = ("luxury", "sedan", "convertible", "truck", "electric", "SUV")
FEATURES: Final = {
    "camera": "a backup camera",
    "navigation": "a navigation system",
    "heated": "heated seats",
    "leather": "leather seats",
    "third_row": "third row seating",
    "blind_spot": "blind spot monitoring",
    "sunroof": "a sunroof",
    "carplay": "Apple CarPlay",
}
MOST_FEATURES: Final = 4
"""A buyer wants from one to so many of them."""
BUDGETS: Final = (10, 30, 50, 70, 90)
"""In thousands of dollars."""
MSRPS: Final = (11, 33, 55, 77, 99)
"""What cars cost by the sticker, in thousands of dollars: every brand and type comes in five trims, one for each
budget and a tenth above it, so that there is something to haggle about."""


DEALER_ACTS: Final = (
    Act("greet"),
    Act("ask_type"),
    Act("ask_brand"),
    Act("ask_features"),
    Act("ask_budget"),
    *(Act("show_type", kind) for kind in TYPES),
    *(Act("show_brand", brand) for brand in BRANDS),
    *(Act("feature", feature) for feature in FEATURES),
    *(Act("quote", str(msrp)) for msrp in MSRPS),
    Act("discount"),
    Act("close"),
    Act("goodbye"),
)
BUYER_ACTS: Final = (
    Act("open"),  # "Hi, I'm looking for a car."
    *(Act("open_type", kind) for kind in TYPES),
    *(Act("open_brand", brand) for brand in BRANDS),
    Act("greet_back"),
    *(Act("tell_type", kind) for kind in TYPES),
    *(Act("tell_brand", brand) for brand in BRANDS),
    *(Act("tell_feature", feature) for feature in FEATURES),
    *(Act("tell_budget", str(budget)) for budget in BUDGETS),
    Act("that_is_all"),  # asked what the car should have, after all was told
    Act("withhold"),  # asked, but does not say
    Act("right_type"),
    Act("wrong_type"),
    Act("right_brand"),
    Act("other_brand"),
    Act("wants_it"),  # a feature that the buyer wants
    Act("no_use"),  # one that it does not
    Act("in_range"),  # the sticker price suits the budget
    Act("too_dear"),
    Act("too_plain"),  # a car for smaller budgets
    Act("premature"),  # anything about a car before there is one of the right type, or of a price before one was named
    Act("pleased"),  # by a discount
    Act("no_further"),  # said again to no effect, or a discount beyond the last
    Act("not_yet"),  # asked to buy, does not
    Act("counter"),  # asked to buy, names the price at which it would
    Act("confused"),  # did not understand the dealer
    Act("buy"),
    Act("leave"),
)
