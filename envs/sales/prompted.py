"""Buyers that are played by language models told in words what to be (``envs.prompted``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from envs.acts import Act
from envs.env import Episode, Scenario
from envs.language_models import LanguageModel
from envs.prompted import PromptedPerson, PromptedReader, PromptedVoice, Scene
from envs.sales.arbiter import agreed, booked
from envs.sales.catalogue import SELLER_ACTS
from envs.sales.language import buyer_phrasebook, seller_phrasebook
from envs.sales.program import Mind
from envs.sales.users import Buyer, SellerParser
from envs.sales.voice import PRICE
from envs.wording import Reader

SCENE: Final = Scene("in a bicycle shop", "customer", "seller")


def prompted_reader(model: LanguageModel) -> PromptedReader:
    """Understands sellers that speak freely."""
    rng = np.random.default_rng(0)
    return PromptedReader(model, SCENE, {act: seller_phrasebook().say(act, rng) for act in SELLER_ACTS})


def prompted_buyer(model: LanguageModel, reader: LanguageModel | None = None) -> Buyer:
    """A buyer whose mind is the program and whose words are ``model``'s.

    ``reader`` understands the seller in the place of the parser that ships.
    """
    voice = PromptedVoice(model, SCENE, buyer_phrasebook(), {PRICE: "price"})
    return Buyer(voice, prompted_reader(reader) if reader else None)


def prompted_person(model: LanguageModel, reader: LanguageModel | None = None, attempts: int = 3) -> PromptedPerson:
    """A buyer that is ``model`` altogether: it speaks, and decides when it buys and when it leaves."""
    return PromptedPerson(model, BuyerPersona(prompted_reader(reader) if reader else SellerParser()), attempts)


@dataclass(frozen=True, slots=True)
class Books(Mind):
    """The shop's ledger where the buyer's mind is a model's: what else a ``Mind`` holds means nothing in it."""


class BuyerPersona:
    """The shop's side: its ledger follows the seller's acts, the buyer is told what stands there, and what the buyer
    decides is done.

    To buy what was not offered, or at another price than the ledger's, is no decision that can be carried out: nothing
    is sold and the talk goes on.
    """

    scene = SCENE
    decisions: Mapping[str, str] = {
        "continue": "you want to hear more",
        "buy": "you buy the bicycle on offer at the price that stands below; only if it suits your need and your purse "
        "and your worry is settled",
        "leave": "you have had enough and go without buying",
    }

    def __init__(self, reader: Reader):
        self.reader = reader

    def told(self, scenario: Scenario) -> str:
        return scenario.user_brief

    def note(self, episode: Episode, act: Act) -> str:
        books = _books(episode, act)
        offer = f"the {books.shown} for ${books.price:.0f}" if books.shown else "nothing yet"
        return f"(On offer: {offer}. Whatever else was said of prices does not hold.)"

    def memory(self, episode: Episode, act: Act, decision: str) -> Books:
        books = _books(episode, act)
        if books.outcome != "open":
            return books
        if decision == "buy" and books.shown is not None and agreed(episode.turns[-1].text, books.price):
            return replace(books, outcome="bought")
        return replace(books, outcome="left") if decision == "leave" else books


def _books(episode: Episode, act: Act) -> Books:
    """The ledger after the seller's ``act``."""
    return booked(episode.memory if isinstance(episode.memory, Books) else Books(), act)
