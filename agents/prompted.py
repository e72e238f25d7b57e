"""Language models told in words what to do: any chat model in a folder, from the hub or behind a server. They do not
learn, and show what learning has to beat.

The conversation's brief is the system message, and the turns are the chat. An answer that does not come is a failure of
a named kind (``Utterance.failure``): the conversation then ends unscored and is counted, as with a user who fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents.agent import Agent
from envs.conversation import Conversation
from envs.language_models import Completion, LanguageModel, figures_of
from envs.trajectory import Utterance


class Prompted(Agent):
    """A chat model in the agent's seat.

    Args:
        model: who is asked; its temperature is its own, so ``explore`` changes nothing.
        note: what it is told below the brief.
    """

    def __init__(self, model: LanguageModel, *, note: str = ""):
        self.model, self.note = model, note

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        chats = [self._told(conversation).messages("agent") for conversation in conversations]
        return [_said(one) for one in self.model.complete(chats, [int(rng.integers(2**63)) for rng in rngs])]

    def figures(self) -> Mapping[str, float]:
        return figures_of(self.model)

    def _told(self, conversation: Conversation) -> Conversation:
        brief = "\n".join(part for part in (conversation.brief, self.note) if part)
        return Conversation(brief, conversation.turns)


def _said(answer: Completion) -> Utterance:
    """The answer's words; a failure where there are none."""
    words = answer.text.strip()
    if answer.failure or words:
        return Utterance(words, failure=answer.failure)
    return Utterance("", failure="unreadable: the model answered without words")
