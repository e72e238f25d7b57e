"""The model that learning starts from: a folder that ships, or one made here by imitating logged conversations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from agents.chat_model import ChatModel
from agents.practice import Practice
from envs.chat_format import encode_chat, train_tokenizer
from envs.simulators.sft import Example, sft, small_config
from envs.trajectory import Trajectory

VOCAB_SIZE = 2048


def starting_policy(start: str | None, practice: Practice, *, temperature: float, max_new_tokens: int) -> ChatModel:
    """The model in the folder ``start``, or with ``start=None`` a small one that imitates ``practice.logged()``."""
    if start is not None:
        return ChatModel.load(start, temperature=temperature, max_new_tokens=max_new_tokens)
    made = imitate(practice.logged(), epochs=3.0, rng=practice.rng)
    return ChatModel(*made, temperature=temperature, max_new_tokens=max_new_tokens)


def imitate(
    trajectories: Sequence[Trajectory],
    *,
    epochs: float,
    rng: np.random.Generator,
    learning_rate: float = 3e-3,
    batch_size: int = 8,
) -> tuple[torch.nn.Module, object]:
    """A new small model and its tokenizer, trained by TRL's ``SFTTrainer`` on whole conversations.

    Every token is learnt, the user's too: a model that predicts the user understands it. Raises ``ValueError`` when
    there is nothing to imitate.
    """
    from transformers import LlamaForCausalLM

    whole = [trajectory for trajectory in trajectories if trajectory.failure is None]
    if not whole:
        raise ValueError("There is no whole conversation to imitate; give budget.logged a number above 0.")
    chats = [trajectory.messages() for trajectory in whole]
    tokenizer = train_tokenizer([m["content"] for chat in chats for m in chat if m["role"] != "system"], VOCAB_SIZE)
    rows = [encode_chat(tokenizer, chat, add_generation_prompt=False) for chat in chats]
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(small_config(len(tokenizer), **ends))
    seed = int(rng.integers(2**31))
    sft(
        model, tokenizer, [Example(ids, ids) for ids in rows],
        epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, seed=seed, progress=False,
    )  # fmt: skip
    return model, tokenizer
