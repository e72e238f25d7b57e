"""Buyers that are played by language models told in words what to be (``envs.prompted``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from envs.acts import Act
from envs.env import Episode, Scenario
from envs.language_models import LanguageModel
from envs.prompted import PromptedPerson, PromptedReader, PromptedVoice, Scene, Undecided
from envs.sales.arbiter import booked
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


class BuyerPersona:
    """The shop's side: its ledger follows the seller's acts, and what the buyer decides is done.

    To buy before anything was offered is no decision that can be carried out: nothing is sold and the talk goes on.
    """

    scene = SCENE
    decisions: Mapping[str, str] = {
        "continue": "you want to hear more",
        "buy": "you buy the bicycle that was offered last, at its price; only if it suits your need and your purse and "
        "your worry is settled",
        "leave": "you have had enough and go without buying",
    }

    def __init__(self, reader: Reader):
        self.reader = reader

    def told(self, scenario: Scenario) -> str:
        return scenario.user_brief

    def memories(self, episodes: Sequence[Episode], decisions: Sequence[str]) -> list[object]:
        before = [replace(episode, turns=episode.turns[:-1]) for episode in episodes]
        heard = self.reader.read(before) if before else []
        return [
            Undecided(one.failure) if one.failure else _decided(_mind(episode), one.act, decision)
            for episode, one, decision in zip(episodes, heard, decisions, strict=True)
        ]


def _mind(episode: Episode) -> Mind:
    return episode.memory if isinstance(episode.memory, Mind) else Mind()


def _decided(mind: Mind, act: Act, decision: str) -> Mind:
    mind = booked(mind, act)
    if mind.outcome != "open":
        return mind
    if decision == "buy" and mind.shown is not None:
        return replace(mind, outcome="bought")
    return replace(mind, outcome="left") if decision == "leave" else mind
