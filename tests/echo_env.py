"""A minimal good environment, with a user that is a few lines of code: the smallest thing that keeps the contract.

The user has a secret word and answers with hints; it leaves happy when the agent says the word, and annoyed when it
hears "goodbye".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs.conversation import Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.users import Reply, UserSimulator

WORDS = ("apple", "bread", "cider", "dates", "endive", "fennel", "garlic", "honey", "icing", "jelly", "kale", "lemon")
SPLITS = {"train": WORDS[:8], "test": WORDS[8:]}


class EchoUser(UserSimulator):
    """Repeats the agent's first words and gives a hint of its secret. Its memory counts what it heard."""

    name = "echo"

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        return [self._answer(episode, rng) for episode, rng in zip(episodes, rngs, strict=True)]

    def _answer(self, episode: Episode, rng: np.random.Generator) -> Reply:
        heard = 1 + (episode.memory if isinstance(episode.memory, int) else 0)
        letter = str(rng.choice(list(episode.scenario.facts)))
        return Reply(
            f"{episode.turns[-1].text[:20]}? It has the letter {letter}. That was {heard}.", memory=heard, tokens=3
        )


class EchoEnv(ConversationEnv):
    """Find out the word the user has in mind; reward 1 for saying it."""

    splits: ClassVar[tuple[str, ...]] = tuple(SPLITS)

    def __init__(self, user: UserSimulator | None = None, **kwargs):
        super().__init__(user or EchoUser(), **{"max_exchanges": 4, **kwargs})

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        word = str(rng.choice(SPLITS[self.split]))
        return Scenario(
            agent_brief="Find out which food the customer has in mind.",
            user_brief=f"You are a customer of a small grocery. The only food that you have in mind today is {word}.",
            opening=(Turn("user", "Hello."),),
            facts=word,
            key=word,
            attributes={"initial": word[0]},
        )

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [self._assess_one(episode) for episode in episodes]

    def _assess_one(self, episode: Episode) -> Assessment:
        said = (episode.heard_by("agent").last("agent") or "").lower()
        if episode.scenario.facts in said:
            return Assessment(
                1.0, True, True, stop_reason=StopReason.OUTCOME, parts={"exchanges": float(episode.exchanges)}
            )
        if "goodbye" in said:
            return Assessment(0.0, True, False, stop_reason=StopReason.USER_LEFT)
        return Assessment()
