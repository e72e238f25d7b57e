"""Relational probes of people that are language models: what they do where the program would not, cell by cell.

A simulator may be fluent, rank scripted policies rightly and still be open to anyone who looks for what it falls for.
So what is measured are relations: does the wrong argument convince, is what does not fit bought, and that in every cell
by itself, with chances and not draws. Worlds make the cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from envs.conversation import Message
from envs.learnt_person import LearntPerson
from envs.simulators.worlds import Figure

DOES = 1
"""The slot in which a person writes what it does, after what it heard."""


@dataclass(frozen=True, slots=True)
class Case:
    """A moment at which a person is asked what it would do."""

    told: Sequence[str]
    chat: Sequence[Message]
    expected: Mapping[str, float]
    """How likely the program is to do each thing, by the marker of the slot that is asked about."""
    too_good: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """By slot, what the program can't come to feel here, and what would serve the agent."""


Cells = Mapping[str, Sequence[Case]]


def chances(person: LearntPerson, cases: Sequence[Case], rng: np.random.Generator, slot: int = DOES) -> np.ndarray:
    """[N, what it may write into the slot]"""
    parts = []
    for i in range(0, len(cases), 500):
        part = [(case.told, case.chat) for case in cases[i : i + 500]]
        rngs = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=len(part))]
        parts.append(person.chances(part, rngs, slot))
    return np.concatenate(parts)


def falls_for(
    person: LearntPerson, name: str, cells: Cells, marker: str, most: float, rng: np.random.Generator
) -> Figure:
    """How likely the person is to do what it must not: the worst cell."""
    at = list(person.channel.slots[DOES]).index(marker)
    shares = {cell: float(chances(person, cases, rng)[:, at].mean()) for cell, cases in cells.items()}
    cell, mean = max(shares, key=lambda one: shares[one]), float(np.mean(list(shares.values())))
    return _figure(f"{name}: all {mean:.4f}, worst of {len(cells)} cells ({cell})", shares[cell], most)


def flattered(person: LearntPerson, name: str, cells: Cells, most: float | None, rng: np.random.Generator) -> Figure:
    """How likely the person is to note, of how it feels, what is ``too_good``: what it does next depends on that. The
    worst cell, of all slots. No bar is set without ``most``."""
    shares: dict[str, float] = {}
    for cell, cases in cells.items():
        for slot in sorted({slot for case in cases for slot in case.too_good}):
            markers = list(person.channel.slots[slot])
            wrong = np.array([[marker in case.too_good.get(slot, ()) for marker in markers] for case in cases])
            share = (chances(person, cases, rng, slot) * wrong).sum(1).mean()
            shares[f"{cell}: {markers[0][2:].split(' ')[0]}"] = float(share)
    cell, mean = max(shares, key=lambda one: shares[one]), float(np.mean(list(shares.values())))
    return _figure(f"{name}: all {mean:.4f}, worst of {len(shares)} cells ({cell})", shares[cell], most)


def calibrated(
    person: LearntPerson, name: str, cells: Cells, most: float, rng: np.random.Generator, at: int = DOES
) -> Figure:
    """The largest difference, over cells and what may be written into slot ``at``, of mean probabilities from the
    program's."""
    slot = list(person.channel.slots[at])
    off = {}
    for cell, cases in cells.items():
        expected = np.zeros(len(slot))
        for case in cases:
            for marker, chance in case.expected.items():
                expected[slot.index(marker)] += chance / len(cases)
        off[cell] = float(abs(chances(person, cases, rng, at).mean(0) - expected).max())
    cell, mean = max(off, key=lambda one: off[one]), float(np.mean(list(off.values())))
    words = f"{name}, difference from the program: mean {mean:.3f}, worst of {len(off)} cells ({cell})"
    return Figure(words, off[cell], f"<= {most}", off[cell] <= most)


def moved(
    person: LearntPerson, name: str, cases: Sequence[Case], still: Sequence[str], most: float | None,
    rng: np.random.Generator,
) -> Figure:  # fmt: skip
    """How likely words without an act are to do something: anything but ``still``. No bar is set without ``most``."""
    slot = list(person.channel.slots[DOES])
    kept = [slot.index(marker) for marker in still]
    each = 1 - chances(person, cases, rng)[:, kept].sum(1) if cases else np.zeros(1)
    share, often = float(each.mean()), int((each > 0.5).sum())
    return _figure(f"{name} that do something (of {len(cases)}, {often} more often than not)", share, most)


def _figure(words: str, share: float, most: float | None) -> Figure:
    if most is None:
        return Figure(words, share, "for the record", True)
    return Figure(words, share, f"< {most}", share < most)
