"""What several test files start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from agents.agent import Agent
from agents.imitation import Imitation
from agents.practice import Budget, Practice
from envs.conversation import Conversation
from envs.trajectory import Utterance
from tests.toy import COLOURS, Customer, Shop


class AnyColour(Agent):
    """Offers a colour at random: the behaviour whose conversations are logged."""

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(COLOURS[int(rng.integers(3))]) for rng in rngs]


@pytest.fixture(scope="session")
def colour_start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small model that offers colours at random, as ``AnyColour`` does."""
    torch.manual_seed(0)
    imitation = Imitation(epochs=6.0, max_new_tokens=6)
    imitation.prepare(Practice(Shop(Customer()), Budget(320, 80, 240), 0, AnyColour()))
    folder = tmp_path_factory.mktemp("start")
    imitation.save(folder)
    return str(folder / "policy")
