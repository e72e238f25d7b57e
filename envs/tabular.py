"""A finite game in words: the user says where the agent is, the agent says what it does.

    user:  Game 1 begins. You are in a0.
    agent: left
    user:  You are in b2.
    …

What can be computed exactly of the game (``envs.games``) is so of the conversation, and agents made for conversations
can be measured against it. The letter of a state is its layer, the number its index; which of the contexts is played,
the user says at the beginning. After as many turns as the game has layers the conversation ends in its final state,
``Assessment.parts["final"]``.

An utterance that is no action's name leads nowhere: the conversation ends at once in a state of its own, which loses to
every final state and earns 0. So saying no action is never better than any action, and the equilibrium and the optimum
in words are those of the table; had it been read as a random action, sloppy speech would be a strategy with a price of
its own.

Reward: the game's reward of the final state where there is one. Otherwise the chance that the final state is preferred
to one of the reference policy μ, so a mean return is a win rate against μ, and that of μ itself is ½.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from envs.conversation import Conversation, Turn
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.games import Floats, Game, GameSpec, RandomGame, payoff_against, spec_from_json, spec_to_json
from envs.judges import Pair, Preference
from envs.odds import Choice
from envs.trajectory import Trajectory
from envs.users import Reply, UserSimulator

FINAL: Final = "final"
"""The part of an assessment that holds the index of the final state; ``NOWHERE`` is one too."""
NOWHERE: Final = -1


@dataclass(frozen=True, slots=True)
class Facts:
    """What the environment and its user know: the game and which of its contexts is played."""

    game: GameSpec
    context: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the agent is: a state of a layer, both counted from 0; the last layer holds the final states."""

    layer: int = 0
    state: int = 0

    def __str__(self) -> str:
        return "nowhere" if self.state == NOWHERE else f"{string.ascii_lowercase[self.layer]}{self.state}"


class Guide(UserSimulator):
    """Says where the agent is; draws the next state from the game's transitions."""

    @property
    def name(self) -> str:
        return "guide"

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        places = [_moved(episode, rng.random()) for episode, rng in zip(episodes, rngs, strict=True)]
        return [
            Reply(f"You are {place}." if place.state == NOWHERE else f"You are in {place}.", place) for place in places
        ]


def _moved(episode: Episode, draw: float) -> Place:
    """Where the agent's last utterance leads; ``draw``, uniform in [0, 1), decides."""
    facts, game = episode.scenario.facts, episode.scenario.facts.game.build()
    place = episode.memory if isinstance(episode.memory, Place) else Place()
    action = action_said(game, episode.turns[-1].text)
    if action is None:
        return Place(place.layer + 1, NOWHERE)
    reached = np.cumsum(game.transitions[facts.context, place.layer, place.state, action])
    # The sum may end a rounding error below 1, and ``draw`` above it.
    return Place(place.layer + 1, min(int(np.searchsorted(reached, draw, side="right")), game.states - 1))


def action_said(game: Game, text: str) -> int | None:
    """The index of the action that ``text`` names, or None. Case, spaces around it and a full stop do not matter."""
    said = text.strip().removesuffix(".").casefold()
    return game.actions.index(said) if said in game.actions else None


class TabularEnv(ConversationEnv):
    """See the module's docstring.

    Args:
        user: a ``Guide``, or a user whose memory is a ``Place``.
        game: which game is played; equal specs are the same game.
        kwargs: ``split``, ``max_chars`` and ``render_mode`` of ``ConversationEnv``. Conversations are as long as the
            game has layers.
    """

    splits = ("train",)

    def __init__(self, user: UserSimulator | None = None, *, game: GameSpec | None = None, **kwargs: Any):
        self.game = game or RandomGame()
        super().__init__(user or Guide(), max_exchanges=self.game.build().horizon, **kwargs)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        game = self.game.build()
        context = int(rng.integers(game.contexts))
        opening = (Turn("user", f"Game {context} begins. You are in {Place()}."),)
        brief = f"Say where to go: {', '.join(game.actions)}. Nothing else is understood."
        told = f"You are the guide of game {context}."
        attributes = {"game": spec_to_json(self.game), "context": str(context)}
        return Scenario(brief, told, opening, Facts(self.game, context), f"context {context}", attributes)

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        return [_assess(episode) for episode in episodes]


def _assess(episode: Episode) -> Assessment:
    place, facts = episode.memory, episode.scenario.facts
    if not isinstance(place, Place):
        return Assessment(judged=False, failure=f"the user's memory is a {type(place).__name__}, not a Place")
    if place.state == NOWHERE:
        return Assessment(0.0, True, False, stop_reason=StopReason.AGENT_LEFT, parts={FINAL: float(NOWHERE)})
    if place.layer < facts.game.build().horizon:
        return Assessment()
    reward = float(rewards(facts.game)[facts.context, place.state])
    return Assessment(reward, True, True, stop_reason=StopReason.OUTCOME, parts={FINAL: float(place.state)})


@cache
def rewards(game: GameSpec) -> Floats:
    """The reward of each final state, [C, X]: the game's own, or else the chance to be preferred to one of μ's."""
    built = game.build()
    return payoff_against(built, built.mu) if built.reward is None else built.reward


class TableJudge:
    """The preference table of the game that was played, which the trajectories name, as a judge of conversations."""

    name = "table"

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        """Raises ``ValueError`` for conversations of two scenarios, or of another world."""
        return [_prefer(*pair) for pair in pairs]


def _prefer(first: Trajectory, second: Trajectory) -> Preference:
    if first.attributes != second.attributes:
        raise ValueError(f"{first.key!r} and {second.key!r} are two scenarios or two games; give a pair of one.")
    for one in (first, second):
        if not one.judged:
            return Preference(math.nan, f"the conversation of seed {one.seed} is unscored ({one.failure})")
    facts, x, other = facts_of(first), int(first.parts[FINAL]), int(second.parts[FINAL])
    return Preference(float(preferences(facts.game)[facts.context, x, other]))


def facts_of(trajectory: Trajectory) -> Facts:
    """Which game and context were played. Raises ``ValueError`` for a trajectory of another world."""
    try:
        return Facts(spec_from_json(trajectory.attributes["game"]), int(trajectory.attributes["context"]))
    except KeyError as error:
        raise ValueError(
            f"The trajectory of seed {trajectory.seed} is of no game in words: it has no {error}."
        ) from None


@cache
def preferences(game: GameSpec) -> Floats:
    """P(x ≻ x' | c), [C, X + 1, X + 1]; the last row and column, at index ``NOWHERE``, lose to all but themselves."""
    table = np.pad(game.build().preference, ((0, 0), (0, 1), (0, 1)))
    table[:, :-1, NOWHERE], table[:, NOWHERE, NOWHERE] = 1.0, 0.5
    return table


class Player:
    """Says the actions of a table of log-probabilities [C, H, X, Y], reading context and state from the words."""

    def __init__(self, game: GameSpec, policy: Floats | None = None):
        """``policy`` is the game's μ by default. Raises ``ValueError`` if it is no table of that shape."""
        self.game = game.build()
        table = self.game.mu if policy is None else policy
        if table.shape != self.game.mu.shape:
            raise ValueError(f"policy of shape {table.shape}; this game's are {self.game.mu.shape}.")
        self.table, self.sums = table, np.cumsum(np.exp(table), -1)

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[str]:
        return [choice.act for choice in self.choices(conversations, rngs)]

    def choices(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[Choice]:
        """What ``speak`` says, given generators in the same state, and how likely the table says it."""
        return [self._choose(one, rng.random()) for one, rng in zip(conversations, rngs, strict=True)]

    def _choose(self, conversation: Conversation, draw: float) -> Choice:
        context, place = heard(conversation)
        state = context, place.layer, place.state
        action = min(int(np.searchsorted(self.sums[state], draw, side="right")), len(self.game.actions) - 1)
        return Choice(self.game.actions[action], float(self.table[state][action]))


def heard(conversation: Conversation) -> tuple[int, Place]:
    """The context and the place that the user's words tell. Raises ``ValueError`` if they are not a ``Guide``'s."""
    opening, latest = conversation.turns[0].text, conversation.last("user") or ""
    try:
        context = int(opening.split()[1])
        name = latest.removesuffix(".").split()[-1]
        return context, Place(string.ascii_lowercase.index(name[0]), int(name[1:]))
    except (IndexError, ValueError):
        raise ValueError(f"{opening!r} and {latest!r} are not what the guide of a game says.") from None


def actions_taken(game: GameSpec, trajectories: Sequence[Trajectory]) -> Floats:
    """How often each action was said in each state, [C, H, X, Y]: a policy known by its conversations alone, as that of
    a language model is. What is no action is not counted."""
    built = game.build()
    counts = np.zeros(built.mu.shape)
    for trajectory in trajectories:
        for k, step in enumerate(trajectory.steps):
            context, place = heard(trajectory.prefix(k))
            action = action_said(built, step.utterance.text)
            if action is not None:
                counts[context, place.layer, place.state, action] += 1
    return counts
