"""A phrasebook: a small grammar that says an ``Act`` in many ways, and knows what it can say.

The file format, line by line (blank lines and lines that begin with ``#`` are skipped):

``@name = alt | alt |``       a list of alternatives, the empty one allowed; a second line of that name adds to it
``@name.key = alt | alt``     a keyed list: ``{name}`` means this one for an act that has ``key`` among its keys: what
                             it is about, the details of that, or its kind
``[kind]``, ``[kind about]``  a section; every line below it is one phrasing (a pattern) of that act
``[style name]``              a section of wrappers such as ``well, {}`` or ``{}, I think``
``[style name kind kind]``    the same, for acts of these kinds only

A pattern holds words, alternations ``(a|b|)`` that may nest, references ``{name}``, and values such as ``{price}``.
What may stand for a value can be given with the file (``topic``: all topics); a phrase of a list may hold it too.
Patterns begin in lower case unless the first word is always a capital; the utterance's first letter is raised and a
full stop added where there is no other end. Patterns of ``[kind]`` and ``[kind about]`` are united.

About 15% of the patterns of every section are held out: never said unless asked for, so that whoever learns from the
phrasebook can be tested on phrasings that are new to it. A hash of the section's name and the pattern's text decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from envs.acts import Act

HELD_OUT_SHARE: Final = 0.15
SMALLEST_SPLIT_SECTION: Final = 5
"""A section of fewer patterns has none to spare."""
STYLE_RATE: Final = 0.4
"""How often a style's wrapper is put around an utterance that admits one."""
BRIEF_STYLES: Final = frozenset({"curt", "terse", "uncommunicative"})
CURT_TRIES: Final = 3
"""A speaker of a brief style says the shortest of so many phrasings."""

MOST_WORDS_WRAPPED: Final = 10

_OPENING: Final = 16
_MOST_CHOICES: Final = 40
_NAME: Final = re.compile(r"[a-z_]+")
_PUNCTUATION: Final = re.compile(r"\s*([,.?!;])")
_END: Final = (".", "?", "!")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences."""

    options: tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A list, or a value that the act or the caller supplies."""

    name: str


Part = str | Choice | Reference
Sequence = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a section."""

    text: str
    parts: Sequence
    held_out: bool


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What a style may put around an utterance. ``kinds`` is empty where every kind admits it."""

    before: str
    after: str
    kinds: frozenset[str]

    def admits(self, kind: str, body: str) -> bool:
        """No second interjection in front of a first one, nothing behind a question, nothing around a long one."""
        if self.kinds and kind not in self.kinds:
            return False
        if body.count(" ") > MOST_WORDS_WRAPPED or (self.before and _has_opening(body)):
            return False
        return not self.after or (body.endswith(".") and "," not in body[-_OPENING:])

    def around(self, body: str) -> str:
        inner = body[:-1] if self.after else body
        return f"{self.before}{inner}{self.after}{'.' if self.after else ''}"


@dataclass(frozen=True, slots=True)
class _Script:
    """An act's patterns with every reference resolved, split by ``held_out``."""

    patterns: tuple[Sequence, ...]
    held_out: tuple[Sequence, ...]
    originals: tuple[Pattern, ...]
    """The patterns as written: first those of ``patterns``, then those of ``held_out``."""

    def by(self, held_out: bool) -> tuple[Sequence, ...]:
        return self.held_out if held_out else self.patterns


@dataclass(frozen=True)
class Phrasebook:
    """All phrasings of one side. Build one with ``load`` or ``parse``."""

    lists: Mapping[str, tuple[Sequence, ...]]
    sections: Mapping[str, tuple[Pattern, ...]]
    """Patterns by ``kind`` or ``kind about``."""
    styles: Mapping[str, tuple[Wrapper, ...]]
    details: Mapping[str, Mapping[str, str]]
    """By what an act is about: values for ``{name}`` (``price``: ``$590``), each also a key for keyed lists."""
    source: str = "phrasebook"
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a caller may fill a placeholder with, where that is known beforehand: ``topic``: all topics."""
    _scripts: dict[Act, _Script] = field(default_factory=dict, repr=False, compare=False)
    _matchers: dict[Act, re.Pattern[str]] = field(default_factory=dict, repr=False, compare=False)
    _spoken: dict[tuple[Act, bool], frozenset[str]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        path: str | Path,
        details: Mapping[str, Mapping[str, str]] | None = None,
        values: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Phrasebook:
        """The phrasebook in a file. Raises ValueError, with file and line, on what the format does not allow."""
        path = Path(path)
        return cls.parse(path.read_text(encoding="utf-8"), details, values, source=path.name)

    @classmethod
    def parse(
        cls,
        text: str,
        details: Mapping[str, Mapping[str, str]] | None = None,
        values: Mapping[str, tuple[str, ...]] | None = None,
        source: str = "phrasebook",
    ) -> Phrasebook:
        """The phrasebook in a text."""
        reader = _Reader(source)
        for number, line in enumerate(text.splitlines(), 1):
            reader.read(number, line.strip())
        return cls(reader.lists, reader.split_sections(), reader.styles, details or {}, source, values or {})

    def say(
        self,
        act: Act,
        rng: np.random.Generator,
        *,
        style: str | None = None,
        held_out: bool = False,
        values: Mapping[str, str] | None = None,
    ) -> str:
        """One utterance of ``act``; a held-out phrasing only, if asked for. All chance comes from ``rng``.

        ``style`` may be any name: one without wrappers (``plain``) changes nothing. ``values`` fills the placeholders
        that are left, such as the price in ``Act("buy")``. Raises ValueError if the act has no phrasing of that sort.
        """
        patterns = self._patterns(act, held_out)
        draws = iter(rng.random(_MOST_CHOICES).tolist())
        body = self._body(patterns, draws, values)
        if style in BRIEF_STYLES:
            others = (self._body(patterns, iter(rng.random(_MOST_CHOICES).tolist()), values) for _ in range(CURT_TRIES))
            body = min(chain((body,), others), key=len)
        return _raised(self._styled(act, body, style, draws))

    def _styled(self, act: Act, body: str, style: str | None, draws: Iterator[float]) -> str:
        wrappers = self.styles.get(style) if style else None
        if wrappers and next(draws) < STYLE_RATE:
            fitting = [wrapper for wrapper in wrappers if wrapper.admits(act.kind, body)]
            if fitting:
                return fitting[int(next(draws) * len(fitting))].around(body)
        return body

    def utterances(self, act: Act, held_out: bool = False) -> frozenset[str]:
        """Every distinct utterance of an act, unstyled, with values that only a caller knows left as ``{price}``."""
        key = (act, held_out)
        if key not in self._spoken:
            patterns = self._patterns(act, held_out)
            self._spoken[key] = frozenset(_raised(_tidied((text,))) for parts in patterns for text in _spelled(parts))
        return self._spoken[key]

    def count(self, act: Act, held_out: bool = False) -> int:
        """The number of distinct utterances of an act, styles not counted."""
        return len(self.utterances(act, held_out))

    def patterns(self, act: Act, held_out: bool = False) -> tuple[str, ...]:
        """An act's phrasings as they are written in the file."""
        return tuple(pattern.text for pattern in self._script(act).originals if pattern.held_out == held_out)

    def say_pattern(
        self,
        act: Act,
        index: int,
        rng: np.random.Generator,
        *,
        style: str | None = None,
        values: Mapping[str, str] | None = None,
    ) -> str:
        """One utterance of the phrasing that ``patterns(act)`` lists at ``index``."""
        draws = iter(rng.random(_MOST_CHOICES).tolist())
        body = self._body((self._script(act).patterns[index],), draws, values)
        return _raised(self._styled(act, body, style, draws))

    def say_frame(
        self, act: Act, frame: str, rng: np.random.Generator, *, values: Mapping[str, str] | None = None
    ) -> str | None:
        """One utterance of ``act`` by a pattern of another act, or None if that needs lists which this act has not."""
        parts = self._resolved(_Reader(self.source).parsed(frame), act)
        if any(part.name not in (values or {}) for part in _references(parts)):
            return None
        return _raised(self._body((parts,), iter(rng.random(_MOST_CHOICES).tolist()), values))

    def contains(self, act: Act, text: str) -> bool:
        """Whether the phrasebook can say exactly this for ``act``: any phrasing, held out or not, in any style."""
        if not text or text[0].islower():
            return False
        return self._has_body(act, text) or any(
            self._has_wrapped(act, start) for start in (text, text[0].lower() + text[1:])
        )

    def vocabulary(self, held_out: bool = False) -> set[str]:
        """The words, in lower case, of the patterns said by default (with the wrappers), or of those held out."""
        patterns = (pattern for section in self.sections.values() for pattern in section)
        words: set[str] = set()
        used: set[str] = set()
        for pattern in patterns:
            if pattern.held_out == held_out:
                self._gather(pattern.parts, words, used)
        if not held_out:
            for wrapper in chain.from_iterable(self.styles.values()):
                words.update(words_of(f"{wrapper.before} {wrapper.after}"))
        return words

    @cached_property
    def keyed(self) -> dict[str, tuple[str, str]]:
        """Every phrase of every keyed list, in lower case: the list's name and the key (``trail``) it stands for.

        A phrase that a list has under two keys is left out: it says nothing about the key.
        """
        found: dict[str, set[tuple[str, str]]] = {}
        for name, options in self.lists.items():
            if "." in name:
                base, key = name.split(".")
                resolved = (self._resolved(option, Act("", key)) for option in options)
                for text in chain.from_iterable(_spelled(option) for option in resolved):
                    found.setdefault(_tidied((text,)).rstrip(".").lower(), set()).add((base, key))
        single = (phrase for phrase, owners in found.items() if phrase and len({key for _, key in owners}) == 1)
        return {phrase: min(found[phrase]) for phrase in single}

    def _gather(self, parts: Sequence, words: set[str], used: set[str]) -> None:
        """Add the words of a sequence, with those of all lists that it may refer to; ``used`` are the lists done."""
        for part in parts:
            if isinstance(part, str):
                words.update(words_of(part))
            elif isinstance(part, Choice):
                for option in part.options:
                    self._gather(option, words, used)
            elif part.name not in used:
                used.add(part.name)
                words.update(
                    chain.from_iterable(words_of(detail.get(part.name, "")) for detail in self.details.values())
                )
                for name, options in self.lists.items():
                    if name == part.name or name.startswith(f"{part.name}."):
                        self._gather((Choice(options),), words, used)

    def _patterns(self, act: Act, held_out: bool) -> tuple[Sequence, ...]:
        script = self._script(act)
        patterns = script.by(held_out)
        if not patterns:
            raise ValueError(
                f"{self.source}: no {'held-out ' if held_out else ''}phrasing of {act}; "
                f"expected a section [{act.kind}] with {SMALLEST_SPLIT_SECTION} patterns or more: add some"
            )
        return patterns

    def _script(self, act: Act) -> _Script:
        script = self._scripts.get(act)
        if script is None:
            own = self.sections.get(f"{act.kind} {act.about}", ()) if act.about else ()
            patterns = sorted((*self.sections.get(act.kind, ()), *own), key=lambda pattern: pattern.held_out)
            resolved: dict[bool, list[Sequence]] = {False: [], True: []}
            for pattern in patterns:
                resolved[pattern.held_out].append(self._resolved(pattern.parts, act))
            script = _Script(tuple(resolved[False]), tuple(resolved[True]), tuple(patterns))
            self._scripts[act] = script
        return script

    def _resolved(self, parts: Iterable[Part], act: Act) -> Sequence:
        return tuple(self._resolved_part(part, act) for part in parts)

    def _resolved_part(self, part: Part, act: Act) -> Part:
        if isinstance(part, str):
            return part
        if isinstance(part, Choice):
            return Choice(tuple(self._resolved(option, act) for option in part.options))
        detail = self.details.get(act.about or "", {})
        if part.name in detail:
            return detail[part.name]
        for key in (part.name, *(f"{part.name}.{key}" for key in (act.about, *detail.values(), act.kind))):
            if key in self.lists:
                return Choice(tuple(self._resolved(option, act) for option in self.lists[key]))
        return part

    def _body(self, patterns: tuple[Sequence, ...], draws: Iterator[float], values: Mapping[str, str] | None) -> str:
        words: list[str] = []
        _emit(patterns[int(next(draws) * len(patterns))], draws, values, words)
        return _tidied(words)

    def _has_body(self, act: Act, text: str) -> bool:
        said = (self.utterances(act, held_out) for held_out in (False, True) if self._script(act).by(held_out))
        text = self.unfilled(_raised(text))
        return any(text in texts for texts in said) or self._open_matcher(act).fullmatch(text) is not None

    def _open_matcher(self, act: Act) -> re.Pattern[str]:
        """Matches the utterances of an act that hold a value which only a caller knows."""
        if act not in self._matchers:
            said = (self.utterances(act, held_out) for held_out in (False, True) if self._script(act).by(held_out))
            unknown = re.compile(rf"\{{(?!(?:{'|'.join(self.values)})\}})\w+\}}" if self.values else r"\{\w+\}")
            parts = (unknown.split(text) for text in chain.from_iterable(said) if unknown.search(text))
            self._matchers[act] = re.compile(
                "|".join(r"\S+?".join(map(re.escape, pieces)) for pieces in parts) or r"(?!)"
            )
        return self._matchers[act]

    def unfilled(self, text: str) -> str:
        """The text with ``{topic}`` for every value that is known beforehand."""
        for name, options in self.values.items():
            for option in options:
                text = re.sub(rf"\b{re.escape(option)}\b", f"{{{name}}}", text, flags=re.IGNORECASE)
        return text

    def _has_wrapped(self, act: Act, text: str) -> bool:
        for wrapper in chain.from_iterable(self.styles.values()):
            tail = f"{wrapper.after}." if wrapper.after else ""
            if text.startswith(wrapper.before) and text.endswith(tail) and len(text) > len(wrapper.before) + len(tail):
                inner = text[len(wrapper.before) : len(text) - len(tail)] + ("." if tail else "")
                if wrapper.admits(act.kind, inner) and self._has_body(act, inner):
                    return True
        return False


def _has_opening(body: str) -> bool:
    """Whether an utterance begins with an interjection or a conjunction of its own."""
    return "," in body[:_OPENING] or body.startswith(("but ", "and "))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation, prices and placeholders."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", re.sub(r"\{\w*\}", " ", text.lower()))


def _references(parts: Iterable[Part]) -> Iterator[Reference]:
    """The references in a sequence, those of its choices too."""
    for part in parts:
        if isinstance(part, Reference):
            yield part
        elif isinstance(part, Choice):
            yield from chain.from_iterable(_references(option) for option in part.options)


def _emit(parts: Sequence, draws: Iterator[float], values: Mapping[str, str] | None, words: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            words.append(part)
        elif isinstance(part, Choice):
            options = part.options
            _emit(options[int(next(draws) * len(options))], draws, values, words)
        elif values and part.name in values:
            words.append(values[part.name])
        else:
            raise ValueError(
                f"{{{part.name}}} is neither a list nor a value of this act; expected values to hold {part.name!r}"
            )


def _spelled(parts: Sequence) -> list[str]:
    """Every choice of words that a sequence admits, not tidied yet; unfilled values stay in braces."""
    texts = [""]
    for part in parts:
        if isinstance(part, Choice):
            endings = list(chain.from_iterable(_spelled(option) for option in part.options))
        else:
            endings = [part if isinstance(part, str) else f"{{{part.name}}}"]
        texts = [f"{text} {ending}" if ending else text for text in texts for ending in endings]
    return [text.lstrip() for text in texts]


def _tidied(words: Iterable[str]) -> str:
    """One sentence: no blank before punctuation, an end mark at the end."""
    text = " ".join(word for word in words if word)
    if " ," in text or " ." in text or " ?" in text or " !" in text or " ;" in text:
        text = _PUNCTUATION.sub(r"\1", text)
    return text if text.endswith(_END) else f"{text}."


def _raised(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Reader:
    """Reads a phrasebook file line by line."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.number = 0
        self.lists: dict[str, tuple[Sequence, ...]] = {}
        self.styles: dict[str, tuple[Wrapper, ...]] = {}
        self._sections: dict[str, list[str]] = {}
        self._open = ""

    def read(self, number: int, line: str) -> None:
        self.number = number
        if not line or line.startswith("#"):
            return
        if line.startswith("@"):
            self._read_list(line)
        elif line.startswith("["):
            if not re.fullmatch(r"\[\w+( \w+)*\]", line):
                raise self._error(line, "a section such as [kind], [kind about] or [style name]")
            self._open = line[1:-1]
        elif not self._open:
            raise self._error(line, "a section in square brackets before the first pattern")
        elif self._open.startswith("style "):
            self._read_wrapper(line)
        else:
            self.parsed(line)
            self._sections.setdefault(self._open, []).append(line)

    def split_sections(self) -> dict[str, tuple[Pattern, ...]]:
        """The sections with their patterns, the held-out ones marked."""
        sections = {}
        for name, lines in self._sections.items():
            if len(set(lines)) < len(lines):
                twice = next(line for line in lines if lines.count(line) > 1)
                raise ValueError(f"{self.source}: {twice!r} stands twice in [{name}]; expected it once: delete one")
            spared = _held_out(name, lines)
            sections[name] = tuple(Pattern(line, self.parsed(line), line in spared) for line in lines)
        return sections

    def _read_list(self, line: str) -> None:
        match = re.fullmatch(r"@([a-z_]+(?:\.\w+)?)\s*=\s*(.*)", line)
        if match is None:
            raise self._error(line, "a list such as '@name = one | two'")
        (choice,) = self.parsed(f"({match[2]})")
        assert isinstance(choice, Choice)
        self.lists[match[1]] = (*self.lists.get(match[1], ()), *choice.options)

    def _read_wrapper(self, line: str) -> None:
        if line.count("{}") != 1 or "(" in line:
            raise self._error(line, "a wrapper with one {} and no alternation, such as 'well, {}'")
        _, name, *kinds = self._open.split()
        before, after = line.split("{}")
        self.styles[name] = (*self.styles.get(name, ()), Wrapper(before, after, frozenset(kinds)))

    def parsed(self, line: str) -> Sequence:
        """A line as parts. A word may not touch a bracket: what a pattern says is told apart by whole words."""
        if re.search(r"[\w'][({]|[)}][\w'({]|[-:\"]", line):
            raise self._error(line, "blanks around ( ) and { }, and no hyphen, colon or quotation mark")
        options, rest = self._options(line, 0)
        if rest != len(line) or len(options) != 1:
            raise self._error(line, "balanced brackets, and | only between brackets")
        return options[0]

    def _options(self, line: str, start: int) -> tuple[tuple[Sequence, ...], int]:
        options: list[Sequence] = []
        parts: list[Part] = []
        literal = place = start
        while True:
            mark = line[place] if place < len(line) else ")"
            if mark in "(|){":
                if line[literal:place].strip():
                    parts.append(" ".join(line[literal:place].split()))
                if mark in "|)":
                    options.append(tuple(parts))
                    parts = []
                    if mark == ")":
                        return tuple(options), place
                elif mark == "(":
                    inner, place = self._options(line, place + 1)
                    if place >= len(line):
                        raise self._error(line, "a ) for every (")
                    parts.append(Choice(inner))
                else:
                    name = _NAME.match(line, place + 1)
                    if name is None or line[name.end() : name.end() + 1] != "}":
                        raise self._error(line, "a name in small letters between { and }")
                    parts.append(Reference(name[0]))
                    place = name.end()
                literal = place + 1
            place += 1

    def _error(self, line: str, expected: str) -> ValueError:
        return ValueError(f"{self.source}, line {self.number}: {line!r}; expected {expected}")


def _held_out(section: str, lines: list[str]) -> set[str]:
    """The patterns of a section that are held out: those with the smallest hashes.

    The section is hashed too: a frame that several acts share is not held out of all of them at once.
    """
    if len(lines) < SMALLEST_SPLIT_SECTION:
        return set()
    ranked = sorted(lines, key=lambda line: blake2b(f"[{section}] {line}".encode(), digest_size=8).digest())
    return set(ranked[: max(1, round(HELD_OUT_SHARE * len(lines)))])
