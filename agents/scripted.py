"""Sellers that follow a rule of ``envs.sales.sellers``, as agents.

Each reads the buyer's words back into moves, keeps ``Knowledge`` and picks an act, which the phrasebook words. They
see what any agent sees, the conversation, and so mishear when the buyer's wording is unclear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.agent import Agent
from envs.conversation import Conversation
from envs.sales.catalogue import Act
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.language import buyer_parser, seller_parser, seller_phrasebook
from envs.sales.sellers import RULES
from envs.trajectory import Utterance


class ScriptedSeller(Agent):
    """A seller that follows one of ``RULES``."""

    def __init__(self, rule: str):
        if rule not in RULES:
            raise ValueError(f"rule={rule!r} is not a rule of the scripted seller; choose one of {', '.join(RULES)}.")
        self.rule = RULES[rule]()
        self._known: dict[tuple[str, ...], Knowledge] = {}

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        book = seller_phrasebook()
        following: dict[tuple[str, ...], Knowledge] = {}
        utterances = []
        for conversation, rng in zip(conversations, rngs, strict=True):
            known = self._know(conversation)
            following[_words(conversation)] = known
            utterances.append(Utterance(book.say(self.rule(known, rng), rng)))
        self._known = following  # only a short cut: what is not found here is worked out from the whole conversation
        return utterances

    def _know(self, conversation: Conversation) -> Knowledge:
        words = _words(conversation)
        if words in self._known:
            return self._known[words]
        if len(words) < 3:
            (opening, *_), *_ = buyer_parser().parse_moves(list(words[:1])) if words else [(Act("open"),)]
            return begin(opening)
        before = self._know(Conversation(conversation.brief, conversation.turns[:-2]))
        (act,), (moves,) = seller_parser().parse([words[-2]]), buyer_parser().parse_moves([words[-1]])
        return learn(before, act, moves)


def _words(conversation: Conversation) -> tuple[str, ...]:
    return tuple(turn.text for turn in conversation.turns)
