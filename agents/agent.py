"""Those who speak and learn: the interface of every agent.

The whole life of an agent in a benchmark run is

    agent.prepare(practice)                    # once, from logged data alone
    while not practice.exhausted:
        metrics = agent.improve(practice)      # one iteration: converse, learn
    trajectories = rollout(agent, env, seeds)  # then it is judged

A scripted agent implements ``act`` alone; a learner adds ``improve``, ``save`` and ``restore``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from envs.conversation import Conversation
from envs.odds import Choice
from envs.trajectory import Trajectory, Utterance

if TYPE_CHECKING:
    from agents.practice import Practice

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Critique:
    """What an agent's critic expects at the P turns of some conversations, one conversation after another; NaN where it
    says nothing. In the unit that the critic learns in."""

    values: np.ndarray
    """[P] V(x), before the turn."""
    action_values: np.ndarray
    """[P] Q(x, y) of what was said."""
    advantages: np.ndarray
    """[P] how much better than expected the turn was, as the learner is told."""


class Agent(ABC):
    """Speaks in many conversations at once, and may learn from practice."""

    learns: bool = False
    """Whether ``improve`` does anything. The runner asks agents that don't learn for no practice."""

    @abstractmethod
    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        """What to say next in each conversation; one ``Utterance`` per conversation, in order.

        One who could not speak says so in ``Utterance.failure``: the conversation then ends unscored and is counted.
        Randomness comes only from the generator beside each conversation, so a conversation's utterance does not
        depend on which others are in the batch (beyond floating point). ``explore=False`` asks for the agent's best
        guess instead of a sample, where it knows the difference.
        """

    def choices(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]
    ) -> list[Choice] | None:
        """The act behind what ``act`` says, given generators in the same state, and its log-probability: for those who
        follow a rule. None for others; where utterances have tokens, their log-probabilities stand beside them."""
        return None

    def prepare(self, practice: Practice) -> None:
        """Get ready before the first conversation, with ``practice.logged()`` alone. Takes no conversation."""

    def improve(self, practice: Practice) -> Metrics:
        """Learn for one iteration from what ``practice`` grants; returns named numbers for the log.

        Must spend at least one conversation of the budget, and take all randomness from ``practice.rng``.
        """
        raise TypeError(f"{type(self).__name__} does not learn; it has no improve().")

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique | None:
        """What the agent's critic expects at every turn of these conversations of its own; None: it has no critic."""
        return None

    def figures(self) -> Mapping[str, float]:
        """What was asked of models behind servers so far and what it cost; empty where none was."""
        return {}

    def save(self, folder: Path) -> None:
        """Write all that ``restore`` needs to continue as if never interrupted. ``folder`` exists and is empty."""

    def restore(self, folder: Path) -> None:
        """Become the agent that ``save`` wrote to ``folder``."""


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises ``ValueError``, which names the value, unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value}; give {low} or more" + (f", and at most {high}." if high < math.inf else "."))
