"""Reads an utterance back into the act it performs, and knows what it does not know.

An utterance becomes a sequence of words in which the phrases of the phrasebook's keyed lists, the products, the prices
and the topics stand as classes (``the <subject> is made for <doing>``), and asides (``well,``) are set apart. Its uni-,
bi- and trigrams, and how many of them were never seen, feed a small network that names one act or none. Rules then turn
down what a network can be talked into: marks that no phrase has, neighbouring words that no phrasing has side by side,
words said twice, a wrong price, two products, a use that is not the product's, a negation that the act never has, a
second sentence that does something else. Whatever fails is ``UNCLEAR``; a slip of the tongue may fail too.

Reading needs numpy alone; ``train`` needs torch. Phrasings held out of the phrasebook are never trained on. So that
they are understood all the same, every training utterance is shown a second time as if its own phrasing had been
unknown: without the n-grams that only this phrasing has, and with those counted as unseen; a third time without some
of its triples; and every act is shown in the frames of the others (``reframed``). A phrasing whose neighbouring words
no other phrasing has cannot be understood when it is held out: in a phrasebook that is to be parsed, every pair of
words should occur in three phrasings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from envs.acts import UNCLEAR, Act
from envs.phrasebook import Phrasebook

NOT_UNDERSTOOD: Final = (UNCLEAR,)
MOST_WORDS: Final = 24
"""The longest sentence that is still listened to."""
MOST_CHARACTERS: Final = 400
LEAST_CERTAINTY: Final = 0.3
"""An act is read from an utterance only if it is at least so probable."""

_TOKEN: Final = re.compile(r"\$\d+|\d+|[a-z]+(?:'[a-z]+)*|\S")
_PHRASE_TOKEN: Final = re.compile(rf"[{{<]\w+[}}>]|{_TOKEN.pattern}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9 $',.?!;]*")
_SENTENCE: Final = re.compile(r"[^.?!]*[.?!]+|[^.?!]+$")
_NEGATION: Final = re.compile(
    r"no|not|never|none|nothing|nobody|nowhere|neither|nor|without|cannot|hardly|refuse|\w+n't"
)
_MEMORY: Final = 65_536
_REPEATABLE: Final = frozenset({"bye", "that"})
_UNSEEN_STEPS: Final = 6
_COUNTED: Final = 3
_KEPT_BROKEN: Final = 5
_FRAMED: Final = re.compile(r"\{(say|ask|what)(_on)?\}")
"""The lists that hold what an act says, whatever is put around it."""
_HIDDEN: Final = 0.3
"""The share of known triples that a training utterance is also shown without."""
_MOST_OPENERS: Final = 2
_LONGEST_ASIDE: Final = 5


@dataclass(frozen=True, slots=True)
class Slot:
    """A phrase of a keyed list as it was found in an utterance."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Reading:
    """An utterance as classes and words, before it is understood."""

    tokens: tuple[str, ...]
    """Words in lower case, commas, and ``<name>`` for what belongs to a class; the end mark is left out."""
    slots: tuple[Slot, ...]
    subjects: tuple[str, ...]
    """What is named of the things that have details, such as products."""
    prices: tuple[str, ...]
    asides: tuple[str, ...] = ()
    """What was said before the first comma or after the last that adds nothing (``well,``); not in ``tokens``."""


@dataclass(frozen=True)
class Lexicon:
    """What stands for a class (the phrases of keyed lists, the names of things), and what is an aside."""

    phrases: Mapping[str, Any]
    """A tree of words; where a phrase ends, ``None`` leads to its list and its key."""
    details: Mapping[str, Mapping[str, str]]
    openers: frozenset[str] = frozenset()
    """Asides before a comma."""
    closers: frozenset[str] = frozenset()
    """Asides after a comma."""
    fillers: Mapping[str, Any] = field(default_factory=dict)
    """A tree of words; where the name of something that says nothing about the act ends (a topic), ``None`` leads to
    the value that it fills. It stands as ``<topic>`` in ``tokens``, and may be part of a phrase."""

    @classmethod
    def of(
        cls,
        keyed: Mapping[str, Sequence[str]],
        details: Mapping[str, Mapping[str, str]],
        openers: Iterable[str] = (),
        closers: Iterable[str] = (),
        fillers: Mapping[str, str] | None = None,
    ) -> Lexicon:
        """``fillers`` are names in lower case with the value that each fills: ``{"gravity": "topic"}``."""
        tree = _tree({phrase: (*owner,) for phrase, owner in keyed.items()})
        named = {name.lower(): {"name": name, **detail} for name, detail in details.items()}
        return cls(tree, named, frozenset(openers), frozenset(closers), _tree(fillers or {}))

    def read(self, sentence: str) -> Reading:
        words = self._filled(_TOKEN.findall(sentence.lower().rstrip(".?! ")))
        tokens: list[str] = []
        slots: list[Slot] = []
        subjects: list[str] = []
        prices: list[str] = []
        place = 0
        while place < len(words):
            word = words[place]
            found, size = _longest(self.phrases, words, place)
            if found:
                slots.append(Slot(*found))
                tokens.append(f"<{found[0]}>")
                place += size
            else:
                place += 1
                if word in self.details:
                    subjects.append(word)
                    word = "<subject>"
                elif word[0] == "$":
                    prices.append(word)
                    word = "<price>"
                tokens.append(word)
        kernel, asides = self._without_asides(tokens)
        return Reading(tuple(kernel), tuple(slots), tuple(subjects), tuple(prices), tuple(asides))

    def _without_asides(self, tokens: list[str]) -> tuple[list[str], list[str]]:
        asides: list[str] = []
        while len(asides) < _MOST_OPENERS and "," in tokens[1:-1]:
            comma = tokens.index(",", 1)
            if comma + 1 == len(tokens) or (opener := " ".join(tokens[:comma])) not in self.openers:
                break
            asides.append(f"{opener} ,")
            tokens = tokens[comma + 1 :]
        if "," in tokens[1:-1]:
            comma = len(tokens) - 1 - tokens[::-1].index(",")
            closer = " ".join(tokens[comma + 1 :])
            if comma and closer in self.closers:
                asides.append(f", {closer}")
                tokens = tokens[:comma]
        return tokens, asides

    def _filled(self, words: list[str]) -> list[str]:
        """The words, with ``<topic>`` for the name of a topic."""
        filled: list[str] = []
        place = 0
        while place < len(words):
            found, size = _longest(self.fillers, words, place)
            filled.append(f"<{found}>" if found else words[place])
            place += size or 1
        return filled

    def keyed(self) -> dict[str, tuple[str, str]]:
        """The phrases as ``of`` takes them."""
        return dict(_branches(self.phrases, ()))

    def filling(self) -> dict[str, str]:
        """The fillers as ``of`` takes them."""
        return dict(_branches(self.fillers, ()))


def _tree(phrases: Mapping[str, Any]) -> dict[Any, Any]:
    """The phrases as a tree of words. ``{topic}`` in a phrase is one word, ``<topic>``."""
    tree: dict[Any, Any] = {}
    for phrase, owner in phrases.items():
        node = tree
        for word in _PHRASE_TOKEN.findall(phrase):
            node = node.setdefault(f"<{word[1:-1]}>" if word[0] == "{" else word, {})
        node[None] = owner
    return tree


def _longest(tree: Mapping[Any, Any], words: Sequence[str], start: int) -> tuple[Any, int]:
    """What the longest phrase that begins here leads to, and how many words it takes; None and 0 if none does."""
    node: Any = tree
    found, size = None, 0
    for count in range(start, len(words)):
        node = node.get(words[count])
        if node is None:
            break
        if None in node:
            found, size = node[None], count + 1 - start
    return found, size


def _branches(node: Mapping[Any, Any], words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for word, rest in node.items():
        if word is None:
            yield " ".join(words), rest
        else:
            yield from _branches(rest, (*words, word))


def ngrams(reading: Reading) -> tuple[list[str], list[str], list[str], list[str]]:
    """The words of a reading, its pairs, its triples, and beside them the keys of its slots and its asides."""
    tokens = ("<s>", *reading.tokens, "</s>")
    pairs = [f"{a} {b}" for a, b in pairwise(tokens)]
    triples = [f"{pair} {c}" for pair, c in zip(pairs, tokens[2:], strict=False)]
    return (
        list(reading.tokens),
        pairs,
        triples,
        [*(f"{slot.name}.{slot.key}" for slot in reading.slots), *reading.asides],
    )


def asides_of(readings: Iterable[Reading]) -> tuple[set[str], set[str]]:
    """What stands between commas before the first phrase of a keyed list, and after the last."""
    openers, closers = set(), set()
    for reading in readings:
        tokens = reading.tokens
        places = [place for place, token in enumerate(tokens) if token[0] == "<"]
        if places:
            openers.update(_segments(tokens[: places[0]], -1))
            closers.update(_segments(tokens[places[-1] + 1 :], 0))
    return openers, closers


def _segments(tokens: Sequence[str], comma: int) -> list[str]:
    """What commas part, if there is one at the inner end, where ``comma`` points to."""
    if not tokens or tokens[comma] != ",":
        return []
    parts = [part.strip() for part in " ".join(tokens).split(",")]
    return [part for part in parts if part and _is_aside(part.split())]


def _is_aside(tokens: Sequence[str]) -> bool:
    return 0 < len(tokens) <= _LONGEST_ASIDE and all(token[0].isalpha() for token in tokens)


@dataclass(frozen=True)
class Rules:
    """What the network's answer must agree with. Learnt from the phrasings that are not held out."""

    slots: Mapping[str, frozenset[str]]
    """By label, the keyed lists that its utterances use."""
    negations: Mapping[str, frozenset[str]]
    """By label, the words with which its utterances deny something, each with the next word."""
    kinds: Mapping[str, frozenset[str]]
    """By label, the kinds of act whose phrases it uses."""
    pooled: Mapping[str, frozenset[str]]
    """Labels that stand for a kind, whatever it is about; the keys of which one must be said."""
    named: Mapping[str, frozenset[str]]
    """Labels that are about a thing with details, and name it, with these things."""
    priced: Mapping[str, frozenset[str]]
    """Labels that may name a price, with the prices known."""


@dataclass(frozen=True)
class ActParser:
    """A trained parser. Build one with ``load`` or ``train``."""

    labels: tuple[str, ...]
    """What the network tells apart; the first is ``unclear``."""
    features: Mapping[str, int]
    """The row of every known n-gram."""
    lexicon: Lexicon
    rules: Rules
    embedding: np.ndarray
    """[n-grams + counters, width], float32."""
    bias: np.ndarray
    """[width]."""
    output: np.ndarray
    """[width, labels]."""
    output_bias: np.ndarray
    """[labels]."""
    _memory: dict[str, Act] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> ActParser:
        """The parser in an ``.npz`` file that ``save`` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes().decode())
            arrays = {name: stored[name].astype(np.float32) for name in ("bias", "output", "output_bias")}
            embedding = stored["embedding"].astype(np.float32) * stored["scale"]
        sets = ({label: frozenset(values) for label, values in facts[name].items()} for name in _LEARNT)
        return cls(
            labels=tuple(facts["labels"]),
            features={gram: index for index, gram in enumerate(facts["features"])},
            lexicon=Lexicon.of(
                facts["keyed"], facts["details"], facts["openers"], facts["closers"], facts.get("fillers")
            ),
            rules=Rules(*sets),
            embedding=embedding,
            **arrays,
        )

    def save(self, path: str | Path) -> None:
        """Store the parser, the embedding rounded to 8 bits a number."""
        facts: dict[str, Any] = {"labels": self.labels, "features": list(self.features), "keyed": self.lexicon.keyed()}
        facts["details"] = {name: dict(detail) for name, detail in self.lexicon.details.items()}
        facts |= {"openers": sorted(self.lexicon.openers), "closers": sorted(self.lexicon.closers)}
        facts["fillers"] = self.lexicon.filling()
        for name in _LEARNT:
            facts[name] = {label: sorted(values) for label, values in getattr(self.rules, name).items()}
        scale = np.abs(self.embedding).max(axis=0) / 127
        np.savez_compressed(
            path,
            facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            embedding=np.rint(self.embedding / scale).astype(np.int8),
            scale=scale.astype(np.float32),
            bias=self.bias,
            output=self.output,
            output_bias=self.output_bias,
        )

    def parse(self, texts: Sequence[str]) -> list[Act]:
        """The one act that each text performs, or ``UNCLEAR``. A second sentence must do the same as the first."""
        return [found[0] if len(set(found)) == 1 else UNCLEAR for found in self._sentence_acts(texts)]

    def parse_moves(self, texts: Sequence[str]) -> list[tuple[Act, ...]]:
        """The acts of each text, sentence by sentence: one or two, ``UNCLEAR`` where a sentence is not understood.

        More than two sentences are ``(UNCLEAR,)``; the same act said twice counts once.
        """
        return [found if len(set(found)) == len(found) else found[:1] for found in self._sentence_acts(texts)]

    def _sentence_acts(self, texts: Sequence[str]) -> list[tuple[Act, ...]]:
        split = [_sentences(text) for text in texts]
        memory = self._memory
        news = list({sentence for sentences in split for sentence in sentences if sentence not in memory})
        if news:
            if len(memory) > _MEMORY:
                memory.clear()
                news = list({sentence for sentences in split for sentence in sentences})
            memory.update(zip(news, self._parse_sentences(news), strict=True))
        return [tuple(memory[sentence] for sentence in sentences) or NOT_UNDERSTOOD for sentences in split]

    def _parse_sentences(self, sentences: Sequence[str]) -> list[Act]:
        readings = [self.lexicon.read(sentence) for sentence in sentences]
        probabilities = self.probabilities(readings)
        best = 1 + probabilities[:, 1:].argmax(axis=1)
        certain = probabilities[np.arange(len(best)), best] >= LEAST_CERTAINTY
        return [
            self._judged(self.labels[label], reading) if sure else UNCLEAR
            for label, sure, reading in zip(best.tolist(), certain.tolist(), readings, strict=True)
        ]

    def probabilities(self, readings: Sequence[Reading]) -> np.ndarray:
        """What the network makes of each reading, [readings, labels]; the rules are not applied."""
        rows: list[int] = []
        starts: list[int] = []
        for reading in readings:
            starts.append(len(rows))
            rows += _rows(reading, self.features, len(self.features))
        hidden = np.maximum(np.add.reduceat(self.embedding[rows], starts, axis=0) + self.bias, 0)
        scores = hidden @ self.output + self.output_bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def _judged(self, label: str, reading: Reading) -> Act:
        """The act that a label stands for, unless a rule speaks against it."""
        rules = self.rules
        if any(token[0].isdigit() for token in reading.tokens):
            return UNCLEAR
        if _repeats(reading.tokens) or self._broken(reading):
            return UNCLEAR
        if not {slot.name for slot in reading.slots} <= rules.slots[label]:
            return UNCLEAR
        if not set(negations(reading)) <= rules.negations[label]:
            return UNCLEAR
        act = self._about(label, reading)
        if act is None or (reading.prices and not self._may_cost(label, act, reading.prices)):
            return UNCLEAR
        allowed = {act.about, *rules.kinds[label], *self.lexicon.details.get((act.about or "").lower(), {}).values()}
        return act if all(slot.key in allowed for slot in reading.slots) else UNCLEAR

    def _about(self, label: str, reading: Reading) -> Act | None:
        """The act with what it is about, or None if the utterance does not say, or says two things."""
        kind, _, about = label.partition(" ")
        pool = self.rules.pooled.get(label)
        if pool is None:
            return Act(kind, about or None) if not reading.subjects else None
        keys = {slot.key for slot in reading.slots if slot.key in pool}
        if len(keys) != 1:
            return None
        if label not in self.rules.named:
            return Act(kind, keys.pop()) if not reading.subjects else None
        if len(reading.subjects) != 1:
            return None
        detail = self.lexicon.details[reading.subjects[0]]
        return Act(kind, detail["name"]) if keys <= set(detail.values()) else None

    def _may_cost(self, label: str, act: Act, prices: tuple[str, ...]) -> bool:
        if label not in self.rules.priced or len(prices) > 1:
            return False
        return label not in self.rules.named or prices[0] == self.lexicon.details[str(act.about).lower()]["price"]

    def _broken(self, reading: Reading) -> bool:
        """Whether two words follow each other, or begin or end the sentence, that never do in the phrasebook."""
        tokens = ("<s>", *reading.tokens, "</s>")
        return any(f"{a} {b}" not in self.features for a, b in pairwise(tokens))


_LEARNT: Final = ("slots", "negations", "kinds", "pooled", "named", "priced")


def _rows(reading: Reading, known: Mapping[str, int], size: int) -> list[int]:
    """The rows of the embedding that stand for a reading: those of its known n-grams, and three counters.

    The counters, of ``_UNSEEN_STEPS`` rows each after the first ``size``, say how many words, pairs and triples are
    unknown.
    """
    rows: list[int] = []
    for order, grams in enumerate(ngrams(reading)):
        found = [row for gram in grams if (row := known.get(gram)) is not None]
        rows += found
        if order < _COUNTED:
            rows.append(size + order * _UNSEEN_STEPS + min(len(grams) - len(found), _UNSEEN_STEPS - 1))
    return rows


def negations(reading: Reading) -> list[str]:
    """The words with which a sentence denies something, each with the word that follows it."""
    following = zip(reading.tokens, (*reading.tokens[1:], ""), strict=True)
    return [f"{token} {after}" for token, after in following if _NEGATION.fullmatch(token)]


def _sentences(text: str) -> tuple[str, ...]:
    """The one or two sentences of a text; none if it holds anything that no phrase has."""
    text = text.replace("\u2019", "'")
    if len(text) > MOST_CHARACTERS or not _PLAIN.fullmatch(text):
        return ()
    sentences = tuple(sentence.strip() for sentence in _SENTENCE.findall(text) if sentence.strip())
    if not 1 <= len(sentences) <= 2 or any(not _listened_to(sentence) for sentence in sentences):
        return ()
    return sentences


def _listened_to(sentence: str) -> bool:
    return 1 <= len(sentence.split()) <= MOST_WORDS and any(letter.isalpha() for letter in sentence)


def _repeats(tokens: Sequence[str]) -> bool:
    """Whether a word is said twice in a row, or three words twice anywhere."""
    words = [token for token in tokens if token not in _REPEATABLE]
    triples = [*zip(words, words[1:], words[2:], strict=False)]
    return any(a == b for a, b in pairwise(words)) or len(set(triples)) < len(triples)


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence to train on."""

    text: str
    act: Act
    phrasing: str | None = None
    """The pattern that it was said by, or made from."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how large to train."""

    width: int = 64
    epochs: int = 8
    batch: int = 256
    learning_rate: float = 4e-3
    dropout: float = 0.15
    """The share of n-grams that are left out at random."""
    weight_decay: float = 1e-6
    seed: int = 0


def examples(
    book: Phrasebook,
    acts: Iterable[Act],
    rng: np.random.Generator,
    each: int,
    values: Mapping[str, Sequence[str]] | None = None,
    styles: Sequence[str | None] = (None,),
) -> list[Example]:
    """``each`` utterances of every act, taken evenly from its patterns that are not held out."""
    found = []
    for act in acts:
        patterns = book.patterns(act)
        for number in range(each):
            index = number % len(patterns)
            chosen = {name: options[int(rng.integers(len(options)))] for name, options in (values or {}).items()}
            style = styles[int(rng.integers(len(styles)))]
            text = book.say_pattern(act, index, rng, style=style, values=chosen)
            found.append(Example(text, act, patterns[index]))
    return found


def reframed(
    book: Phrasebook, acts: Sequence[Act], rng: np.random.Generator, each: int, values: Mapping[str, Sequence[str]]
) -> list[Example]:
    """``each`` utterances of every act in frames that other acts have (``you see, {say}``) and it has not, if any fits.

    They teach that a frame says little about the act. Phrasings of the act that are held out are not among them.
    """
    patterns = dict.fromkeys(pattern for act in acts for pattern in book.patterns(act))
    frames = [pattern for pattern in patterns if _FRAMED.search(pattern)]
    found = []
    for act in acts:
        own = {*book.patterns(act), *book.patterns(act, held_out=True)}
        some = {name: options[0] for name, options in values.items()}
        foreign = [frame for frame in frames if frame not in own and book.say_frame(act, frame, rng, values=some)]
        for _ in range(each if foreign else 0):
            frame = foreign[int(rng.integers(len(foreign)))]
            chosen = {name: options[int(rng.integers(len(options)))] for name, options in values.items()}
            text = book.say_frame(act, frame, rng, values=chosen)
            assert text is not None  # whether it can be said does not depend on chance
            found.append(Example(text, act, frame))
    return found


def train(
    book: Phrasebook,
    positives: Sequence[Example],
    negatives: Sequence[Example],
    schedule: Schedule,
    lent: Sequence[Example] = (),
) -> ActParser:
    """A parser for the acts of ``positives`` that finds nothing in the ``negatives``. Needs torch; takes a minute.

    ``lent`` utterances (see ``reframed``) are learnt from beside the positives, and teach no word or rule.
    """
    fillers = {option.lower(): name for name, options in book.values.items() for option in options}
    lexicon = Lexicon.of(book.keyed, book.details, fillers=fillers)
    asides = asides_of(lexicon.read(example.text) for example in positives)
    lexicon = Lexicon.of(book.keyed, book.details, *asides, fillers)
    readings = [lexicon.read(example.text) for example in positives]
    rules = _learnt_rules(positives, readings, lexicon)
    kinds = [example.act.kind if example.act.kind in rules.pooled else _label(example.act) for example in positives]
    labels = ("unclear", *dict.fromkeys(kinds))
    owners = _owners(readings, positives)
    features = {gram: index for index, gram in enumerate(owners)}
    seen = _seen_pairs(readings, kinds)
    cases = [
        (reading, labels.index(kind), example)
        for reading, kind, example in zip(readings, kinds, positives, strict=True)
    ]
    for example in lent:
        kind = example.act.kind if example.act.kind in rules.pooled else _label(example.act)
        cases.append((lexicon.read(example.text), labels.index(kind), example))
    for number, example in enumerate(negatives):
        reading = lexicon.read(example.text)
        if _is_instructive(reading, seen, number):
            cases.append((reading, 0, example))
    rows, targets = [], []
    rng = np.random.default_rng(schedule.seed)
    for reading, target, example in cases:
        others = {
            gram: features[gram]
            for gram in chain.from_iterable(ngrams(reading))
            if gram in owners and (example.phrasing is None or owners[gram] != example.phrasing)
        }
        views = [features, others]
        if target:  # a new phrasing may be made of known pairs alone, and still have triples that nobody wrote down
            views.append(_with_triples_hidden(features, reading, rng))
        rows += [_rows(reading, known, len(features)) for known in views]
        targets += [target] * len(views)
    arrays: dict[str, Any] = _fitted(rows, np.array(targets), len(features), len(labels), schedule)
    return ActParser(labels, features, lexicon, rules, **arrays)


def _with_triples_hidden(features: Mapping[str, int], reading: Reading, rng: np.random.Generator) -> dict[str, int]:
    """The features of a reading, without some of its triples."""
    words, pairs, triples, rest = ngrams(reading)
    shown = [triple for triple in triples if rng.random() > _HIDDEN]
    return {gram: features[gram] for gram in (*words, *pairs, *shown, *rest) if gram in features}


def _seen_pairs(readings: Iterable[Reading], labels: Iterable[str]) -> dict[tuple[str, str], set[str]]:
    """The labels in whose utterances one word follows the other."""
    seen: dict[tuple[str, str], set[str]] = {}
    for reading, label in zip(readings, labels, strict=True):
        for pair in pairwise(("<s>", *reading.tokens, "</s>")):
            seen.setdefault(pair, set()).add(label)
    return seen


def _is_instructive(reading: Reading, seen: Mapping[tuple[str, str], set[str]], number: int) -> bool:
    """Whether a sentence without an act is one to learn from.

    One in which all pairs of words are those of one act may well be a good phrasing of it that nobody wrote down. One
    with pairs that were never seen is turned down by rule: one in ``_KEPT_BROKEN`` of them is enough.
    """
    labels = [seen.get(pair, set()) for pair in pairwise(("<s>", *reading.tokens, "</s>"))]
    if not all(labels):
        return number % _KEPT_BROKEN == 0
    return not set.intersection(*labels)


def _label(act: Act) -> str:
    return f"{act.kind} {act.about}" if act.about else act.kind


def _owners(readings: Iterable[Reading], positives: Iterable[Example]) -> dict[str, str | None]:
    """The one phrasing that has an n-gram, or None if several do."""
    owners: dict[str, str | None] = {}
    for reading, example in zip(readings, positives, strict=True):
        for gram in chain.from_iterable(ngrams(reading)):
            if owners.setdefault(gram, example.phrasing) != example.phrasing:
                owners[gram] = None
    return owners


def _learnt_rules(positives: Sequence[Example], readings: Sequence[Reading], lexicon: Lexicon) -> Rules:
    by_kind: dict[str, list[tuple[Act, Reading, str]]] = {}
    for example, reading in zip(positives, readings, strict=True):
        by_kind.setdefault(example.act.kind, []).append((example.act, reading, example.text))
    pooled, named = {}, {}
    for kind, found in by_kind.items():
        keys = {_said_keys(act, lexicon) for act, _, _ in found}
        if all(_says(act, reading, lexicon) for act, reading, _ in found):
            pooled[kind] = frozenset(keys)
            if all(reading.subjects for _, reading, _ in found):
                named[kind] = frozenset(str(act.about) for act, _, _ in found)
    slots: dict[str, set[str]] = {}
    denied: dict[str, set[str]] = {}
    priced: dict[str, set[str]] = {}
    kinds: dict[str, set[str]] = {}
    for example, reading in zip(positives, readings, strict=True):
        label = example.act.kind if example.act.kind in pooled else _label(example.act)
        slots.setdefault(label, set()).update(slot.name for slot in reading.slots)
        denied.setdefault(label, set()).update(negations(reading))
        kinds.setdefault(label, set()).update(slot.key for slot in reading.slots if slot.key in by_kind)
        if reading.prices:
            priced.setdefault(label, set()).update(reading.prices)
    sets = (slots, denied, kinds, priced)
    said, denials, key_kinds, prices = ({label: frozenset(own) for label, own in each.items()} for each in sets)
    return Rules(said, denials, key_kinds, pooled, named, prices)


def _said_keys(act: Act, lexicon: Lexicon) -> str:
    """The key that an utterance about this must say: what a product is for, or the thing itself."""
    detail = lexicon.details.get((act.about or "").lower())
    return detail["need"] if detail else str(act.about)


def _says(act: Act, reading: Reading, lexicon: Lexicon) -> bool:
    return act.about is not None and any(slot.key == _said_keys(act, lexicon) for slot in reading.slots)


def _fitted(
    rows: Sequence[Sequence[int]], targets: np.ndarray, features: int, labels: int, schedule: Schedule
) -> dict[str, np.ndarray]:
    import torch

    torch.manual_seed(schedule.seed)
    table = torch.nn.EmbeddingBag(features + _COUNTED * _UNSEEN_STEPS, schedule.width, mode="sum")
    torch.nn.init.normal_(table.weight, std=0.1)
    bias = torch.nn.Parameter(torch.zeros(schedule.width))
    output = torch.nn.Linear(schedule.width, labels)
    parameters = [table.weight, bias, *output.parameters()]
    steps = schedule.epochs * (len(rows) // schedule.batch)
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=steps)
    flat = torch.tensor(np.concatenate([np.asarray(row) for row in rows]))
    lengths = torch.tensor([len(row) for row in rows])
    starts = torch.cumsum(lengths, 0) - lengths
    goals = torch.tensor(targets)
    generator = torch.Generator().manual_seed(schedule.seed)
    for _ in range(schedule.epochs):
        order = torch.randperm(len(rows), generator=generator)
        for batch in order[: len(rows) // schedule.batch * schedule.batch].split(schedule.batch):
            counts = lengths[batch]
            offsets = torch.cumsum(counts, 0) - counts
            places = torch.arange(int(counts.sum())) + torch.repeat_interleave(starts[batch] - offsets, counts)
            chosen = flat[places]
            kept = (torch.rand(len(chosen), generator=generator) > schedule.dropout) | (chosen >= features)
            hidden = table(chosen, offsets, per_sample_weights=kept.float())
            loss = torch.nn.functional.cross_entropy(output(torch.relu(hidden + bias)), goals[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return {
        "embedding": table.weight.detach().numpy(),
        "bias": bias.detach().numpy(),
        "output": output.weight.detach().numpy().T.copy(),
        "output_bias": output.bias.detach().numpy(),
    }
