"""The gate of a world's small models: what they must show before they ship. A world without a voice has the last alone.

- wording: the voice says what the program decided (parsed back) in at least 98% of lines, as conversations have them;
- reward: every scripted policy earns the same on the hybrid as on the program, within .03, on the same scenarios;
- start: the starting policy, at the temperature that learners sample at, earns at least 90% of what the behaviour
  policy earns against the program, counted from the world's floor. Other ways of decoding are measured for the record.

The figures are written into the model cards whether they pass or not; a model that fails is reported and exits 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.conversation import Conversation
from envs.simulators.worlds import Figure, Material, Speak
from envs.users import UserSimulator

SCENARIOS = 2000
WORDING, REWARD, START = 0.98, 0.03, 0.9
"""Least share of faithful lines, greatest difference of mean rewards, least share of the behaviour policy's reward."""
LEARNERS = 0.7
"""The temperature that learners sample at: ``temperature`` of the agents' YAML files."""


def mean_reward(
    material: Material, speak: Speak, user: UserSimulator, scenarios: int, split: str = "iid_test"
) -> float:
    """Mean return of a speaker over fixed scenarios, 250 conversations at a time."""
    env = material.environment(user, split)
    total = 0.0
    for start in range(0, scenarios, 250):
        live = [env.begin(seed) for seed in range(start, min(start + 250, scenarios))]
        while live:
            rngs = [np.random.default_rng((episode.seed, 1 + episode.exchanges, 0x6A7E)) for episode in live]
            advances = env.advance(live, speak([episode.heard_by("agent") for episode in live], rngs))
            total += sum(advance.reward for advance in advances)
            live = [advance.episode for advance in advances if not advance.done]
    return total / scenarios


def faithful_share(material: Material, voice: Any, lines: Sequence[Any], rng: np.random.Generator) -> float:
    """Share of lines whose words the user's parser reads back as just the moves that were decided."""
    said: list[str] = []
    for i in range(0, len(lines), 250):
        part = lines[i : i + 250]
        rngs = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=len(part))]
        said += [one.text for one in voice.say(part, rngs)]
    heard = material.parse_user(said)
    return float(np.mean([set(moves) == set(line.moves) for moves, line in zip(heard, lines, strict=True)]))


def voice_figures(material: Material, folder: Path, scenarios: int = SCENARIOS) -> list[Figure]:
    """What the wording model shows."""
    rng = np.random.default_rng(20)
    rules = [material.rules[name]() for name in ("random", "behaviour", "expert")]
    lines: list[Any] = []
    while len(lines) < 3000:
        lines += [exchange.line for exchange in material.converse(rules[len(lines) % 3], rng).exchanges]
    assert material.voice is not None and material.hybrid_user is not None
    share = faithful_share(material, material.voice(folder), lines, rng)
    figures = [Figure("lines worded as decided", share, f">= {WORDING}", share >= WORDING)]
    for rule in material.compared:
        users = (material.program_user(), material.hybrid_user(folder))
        program, hybrid = (mean_reward(material, material.speaker(rule), user, scenarios) for user in users)
        difference = hybrid - program
        figures.append(Figure(f"{rule}: reward on hybrid - program ({hybrid:.3f} - {program:.3f})", difference,
                              f"|.| <= {REWARD}", abs(difference) <= REWARD))  # fmt: skip
    return figures


def agent_figures(material: Material, folder: Path, scenarios: int = SCENARIOS) -> list[Figure]:
    """What the starting policy shows."""
    from envs.language_models import TransformersModel

    behaviour = mean_reward(material, material.speaker("behaviour"), material.program_user(), scenarios)
    figures = []
    for name, temperature in (
        ("temperature 1", 1.0),
        (f"temperature {LEARNERS}", LEARNERS),
        ("temperature 0.35", 0.35),
        ("greedy", 0.0),
    ):
        model = TransformersModel(folder, temperature=temperature, max_new_tokens=32)

        def speak(conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
            seeds = [int(rng.integers(2**63)) for rng in rngs]
            chats = [conversation.messages("agent") for conversation in conversations]
            return [one.text for one in model.complete(chats, seeds)]  # noqa: B023 - used in this pass

        reward = mean_reward(material, speak, material.program_user(), scenarios)
        share = (reward - material.floor) / (behaviour - material.floor)
        bar, passed = (f">= {START}", share >= START) if temperature == LEARNERS else ("for the record", True)
        above = f", both above {material.floor:g}" if material.floor else ""
        what = f"{name}: reward {reward:.3f} over the behaviour {material.role}'s {behaviour:.3f}{above}"
        figures.append(Figure(what, share, bar, passed))
    return figures


def gate(material: Material, folder: Path, scenarios: int = SCENARIOS) -> bool:
    """Measure the models that the world has, print and write their cards; True if all passes."""
    ok = True
    models = [(material.agent_name, agent_figures, material.agent_card)]
    if material.voice is not None:
        models.insert(0, (material.voice_name, voice_figures, material.voice_card))
    for name, measure, what in models:
        figures = measure(material, folder / name, scenarios)
        for figure in figures:
            verdict = "pass" if figure.passed else "FAIL"
            print(f"{verdict}  {name}: {figure.name}: {figure.value:.3f} ({figure.bar})", flush=True)
        (folder / name / "README.md").write_text(card(material, name, what, figures, scenarios), encoding="utf-8")
        ok &= all(figure.passed for figure in figures)
    return ok


def card(
    material: Material, name: str, what: str, figures: Sequence[Figure], scenarios: int, command: str = "train"
) -> str:
    """A model card with the gate's figures."""
    rows = "\n".join(f"| {f.name} | {f.value:.3f} | {f.bar} | {'yes' if f.passed else 'NO'} |" for f in figures)
    return _CARD.format(
        name=name,
        what=what,
        rows=rows,
        scenarios=scenarios,
        world=material.world,
        limits=material.limits,
        command=command,
    )


_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# {name}

{what}

A small Llama, trained from nothing on text that Parley's own phrasebooks and programs generate; no other data and no
other weights went into it. Made by `python -m envs.simulators.{command} {world}`; measured by the same command with
`--only gate`.

## Gate

Measured on {scenarios} scenarios of the held-out attribute combinations (split `iid_test`).

| figure | measured | bar | passed |
|---|---|---|---|
{rows}

## Limits

{limits}
"""
