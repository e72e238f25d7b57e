"""``parley/TwentyQuestions-v0``: find out what the user is thinking of, in at most twenty exchanges.

The user thinks of one of 32 things and answers questions about 23 properties, and guesses, with yes or no; to what it
does not understand it says that it does not, which costs the exchange too. Every answer is that of the table
(``envs.twenty_questions.table``): no model has a part in it. After the 20 questions of LMRL-Gym (arXiv 2311.18232) and
ArCHer (arXiv 2402.19446), with their reward: -1 for every exchange but the right guess, which is 0 and ends the
conversation. So a return is minus the number of exchanges before the right guess, and -20 without one. It is the world
to debug a method with: the exact optimum is -4.5, which no table of 32 things could better.

``Assessment.parts`` are there after every exchange: ``left`` (how many things it may still be) and ``puzzled`` (how
often nothing was understood). They serve records and judges; no agent sees them.

Splits. Every thing has to be known to be guessed, so all splits have all things, equally often. ``train`` and
``iid_test`` share every attribute value, every pair of a thing with a manner of answering or with an opening, and no
combination of the three (a fifth, balanced, is kept for ``iid_test``): who asks the same whatever the manner earns the
same on both, and who has learnt combinations by heart does not. (In either split a manner and an opening together
exclude some things, by the rule that splits them; no asker that we compute makes use of it.) ``ood_test`` has a manner
that training never shows: who is ``distracted`` did not listen in a fifth of the exchanges, says so, and has to be
asked again. It is never wrong, so here too the optimum is exact, -5.875. What has to generalise is to take an answer
that was never heard for none, and to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.conversation import Speaker, Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.twenty_questions.language import (
    answer_of,
    answerer_phrasebook,
    asker_phrasebook,
    question_of,
    with_article,
)
from envs.twenty_questions.program import DISTRACTED, HORIZON, MANNERS, OPENINGS, Mind, Secret
from envs.twenty_questions.table import TABLE
from envs.twenty_questions.users import program_answerer
from envs.users import UserSimulator
from envs.vector import ConversationVectorEnv


@cache
def agent_brief() -> str:
    """What the agent is told: the game, all things, and a question for every property."""
    book = asker_phrasebook()
    questions = " ".join(min(book.utterances(Act("ask", each)), key=lambda text: (len(text), text))
                         for each in TABLE.properties)  # fmt: skip
    return (
        f"The user is thinking of one of these: {', '.join(TABLE.things)}. Find out which, in as few exchanges as you "
        f"can and in {HORIZON} at most: ask a question that is answered by yes or no, or guess. These questions are "
        f"understood, and some other wordings of them: {questions} Is it a kite? Say one short sentence at a time."
    )


def user_brief(secret: Secret) -> str:
    """The persona in words, for users that are told who they are."""
    listens = " Now and then you were not listening, and say so." if secret.misses else ""
    return (
        f"What you have in mind is {with_article(secret.thing)}. Answer every question about it truly, with yes or no, "
        f"and say so when it is guessed or when you don't understand. You are {secret.manner} in manner.{listens}"
    )


class TwentyQuestionsEnv(ConversationEnv):
    """See the module's docstring. ``user`` is a ``UserSimulator`` whose memory is a ``Mind``."""

    splits = ("train", "iid_test", "ood_test")

    def __init__(self, user: UserSimulator, *, split: str = "train", max_exchanges: int = HORIZON, **kwargs: Any):
        if max_exchanges != HORIZON:
            raise ValueError(f"max_exchanges={max_exchanges}; these are {HORIZON} questions: give {HORIZON}.")
        super().__init__(user, split=split, max_exchanges=max_exchanges, **kwargs)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        secrets = secrets_of(self.split)
        secret = secrets[int(rng.integers(len(secrets)))]
        words = opening_words(secret, rng)
        attributes = {"thing": secret.thing, "manner": secret.manner, "opening": secret.opening}
        key = "/".join(attributes.values())
        return Scenario(agent_brief(), user_brief(secret), (Turn("user", words),), secret, key, attributes)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [_assess(episode.memory) for episode in episodes]

    def acts_in(self, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]]:
        if speaker == "agent":
            return [(question_of(text) or UNCLEAR,) for text in texts]
        return [(answer_of(text) or UNCLEAR,) for text in texts]


def opening_words(secret: Secret, rng: np.random.Generator) -> str:
    """What the user says first."""
    return answerer_phrasebook().say(Act("open", secret.opening), rng)


def _assess(mind: object) -> Assessment:
    if not isinstance(mind, Mind):
        return Assessment(judged=False, failure=f"the user's memory is a {type(mind).__name__}, not a Mind")
    parts = {"left": float(mind.left.bit_count()), "puzzled": float(mind.puzzled)}
    if mind.found:
        return Assessment(0.0, True, True, stop_reason=StopReason.OUTCOME, parts=parts)
    return Assessment(-1.0, parts=parts)


@cache
def secrets_of(split: str) -> tuple[Secret, ...]:
    """Every attribute combination of a split."""
    if split == "ood_test":
        return tuple(Secret(thing, DISTRACTED, opening) for thing, opening in product(TABLE.things, OPENINGS))
    combinations = product(*(enumerate(each) for each in (TABLE.things, MANNERS, OPENINGS)))
    return tuple(
        Secret(thing, manner, opening)
        for (t, thing), (m, manner), (o, opening) in combinations
        # A residue of a weighted sum of indices: a fifth of the combinations, spread evenly over all pairs of values.
        if ((t + m + 2 * o) % 5 == 0) == (split == "iid_test")
    )


USERS: Final[Mapping[str, Callable[[], UserSimulator]]] = {"program": program_answerer}
"""Those who can be named in ``gymnasium.make("parley/TwentyQuestions-v0", user=…)``."""


def make_twenty_questions(
    user: str | UserSimulator = "program", split: str = "train", **kwargs: Any
) -> TwentyQuestionsEnv:
    """``parley/TwentyQuestions-v0``. ``user`` is a name of ``USERS`` or a ``UserSimulator``."""
    if isinstance(user, str):
        if user not in USERS:
            raise ValueError(f"user={user!r} does not answer in this world; choose one of {', '.join(USERS)}.")
        user = USERS[user]()
    return TwentyQuestionsEnv(user, split=split, **kwargs)


def make_twenty_questions_vec(
    num_envs: int = 1, autoreset_mode: str = "NextStep", **kwargs: Any
) -> ConversationVectorEnv:
    """``parley/TwentyQuestions-v0`` as a vector environment: one user call for all conversations."""
    return ConversationVectorEnv(make_twenty_questions(**kwargs), num_envs, autoreset_mode)
