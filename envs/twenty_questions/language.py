"""The language of the game: what either side can say, and how what is said is understood.

What is said is looked up, not guessed: a question is understood if it is one that the phrasebook can say, whatever its
case, punctuation and spacing. A learnt parser would understand more and mistake some of it, and an answer to another
question than was asked would be a wrong answer; here every answer is right.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from envs.acts import Act
from envs.phrasebook import Phrasebook
from envs.twenty_questions.program import ANSWERS
from envs.twenty_questions.table import ASKER_ACTS, TABLE

_HERE: Final = Path(__file__).parent
_AN: Final = ("eagle", "apple", "egg", "oak")
_NO_ARTICLE: Final = ("bread", "cheese")


def with_article(thing: str) -> str:
    """``a kite``, ``an apple``, ``bread``."""
    if thing in _NO_ARTICLE:
        return thing
    return f"an {thing}" if thing in _AN else f"a {thing}"


@cache
def asker_phrasebook() -> Phrasebook:
    """What the asker can say."""
    return Phrasebook.load(_HERE / "asker.phrases", {each: {"thing": with_article(each)} for each in TABLE.things})


@cache
def answerer_phrasebook() -> Phrasebook:
    """What the one who answers can say."""
    return Phrasebook.load(_HERE / "answerer.phrases")


def question_of(text: str) -> Act | None:
    """What an asker's words ask or guess; None where they are none of the phrasebook's."""
    return _questions().get(_plain(text))


@lru_cache(1 << 12)
def answer_of(text: str) -> Act | None:
    """What an answer says; None where it is none of the phrasebook's."""
    return next((act for act in ANSWERS if answerer_phrasebook().contains(act, text)), None)


@cache
def _questions() -> dict[str, Act]:
    book = asker_phrasebook()
    return {_plain(text): act for act in ASKER_ACTS for text in book.utterances(act)}


def _plain(text: str) -> str:
    """The words alone, in lower case."""
    return " ".join(re.findall(r"[\w']+", text.casefold()))
