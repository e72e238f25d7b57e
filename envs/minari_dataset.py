"""Conversations as a Minari dataset, and what Minari must know to open one. Needs the extra ``data``.

Importing this module tells Minari about the spaces of conversation environments, which it asks for in every dataset:

    import minari

    import envs.minari_dataset                      # before load_dataset

    dataset = minari.load_dataset("parley/sales-train-v0")      # below $MINARI_DATASETS_PATH
    for episode in dataset.iterate_episodes():
        conversations = dataset.observation_space.from_jsonable(episode.observations)      # K + 1 of them
        episode.actions, episode.rewards            # K utterances, K rewards

Minari keeps plain values, so an observation comes back as ``ConversationSpace.to_jsonable`` has it, a brief and a list
of turns; actions are texts. ``infos["logprob"]`` is the behaviour policy's log-probability of the action before, NaN at
the beginning and where nobody can say. What else is known of an episode stands in its metadata
(``dataset.storage.get_episode_metadata``); the user's state is no part of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import minari
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.serialization import deserialize_space, serialize_space

from envs.dataset import Logged
from envs.env import ConversationEnv
from envs.spaces import ConversationSpace, UtteranceSpace

_TYPES: dict[str, type[UtteranceSpace] | type[ConversationSpace]] = {
    "parley.Utterance": UtteranceSpace,
    "parley.Conversation": ConversationSpace,
}


def _serialize(space: UtteranceSpace | ConversationSpace, to_string: bool = True) -> dict[str, Any] | str:
    name = next(name for name, kind in _TYPES.items() if type(space) is kind)
    row = {"type": name, "max_chars": space.max_chars}
    return json.dumps(row) if to_string else row


def _deserialize(row: dict[str, Any]) -> UtteranceSpace | ConversationSpace:
    return _TYPES[row["type"]](row["max_chars"])


for _name, _kind in _TYPES.items():
    serialize_space.register(_kind)(_serialize)
    deserialize_space.register(_name)(_deserialize)


def write(root: Path, name: str, logged: Sequence[Logged], env: ConversationEnv, about: str) -> None:
    """Write scored conversations as the dataset ``name``, such as ``parley/sales-train-v0``, below ``root``; what is
    already there is in the way. ``about`` is its description."""
    folder = root.absolute() / name / "data"  # Minari joins a relative path onto itself
    folder.mkdir(parents=True)
    storage = MinariStorage.new(folder, env.observation_space, env.action_space, data_format="arrow")
    who = ", ".join(sorted({one.policy for one in logged}))
    about_it = {"dataset_id": name, "minari_version": minari.__version__, "algorithm_name": who, "description": about}
    storage.update_metadata(about_it)
    storage.get_size = lambda: 0.0  # Minari would measure the whole folder after every episode; once is enough
    storage.update_episodes(_episode(one, env.observation_space) for one in logged)
    del storage.get_size
    storage.update_episode_metadata([_metadata(one) for one in logged])


def _episode(one: Logged, observations: ConversationSpace) -> EpisodeBuffer:
    trajectory, k = one.trajectory, one.trajectory.exchanges
    logprobs = one.logprobs if one.logprobs is not None else [math.nan] * k
    return EpisodeBuffer(
        seed=trajectory.seed,
        observations=observations.to_jsonable([trajectory.prefix(i) for i in range(k + 1)]),
        actions=[step.utterance.text for step in trajectory.steps],
        rewards=[step.reward for step in trajectory.steps],
        terminations=[trajectory.terminated and i == k - 1 for i in range(k)],
        truncations=[not trajectory.terminated and i == k - 1 for i in range(k)],
        infos={"logprob": [math.nan, *logprobs]},
    )


def _metadata(one: Logged) -> dict[str, Any]:
    trajectory = one.trajectory
    return {
        "take": trajectory.take,
        "key": trajectory.key,
        "policy": one.policy,
        "logprob_of": one.logprob_of,
        "stop_reason": trajectory.stop_reason,
        "success": trajectory.success,
        "attributes": dict(trajectory.attributes),
    }
