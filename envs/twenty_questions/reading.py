"""What a reader of a conversation should have understood: facts at two places of every exchange.

Where the asker is about to speak, what has been answered so far, property by property, and how many things are left.
Where the user is about to answer, besides what the asker has just done, whether the answer is known already, and
whether a guess may be right. The labels come from the table. All of it can be known from the words so far; nothing
about what will come, or what would be wise.
"""

from __future__ import annotations

from typing import Final

from envs.acts import Act
from envs.twenty_questions.knowledge import Knowledge
from envs.twenty_questions.table import TABLE, split_by

_NOT_TOLD, _YES, _NO = 0, 1, 2
_KINDS: Final = ("ask", "guess")
_ELSE, _OPEN, _KNOWN = 0, 1, 2

STANDING: Final = {**dict.fromkeys(TABLE.properties, 3), "left": 6}
"""Each property: not answered, yes, no; and how many things are left, as the whole part of log2."""
DOING: Final = {"act": len(_KINDS), "question": 3, "guess": 3}
"""What the asker has just done; whether the answer of a question is open (1) or follows from the others (2), and
whether a guess may be right (1) or is ruled out (2). 0 where it is the other."""
FACTS: Final = {**STANDING, **DOING}


def standing(known: Knowledge) -> tuple[int, ...]:
    """The facts of ``STANDING``."""
    told = (_YES if each in known.yes else _NO if each in known.no else _NOT_TOLD for each in TABLE.properties)
    return (*told, known.left.bit_count().bit_length() - 1)


def doing(known: Knowledge, act: Act) -> tuple[int, ...]:
    """The facts of ``DOING`` of an act that is done when ``known`` is what is known."""
    yes, no = split_by(TABLE, known.left, act)
    if act.kind == "ask":
        return 0, _OPEN if yes and no else _KNOWN, _ELSE
    return 1, _ELSE, _OPEN if yes else _KNOWN
