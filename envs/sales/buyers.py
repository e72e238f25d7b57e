"""The program's buyer as somebody who reads and speaks: for the user's seat, when words alone count there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation
from envs.sales import program
from envs.sales.catalogue import BUDGETS, NEEDS, STYLES, WORRIES
from envs.sales.env import user_brief
from envs.sales.language import buyer_parser, buyer_phrasebook, seller_parser
from envs.sales.program import PATIENCE, Mind, Outcome, Profile
from envs.sales.users import line_of
from envs.wording import template_words


class BuyerInWords:
    """A buyer that knows who it is from its brief, and how it feels from what was said.

    It draws what it does from ``envs.sales.program`` as the program's buyer does, so of equal generators the two say
    the same, but where it misreads what it said itself: one utterance in some hundreds.
    """

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        """What the buyer says next in each conversation; its opening comes first there, the seller's words last.

        Raises ``ValueError`` for a brief that is not one of ``envs.sales.env.user_brief``.
        """
        return [_answer(conversation, rng) for conversation, rng in zip(conversations, rngs, strict=True)]


def profile_of(brief: str) -> Profile:
    """Who the buyer is that was given ``brief``: the inverse of ``user_brief``."""
    profiles = _profiles()
    if brief not in profiles:
        raise ValueError(f"The brief {brief[:80]!r} is none of the bicycle shop's buyers; give one of user_brief.")
    return profiles[brief]


@cache
def _profiles() -> dict[str, Profile]:
    idle = (False, True)
    everyone = [Profile(*each) for each in product(NEEDS, BUDGETS, WORRIES, (4, *PATIENCE), STYLES, idle)]
    return {user_brief(profile): profile for profile in everyone}


def _answer(conversation: Conversation, rng: np.random.Generator) -> str:
    profile, words = profile_of(conversation.brief), [turn.text for turn in conversation.turns]
    acts, moves = seller_parser().parse(words[1::2]), buyer_parser().parse_moves(words[2::2])
    mind = Mind()
    for act, answer in zip(acts, moves, strict=False):
        mind = _mind_after(program.respond(profile, mind, act), mind, answer)
    outcome = program.draw(program.respond(profile, mind, acts[-1]), rng)
    return template_words(buyer_phrasebook(), line_of(profile, outcome, words[-1]), rng)


def _mind_after(outcomes: Sequence[Outcome], before: Mind, moves: tuple[Act, ...]) -> Mind:
    """The mind of the buyer that answered ``moves``: of the outcomes that leave the conversation open, which it is, the
    one with just these moves, else the likeliest. A farewell that was not understood leaves the mind as it was."""
    going = [outcome for outcome in outcomes if outcome.mind.outcome == "open"]
    return max(going, key=lambda one: (one.moves == moves, one.probability)).mind if going else before
