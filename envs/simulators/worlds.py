"""What a world gives so that its two small models can be trained and measured.

A world that has such models holds ``envs/NAME/material.py`` with ``MATERIAL``; no list is edited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from envs.acts import Act
from envs.conversation import Conversation, Message
from envs.env import ConversationEnv
from envs.learnt_person import LearntPerson, PrivateChannel
from envs.users import UserSimulator

Rule = Callable[[Any, np.random.Generator], Act]
"""Which act to do, given what is known."""
Speak = Callable[[Sequence[Conversation], Sequence[np.random.Generator]], list[str]]
"""What a speaker says next in each conversation."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the starting policy's training."""

    rule: str
    """Whose conversations it imitates."""
    imitated: int
    """How many of them."""
    read: int
    """How many of the clumsy one's it reads, of which no word is learnt."""
    annotated: int
    """How many rows of annotated utterances stand beside them."""
    schedule: str
    """Of the learning rate, as ``transformers`` names it."""

    def scaled(self, share: float) -> Phase:
        """The same phase on this share of its data."""
        imitated, read, annotated = (round(n * share) for n in (self.imitated, self.read, self.annotated))
        return replace(self, imitated=imitated, read=read, annotated=annotated)


@dataclass(frozen=True, slots=True)
class Taught:
    """One reply of a person that is a language model, as it is taught (``envs.learnt_person``)."""

    told: Sequence[str]
    """Markers: who it is, and what it noted before."""
    chat: Sequence[Message]
    """What it answers to, from its own seat."""
    written: Sequence[str]
    """Markers: what it is to note, one per slot; where nothing is to be said, of the first slots alone."""
    words: str | None
    """What it is to say; None: it is taught these notes alone."""
    weight: float = 1.0
    """How much it counts: the chance of what is taught, where every outcome is taught."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and what it has to be."""

    name: str
    value: float
    bar: str
    passed: bool


@dataclass(frozen=True, slots=True)
class People:
    """What a world gives so that models can be taught to be its users, and be probed."""

    person_channel: PrivateChannel
    naive_channel: PrivateChannel
    person: Callable[[Path], LearntPerson]
    """``user=model``, of a folder."""
    naive: Callable[[Path], LearntPerson]
    """``user=naive_model``."""
    moments: Callable[[int, Sequence[str], np.random.Generator], list[Taught]]
    """``(n, said, rng)``: n moments of every kind, in part in words that trained agents have said."""
    person_moments: int
    """How many the person learns from."""
    logged: Callable[[int, np.random.Generator], list[Taught]]
    """The replies in n logged conversations, as they came."""
    naive_conversations: int
    """How many the naive person learns from."""
    probes: Callable[[LearntPerson, Sequence[str] | None, int], list[Figure]]
    """``(person, said, each)``: what a person does that the program would not, with at least ``each`` cases a cell; in
    what trained agents have said, or, where that is None, in the phrasebook's words."""
    compared: Sequence[str]
    """The rules that must earn the same on the person as on the program."""
    person_card: str
    naive_card: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A world as the trainer and the gate of its small models see it.

    What a rule knows, a line and a dialogue are the world's own values. Of a line ``moves`` and ``heard`` are asked, of
    a dialogue ``conversation`` and ``exchanges``, of an exchange ``known``, ``act`` and ``line``.
    """

    world: str
    """Its models are ``WORLD_voice``, if it has a voice, and ``WORLD_ROLE``."""
    role: str
    """What the agent is: ``seller``."""
    agent_acts: Sequence[Act]
    user_acts: Sequence[Act]
    user_styles: Sequence[str]
    """The user's manners in training."""

    # Words. ``(act, rng)`` to text, and for a user ``(act, rng, style)``; what the program fills in is filled in.
    agent_says: Callable[[Act, np.random.Generator], str]
    agent_says_in_habit: Callable[[Act, np.random.Generator], str]
    """In the manner of the behaviour policy, whose conversations are logged."""
    user_says: Callable[[Act, np.random.Generator, str], str]
    parse_user: Callable[[Sequence[str]], list[tuple[Act, ...]]]
    """The moves that are heard in each text."""
    annotation: Callable[[Act], str]
    """What an utterance does, in words, and what goes with that: it grounds the words."""

    # Conversations by act, without a parser or an environment.
    rules: Mapping[str, Callable[[], Rule]]
    """Among them ``random``, ``behaviour``, ``expert``, ``clumsy`` and those of ``phases`` and ``compared``."""
    converse: Callable[..., Any]
    """``(rule, rng, say=None)`` to a dialogue of the training split."""
    any_line: Callable[[np.random.Generator], Any]
    """A line drawn evenly over all there is to say."""

    # The voice. A world need not have one; it then gives the user's words alone.
    template_words: Callable[[Any, np.random.Generator], str]
    """A line in the phrasebook's words."""
    chat_of: Callable[[Act, Any], list[Any]] | None = None
    """What the voice is told of one move of a line: a system and a user message."""
    as_learnt: Callable[[Act, Any], Any] | None = None
    """The line of this one move, with placeholders for what the program fills in."""
    placeholders: Sequence[str] = ()
    """Those that the tokenizer is to know as whole words."""
    voice: Callable[[Path], Any] | None = None
    """The voice of a model folder (``envs.wording.Voice``)."""
    voice_lines: int = 0
    """How many lines the wording model learns from."""

    # Reading.
    facts: Mapping[str, int]
    """Each fact and how many values it has: those of ``standing``, then those of ``doing``."""
    standing: Callable[[Any], tuple[int, ...]]
    """How things stand before the agent speaks, given what is known."""
    doing: Callable[[Any, Act], tuple[int, ...]]
    """What the agent has done besides."""
    phases: Sequence[Phase]
    """How the starting policy is trained; the last phase imitates the behaviour policy."""

    # The gate.
    environment: Callable[[UserSimulator, str], ConversationEnv]
    """Of a user and a split."""
    program_user: Callable[[], UserSimulator]
    hybrid_user: Callable[[Path], UserSimulator] | None = None
    """With the voice of a model folder."""
    speaker: Callable[[str], Speak]
    """A rule that hears and speaks, given its name."""
    compared: Sequence[str]
    """The rules that must earn the same on the hybrid as on the program."""
    floor: float = 0.0
    """The return of who achieves nothing, from which shares of returns are measured."""

    # The model cards.
    voice_card: str = ""
    agent_card: str
    limits: str

    @property
    def voice_name(self) -> str:
        return f"{self.world}_voice"

    @property
    def agent_name(self) -> str:
        return f"{self.world}_{self.role}"


def people_of(world: str) -> People:
    """What the models that play a world's users are taught by."""
    if world not in worlds("people"):
        raise ValueError(f"world={world!r} has no people; choose one of {', '.join(worlds('people'))}.")
    people: People = import_module(f"envs.{world}.people").PEOPLE
    return people


def worlds(having: str = "material") -> list[str]:
    """The worlds that have ``material`` for small models, or ``people`` that are one altogether."""
    folders = [path.parent for path in Path(__file__).parent.parent.glob("*/material.py")]
    return sorted(folder.name for folder in folders if (folder / f"{having}.py").exists())


def material_of(world: str) -> Material:
    """The material of a world, by its name."""
    if world not in worlds():
        raise ValueError(f"world={world!r} has no material for small models; choose one of {', '.join(worlds())}.")
    material: Material = import_module(f"envs.{world}.material").MATERIAL
    return material
