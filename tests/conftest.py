"""What several test files start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from agents.agent import Agent
from agents.chat_model import ChatModel
from agents.imitation import Imitation
from agents.practice import Budget, Practice
from envs.chat_format import train_tokenizer
from envs.conversation import Conversation
from envs.simulators.sft import small_config
from envs.trajectory import Utterance
from tests.toy import COLOURS, Customer, Shop


class AnyColour(Agent):
    """Offers a colour at random: the behaviour whose conversations are logged."""

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(COLOURS[int(rng.integers(3))]) for rng in rngs]


TEXTS = ["hello there", "good day", "yes please", "no thanks", "maybe later", "what do you need"] * 5
"""What ``tiny_model`` knows the words of."""


def tiny_model(max_new_tokens: int = 6) -> ChatModel:
    """A chat model of a few thousand untrained weights, the same at every call."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, 300)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = small_config(len(tokenizer), hidden_size=32, num_hidden_layers=2, intermediate_size=48, **ends)
    return ChatModel(LlamaForCausalLM(config), tokenizer, max_new_tokens=max_new_tokens)


@pytest.fixture(scope="session")
def colour_start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small model that offers colours at random, as ``AnyColour`` does."""
    torch.manual_seed(0)
    imitation = Imitation(epochs=6.0, max_new_tokens=6)
    imitation.prepare(Practice(Shop(Customer()), Budget(320, 80, 240), 0, AnyColour()))
    folder = tmp_path_factory.mktemp("start")
    imitation.save(folder)
    return str(folder / "policy")
