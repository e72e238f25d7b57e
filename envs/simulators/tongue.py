"""Words in which a world's agents say things to people that are taught (``envs.simulators.people``).

The phrasebook's words, those of agents with habits, and what trained agents have said; and words that do nothing, many
of them: broken, spliced, denied, forged or off the subject, and orders to whoever reads along.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from envs.act_parser import examples
from envs.acts import UNCLEAR, Act
from envs.injections import attempts
from envs.parser_training import Side, adverse

Words = Callable[[Act, np.random.Generator], str]
Read = Callable[[Sequence[str]], list[Act]]
ORDERS = 220
"""How many attempts to talk the reader into something are taught; by half of the orders there are, the other half being
for the probes."""
_SAID, _HABIT = 0.3, 0.4
"""Share of what trained agents have said, and, of the rest, of the words of agents with habits."""


class Tongue:
    """Draws words for acts.

    Args:
        side: the agents', as their parser is trained on it.
        any_words, in_habit: the phrasebook's words for an act, and those of agents with habits.
        said: what trained agents have said, by act (``by_act``).
        nonsense: how many utterances without an act are at hand.
        more: further ones of a world's own.
        seed: of these.
    """

    def __init__(
        self, side: Side, any_words: Words, in_habit: Words, said: Mapping[Act, Sequence[str]], *,
        nonsense: int = 40_000, more: Sequence[str] = (), seed: int = 0,
    ):  # fmt: skip
        self.any_words, self.in_habit, self.said = any_words, in_habit, said
        rng = np.random.default_rng((seed, 7))
        own = examples(side.book, side.acts, rng, 200, side.values, side.styles)
        theirs = [one.text for one in examples(side.foreign_book, side.foreign_acts, rng, 60, side.values)]
        self.nonsense = [one.text for one in adverse(side, theirs, own, rng, nonsense)]
        orders = attempts(side.orders[::2], rng, ORDERS)
        self.nonsense += [orders[i % ORDERS] for i in range(nonsense // 10)] + list(more)

    def say(self, act: Act, rng: np.random.Generator) -> str:
        """Some words that do ``act``."""
        u, known = rng.random(), self.said.get(act)
        if known and u < _SAID:
            return known[int(rng.integers(len(known)))]
        if act == UNCLEAR:
            return self.nonsense[int(rng.integers(len(self.nonsense)))]
        return (self.in_habit if rng.random() < _HABIT else self.any_words)(act, rng)

    def as_trained(self, act: Act, rng: np.random.Generator) -> str:
        """Words of trained agents; of an act that none of them does, any."""
        known = self.said.get(act)
        return known[int(rng.integers(len(known)))] if known else self.say(act, rng)


def by_act(texts: Iterable[str], read: Read) -> Mapping[Act, list[str]]:
    """Utterances by what is read in them."""
    found: dict[Act, list[str]] = defaultdict(list)
    unique = sorted(set(texts))
    for text, act in zip(unique, read(unique) if unique else [], strict=True):
        found[act].append(text)
    return dict(found)
