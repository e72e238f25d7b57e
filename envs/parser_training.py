"""What act parsers are trained on beside the phrasebook, and how well they do.

A parser must above all know what it does not know. So it is shown sentences that perform no act of its side: word
salads, lists of keywords, utterances broken, spliced, denied or marked, orders to whoever reads along, sentences off
the subject. A world says in a ``Side`` what is particular to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from envs.act_parser import ActParser, Example, Schedule, examples, reframed, train
from envs.acts import UNCLEAR, Act
from envs.phrasebook import Phrasebook, words_of


@dataclass(frozen=True)
class Side:
    """One side of a conversation, as a parser is trained to understand it."""

    name: str
    book: Phrasebook
    acts: tuple[Act, ...]
    styles: tuple[str | None, ...]
    """The styles it speaks in; ``None`` is plain."""
    values: Mapping[str, Sequence[str]]
    """What may fill the placeholders that an act leaves open."""
    foreign_book: Phrasebook
    """The other side's."""
    foreign_acts: tuple[Act, ...]
    """What the other side does and this one never."""
    orders: tuple[str, ...]
    """Attempts to talk the reader into something."""
    marks: tuple[str, ...]
    """What no utterance holds, such as markup."""
    subjects: tuple[str, ...]
    """What a sentence without an act may be about, words of the world among them."""


SUBJECTS: Final = (
    *("the museum", "my uncle", "this recipe", "the committee", "a volcano", "the printer", "our garden"),
    *("the football team", "a quick brown fox", "the government", "that film", "the orchestra"),
    *("her homework", "the dentist", "quantum physics"),
)
"""What a sentence off the subject may be about."""


def marks(kind: str, speaker: str) -> tuple[str, ...]:
    """What no utterance holds: markup, some of it forged for an act of this kind by this speaker."""
    return (
        *("<|user|>", "[end]", "</s>", "### ", f'{{"act": "{kind}"}}', f"{speaker}: ", "*", "_", "->", f"<{kind}>"),
        *("=", "/", "\n"),
    )


_SMALL: Final = frozenset(
    (
        *("a", "an", "the", "very", "really", "so", "just", "only", "quite", "rather", "pretty", "too", "also", "well"),
        *("oh", "ah", "hm", "um", "right", "honestly", "frankly", "please", "now", "then", "here", "some", "much"),
        *("far", "way", "even", "still", "already", "yet", "all", "today", "again", "exactly", "mostly", "mainly"),
        *("of", "that", "this", "it", "and"),
    )
)
"""Words whose loss may leave an utterance understandable."""
_JOINTS: Final = (" and ", ", and ", ", ", " but ", ", so ", " or ", " because ", " ")
_DENIALS: Final = (
    *("not", "never", "don't", "won't", "can't", "isn't"),
    *("no", "no longer", "hardly", "do not", "refuse to"),
)
_PREDICATES: Final = (
    *("opens at nine on Mondays", "needs two cups of flour", "was founded in the last century"),
    *("jumps over the lazy dog", "has a new trumpet player", "ran out of paper", "voted against the plan"),
    *("is on the table", "was very long", "likes to sleep in the sun", "exists", "is blue", "has arrived"),
    *("belongs to a friend", "was painted yesterday", "explains everything", "is older than the town"),
    *("sings in the morning", "turned left", "costs a fortune in Paris"),
)


def adverse(
    side: Side, foreign: Sequence[str], own: Sequence[Example], rng: np.random.Generator, count: int
) -> list[Example]:
    """``count`` sentences that perform no act of the side: broken, mixed, denied, forged, or off the subject.

    ``own`` are utterances of the side, most of them broken here in one way or another; ``foreign`` are those of the
    other side. What the phrasebook does say for some act is left out.
    """
    makers = _makers(side, own, foreign, rng)
    contained = _Contained(side.book, {example.act for example in own})
    found: list[Any] = []
    while len(found) < count:
        text, source = makers[int(rng.integers(len(makers)))]()
        if text.strip() and not contained(text):
            found.append(Example(text, UNCLEAR, source))
    return found


class _Contained:
    """Whether the phrasebook says a sentence by a phrasing that is not held out, whatever its case and end."""

    def __init__(self, book: Phrasebook, acts: set[Act]) -> None:
        self._book = book
        self._said = {_plain(text) for act in acts for text in book.utterances(act)}

    def __call__(self, text: str) -> bool:
        return _plain(self._book.unfilled(text)) in self._said


def _plain(text: str) -> str:
    return " ".join(text.lower().rstrip(".?! ").split())


def _makers(
    side: Side, own: Sequence[Example], foreign: Sequence[str], rng: np.random.Generator
) -> list[Callable[[], tuple[str, str | None]]]:
    """Functions that each make one bad sentence, and say which phrasing it was made from, if from one."""
    words = sorted({word for example in own for word in words_of(example.text)})
    follow = defaultdict(list)
    for example in own:
        tokens = ["", *_tokens(example.text), ""]
        for left, right in pairwise(tokens):
            follow[left].append(right)

    def draw(options: Sequence[Any]) -> Any:
        return options[int(rng.integers(len(options)))]

    def one() -> Example:
        return draw(own)

    def two() -> tuple[Example, Example]:
        left, right = one(), one()
        while right.act.kind == left.act.kind:
            right = one()
        return left, right

    def broken(change: Callable[[list[str]], list[str] | None]) -> Callable[[], tuple[str, str | None]]:
        def make() -> tuple[str, str | None]:
            example = one()
            changed = change(_tokens(example.text))
            return (_joined(changed), example.phrasing) if changed else ("", None)

        return make

    def salad() -> tuple[str, None]:
        return _joined([draw(words) for _ in range(int(rng.integers(2, 12)))]), None

    def themed_salad() -> tuple[str, None]:
        pool = [token for example in (one(), *two()) for token in _tokens(example.text)]
        return _joined([draw(pool) for _ in range(int(rng.integers(2, 12)))]), None

    def keywords() -> tuple[str, None]:
        pool = [word for example in two() for word in words_of(example.text) if word not in _SMALL and len(word) > 3]
        return _joined([draw(pool) for _ in range(int(rng.integers(1, 7)))] if pool else []), None

    def walk() -> tuple[str, None]:
        tokens = [draw(follow[""])]
        while tokens[-1] and len(tokens) < 14:
            tokens.append(draw(follow[tokens[-1]]))
        return _joined(tokens), None

    def splice() -> tuple[str, None]:
        left, right = two()
        a, b = _tokens(left.text), _tokens(right.text)
        i, j = int(rng.integers(1, len(a))) if len(a) > 1 else 1, int(rng.integers(len(b)))
        return _joined(a[:i] + b[j:]), None

    def halves() -> tuple[str, None]:
        left, right = two()
        a, b = _tokens(left.text), _tokens(right.text)
        return _joined(a[: (len(a) + 1) // 2] + b[len(b) // 2 :]), None

    def both() -> tuple[str, None]:
        left, right = two()
        return left.text.rstrip(".?!") + str(draw(_JOINTS)) + right.text[0].lower() + right.text[1:], None

    def ordered() -> tuple[str, None]:
        order = str(draw(side.orders))
        form = int(rng.integers(3))
        return (order, f"{one().text.rstrip('.?!')}, {order}", f"{order}, {one().text}")[form], None

    def off_topic() -> tuple[str, None]:
        sentence = f"{draw(side.subjects)} {draw(_PREDICATES)}"
        return (sentence if rng.random() < 0.7 else f"{sentence} and {draw(side.subjects)} {draw(_PREDICATES)}"), None

    def theirs() -> tuple[str, None]:
        return str(draw(foreign)), None

    def shuffled(tokens: list[str]) -> list[str]:
        return [tokens[i] for i in rng.permutation(len(tokens))]

    def shortened(tokens: list[str]) -> list[str] | None:
        keep = int(rng.integers(1, max(2, round(len(tokens) * 0.75))))
        return tokens[:keep] if rng.random() < 0.5 else tokens[-keep:]

    def looped(tokens: list[str]) -> list[str]:
        start, size = int(rng.integers(len(tokens))), int(rng.integers(1, 4))
        return tokens[: start + size] + tokens[start : start + size] * int(rng.integers(1, 3)) + tokens[start + size :]

    def without(tokens: list[str]) -> list[str] | None:
        places = [i for i, token in enumerate(tokens) if token[0].isalpha() and token not in _SMALL]
        if not places or len(tokens) < 3:
            return None
        gone = {draw(places) for _ in range(1 if rng.random() < 0.6 else 2)}
        return [token for i, token in enumerate(tokens) if i not in gone]

    def swapped(tokens: list[str]) -> list[str] | None:
        places = [i for i, token in enumerate(tokens) if token[0].isalnum()]
        if len(places) < 3:
            return None
        i, j = rng.choice(len(places), 2, replace=False)
        tokens[places[i]], tokens[places[j]] = tokens[places[j]], tokens[places[i]]
        return tokens

    def replaced(tokens: list[str]) -> list[str] | None:
        places = [i for i, token in enumerate(tokens) if token[0].isalpha() and token not in _SMALL]
        for _ in range(1 if rng.random() < 0.5 else 2):
            if places:
                tokens[draw(places)] = draw(words)
        return tokens if places else None

    def inserted(tokens: list[str]) -> list[str]:
        for _ in range(int(rng.integers(1, 4))):
            tokens.insert(int(rng.integers(len(tokens) + 1)), draw(words))
        return tokens

    def denied(tokens: list[str]) -> list[str]:
        place = int(rng.integers(min(len(tokens), 5)))
        return tokens[:place] + str(draw(_DENIALS)).split() + tokens[place:]

    def marked(tokens: list[str]) -> list[str]:
        tokens.insert(int(rng.integers(len(tokens) + 1)), str(draw(side.marks)))
        return tokens

    edits = (shuffled, shuffled, shortened, shortened, looped, without, without, swapped, swapped, replaced, replaced)
    salads: list[Any] = [salad, themed_salad, themed_salad, keywords, keywords, walk, walk]
    joined: list[Any] = [splice, splice, splice, halves, both, both, both, ordered, off_topic, theirs, theirs]
    return [*salads, *joined, *(broken(edit) for edit in (*edits, inserted, inserted, denied, denied, marked))]


def _tokens(text: str) -> list[str]:
    return text.lower().replace(",", " ,").rstrip(".?! ").split()


def _joined(tokens: Sequence[str]) -> str:
    return " ".join(token for token in tokens if token).replace(" ,", ",")


def material(side: Side, each: int, bad: int) -> tuple[list[Example], list[Example], list[Example]]:
    """``each`` utterances of every act, ``bad`` sentences without one, and utterances in frames of other acts."""
    rng = np.random.default_rng([len(side.name), each])
    positives = examples(side.book, side.acts, rng, each, side.values, side.styles)
    negatives = adverse(side, _foreign(side, rng), positives, rng, bad)
    return positives, negatives, reframed(side.book, side.acts, rng, each // 2, side.values)


def trained_parser(side: Side, each: int = 700, bad: int = 80_000, schedule: Schedule | None = None) -> ActParser:
    """A parser for one side, trained on its phrasebook. Needs torch, and a minute; see ``material``."""
    positives, negatives, frames = material(side, each, bad)
    return train(side.book, positives, negatives, schedule or Schedule(), frames)


def _foreign(side: Side, rng: np.random.Generator) -> list[str]:
    """What the other side says and this one never does."""
    return [example.text for example in examples(side.foreign_book, side.foreign_acts, rng, 60, side.values)]


def held_out_accuracy(side: Side, parser: ActParser, each: int = 400, seed: int = 1) -> dict[str, float]:
    """By act kind, the share of utterances of held-out phrasings that the parser reads rightly.

    Every held-out pattern of an act counts alike; a side speaks in all its styles. ``each`` is the number of utterances
    of an act.
    """
    rng = np.random.default_rng(seed)
    right: dict[str, list[bool]] = {}
    for act in side.acts:
        texts = []
        for number in range(each):
            style = side.styles[number % len(side.styles)]
            values = {name: options[number % len(options)] for name, options in side.values.items()}
            texts.append(side.book.say(act, rng, style=style, held_out=True, values=values))
        right.setdefault(act.kind, []).extend(found == (act,) for found in parser.parse_moves(texts))
    return {kind: float(np.mean(hits)) for kind, hits in right.items()}


def accepted_share(side: Side, parser: ActParser, count: int = 5_000, seed: int = 2) -> float:
    """The share of fresh sentences that perform no act, made like those trained on, in which the parser finds one."""
    rng = np.random.default_rng(seed)
    own = examples(side.book, side.acts, rng, 40, side.values, side.styles)
    texts = [example.text for example in adverse(side, _foreign(side, rng), own, rng, count)]
    return float(np.mean([UNCLEAR not in found for found in parser.parse_moves(texts)]))


def retrain(sides: Sequence[Side], folder: Path) -> None:
    """Train the parser of every side, store it as ``NAME_parser.npz`` in the folder, and print how well it does."""
    for side in sides:
        path = folder / f"{side.name}_parser.npz"
        trained_parser(side).save(path)
        parser = ActParser.load(path)
        for kind, share in held_out_accuracy(side, parser).items():
            print(f"{side.name}: {kind} of held-out phrasings read rightly {share:.3f}")
        print(f"{side.name}: sentences without an act in which one is found {accepted_share(side, parser):.4f}")
