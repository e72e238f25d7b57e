"""Many conversations in step, with Gymnasium's vector interface and one call to the user for all that go on.

``ConversationVectorEnv(env, n)`` gives what ``gymnasium.vector.SyncVectorEnv`` of ``n`` copies of ``env`` would give
for the same seeds, autoresets included; but one exchange of ``n`` conversations is one ``env.advance``, so that a
language model that plays the user answers them in one batch. Conversations that are over are not sent to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.conversation import Conversation
from envs.env import Advance, ConversationEnv, Episode, draw_seed

Observations = tuple[Conversation, ...]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


class ConversationVectorEnv(VectorEnv[Observations, Sequence[str], np.ndarray]):
    """``num_envs`` conversations of one environment, all at once.

    Observations are a tuple of ``Conversation``, actions any sequence of ``num_envs`` strings, infos Gymnasium's
    dictionary of arrays (``infos["stop_reason"][i]`` holds where ``infos["_stop_reason"][i]``).

    ``autoreset_mode`` says what happens to a conversation that ended in the step before (NEXT_STEP), in this step
    (SAME_STEP) or not at all (DISABLED), as Gymnasium defines it:

    - NEXT_STEP: the next step begins a new conversation there. It ignores the action, its reward is 0.
    - SAME_STEP: the observation is already that of a new conversation; the ended one's last observation and info are
      ``infos["final_obs"][i]`` and ``infos["final_info"]``.
    - DISABLED: the caller resets with ``reset(options={"reset_mask": mask})``; stepping an ended conversation raises
      ``gymnasium.error.ResetNeeded``.

    Args:
        env: the environment, or a function that makes it. Wrappers around it are taken off: they would see no step.
        num_envs: how many conversations.
        autoreset_mode: an ``AutoresetMode`` or its value, such as ``"SameStep"``.
    """

    def __init__(
        self,
        env: ConversationEnv | Callable[[], ConversationEnv],
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}; a vector environment needs at least 1 conversation.")
        made = (env if isinstance(env, gymnasium.Env) else env()).unwrapped
        if not isinstance(made, ConversationEnv):
            raise TypeError(
                f"{made} is not a ConversationEnv; use gymnasium.vector.SyncVectorEnv for other environments."
            )
        self.env = made
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**made.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = made.render_mode
        self.single_observation_space = made.observation_space
        self.single_action_space = made.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rngs, self._rng_seeds = map(list, zip(*(seeding.np_random() for _ in range(num_envs)), strict=True))
        self._episodes: list[Episode | None] = [None] * num_envs
        self._ended = np.ones(num_envs, dtype=np.bool_)

    @property
    def episodes(self) -> tuple[Episode | None, ...]:
        """The conversations at this moment, the users' secrets included: for tools and for forking, never for agents.
        None before ``reset``."""
        return tuple(self._episodes)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin all conversations, or those where ``options["reset_mask"]`` is True.

        Seed ``s`` begins the seeds ``s, s + 1, …``; a list names one seed per conversation; None in it, or no seed,
        lets that conversation's own generator name one. All observations come back, infos of the new ones only.
        """
        seeds = self._seeds(seed)
        mask = self._reset_mask(options)
        infos: dict[str, Any] = {}
        for index in np.flatnonzero(mask):
            self._begin(int(index), seeds[index], infos)
        if None in self._episodes:
            raise gymnasium.error.ResetNeeded("The first reset must begin every conversation; leave out reset_mask.")
        return self._observations(), infos

    def step(self, actions: Sequence[str]) -> tuple[Observations, Floats, Booleans, Booleans, dict[str, Any]]:
        """One exchange in every conversation that goes on; see the class for those that ended."""
        if None in self._episodes:
            raise gymnasium.error.ResetNeeded("The conversations have not begun; call reset() first.")
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions for {self.num_envs} conversations; give one each.")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise gymnasium.error.ResetNeeded(
                f"Conversations {np.flatnonzero(self._ended).tolist()} are over; reset them with options['reset_mask']."
            )
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        terminations = np.zeros(self.num_envs, dtype=np.bool_)
        truncations = np.zeros(self.num_envs, dtype=np.bool_)
        infos: dict[str, Any] = {}
        advances = self._advance_live(actions)
        for index in range(self.num_envs):
            if index not in advances:
                self._begin(index, None, infos)
                continue
            advance = advances[index]
            self._episodes[index] = advance.episode
            self._ended[index] = advance.done
            rewards[index] = advance.reward
            terminations[index], truncations[index] = advance.terminated, advance.truncated
            self._tell(index, advance, infos)
        return self._observations(), rewards, terminations, truncations, infos

    def _advance_live(self, actions: Sequence[str]) -> dict[int, Advance]:
        live = [index for index in range(self.num_envs) if not self._ended[index]]
        episodes = [cast(Episode, self._episodes[index]) for index in live]
        advances = self.env.advance(episodes, [actions[index] for index in live])
        return dict(zip(live, advances, strict=True))

    def _tell(self, index: int, advance: Advance, infos: dict[str, Any]) -> None:
        """Add what this conversation brought to ``infos``; in SAME_STEP, also begin the next one if it ended."""
        if not (advance.done and self.autoreset_mode is AutoresetMode.SAME_STEP):
            self._add_info(infos, advance.info, index)
            return
        final = {"final_obs": advance.episode.heard_by("agent"), "final_info": advance.info}
        self._add_info(infos, final, index)
        self._begin(index, None, infos)

    def _begin(self, index: int, seed: int | None, infos: dict[str, Any]) -> None:
        if seed is not None:
            self._rngs[index], self._rng_seeds[index] = seeding.np_random(seed)
        episode = self.env.begin(draw_seed(self._rngs[index]) if seed is None else seed)
        self._episodes[index] = episode
        self._ended[index] = False
        self._add_info(infos, {"exchanges": episode.exchanges}, index)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} conversations; give one each, or a single int.")
        return [None if one is None else int(one) for one in seed]

    def _reset_mask(self, options: dict[str, Any] | None) -> Booleans:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a NumPy array of bool; this is {mask!r}.")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and a True in it; this is {mask}."
            )
        return mask

    def _observations(self) -> Observations:
        return tuple(cast(Episode, episode).heard_by("agent") for episode in self._episodes)

    @property  # type: ignore[misc]  # a tuple that can't be set, as in SyncVectorEnv
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator that names each conversation's next seed."""
        return tuple(self._rngs)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What each of ``np_random`` was last seeded with."""
        return tuple(self._rng_seeds)

    def render(self) -> tuple[str, ...] | None:
        """Each conversation so far as text (``render_mode="ansi"``), else None."""
        if self.render_mode != "ansi":
            return None
        return tuple("" if episode is None else str(episode.heard_by("agent")) for episode in self._episodes)

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close()
