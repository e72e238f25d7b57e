"""What the hybrid buyer's voice is told: a small language model words what the program decided."""

from __future__ import annotations

from pathlib import Path

from envs.acts import Act
from envs.conversation import Message
from envs.language_models import TransformersModel
from envs.wording import Line, MoveVoice

PRICE = "$PRICE"
"""What the model writes where the ledger's price belongs. No price is ever the model's."""
MAX_NEW_TOKENS = 40


def chat_of(move: Act, line: Line) -> list[Message]:
    """One move and the manner, and what the seller has just said."""
    return [
        {"role": "system", "content": f"{line.style}: {move.kind} {move.about or ''}".rstrip()},
        {"role": "user", "content": line.heard},
    ]


def model_voice(folder: str | Path, temperature: float = 0.5) -> MoveVoice:
    """The voice in a Hugging Face folder whose chat is that of ``chat_of``."""
    model = TransformersModel(folder, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS)
    return MoveVoice(model, chat_of, {PRICE: "price"})
