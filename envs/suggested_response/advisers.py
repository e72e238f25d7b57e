"""Scripted advisers: rules that suggest what a business should write.

``Adviser`` reads what was really sent and answered, and suggests what a rule of the wrapped world would do there:
``random``, ``behaviour``, ``myopic``, ``expert`` and whatever else that world has. It knows nothing of the business.

``sales_adviser`` has besides, for the bicycle shop, by dynamic programming (``envs.suggested_response.planner``):

- ``optimum``: the best adviser, in whichever setting its brief says it is: one of the next two.
- ``auto_reply_optimum``: the best adviser of a business that sends everything. Its value there is exact.
- ``business_optimum``: has a belief about who the business is, from what it did with the suggestions so far, and
  suggests what is worth most on average over that belief, each business valued as if it were known from now on. It
  never suggests anything merely to find out, so it may fall short of the best; the value for an adviser who is told who
  the business is bounds that from above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.odds import Choice
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.language import buyer_parser, seller_parser, seller_phrasebook
from envs.suggested_response.business import START_TRUST
from envs.suggested_response.env import AGENT_BRIEF
from envs.suggested_response.planner import Businesses, Floats, Planner, Suggested, sensible, training_businesses
from envs.suggested_response.sales import world
from envs.suggested_response.sending import own_acts
from envs.suggested_response.transcript import Exchange, exchanges_of, sent_and_answered
from envs.suggested_response.world import World

AUTO_REPLY: Final = -1
"""The place of auto-reply among the businesses that are planned for."""
_MISHEARD: Final = 1e-6
"""Added to the probability of whatever was observed, so that a misheard word rules nothing out."""


class Adviser:
    """Suggests what a rule of the wrapped world would do."""

    def __init__(self, rule: str, wrapped: World):
        self.speaker = wrapped.speaker(rule)

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What is suggested next in each conversation."""
        return self.speaker.speak(self._read(conversations), rngs)

    def choices(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[Choice]:
        """The act behind what ``speak`` suggests, given generators in the same state, and how likely it is."""
        return self.speaker.choices(self._read(conversations), rngs)

    def _read(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """Each conversation as the wrapped world's: what was sent and answered."""
        held = []
        for conversation in conversations:
            opening, exchanges = exchanges_of(conversation)
            held.append(sent_and_answered(opening, exchanges, conversation.brief))
        return held


@dataclass(frozen=True)
class Belief:
    """What an adviser of the bicycle shop knows before its next suggestion."""

    known: Knowledge
    """Of the buyer."""
    weights: Floats
    """[B] how likely it is each of the businesses that training shows."""
    trust: np.ndarray
    """[B] how far it then trusts by now."""


class PlanningAdviser:
    """Suggests by dynamic programming; see the module's docstring.

    Args:
        setting: ``business`` or ``auto_reply``; None: as the brief says.
    """

    def __init__(self, setting: str | None = None):
        self.setting = setting
        self.planner = planner()
        self.businesses = self.planner.businesses
        self._held: dict[tuple[str, ...], Belief] = {}

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What is suggested next in each conversation; an empty suggestion abstains."""
        held, said = {}, []
        for conversation, rng in zip(conversations, rngs, strict=True):
            words = tuple(turn.text for turn in conversation.turns)
            held[words] = belief = self.believe(conversation)
            auto_reply = self.setting == "auto_reply"
            if self.setting is None:
                auto_reply = not conversation.brief.startswith(AGENT_BRIEF)
            act = self.best(belief, auto_reply)
            said.append("" if act is None else seller_phrasebook().say(act, rng))
        self._held = held
        return said

    def best(self, belief: Belief, auto_reply: bool) -> Suggested:
        """What is worth most; the first of equals."""
        if auto_reply:
            return self.planner.best(belief.known, AUTO_REPLY, START_TRUST)
        values = self.planner.act_values(belief.known, sensible(belief.known))
        rows = np.arange(len(belief.weights))
        return max(values, key=lambda act: float(belief.weights @ values[act][rows, belief.trust]))

    def believe(self, conversation: Conversation) -> Belief:
        """What the conversation so far tells."""
        words = tuple(turn.text for turn in conversation.turns)
        if words in self._held:
            return self._held[words]
        opening, exchanges = exchanges_of(conversation)
        if not exchanges:
            heard = buyer_parser().parse_moves([turn.text for turn in opening])
            n = len(self.businesses) - 1  # the last is auto-reply
            return Belief(begin(heard[0][0] if heard else Act("open")), np.full(n, 1 / n), np.full(n, START_TRUST))
        before = self.believe(Conversation(conversation.brief, conversation.turns[:-2]))
        return self.learn(before, exchanges[-1])

    def learn(self, before: Belief, exchange: Exchange) -> Belief:
        """What is believed after an exchange."""
        suggested, sent = seller_parser().parse([exchange.suggested, exchange.sent])
        (moves,) = buyer_parser().parse_moves([exchange.answer])
        act = suggested if exchange.suggested.strip() else None
        done = act == sent
        rows = np.arange(len(before.weights))
        chances = self._chances(before.known, act, sent, exchange.verbatim)[rows, before.trust]
        weights = before.weights * (chances + _MISHEARD)
        welcome = world().welcomed(moves)
        trust = self.businesses.trust_after(act, done, welcome)[rows, before.trust]
        return Belief(learn(before.known, sent, moves), weights / weights.sum(), trust)

    def _chances(self, known: Knowledge, act: Suggested, sent: Act, verbatim: bool) -> Floats:
        """[B, T] the probability that this is what was done with a suggestion."""
        modes = self.businesses.modes(act)
        if verbatim:
            return modes["verbatim"]
        own = own_acts(self.planner.speaker, known).get(sent, 0.0)
        chances: Floats = modes["ignored"] * (1 - self.businesses.silent) * own
        if act is not None:
            drift = world().drift(act)
            chances = chances + modes["influenced"] * (sent in drift) / len(drift) + modes["edited"] * (sent == act)
        return chances


@cache
def planner() -> Planner:
    """One for all advisers of a process: what it has solved serves them all."""
    return Planner(Businesses([*training_businesses(), None]))


_PLANNING: Final[dict[str, Callable[[], PlanningAdviser]]] = {
    "optimum": PlanningAdviser,
    "auto_reply_optimum": lambda: PlanningAdviser("auto_reply"),
    "business_optimum": lambda: PlanningAdviser("business"),
}


def sales_adviser(rule: str) -> Adviser | PlanningAdviser:
    """An adviser of the bicycle shop; its rules are those of the module's docstring and the shop's other ones."""
    return _PLANNING[rule]() if rule in _PLANNING else Adviser(rule, world())
