"""The rules of a conversation, written once: one exchange is what the agent says and what the user answers.

``Episode`` is an immutable value and ``ConversationEnv.advance`` is the only rule that changes it. ``step`` is
``advance`` of one episode and the vector environment is ``advance`` of many, so they cannot disagree; two
continuations of one moment are ``advance([episode, episode], [a, b])``, with no copy of a live environment.

An author writes two methods, ``sample_scenario`` (what the conversation is about) and ``assess`` (how it stands).
Counting, ending, seeding and rendering are done here.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.conversation import Conversation, Speaker, Turn
from envs.spaces import ConversationSpace, UtteranceSpace
from envs.users import UserSimulator


class StopReason(enum.StrEnum):
    """Why a conversation ended."""

    OUTCOME = "outcome"
    """What the conversation was for was decided: bought, understood, solved. Terminated."""
    USER_LEFT = "user_left"
    """The user ended it. Terminated."""
    AGENT_LEFT = "agent_left"
    """The agent ended it. Terminated."""
    EXCHANGE_LIMIT = "exchange_limit"
    """``max_exchanges`` exchanges passed without a decision. Truncated."""
    USER_FAILED = "user_failed"
    """The user simulator gave no reply. Truncated and unscored."""
    JUDGE_FAILED = "judge_failed"
    """The outcome could not be judged. Truncated and unscored."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one episode is about."""

    agent_brief: str
    """What the agent is told before the first turn. Agents see nothing else of the scenario."""
    user_brief: str
    """What the user is told: who it is and what it wants. Never reaches an agent."""
    opening: tuple[Turn, ...] = ()
    """The turns already spoken when the agent's first turn comes."""
    facts: Any = None
    """What the environment and its own users know (a profile, a hidden test). Neither brief need hold it."""
    key: str = ""
    """Names the scenario up to chance: equal keys mean equal facts. Splits are disjoint in it; statistics cluster by it."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The facts as words (``{"need": "trail", …}``), for tables by user group. Recorded, never shown to an agent."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """How a conversation stands after an exchange."""

    reward: float = 0.0
    """Gymnasium's reward of this exchange; sparse worlds give it at the end only."""
    over: bool = False
    """Gymnasium's ``terminated``: the conversation came to an end of its own."""
    success: bool | None = None
    """Whether its purpose was reached; None while it is open."""
    judged: bool = True
    """False when the judge failed: the conversation then ends unscored."""
    stop_reason: StopReason | None = None
    """Why it is over; None while it is open. An ``over`` without a reason counts as OUTCOME."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named numbers behind the reward (``{"price": 640.0}``), for records."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One conversation at one moment: everything needed to continue it, as a value."""

    scenario: Scenario
    turns: tuple[Turn, ...]
    seed: int
    exchanges: int = 0
    memory: object = None
    """The user's private state, as its last ``Reply`` left it; None before its first."""

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the next exchange. It starts at 1 because ``default_rng((s, 0))`` is ``default_rng(s)``,
        which the scenario was drawn from."""
        return np.random.default_rng((self.seed, 1 + self.exchanges))

    def heard_by(self, speaker: Speaker) -> Conversation:
        """The conversation as ``speaker`` holds it: the turns, and that side's own brief."""
        brief = self.scenario.agent_brief if speaker == "agent" else self.scenario.user_brief
        return Conversation(brief, self.turns)

    def then(self, speaker: Speaker, text: str) -> Episode:
        return replace(self, turns=(*self.turns, Turn(speaker, text)))


@dataclass(frozen=True, slots=True)
class Advance:
    """What one exchange brought."""

    episode: Episode
    assessment: Assessment
    terminated: bool
    truncated: bool
    stop_reason: StopReason | None
    """None while the conversation goes on."""
    user_tokens: int = 0
    """Tokens a language model generated to play the user in this exchange."""
    failure: str | None = None
    """The user's or judge's own words on why it failed, or None."""

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated

    @property
    def reward(self) -> float:
        """The reward, or NaN when the conversation ended unscored: a failure can't be averaged in by mistake."""
        return self.assessment.reward if self.assessment.judged else math.nan

    @property
    def info(self) -> dict[str, Any]:
        """Gymnasium's ``info``: how the exchange went, in words that reveal nothing of the user's brief."""
        return {
            "stop_reason": self.stop_reason.value if self.stop_reason else None,
            "success": self.assessment.success,
            "judged": self.assessment.judged,
            "exchanges": self.episode.exchanges,
            "failure": self.failure,
        }


_UNJUDGED = Assessment(judged=False)


class ConversationEnv(gymnasium.Env[Conversation, str], ABC):
    """A Gymnasium environment in which the agent talks with a simulated user.

    The observation is the ``Conversation`` as the agent holds it, the action is what the agent says next. Episodes end
    ``terminated`` when ``assess`` says so and ``truncated`` after ``max_exchanges`` or when the user or judge failed;
    ``info["stop_reason"]`` names which. Rewards of unscored episodes are NaN.

    Args:
        user: who answers.
        split: which scenarios are drawn; one of ``splits``.
        max_exchanges: exchanges after which an undecided conversation is truncated.
        max_chars: longest utterance, in characters; a longer one raises ``ValueError``.
        render_mode: ``"ansi"`` or None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}
    splits: ClassVar[tuple[str, ...]] = ("train",)
    """The splits this environment has; their scenario keys are disjoint."""

    def __init__(
        self,
        user: UserSimulator,
        *,
        split: str = "train",
        max_exchanges: int = 8,
        max_chars: int = 4000,
        render_mode: str | None = None,
    ):
        if split not in self.splits:
            raise ValueError(f"split={split!r} is not a split of {type(self).__name__}; it has {', '.join(self.splits)}.")
        if max_exchanges < 1:
            raise ValueError(f"max_exchanges={max_exchanges}; a conversation needs at least 1 exchange.")
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode={render_mode!r} is not supported; use 'ansi' or None.")
        self.user = user
        self.split = split
        self.max_exchanges = max_exchanges
        self.render_mode = render_mode
        self.observation_space = ConversationSpace(max_chars)
        self.action_space = UtteranceSpace(max_chars)
        self._episode: Episode | None = None
        self._done = False

    # ---- what an author writes ------------------------------------------------------------------------------------

    @abstractmethod
    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        """Draw what one episode of ``self.split`` is about, from ``rng`` alone."""

    @abstractmethod
    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        """How each conversation stands after the user's latest reply; one ``Assessment`` per episode.

        A pure function of each episode: its scenario, its turns and the user's ``memory``. A judge that could not
        decide returns ``judged=False``, never a reward of zero.
        """

    # ---- the rules ------------------------------------------------------------------------------------------------

    def begin(self, seed: int) -> Episode:
        """The episode that ``seed`` names, before the agent's first turn."""
        scenario = self.sample_scenario(np.random.default_rng(seed))
        return Episode(scenario, scenario.opening, seed)

    def advance(self, episodes: Sequence[Episode], utterances: Sequence[str]) -> list[Advance]:
        """One exchange in each episode: the agent says its utterance, the user answers, the conversation is assessed.

        Pure: the same episodes and utterances give the same result (as far as ``user.deterministic``), and the
        episodes given stay as they were.
        """
        for utterance in utterances:
            if utterance not in self.action_space:
                raise ValueError(
                    f"The utterance {str(utterance)[:80]!r} is not in {self.action_space}; give a str of that length."
                )
        spoken = [episode.then("agent", text) for episode, text in zip(episodes, utterances, strict=True)]
        replies = self.user.reply(spoken, [episode.rng for episode in episodes])
        heard = [
            replace(
                episode if reply.failure else episode.then("user", reply.text),
                exchanges=episode.exchanges + 1,
                memory=episode.memory if reply.failure else reply.memory,
            )
            for episode, reply in zip(spoken, replies, strict=True)
        ]
        answered = [episode for episode, reply in zip(heard, replies, strict=True) if not reply.failure]
        assessments = iter(self.assess(answered) if answered else [])
        return [
            self._conclude(episode, _UNJUDGED if reply.failure else next(assessments), reply.tokens, reply.failure)
            for episode, reply in zip(heard, replies, strict=True)
        ]

    def _conclude(self, episode: Episode, assessment: Assessment, tokens: int, failure: str | None) -> Advance:
        if failure:
            return Advance(episode, assessment, False, True, StopReason.USER_FAILED, tokens, failure)
        if not assessment.judged:
            return Advance(episode, assessment, False, True, StopReason.JUDGE_FAILED, tokens, "the judge gave no verdict")
        if assessment.over:
            return Advance(episode, assessment, True, False, assessment.stop_reason or StopReason.OUTCOME, tokens)
        if episode.exchanges >= self.max_exchanges:
            return Advance(episode, assessment, False, True, StopReason.EXCHANGE_LIMIT, tokens)
        return Advance(episode, assessment, False, False, None, tokens)

    # ---- Gymnasium ------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Conversation, dict[str, Any]]:
        """Begin an episode. ``reset(seed=s)`` begins ``begin(s)``; without a seed the environment's generator names one."""
        super().reset(seed=seed)
        self._episode = self.begin(seed if seed is not None else int(self.np_random.integers(2**31)))
        self._done = False
        return self._episode.heard_by("agent"), {"exchanges": 0}

    def step(self, action: str) -> tuple[Conversation, float, bool, bool, dict[str, Any]]:
        """One exchange. Raises ``gymnasium.error.ResetNeeded`` before ``reset`` and after the conversation ended."""
        if self._episode is None or self._done:
            raise gymnasium.error.ResetNeeded("The conversation has not begun or is over; call reset() first.")
        (advance,) = self.advance([self._episode], [action])
        self._episode, self._done = advance.episode, advance.done
        observation = advance.episode.heard_by("agent")
        return observation, advance.reward, advance.terminated, advance.truncated, advance.info

    def render(self) -> str | None:  # type: ignore[override]  # Gymnasium's type allows frames only as arrays or str lists
        """The conversation so far as text (``render_mode="ansi"``), else None."""
        if self.render_mode != "ansi":
            return None
        return str(self._episode.heard_by("agent")) if self._episode else ""
