"""``parley/SuggestedResponse-v0``: suggest what a business should write to its customer; the business decides.

The problem that Iterative PPO was made for (arXiv 2511.21638), around any world of conversations (``World``): the shop
or the lesson. The agent's utterance is a suggestion a_i, which only the business sees. The business sends m_i: the
suggestion word for word, or edited, or something else that follows its drift, or what it would have written anyway. The
customer, the wrapped world's own user, answers m_i and knows nothing of suggestions.

- **State**: all suggestions, all that was sent and all answers, in plain text (``envs.suggested_response.transcript``).
- **Action**: the suggestion. An empty one abstains: the business writes by itself.
- **Transition**: P(m_i | s_i, a_i) is the business's (``envs.suggested_response.business``), which has hidden
  attributes, and then the customer's. ``user=auto_reply`` is P(m_i = a_i) = 1: the wrapped world, exchange by exchange.
- **End**: as in the wrapped world, and when the business or the customer falls silent.
- **Reward**: sparse, 1 when the wrapped world's purpose is reached (the customer buys, the test is passed), else 0; or
  with ``reward="world"`` the wrapped world's own. The paper's discount is the agent's (``agent.gamma``).

``Assessment.parts`` count what became of the suggestions, at the end.

Splits. Those of the wrapped world, crossed with who the business is (habit × dislike). Businesses of ``ood_test`` have
a habit that training never shows: they are stubborn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np

from envs.acts import Act
from envs.conversation import Speaker
from envs.env import Assessment, ConversationEnv, Episode, Scenario, StopReason
from envs.suggested_response.business import HABITS, MODES, UNSEEN_HABITS, Business, business_brief
from envs.suggested_response.users import Facts, SuggestedUser, Talk, auto_reply_user, business_user
from envs.users import UserSimulator
from envs.vector import ConversationVectorEnv

AGENT_BRIEF: Final = (
    "Somebody else does the talking, and you suggest what to say. They may say it, change it or say something else; "
    "where they do, they tell you what they said before you hear the answer. You are paid for how it ends. You may "
    "suggest nothing. Their work is this: "
)


class SuggestedResponseEnv(ConversationEnv):
    """See the module's docstring.

    Args:
        user: a business and its customer (``envs.suggested_response.users``), who bring their world along.
        split: one of the wrapped world's.
        reward: ``outcome``: 1 for a purpose that is reached; ``world``: what the wrapped world pays.
        max_exchanges: that of the wrapped world, if None.
    """

    splits = ("train", "iid_test", "ood_test")

    def __init__(
        self,
        user: UserSimulator,
        *,
        split: str = "train",
        reward: Literal["outcome", "world"] = "outcome",
        max_exchanges: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(user, SuggestedUser):
            raise ValueError(
                f"user={user!r} is no business with a customer; give one of envs.suggested_response.users, such as "
                "business_user()."
            )
        if reward not in ("outcome", "world"):
            raise ValueError(f"reward={reward!r} is not known; choose outcome or world.")
        self.world, self.customer, self.auto_reply = user.world, user.customer, user.auto_reply
        self.reward = reward
        self._wrapped = {name: self.world.environment(self.customer, name) for name in self.splits}
        limit = self._wrapped["train"].max_exchanges if max_exchanges is None else max_exchanges
        super().__init__(user, split=split, max_exchanges=limit, **kwargs)

    def sample_scenario(self, rng: np.random.Generator) -> Scenario:
        scenario = self._wrapped[self.split].sample_scenario(rng)
        business = draw_business(self.split, tuple(self.world.dislikes), rng)
        told = business_brief(business, self.world.dislikes[business.dislikes].words)
        attributes = {**scenario.attributes, "habit": business.habit, "dislikes": business.dislikes}
        return replace(
            scenario,
            agent_brief=scenario.agent_brief if self.auto_reply else AGENT_BRIEF + scenario.agent_brief,
            user_brief=f"{scenario.user_brief}\n{told}",
            facts=Facts(replace(scenario, opening=()), business, self.auto_reply),
            key=f"{scenario.key}/{business.habit}/{business.dislikes}",
            attributes=attributes,
        )

    def assess(self, episodes: Sequence[Episode]) -> list[Assessment]:
        talks = [episode.memory for episode in episodes]
        going = [talk for talk in talks if isinstance(talk, Talk) and not talk.silent]
        own = iter(self._wrapped[self.splits[0]].assess([talk.episode for talk in going]) if going else [])
        return [
            self._assessed(talk, None if talk.silent else next(own))
            if isinstance(talk, Talk)
            else Assessment(judged=False)
            for talk in talks
        ]

    def acts_in(self, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]] | None:
        """What suggestions do; a reply holds what was sent as well, and is not read."""
        return self._wrapped[self.splits[0]].acts_in(speaker, texts) if speaker == "agent" else None

    def _assessed(self, talk: Talk, own: Assessment | None) -> Assessment:
        """What the wrapped world says of the talk (None: one fell silent, and it is not asked), as this world does."""
        counts = {mode: float(talk.modes.count(mode)) for mode in MODES} | {"abstained": float(talk.abstained)}
        if own is None:
            return Assessment(0.0, True, False, stop_reason=StopReason.USER_LEFT, parts=counts)
        reward = own.reward if self.reward == "world" else float(own.over and own.success is True)
        return replace(own, reward=reward, parts={**own.parts, **counts})


def draw_business(split: str, dislikes: Sequence[str], rng: np.random.Generator) -> Business:
    """A business of a split; its attributes are independent and even."""
    habits = UNSEEN_HABITS if split == "ood_test" else tuple(name for name in HABITS if name not in UNSEEN_HABITS)
    return Business(habits[int(rng.integers(len(habits)))], dislikes[int(rng.integers(len(dislikes)))])


USERS: Final[dict[str, Callable[..., SuggestedUser]]] = {"business": business_user, "auto_reply": auto_reply_user}
"""Those that can be named in ``gymnasium.make("parley/SuggestedResponse-v0", user=…)``."""


def make_suggested_response(
    user: str | UserSimulator = "business",
    split: str = "train",
    world: str = "sales",
    customer: str | UserSimulator = "program",
    **kwargs: Any,
) -> SuggestedResponseEnv:
    """``parley/SuggestedResponse-v0``. ``user`` is a name of ``USERS``, and then ``world`` and ``customer`` say around
    whom (``envs.suggested_response.users.business_user``); or it is a business with its customer."""
    if isinstance(user, str):
        if user not in USERS:
            raise ValueError(f"user={user!r} is not known here; choose one of {', '.join(USERS)}.")
        user = USERS[user](world, customer)
    return SuggestedResponseEnv(user, split=split, **kwargs)


def make_suggested_response_vec(
    num_envs: int = 1, autoreset_mode: str = "NextStep", **kwargs: Any
) -> ConversationVectorEnv:
    """``parley/SuggestedResponse-v0`` as a vector environment: one user call for all conversations."""
    return ConversationVectorEnv(make_suggested_response(**kwargs), num_envs, autoreset_mode)
