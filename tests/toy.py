"""A world as small as one can be, and a learner for it: for the tests of the runner, and as an example of both.

The user wants one of three colours, says which, and stays as long as the agent offers something else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.agent import Agent, Metrics
from agents.practice import Practice
from envs.conversation import Conversation, Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario
from envs.trajectory import Utterance
from envs.users import Reply, UserSimulator

COLOURS = ("red", "green", "blue")


class Customer(UserSimulator):
    """Takes the colour it asked for. A moody one fails to answer, or refuses, now and then."""

    def __init__(self, name: str = "plain", failing: float = 0.0):
        self._name = name
        self.failing = failing

    @property
    def name(self) -> str:
        return self._name

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        replies = []
        for episode, rng in zip(episodes, rngs, strict=True):
            if rng.random() < self.failing:
                replies.append(Reply("", failure="the customer lost the line"))
            else:
                offered = episode.turns[-1].text
                replies.append(Reply("I'll take it." if offered == episode.scenario.facts else "Not that.", tokens=3))
        return replies


class Shop(ConversationEnv):
    """Reward 1 when the customer takes a colour, less a tenth per exchange."""

    splits = ("train", "iid_test", "ood_test")

    def __init__(self, user: UserSimulator, *, split: str = "train", max_exchanges: int = 3):
        super().__init__(user, split=split, max_exchanges=max_exchanges)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        colour = COLOURS[int(rng.integers(3))]
        greeting = "Hello, I want" if self.split != "ood_test" else "Good day. Do you have"
        opening = (Turn("user", f"{greeting} {colour}."),)
        key = f"{self.split}/{colour}/{rng.integers(9)}"
        return Scenario("Sell a colour.", f"Want {colour}.", opening, colour, key)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        taken = [episode.turns[-1].text == "I'll take it." for episode in episodes]
        return [Assessment(float(yes) - 0.1, over=yes, success=yes or None) for yes in taken]


class Constant(Agent):
    """Always says the same; ``""`` repeats the colour it hears, which is the best one can do."""

    def __init__(self, text: str = ""):
        self.text = text

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(self.text or _wanted(conversation)) for conversation in conversations]


class Bandit(Agent):
    """REINFORCE on a softmax over ``COLOURS``, one row per colour heard.

    Args:
        learning_rate: step size.
        seed: of the first weights.
        pause: seconds an iteration takes at least, so that tests can interrupt it.
    """

    learns = True

    def __init__(self, learning_rate: float = 0.5, seed: int = 0, pause: float = 0.0):
        self.learning_rate = learning_rate
        self.pause = pause
        self.logits = np.random.default_rng((seed, 7)).normal(0, 0.01, (3, 3))

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        utterances = []
        for conversation, rng in zip(conversations, rngs, strict=True):
            chances = self._chances(COLOURS.index(_wanted(conversation)))
            choice = int(rng.choice(3, p=chances) if explore else chances.argmax())
            utterances.append(Utterance(COLOURS[choice], (choice,), (float(np.log(chances[choice])),)))
        return utterances

    def improve(self, practice: Practice) -> Metrics:
        trajectories = [t for t in practice.converse(self) if t.judged]
        baseline = float(np.mean([t.returns() for t in trajectories]))
        for n in practice.rng.permutation(len(trajectories)):
            trajectory = trajectories[n]
            for k, step in enumerate(trajectory.steps):
                heard, said = COLOURS.index(_wanted(trajectory.prefix(k))), step.utterance.tokens[0]
                gradient = np.eye(3)[said] - self._chances(heard)
                advantage = trajectory.returns_to_go()[k] - baseline
                self.logits[heard] += self.learning_rate * advantage * gradient / len(trajectories)
        time.sleep(self.pause)
        return {"return": baseline}

    def save(self, folder: Path) -> None:
        (folder / "logits.json").write_text(json.dumps(self.logits.tolist()))

    def restore(self, folder: Path) -> None:
        self.logits = np.array(json.loads((folder / "logits.json").read_text()))

    def _chances(self, heard: int) -> np.ndarray:
        weights = np.exp(self.logits[heard] - self.logits[heard].max())
        return weights / weights.sum()


def _wanted(conversation: Conversation) -> str:
    return conversation.turns[0].text.removesuffix(".").split()[-1]


class Idler(Agent):
    """Learns without conversations, in one iteration, and says that it is done only if ``honest``."""

    learns = True

    def __init__(self, honest: bool = True):
        self.honest = honest

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance("red") for _ in conversations]

    def improve(self, practice: Practice) -> Metrics:
        if self.honest:
            practice.finish()
        return {"logged": float(len(practice.logged())), "undefined": float("nan")}
