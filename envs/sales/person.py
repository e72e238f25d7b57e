"""Buyers that are small language models altogether (``envs.learnt_person``): what they note, and what is made of it.

Two kinds:

- ``user=model``: writes down what it heard, what it does and how it then feels, one marker each. It answers from who it
  is, its notes and the seller's last words, so that it can be taught any moment there is, those included that no
  conversation ever came to.
- ``user=naive_model``: what one builds first. It reads the whole conversation, writes down one thing, whether it goes
  on, buys or leaves, and was taught by conversations of one seller. It is there to be fooled: what a method earns with
  it and not with the others is what it got out of the simulator.

With either, what is on offer at which price is the shop's ledger, which understands the seller by the parser that
ships. A model that buys when nothing is offered has bought nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from envs.acts import UNCLEAR, Act
from envs.conversation import Message
from envs.env import Episode
from envs.learnt_person import LearntPerson
from envs.sales.arbiter import booked
from envs.sales.catalogue import BUDGETS, BUYER_ACTS, NEEDS, SELLER_ACTS, STYLES, WORRIES
from envs.sales.program import MAX_DISCOUNTS, MAX_TRUST, PATIENCE, Mind, Outcome, Profile, fit
from envs.sales.prompted import Books
from envs.sales.users import SellerParser
from envs.sales.voice import PRICE

SIMULATORS: Final = Path(__file__).parent.parent / "simulators"
PERSON_FOLDER: Final = SIMULATORS / "sales_person"
NAIVE_FOLDER: Final = SIMULATORS / "sales_naive_person"


def model_buyer(folder: str | Path = PERSON_FOLDER, temperature: float = 0.5) -> LearntPerson:
    """``user=model``."""
    return LearntPerson("model", folder, BuyersNotes(), SellerParser(), temperature=temperature)


def naive_model_buyer(folder: str | Path = NAIVE_FOLDER, temperature: float = 0.5) -> LearntPerson:
    """``user=naive_model``."""
    return LearntPerson("naive_model", folder, Decision(), SellerParser(), temperature=temperature)


def _marker(name: str, value: object = "") -> str:
    return f"<|{name} {value}|>" if value != "" else f"<|{name}|>"


def _act_marker(name: str, act: Act) -> str:
    return _marker(name, f"{act.kind} {act.about or ''}".rstrip())


_PROFILE: Final[Mapping[str, tuple[object, ...]]] = {
    "need": NEEDS,
    "budget": BUDGETS,
    "worry": WORRIES,
    "style": STYLES,
    "idle": (False, True),
}
_FEELING: Final[Mapping[str, tuple[object, ...]]] = {
    "fit": ("none", "wrong", "dear", "basic", "full"),
    "worried": (False, True),
    "trust": tuple(range(MAX_TRUST + 1)),
    "discounts": tuple(range(MAX_DISCOUNTS + 1)),
    "begun": (False, True),  # too late for a greeting
    "chatted": (False, True),
    "hurried": (False, True),
    "left": tuple(range(max(PATIENCE) + 1)),  # of its patience
}
_NOTHING: Final = Act("nothing")
_HEARD: Final = (*SELLER_ACTS, UNCLEAR)
_DOES: Final = tuple(act for act in BUYER_ACTS if not act.kind.startswith("open") and act.kind != "hurry")
_BESIDES: Final = (
    _NOTHING,
    Act("hurry"),
    *(act for act in BUYER_ACTS if act.kind in ("tell_need", "tell_worry")),
)
BUYS: Final = _act_marker("does", Act("buy"))
LEAVES: Final = _act_marker("does", Act("leave"))


@dataclass(frozen=True, slots=True)
class Notes(Books):
    """The shop's ledger, and beside it what the buyer noted."""

    feeling: tuple[str, ...] = ()
    """The markers of ``_FEELING``; empty for a buyer that has just walked in."""


class BuyersNotes:
    """The private channel of ``user=model``: heard, does, besides, and the feeling afterwards."""

    blanks: Mapping[str, str] = {PRICE: "price"}
    slots = (
        tuple(_act_marker("heard", act) for act in _HEARD),
        tuple(_act_marker("does", act) for act in _DOES),
        tuple(_act_marker("besides", act) for act in _BESIDES),
        *(tuple(_marker(name, value) for value in values) for name, values in _FEELING.items()),
    )

    def markers(self) -> list[str]:
        return [*_all_of(_PROFILE), *(marker for slot in self.slots for marker in slot)]

    def told(self, episode: Episode) -> list[str]:
        profile: Profile = episode.scenario.facts
        notes = episode.memory
        feeling = notes.feeling if isinstance(notes, Notes) else self.feeling(profile, Mind())
        return [*self.profile(profile), *feeling]

    def chat(self, episode: Episode) -> list[Message]:
        return [{"role": "user", "content": episode.turns[-1].text}]

    def memory(self, episode: Episode, act: Act, written: tuple[str, ...]) -> Notes:
        return replace(_settled(episode, act, written[1] == BUYS, written[1] == LEAVES), feeling=written[3:])

    def values(self, episode: Episode, memory: object) -> Mapping[str, str]:
        return _price(memory)

    # ---- what the program would have noted: the material it learns from

    @staticmethod
    def profile(profile: Profile) -> list[str]:
        """Who the buyer is."""
        return [_marker(name, getattr(profile, name)) for name in _PROFILE]

    @staticmethod
    def feeling(profile: Profile, mind: Mind) -> list[str]:
        """A mind as its buyer notes it."""
        felt = {
            "fit": fit(profile, mind.shown),
            "worried": mind.worried,
            "trust": mind.trust,
            "discounts": mind.discounts,
            "begun": mind.greeted or mind.spent > 0,
            "chatted": mind.chatted,
            "hurried": mind.hurried,
            "left": max(0, profile.patience - mind.spent),
        }
        return [_marker(name, felt[name]) for name in _FEELING]

    def written(self, profile: Profile, act: Act, outcome: Outcome) -> list[str]:
        """What is to be written when ``act`` led to ``outcome``, one marker per slot."""
        does, *besides = outcome.moves
        return [
            _act_marker("heard", act),
            _act_marker("does", does),
            _act_marker("besides", besides[0] if besides else _NOTHING),
            *self.feeling(profile, outcome.mind),
        ]


class Decision:
    """The private channel of ``user=naive_model``: who it is, and whether it goes on, buys or leaves."""

    blanks: Mapping[str, str] = {PRICE: "price"}
    GOES_ON, BUYS, LEAVES = (_marker(name) for name in ("goes on", "buys", "leaves"))
    slots = ((GOES_ON, BUYS, LEAVES),)

    def markers(self) -> list[str]:
        return [*_all_of(_PROFILE), *_all_of({"patience": (4, *PATIENCE)}), *self.slots[0]]

    def told(self, episode: Episode) -> list[str]:
        return self.profile(episode.scenario.facts)

    def chat(self, episode: Episode) -> list[Message]:
        return [one for one in episode.heard_by("user").messages("user") if one["role"] != "system"]

    def memory(self, episode: Episode, act: Act, written: tuple[str, ...]) -> Notes:
        return _settled(episode, act, written[0] == self.BUYS, written[0] == self.LEAVES)

    def values(self, episode: Episode, memory: object) -> Mapping[str, str]:
        return _price(memory)

    @staticmethod
    def profile(profile: Profile) -> list[str]:
        """Who the buyer is."""
        return [*BuyersNotes.profile(profile), _marker("patience", profile.patience)]

    def written(self, outcome: str) -> list[str]:
        """What is to be written when ``Mind.outcome`` is this."""
        return [{"open": self.GOES_ON, "bought": self.BUYS}.get(outcome, self.LEAVES)]


def _all_of(values: Mapping[str, tuple[object, ...]]) -> list[str]:
    return [_marker(name, value) for name, options in values.items() for value in options]


def _settled(episode: Episode, act: Act, buys: bool, leaves: bool) -> Notes:
    """The ledger after the seller did ``act`` and the buyer decided."""
    before = episode.memory if isinstance(episode.memory, Notes) else Notes()
    notes = booked(before, act)
    if notes.outcome != "open":
        return notes
    if buys and notes.shown is not None:
        return replace(notes, outcome="bought")
    return replace(notes, outcome="left") if leaves else notes


def _price(memory: object) -> Mapping[str, str]:
    return {"price": f"${memory.price:.0f}"} if isinstance(memory, Notes) and memory.shown else {}
