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

from envs.acts import Act
from envs.conversation import Conversation, Speaker, Turn
from envs.spaces import ConversationSpace, UtteranceSpace
from envs.users import Reply, UserSimulator


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
    AGENT_FAILED = "agent_failed"
    """The agent gave no utterance (``Utterance.failure``); whoever lets it speak says so. Truncated and unscored."""
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
    """Names the scenario up to chance: equal keys mean equal facts. Splits are disjoint in it; statistics cluster by
    it."""
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
    failure: str | None = None
    """Why it could not be judged, in the judge's own words; None when ``judged``."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One conversation at one moment: everything needed to continue it, as a value."""

    scenario: Scenario
    turns: tuple[Turn, ...]
    seed: int
    exchanges: int = 0
    memory: object = None
    """The user's private state, as its last ``Reply`` left it; None before its first."""
    take: int = 0
    """Which of several independent conversations of this scenario it is; what a seed draws besides the scenario
    depends on it."""

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the next exchange. It starts at 1 because ``default_rng((s, 0))`` is ``default_rng(s)``,
        which the scenario was drawn from; a trailing 0, that of the first take, changes nothing."""
        return np.random.default_rng((self.seed, 1 + self.exchanges, self.take))

    def heard_by(self, speaker: Speaker) -> Conversation:
        """The conversation as ``speaker`` holds it: the turns, and that side's own brief."""
        brief = self.scenario.agent_brief if speaker == "agent" else self.scenario.user_brief
        return Conversation(brief, self.turns)

    def then(self, speaker: Speaker, text: str) -> Episode:
        """The same moment with one more turn; ``exchanges`` and ``memory`` stay."""
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
    """The user's, agent's or judge's own words on why it failed, or None."""

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated

    @property
    def reward(self) -> float:
        """The reward, or NaN when the conversation ended unscored: a failure can't be averaged in by mistake."""
        return self.assessment.reward if self.assessment.judged else math.nan

    @property
    def info(self) -> dict[str, Any]:
        """Gymnasium's ``info``: how the exchange went, in words that reveal nothing of the user's brief.

        ``exchanges`` and ``judged`` are always there; ``stop_reason``, ``success`` and ``failure`` once there is
        something to say. (Gymnasium's vector environments type an array by its first value, so a None among the
        booleans would come out as False.)
        """
        later = {
            "stop_reason": self.stop_reason.value if self.stop_reason else None,
            "success": None if self.assessment.success is None else bool(self.assessment.success),
            "failure": self.failure,
        }
        always = {"exchanges": self.episode.exchanges, "judged": self.assessment.judged}
        return always | {name: value for name, value in later.items() if value is not None}


_UNJUDGED = Assessment(judged=False)


def unspoken(episode: Episode, failure: str) -> Advance:
    """The end of a conversation in which the agent failed to speak: its turn stands empty, and nobody answers it."""
    ended = replace(episode.then("agent", ""), exchanges=episode.exchanges + 1)
    return Advance(ended, _UNJUDGED, False, True, StopReason.AGENT_FAILED, failure=failure)


def draw_seed(rng: np.random.Generator) -> int:
    """The seed of an episode for which nobody named one."""
    return int(rng.integers(2**31))


class ConversationEnv(gymnasium.Env[Conversation, str], ABC):
    """A Gymnasium environment in which the agent talks with a simulated user.

    The observation is the ``Conversation`` as the agent holds it, the action is what the agent says next. Episodes end
    ``terminated`` when ``assess`` says so and ``truncated`` after ``max_exchanges`` or when the user or judge failed;
    ``info["stop_reason"]`` names which. Rewards of unscored episodes are NaN.

    Args:
        user: who answers.
        split: which scenarios are drawn; one of ``splits``.
        max_exchanges: exchanges after which an undecided conversation is truncated.
        max_chars: longest utterance of either side, in characters. A longer one of the agent raises ``ValueError``; a
            longer one of the user is a failed reply.
        render_mode: ``"ansi"`` or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  # Gymnasium's own type
    observation_space: ConversationSpace
    action_space: UtteranceSpace
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
            known = ", ".join(self.splits)
            raise ValueError(f"split={split!r} is not a split of {type(self).__name__}; it has {known}.")
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
        """Draw what one episode of ``self.split`` is about, from ``rng`` alone. Nothing else depends on the split."""

    @abstractmethod
    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        """How each conversation stands after the user's latest reply; one ``Assessment`` per episode.

        A pure function of each episode: its scenario, its turns and the user's ``memory``; neither ``self.split`` nor
        what the constructor chose by it may enter, since an evaluation plays all splits through one environment. A
        judge that could not decide returns ``judged=False``, never a reward of zero.
        """

    def acts_in(self, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]] | None:
        """What the words of ``speaker`` do, as far as this world can read them (``UNCLEAR`` where it can't); None: it
        reads none. For figures on how conversations went (``benchmarks.health``), never for rewards."""
        return None

    # ---- the rules ------------------------------------------------------------------------------------------------

    def begin(self, seed: int, take: int = 0) -> Episode:
        """The episode that ``seed`` names, before the agent's first turn.

        Takes of one seed have the scenario in common and nothing else.
        """
        scenario = self.sample_scenario(np.random.default_rng(seed))
        return Episode(scenario, scenario.opening, int(seed), take=take)

    def advance(self, episodes: Sequence[Episode], utterances: Sequence[str]) -> list[Advance]:
        """One exchange in each episode: the agent says its utterance, the user answers, the conversation is assessed.

        Pure: the same episodes and utterances give the same result (as far as ``user.deterministic``), and the
        episodes given stay as they were. Raises ``ValueError`` for an utterance outside ``action_space``.
        """
        for utterance in utterances:
            if utterance not in self.action_space:
                raise ValueError(
                    f"The utterance {str(utterance)[:80]!r} is not in {self.action_space}: give a str of at most that "
                    f"many characters that UTF-8 can encode; this is a {type(utterance).__name__}"
                    + (f" of {len(utterance)}." if isinstance(utterance, str) else ".")
                )
        spoken = [episode.then("agent", text) for episode, text in zip(episodes, utterances, strict=True)]
        if not spoken:
            return []
        replies = self._replies(spoken)
        heard = [_after(episode, reply) for episode, reply in zip(spoken, replies, strict=True)]
        answered = [episode for episode, reply in zip(heard, replies, strict=True) if reply.failure is None]
        assessments = iter(self._assessments(answered))
        return [
            self._conclude(episode, next(assessments) if reply.failure is None else _UNJUDGED, reply)
            for episode, reply in zip(heard, replies, strict=True)
        ]

    def _replies(self, episodes: Sequence[Episode]) -> list[Reply]:
        replies = self.user.reply(episodes, [episode.rng for episode in episodes])
        if len(replies) != len(episodes):
            raise ValueError(f"User {self.user.name!r} gave {len(replies)} replies to {len(episodes)} episodes.")
        return [self._readable(reply) for reply in replies]

    def _readable(self, reply: Reply) -> Reply:
        """The reply, or a failure if an observation can't hold it. A failure always has words."""
        if reply.failure is not None:
            return replace(reply, failure=reply.failure or "the user gave no reason")
        if reply.text in self.action_space:
            return reply
        size = f"{len(reply.text)} characters" if isinstance(reply.text, str) else type(reply.text).__name__
        return replace(reply, failure=f"the user's reply ({size}) is not in {self.action_space}")

    def _assessments(self, episodes: Sequence[Episode]) -> list[Assessment]:
        assessments = self.assess(episodes) if episodes else []
        if len(assessments) != len(episodes):
            raise ValueError(
                f"{type(self).__name__}.assess gave {len(assessments)} assessments of {len(episodes)} episodes."
            )
        return assessments

    def _conclude(self, episode: Episode, assessment: Assessment, reply: Reply) -> Advance:
        tokens = reply.tokens
        if reply.failure is not None:
            return Advance(episode, assessment, False, True, StopReason.USER_FAILED, tokens, reply.failure)
        if not assessment.judged:
            failure = assessment.failure or "the judge gave no verdict"
            return Advance(episode, assessment, False, True, StopReason.JUDGE_FAILED, tokens, failure)
        if assessment.over:
            return Advance(episode, assessment, True, False, assessment.stop_reason or StopReason.OUTCOME, tokens)
        if episode.exchanges >= self.max_exchanges:
            return Advance(episode, assessment, False, True, StopReason.EXCHANGE_LIMIT, tokens)
        return Advance(episode, assessment, False, False, None, tokens)

    # ---- Gymnasium ------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Conversation, dict[str, Any]]:
        """Begin an episode: ``begin(seed)``, or one that the environment's generator names when there is no seed.

        ``options`` are ignored.
        """
        super().reset(seed=seed)
        self._episode = self.begin(draw_seed(self.np_random) if seed is None else seed)
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

    @property
    def episode(self) -> Episode | None:
        """The episode at this moment, the user's secrets included: for tools and for forking, never for agents. None
        before ``reset``."""
        return self._episode

    def render(self) -> str | None:
        """The conversation so far as text (``render_mode="ansi"``), else None."""
        if self.render_mode != "ansi":
            return None
        return str(self._episode.heard_by("agent")) if self._episode else ""


def _after(spoken: Episode, reply: Reply) -> Episode:
    """The episode after the reply. One the user failed keeps its turns and memory; the exchange counts all the same."""
    if reply.failure is not None:
        return replace(spoken, exchanges=spoken.exchanges + 1)
    turns = (*spoken.turns, Turn("user", reply.text))
    return replace(spoken, turns=turns, exchanges=spoken.exchanges + 1, memory=reply.memory)
