"""The hybrid student's voice: a small language model words what the program decided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.acts import Act
from envs.conversation import Message
from envs.education.users import Line

TOPIC = "$TOPIC"
"""What the model reads and writes where the lesson's topic belongs, so that it words all topics alike, unseen ones
too."""
MAX_NEW_TOKENS = 40


def chat_of(move: Act, line: Line) -> list[Message]:
    """What the voice is told: one move and the manner, and what the teacher has just said."""
    return [
        {"role": "system", "content": f"{line.style}: {move.kind} {move.about or ''}".rstrip()},
        {"role": "user", "content": line.heard.replace(line.topic, TOPIC)},
    ]


class ModelVoice:
    """Words by a causal language model in a Hugging Face folder whose chat is that of ``chat_of``.

    It words one move at a time, a sentence each, so that it can't leave out the second of two.
    """

    name = "hybrid"

    def __init__(self, folder: str | Path, temperature: float = 0.5):
        from envs.language_models import TransformersModel

        self.model = TransformersModel(folder, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS)

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[tuple[str, int]]:
        seeds = [int(rng.integers(2**63)) for line, rng in zip(lines, rngs, strict=True) for _ in line.moves]
        worded = iter(self.model.complete([chat_of(move, line) for line in lines for move in line.moves], seeds))
        said = []
        for line in lines:
            sentences = [next(worded) for _ in line.moves]
            tokens = sum(self.model.count_tokens(sentence) for sentence in sentences)
            said.append((" ".join(sentences).replace(TOPIC, line.topic), tokens))
        return said
