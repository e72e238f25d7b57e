"""What can be thought of, and what is true of it: the whole truth of this world, in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from envs.acts import Act

Things = int
"""A set of things, as bits: bit i is the i-th thing of the table."""


@dataclass(frozen=True)
class Table:
    """Things, and what is true of each.

    Raises ``ValueError`` where two things can't be told apart, or something is true of a thing that is no property.
    """

    properties: tuple[str, ...]
    true_of: Mapping[str, str]
    """Thing → the properties that it has, with blanks between."""

    def __post_init__(self) -> None:
        rows: dict[frozenset[str], str] = {}
        for thing, has in self.true_of.items():
            row = frozenset(has.split())
            if unknown := row - set(self.properties):
                raise ValueError(f"{thing!r} has {sorted(unknown)}; the properties are {', '.join(self.properties)}.")
            if row in rows:
                raise ValueError(
                    f"{rows[row]!r} and {thing!r} have the same properties; add one that tells them apart."
                )
            rows[row] = thing

    @cached_property
    def things(self) -> tuple[str, ...]:
        return tuple(self.true_of)

    @cached_property
    def everything(self) -> Things:
        return (1 << len(self.true_of)) - 1

    @cached_property
    def having(self) -> dict[str, Things]:
        """Property → the things that have it."""
        return {
            one: sum(1 << i for i, has in enumerate(self.true_of.values()) if one in has.split())
            for one in self.properties
        }

    @cached_property
    def alone(self) -> dict[str, Things]:
        """Thing → the set of it alone."""
        return {thing: 1 << i for i, thing in enumerate(self.true_of)}

    def named(self, left: Things) -> Iterator[str]:
        """The things of a set."""
        return (thing for i, thing in enumerate(self.things) if left >> i & 1)


TABLE: Final = Table(
    properties=(
        "alive", "animal", "food", "plant", "made", "big", "hand", "outdoors", "metal", "wooden", "noise", "moves",
        "legs", "tail", "flies", "water", "vehicle", "power", "round", "soft", "fun", "kitchen", "yellow",
    ),
    true_of={
        "dog": "alive animal outdoors noise moves legs tail soft",
        "cow": "alive animal big outdoors noise moves legs tail",
        "eagle": "alive animal outdoors noise moves legs tail flies",
        "penguin": "alive animal outdoors moves legs tail water",
        "shark": "alive animal big outdoors moves tail water",
        "bee": "alive animal hand outdoors noise moves legs flies yellow",
        "snake": "alive animal outdoors noise moves tail",
        "frog": "alive animal hand outdoors noise moves legs water",
        "apple": "food plant hand round kitchen",
        "carrot": "food plant hand kitchen",
        "lemon": "food plant hand round kitchen yellow",
        "egg": "food hand round kitchen",
        "bread": "food made soft kitchen",
        "cheese": "food made soft kitchen yellow",
        "rose": "alive plant hand outdoors soft",
        "oak": "alive plant big outdoors wooden",
        "kite": "made outdoors tail flies fun",
        "balloon": "made flies round soft fun",
        "bicycle": "made outdoors metal vehicle fun",
        "car": "made big outdoors metal noise moves vehicle power",
        "boat": "made big outdoors wooden water vehicle fun",
        "rocket": "made big outdoors metal noise moves flies vehicle power",
        "piano": "made big wooden noise legs fun",
        "drum": "made wooden noise round fun",
        "hammer": "made hand metal wooden noise",
        "spoon": "made hand metal kitchen",
        "candle": "made hand",
        "lamp": "made metal power",
        "book": "made hand fun",
        "chair": "made wooden legs kitchen",
        "sock": "made hand soft",
        "clock": "made metal noise power round kitchen",
    },
)  # fmt: skip

ASKER_ACTS: Final = (
    *(Act("ask", each) for each in TABLE.properties),
    *(Act("guess", each) for each in TABLE.things),
)
"""All that can be done by words: to ask for a property, or to guess a thing."""


def split_by(table: Table, left: Things, act: Act) -> tuple[Things, Things]:
    """What is left of ``left`` after yes, and after no."""
    if act.about is None:
        raise ValueError(f"{act} is about nothing; give an ask of a property or a guess of a thing.")
    yes = table.having[act.about] if act.kind == "ask" else table.alone[act.about]
    return left & yes, left & ~yes
