"""The hybrid buyer's voice: a small language model words what the program decided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.conversation import Message
from envs.sales.users import Line

PRICE = "$PRICE"
"""What the model writes where the ledger's price belongs. No price is ever the model's."""
MAX_NEW_TOKENS = 40


def chat_of(line: Line) -> list[Message]:
    """What the voice is told: the decision and the manner, and what the seller has just said."""
    decision = ", ".join(f"{move.kind} {move.about}" if move.about else move.kind for move in line.moves)
    return [
        {"role": "system", "content": f"{line.style}: {decision}"},
        {"role": "user", "content": line.heard},
    ]


class ModelVoice:
    """Words by a causal language model in a Hugging Face folder whose chat is that of ``chat_of``."""

    name = "hybrid"

    def __init__(self, folder: str | Path, temperature: float = 0.7):
        from envs.language_models import TransformersModel

        self.model = TransformersModel(folder, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS)

    def say(self, lines: Sequence[Line], rngs: Sequence[np.random.Generator]) -> list[tuple[str, int]]:
        seeds = [int(rng.integers(2**63)) for rng in rngs]
        texts = self.model.complete([chat_of(line) for line in lines], seeds)
        return [
            (text.replace(PRICE, line.price or ""), self.model.count_tokens(text))
            for text, line in zip(texts, lines, strict=True)
        ]
