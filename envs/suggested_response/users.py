"""The users of ``parley/SuggestedResponse-v0``: a business and its customer, who answer a suggestion together.

``business`` decides what becomes of a suggestion (``envs.suggested_response.business``), and the customer of the
wrapped world answers what was sent. ``auto_reply`` sends every suggestion as it is: the paper's special case
P(m = a) = 1. Both hand the customer the generator that the wrapped world would, so with ``auto_reply`` the conversation
is that world's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.env import Episode, Scenario
from envs.suggested_response.business import HABITS, START_TRUST, Business, Mode, draw_mode, modes, trust_after
from envs.suggested_response.transcript import Exchange, shown
from envs.suggested_response.world import World, named_world
from envs.users import Reply, UserSimulator
from envs.wording import Heard


@dataclass(frozen=True, slots=True)
class Facts:
    """What a scenario is about."""

    scenario: Scenario
    """That of the wrapped world, but for its opening: that is chance, and this world's too."""
    business: Business
    auto_reply: bool = False
    """Whether every suggestion is sent as it is, whoever the business is."""


@dataclass(frozen=True, slots=True)
class Talk:
    """How it stands between the business and its customer: the memory of an episode."""

    episode: Episode
    """Their conversation, an episode of the wrapped world."""
    trust: int = START_TRUST
    silent: bool = False
    """Whether one of them fell silent, which ends the conversation."""
    modes: tuple[Mode, ...] = ()
    """What became of each suggestion."""
    abstained: int = 0
    """How many of them were empty."""

    @classmethod
    def of(cls, episode: Episode) -> Talk:
        """Where the talk stands in an episode, before the agent's turn or after it."""
        if isinstance(episode.memory, Talk):
            return episode.memory
        scenario = replace(episode.scenario.facts.scenario, opening=episode.scenario.opening)
        return cls(Episode(scenario, scenario.opening, episode.seed, take=episode.take))


@dataclass(slots=True)
class _Exchange:
    """One exchange while it is being decided."""

    episode: Episode
    talk: Talk
    rng: np.random.Generator
    """The customer's, as in the wrapped world."""
    own: np.random.Generator
    """The business's."""
    heard: Heard
    """What the suggestion does."""
    mode: Mode = "verbatim"
    sent: str = ""
    done: bool = True
    """Whether what is sent does what was suggested."""
    answer: Reply | None = None
    """None while there is none, and when nothing was sent."""

    @property
    def suggested(self) -> str:
        return self.episode.turns[-1].text

    @property
    def act(self) -> Act | None:
        """What the suggestion does; None when there is none."""
        return self.heard.act if self.suggested.strip() else None

    @property
    def business(self) -> Business:
        business: Business = self.episode.scenario.facts.business
        return business

    @property
    def spoken(self) -> Episode:
        """The business's conversation with its customer after what is sent."""
        return self.talk.episode.then("agent", self.sent)


class SuggestedUser(UserSimulator):
    """A business and its customer, who answer together.

    Args:
        world: what is known of the wrapped world.
        customer: its user.
    """

    auto_reply: bool
    """Whether every suggestion is sent as it is."""

    def __init__(self, world: World, customer: UserSimulator):
        self.world, self.customer = world, customer
        self.deterministic = customer.deterministic and world.reader.deterministic

    @property
    def name(self) -> str:
        return "auto_reply" if self.auto_reply else "business"

    def figures(self) -> Mapping[str, float]:
        return self.customer.figures()

    def ask_the_customers(self, exchanges: Sequence[_Exchange]) -> None:
        """Let the customers answer what was sent."""
        replies = self.customer.reply([one.spoken for one in exchanges], [one.rng for one in exchanges])
        for one, reply in zip(exchanges, replies, strict=True):
            one.answer = reply


class AutoReply(SuggestedUser):
    """Sends what is suggested, whatever it is: nothing is understood as nothing to say, not as an abstention."""

    auto_reply = True

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        exchanges = [
            _Exchange(episode, Talk.of(episode), rng, rng, Heard(UNCLEAR), sent=episode.turns[-1].text)
            for episode, rng in zip(episodes, rngs, strict=True)
        ]
        self.ask_the_customers(exchanges)
        return [_told(one, one.talk.trust, one.answer.text if one.answer else "") for one in exchanges]


class BusinessUser(SuggestedUser):
    """Sends a suggestion word for word, or edited, or something that follows its drift, or what it would have written
    anyway. An empty suggestion abstains.

    Its own words are those of a scripted agent of the world (``World.skill``), which knows nothing of suggestions.
    """

    auto_reply = False

    def __init__(self, world: World, customer: UserSimulator):
        super().__init__(world, customer)
        self.speaker = world.speaker(world.skill)

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        talks = [Talk.of(episode) for episode in episodes]
        suggested = [t.episode.then("agent", e.turns[-1].text) for t, e in zip(talks, episodes, strict=True)]
        exchanges = [
            _Exchange(episode, talk, rng, rng.spawn(1)[0], heard)
            for episode, talk, rng, heard in zip(episodes, talks, rngs, self.world.reader.read(suggested), strict=True)
        ]
        understood = [one for one in exchanges if one.heard.failure is None]
        for one in understood:
            self._decide(one)
        self._write([one for one in understood if one.mode == "ignored"])
        self.ask_the_customers([one for one in understood if one.sent.strip()])
        return [self._answer(one) for one in exchanges]

    def _decide(self, one: _Exchange) -> None:
        """What becomes of the suggestion; what the business writes of its own accord is still to be written."""
        suggestion = self.world.suggestion(one.act, one.business.dislikes)
        one.mode = draw_mode(modes(one.business, one.talk.trust, suggestion), one.own)
        if one.mode == "verbatim":
            one.sent = one.suggested
        elif one.mode != "ignored" and one.act is not None:
            acts = self.world.drift(one.act) if one.mode == "influenced" else (one.act,)
            act = acts[int(one.own.integers(len(acts)))]
            one.sent, one.done = self.world.say(act, one.talk.episode, one.own), act == one.act

    def _write(self, exchanges: Sequence[_Exchange]) -> None:
        """Find the business's own words, if it does not fall silent."""
        silent = [one.own.random() < HABITS[one.business.habit].silent for one in exchanges]
        writing = [one for one, falls_silent in zip(exchanges, silent, strict=True) if not falls_silent]
        held = [one.talk.episode.heard_by("agent") for one in writing]
        for one, words in zip(writing, self.speaker.speak(held, [one.own for one in writing]), strict=True):
            one.sent = words
        for one, heard in zip(writing, self.world.reader.read([one.spoken for one in writing]), strict=True):
            one.done = heard.failure is None and heard.act == one.act

    def _answer(self, one: _Exchange) -> Reply:
        if one.heard.failure is not None or (one.answer and one.answer.failure is not None):
            failed = one.answer.failure if one.answer else one.heard.failure
            return Reply("", tokens=one.heard.tokens + (one.answer.tokens if one.answer else 0), failure=failed)
        answer = one.answer.text if one.answer else ""
        welcome = self.world.welcomed(self.world.hear([answer])[0]) if answer.strip() else 0
        suggestion = self.world.suggestion(one.act, one.business.dislikes)
        trust = trust_after(one.talk.trust, suggestion, one.done, welcome)
        return _told(one, trust, shown(Exchange(one.suggested, one.sent, answer)))


def _told(one: _Exchange, trust: int, text: str) -> Reply:
    """What the agent is told of an exchange, and how it stands afterwards."""
    answer, after = one.answer, one.talk.episode
    if answer is not None and answer.failure is not None:
        return answer
    if answer is not None:
        after = replace(one.spoken.then("user", answer.text), exchanges=after.exchanges + 1, memory=answer.memory)
    silent = answer is None or not answer.text.strip()
    abstained = one.talk.abstained + (one.mode == "ignored" and one.act is None)
    talk = Talk(after, trust, silent, (*one.talk.modes, one.mode), abstained)
    return Reply(text, talk, one.heard.tokens + (answer.tokens if answer else 0))


def business_user(world: str = "sales", customer: str | UserSimulator = "program") -> BusinessUser:
    """``user=business``: a business around a customer, which is a name of the world's users or a ``UserSimulator``."""
    return BusinessUser(*_parties(world, customer))


def auto_reply_user(world: str = "sales", customer: str | UserSimulator = "program") -> AutoReply:
    """``user=auto_reply``: the wrapped world, in which what is suggested is sent."""
    return AutoReply(*_parties(world, customer))


def _parties(world: str, customer: str | UserSimulator) -> tuple[World, UserSimulator]:
    described = named_world(world)
    if isinstance(customer, UserSimulator):
        return described, customer
    if customer not in described.customers:
        known = ", ".join(described.customers)
        raise ValueError(f"customer={customer!r} is no user of the world {described.name}; choose one of {known}.")
    return described, described.customers[customer]()
