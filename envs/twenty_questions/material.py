"""What the starting policy of the twenty questions is made from and measured on. The user is the program, so it needs
no model that words what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from envs.acts import Act
from envs.simulators.worlds import Material, Phase
from envs.twenty_questions.askers import RULES, AskerInWords, in_any_words, in_habit
from envs.twenty_questions.corpus import converse
from envs.twenty_questions.env import TwentyQuestionsEnv
from envs.twenty_questions.language import answer_of, answerer_phrasebook
from envs.twenty_questions.program import ANSWERS, HORIZON, MANNERS, MISSED, OPENINGS
from envs.twenty_questions.reading import FACTS, doing, standing
from envs.twenty_questions.table import ASKER_ACTS, TABLE
from envs.twenty_questions.users import program_answerer
from envs.wording import Line, template_words

_USER_ACTS: Final = (*(Act("open", each) for each in OPENINGS), *(act for act in ANSWERS if act != MISSED))


def annotation(act: Act) -> str:
    """What an utterance does, in words: the act, what it is about, and what is true of a thing that is guessed."""
    words = [act.kind, *([act.about] if act.about else [])]
    if act.kind == "guess" and act.about:
        words += TABLE.true_of[act.about].split()
    return " ".join(["", *words])


def _user_says(act: Act, rng: np.random.Generator, style: str) -> str:
    return answerer_phrasebook().say(act, rng, style=style)


def _any_line(rng: np.random.Generator) -> Line:
    act, style = _USER_ACTS[int(rng.integers(len(_USER_ACTS)))], MANNERS[int(rng.integers(len(MANNERS)))]
    return Line((act,), style, in_any_words(ASKER_ACTS[int(rng.integers(len(ASKER_ACTS)))], rng))


def _parse_user(texts: Sequence[str]) -> list[tuple[Act, ...]]:
    heard = (answer_of(text) for text in texts)
    return [(act,) if act else () for act in heard]


MATERIAL: Final = Material(
    world="twenty_questions",
    role="asker",
    agent_acts=ASKER_ACTS,
    user_acts=_USER_ACTS,
    user_styles=MANNERS,
    agent_says=in_any_words,
    agent_says_in_habit=in_habit,
    user_says=_user_says,
    parse_user=_parse_user,
    annotation=annotation,
    rules=RULES,
    converse=converse,
    any_line=_any_line,
    template_words=lambda line, rng: template_words(answerer_phrasebook(), line, rng),
    facts=FACTS,
    standing=standing,
    doing=doing,
    phases=(
        Phase("sloppy", 16_000, 8_000, 6_000, "constant_with_warmup"),
        Phase("behaviour", 24_000, 8_000, 1_000, "cosine"),
    ),
    environment=lambda user, split: TwentyQuestionsEnv(user, split=split),
    program_user=program_answerer,
    speaker=lambda rule: AskerInWords(rule).speak,
    compared=(),
    floor=-float(HORIZON),
    agent_card=(
        "The start of every learner in Parley's game of twenty questions: an asker that imitates a sloppy scripted one "
        "and speaks one short sentence at a time. It asks what is understood, whatever comes to its mind, and guesses "
        "too soon, by little of what it heard. Besides imitating, its trunk has learnt to read: linear heads, since "
        "thrown away, told from its states what had been answered about each of the 23 properties, how many things "
        "were left, and whether what it had just asked was open and what it had just guessed was possible, by labels "
        "from the table of the world. Before the asker it imitates it learnt from the same one without its noise; no "
        "expert and no return had a part in its making."
    ),
    limits="It speaks only of 32 things, in short English questions. It is no assistant and knows nothing else.",
)
