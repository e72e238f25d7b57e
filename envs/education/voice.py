"""What the hybrid student's voice is told: a small language model words what the program decided."""

from __future__ import annotations

from pathlib import Path

from envs.acts import Act
from envs.conversation import Message
from envs.language_models import TransformersModel
from envs.wording import Line, MoveVoice

TOPIC = "$TOPIC"
"""What the model reads and writes where the lesson's topic belongs, so that it words all topics alike, unseen ones
too."""
MAX_NEW_TOKENS = 40


def chat_of(move: Act, line: Line) -> list[Message]:
    """One move and the manner, and what the teacher has just said."""
    return [
        {"role": "system", "content": f"{line.style}: {move.kind} {move.about or ''}".rstrip()},
        {"role": "user", "content": line.heard.replace(line.values["topic"], TOPIC)},
    ]


def model_voice(folder: str | Path, temperature: float = 0.5) -> MoveVoice:
    """The voice in a Hugging Face folder whose chat is that of ``chat_of``."""
    model = TransformersModel(folder, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS)
    return MoveVoice(model, chat_of, {TOPIC: "topic"})
