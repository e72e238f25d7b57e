"""Users whose mind is a program and whose words are a voice's: what every world's users have in common.

The program decides what the user does (``Line``), a voice puts that into words. Whatever the voice, reaction, price and
outcome are the program's, so no wording can be paid for. Three voices: the world's phrasebook (``user=program``: exact
and fastest), a small language model trained to word single moves (``user=hybrid``), and any chat model that is told in
words what to say (``envs.prompted``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from envs.acts import Act
from envs.conversation import Message
from envs.env import Episode
from envs.language_models import Completion, LanguageModel, figures_of
from envs.phrasebook import Phrasebook
from envs.users import Reply, UserSimulator


@dataclass(frozen=True, slots=True)
class Line:
    """What a user is about to say, before it has words."""

    moves: tuple[Act, ...]
    style: str
    heard: str
    """What the agent has just said."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What the phrasebook leaves open, such as ``{"price": "$590"}``: the program's to say, never a model's."""


class Voice(Protocol):
    """Puts lines into words."""

    name: str
    deterministic: bool
    """Whether equal generators give equal words."""

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[Completion]:
        """One text per line, or why there is none."""


def template_words(book: Phrasebook, line: Line, rng: np.random.Generator) -> str:
    """A line worded from the phrasebook: one sentence per move."""
    return " ".join(book.say(move, rng, style=line.style, values=line.values) for move in line.moves)


class TemplateVoice:
    """Words from a phrasebook."""

    name = "program"
    deterministic = True

    def __init__(self, book: Phrasebook):
        self.book = book

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[Completion]:
        return [Completion(template_words(self.book, line, rng)) for line, rng in zip(lines, rngs, strict=True)]


class MoveVoice:
    """Words of a language model that was trained to word one move at a time, so that it can't leave out the second of
    two.

    Args:
        model: answers the chats of ``chat_of`` with a sentence.
        chat_of: what the model is told of a move of a line.
        blanks: what the model writes for the line's values, such as ``{"$PRICE": "price"}``.
    """

    name = "hybrid"
    deterministic = True

    def __init__(self, model: LanguageModel, chat_of: Callable[[Act, Line], list[Message]], blanks: Mapping[str, str]):
        self.model, self.chat_of, self.blanks = model, chat_of, blanks

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[Completion]:
        seeds = [int(rng.integers(2**63)) for line, rng in zip(lines, rngs, strict=True) for _ in line.moves]
        worded = iter(self.model.complete([self.chat_of(move, line) for line in lines for move in line.moves], seeds))
        return [self._joined(line, [next(worded) for _ in line.moves]) for line in lines]

    def _joined(self, line: Line, sentences: Sequence[Completion]) -> Completion:
        tokens = sum(one.tokens for one in sentences)
        if failure := next((one.failure for one in sentences if one.failure), None):
            return Completion("", tokens, failure)
        return Completion(filled(" ".join(one.text for one in sentences), line, self.blanks), tokens)


def filled(words: str, line: Line, blanks: Mapping[str, str]) -> str:
    """``words`` with the line's values in the place of their blanks; nothing where the line has no such value."""
    for blank, name in blanks.items():
        words = words.replace(blank, line.values.get(name, ""))
    return words


@dataclass(frozen=True, slots=True)
class Heard:
    """What an agent's words do, as the user understands them."""

    act: Act
    tokens: int = 0
    """Tokens that a language model generated to understand them."""
    failure: str | None = None
    """Why they could not be understood at all: whoever was asked did not answer. ``act`` then means nothing."""


class Reader(Protocol):
    """Understands what an agent says."""

    name: str
    deterministic: bool

    def read(self, episodes: Sequence[Episode]) -> list[Heard]:
        """What the agent's last turn does in each episode."""


class WordedUser(UserSimulator):
    """A user whose mind is a program; worlds say how it decides. ``Episode.memory`` is its mind.

    Args:
        voice: words what it decides.
        reader: understands what it hears.
    """

    def __init__(self, voice: Voice, reader: Reader):
        self.voice, self.reader = voice, reader
        self.deterministic = voice.deterministic and reader.deterministic

    @property
    def name(self) -> str:
        return self.voice.name

    def figures(self) -> Mapping[str, float]:
        return figures_of(getattr(self.voice, "model", None), getattr(self.reader, "model", None))

    @abstractmethod
    def decide(self, episode: Episode, act: Act, rng: np.random.Generator) -> tuple[Line, object]:
        """What the user answers to ``act``, and its mind afterwards."""

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        heard = self.reader.read(episodes)
        understood = [i for i, one in enumerate(heard) if one.failure is None]
        decided = [self.decide(episodes[i], heard[i].act, rngs[i]) for i in understood]
        worded = self.voice.say([line for line, _ in decided], [rngs[i] for i in understood])
        replies = [Reply("", None, one.tokens, one.failure) for one in heard]
        for i, said, (_, mind) in zip(understood, worded, decided, strict=True):
            replies[i] = Reply(said.text, mind, heard[i].tokens + said.tokens, said.failure)
        return replies
