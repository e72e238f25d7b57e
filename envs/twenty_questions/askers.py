"""Askers as rules: which act to do, given what is known. The yardsticks of ``parley/TwentyQuestions-v0``.

- ``random``: any question or guess. The floor of all.
- ``behaviour``: a sloppy asker that makes the logged data: it asks any question, asked before or not, and guesses too
  soon, something that has the property it last heard yes to; it has forgotten all else. A quarter of the time it does
  anything at all.
- ``sloppy``: the same without the random quarter.
- ``clumsy``: does not repeat itself, and guesses the fitting thing or any other by the toss of a coin. Its
  conversations are for learning to read: in those of the others little gets known.
- ``myopic``: the best for the next exchange alone, in which nothing but the right guess is better than anything else:
  guesses what may be, again and again.
- ``expert``: halves what is left as evenly as it can, and guesses when two things are left or one.
- ``optimum``: acts by dynamic programming on what is left (``envs.twenty_questions.planner``), planned for those who
  are distracted. Among the plans that are optimal with who always listens, that is one; so it need not know with whom
  it talks.

``AskerInWords`` gives a rule ears and a mouth. ``python -m envs.twenty_questions.askers`` prints what the rules earn:
that of ``expert`` and ``optimum`` exactly, that of the others in simulated conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.rule_in_words import RuleInWords
from envs.twenty_questions.knowledge import Knowledge, learn
from envs.twenty_questions.language import answer_of, asker_phrasebook, question_of
from envs.twenty_questions.planner import Planner, bound
from envs.twenty_questions.program import DISTRACTED, HORIZON, MISSES, PUZZLED, Mind, Secret, draw, respond
from envs.twenty_questions.table import ASKER_ACTS, TABLE, split_by

Rule = Callable[[Knowledge, np.random.Generator], Act]
NOISE = 0.25
"""Share of the behaviour asker's acts that are random."""
GUESSES = 0.6
"""Share of the rest that are guesses, once it has heard a yes."""


def random(known: Knowledge, rng: np.random.Generator) -> Act:
    """Any act at all."""
    return ASKER_ACTS[int(rng.integers(len(ASKER_ACTS)))]


def behaviour(known: Knowledge, rng: np.random.Generator) -> Act:
    """A sloppy asker that a quarter of the time does anything at all."""
    return random(known, rng) if rng.random() < NOISE else sloppy(known, rng)


def sloppy(known: Knowledge, rng: np.random.Generator) -> Act:
    """The behaviour asker without its noise: it asks whatever comes to its mind, and remembers no more than one yes."""
    if known.latest is None or rng.random() >= GUESSES:
        return Act("ask", _one_of(TABLE.properties, rng))
    return Act("guess", _one_of(tuple(TABLE.named(TABLE.having[known.latest])), rng))


def clumsy(known: Knowledge, rng: np.random.Generator) -> Act:
    """Asks what was not answered yet, and guesses by the toss of a coin."""
    if rng.random() < 0.1:
        return random(known, rng)
    not_asked = [each for each in TABLE.properties if each not in known.asked]
    if not_asked and rng.random() < 0.7:
        return Act("ask", _one_of(not_asked, rng))
    return myopic(known, rng) if rng.random() < 0.5 else Act("guess", _one_of(TABLE.things, rng))


def myopic(known: Knowledge, rng: np.random.Generator) -> Act:
    """Something that may be."""
    return Act("guess", _one_of(tuple(TABLE.named(known.left)), rng))


def expert(known: Knowledge, rng: np.random.Generator) -> Act:
    """The question that comes nearest to halving what is left; a guess, when that is two things or one."""
    if known.left.bit_count() <= 2:
        return Act("guess", next(TABLE.named(known.left)))
    questions = [Act("ask", each) for each in TABLE.properties]
    return max(questions, key=lambda act: min(part.bit_count() for part in split_by(TABLE, known.left, act)))


def optimum(known: Knowledge, rng: np.random.Generator) -> Act:
    """What the planner says."""
    return _planner(MISSES).best(known.left, known.exchanges_left)


@cache
def _planner(misses: float) -> Planner:
    return Planner(misses=misses)


def _one_of(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


RULES: dict[str, Callable[[], Rule]] = {
    "random": lambda: random,
    "behaviour": lambda: behaviour,
    "sloppy": lambda: sloppy,
    "clumsy": lambda: clumsy,
    "myopic": lambda: myopic,
    "expert": lambda: expert,
    "optimum": lambda: optimum,
}

HABITS = 2
"""How many phrasings of each act an asker with habits uses."""


def in_habit(act: Act, rng: np.random.Generator) -> str:
    """An act in the words of an asker with habits: one of the ``HABITS`` shortest phrasings, with all their variants.

    The behaviour asker, whose conversations are logged, has them; the phrasebook has more phrasings, all understood.
    """
    habits = _habits(act)
    return asker_phrasebook().say_pattern(act, habits[int(rng.integers(len(habits)))], rng)


@cache
def _habits(act: Act) -> list[int]:
    patterns = asker_phrasebook().patterns(act)
    return sorted(range(len(patterns)), key=lambda i: (len(patterns[i]), patterns[i]))[:HABITS]


def in_any_words(act: Act, rng: np.random.Generator) -> str:
    """An act in any words of the phrasebook."""
    return asker_phrasebook().say(act, rng)


class AskerInWords(RuleInWords[Knowledge]):
    """An asker's rule that hears and speaks. An answer that is none of this world's is taken for one that tells
    nothing."""

    def __init__(self, rule: str):
        super().__init__(rule, RULES, in_habit if rule == "behaviour" else in_any_words, "asker")

    def begin(self, opening: str | None) -> Knowledge:
        return Knowledge()

    def learn(self, before: Knowledge, said: str, answer: str) -> Knowledge:
        return learn(before, question_of(said) or UNCLEAR, answer_of(answer) or PUZZLED)


# ---- what the rules earn ---------------------------------------------------------------------------------------------


def exact_return(rule: Rule, manner: str = "plain") -> float:
    """The expected return of a rule that draws nothing, over all things and all that may happen."""
    secrets = [Secret(thing, manner) for thing in TABLE.things]
    return sum(_expected(rule, secret, Knowledge(), Mind(), {}) for secret in secrets) / len(secrets)


def _expected(rule: Rule, secret: Secret, known: Knowledge, mind: Mind, found: dict[Knowledge, float]) -> float:
    """The expected return from here on; ``found`` holds what was worked out for this secret."""
    if mind.found or not known.exchanges_left:
        return 0.0
    if known not in found:
        act = rule(known, np.random.default_rng(0))
        found[known] = sum(
            one.probability * (one.reward + _expected(rule, secret, learn(known, act, one.answer), one.mind, found))
            for one in respond(secret, mind, act)
        )
    return found[known]


def simulated_return(rule: Rule, conversations: int, manner: str = "plain", seed: int = 0) -> float:
    """The mean return over conversations, act by act, without words: as many about each thing as about any other, or
    one more."""
    rng, total = np.random.default_rng(seed), 0.0
    for i in range(conversations):
        secret = Secret(TABLE.things[i % len(TABLE.things)], manner)
        known, mind = Knowledge(), Mind()
        while known.exchanges_left and not mind.found:
            act = rule(known, rng)
            outcome = draw(respond(secret, mind, act), rng)
            known, mind = learn(known, act, outcome.answer), outcome.mind
            total += outcome.reward
    return total / conversations


def _main(conversations: int = 6400) -> None:
    print(f"{'rule':12} {'always listens':>14} {'distracted':>11}   expected return")
    for name, make in RULES.items():
        exact = name in ("expert", "optimum")
        returns = [
            exact_return(make(), manner) if exact else simulated_return(make(), conversations, manner)
            for manner in ("plain", DISTRACTED)
        ]
        how = "exact" if exact else f"{conversations} conversations, standard error below .1"
        print(f"{name:12} {returns[0]:14.6f} {returns[1]:11.6f}   {how}", flush=True)
    for name, most in (
        ("planned", [_planner(misses).value(TABLE.everything, HORIZON) for misses in (0.0, MISSES)]),
        ("any table", [bound(len(TABLE.things), HORIZON, misses) for misses in (0.0, MISSES)]),
    ):
        print(f"{name:12} {most[0]:14.6f} {most[1]:11.6f}   exact: the most that can be expected")


if __name__ == "__main__":
    _main()
