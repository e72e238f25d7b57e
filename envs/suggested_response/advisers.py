"""Scripted advisers: what the rules of the wrapped world would do, as suggestions.

An adviser reads what was really sent and answered, and suggests what the rule would do there: ``random``,
``behaviour``, ``myopic``, ``expert`` and whatever else the world has. These know nothing of the business.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.conversation import Conversation
from envs.suggested_response.transcript import exchanges_of, sent_and_answered
from envs.suggested_response.world import World, named_world


def as_the_customer_has_it(conversation: Conversation) -> Conversation:
    """The conversation between the business and its customer, as the agent's conversation tells of it."""
    opening, exchanges = exchanges_of(conversation)
    return sent_and_answered(opening, exchanges, conversation.brief)


class Adviser:
    """Suggests what a rule of the wrapped world would do."""

    def __init__(self, rule: str, world: World):
        self.speaker = world.speaker(rule)

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What is suggested next in each conversation."""
        return self.speaker.speak([as_the_customer_has_it(one) for one in conversations], rngs)


def sales_adviser(rule: str) -> Adviser:
    """An adviser of the bicycle shop."""
    return Adviser(rule, named_world("sales"))
