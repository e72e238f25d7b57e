"""Chat messages that somebody else has logged, as trajectories. See ``envs.dataset``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from envs.conversation import Speaker, Turn
from envs.judges import Pair
from envs.trajectory import Step, Trajectory, Utterance

_SPEAKERS: Mapping[str, Speaker] = {"assistant": "agent", "user": "user"}


def compared(row: Mapping[str, Any], index: int) -> tuple[Pair, float]:
    """``prompt``, ``chosen`` and ``rejected`` as two conversations and a label; every second time the one chosen stands
    second, so that the place tells nothing. Raises ``ValueError`` for what can't be read."""
    if missing := [name for name in ("prompt", "chosen", "rejected") if name not in row]:
        raise ValueError(f"The column `{missing[0]}` is missing; a comparison has `prompt`, `chosen` and `rejected`.")
    if not isinstance(row["prompt"], list):
        raise ValueError('`prompt` is no list of messages; give [{"role": "user", "content": …}].')
    chosen, rejected = (trajectory_of([*row["prompt"], *_answer(row[name])], index) for name in ("chosen", "rejected"))
    return ((chosen, rejected), 1.0) if index % 2 == 0 else ((rejected, chosen), 0.0)


def _answer(said: Any) -> list[Any]:
    return [{"role": "assistant", "content": said}] if isinstance(said, str) else list(said)


def trajectory_of(messages: Any, index: int, row: Mapping[str, Any] | None = None) -> Trajectory:
    """Chat messages as the ``index``-th conversation; ``row`` holds what it earned. Raises ``ValueError`` for what
    can't be read."""
    brief, turns = _turns(messages)
    begins = next((i for i, turn in enumerate(turns) if turn.speaker == "agent"), None)
    if begins is None:
        raise ValueError("There is no message of the assistant, whose part is what is learnt.")
    said: list[tuple[str, str | None]] = []
    for before, turn in zip([Turn("user", ""), *turns[begins:]], turns[begins:], strict=False):
        if before.speaker == turn.speaker:
            who = "assistant" if turn.speaker == "agent" else "user"
            raise ValueError(f"Two messages of the {who} follow one another; make one of them.")
        if turn.speaker == "agent":
            said.append((turn.text, None))
        else:
            said[-1] = (said[-1][0], turn.text)
    rewards = _rewards(row or {}, len(said))
    steps = [Step(Utterance(text), reply, reward) for (text, reply), reward in zip(said, rewards, strict=True)]
    success = (row or {}).get("success")
    return Trajectory(
        seed=index, brief=brief, opening=tuple(turns[:begins]), steps=tuple(steps), terminated=True,
        stop_reason="outcome", success=success, judged=not math.isnan(rewards[-1]),
    )  # fmt: skip


def _turns(messages: Any) -> tuple[str, list[Turn]]:
    """The system message, and who said what."""
    if not isinstance(messages, list) or not messages:
        raise ValueError('Messages are a list such as [{"role": "user", "content": …}], and not an empty one.')
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            raise ValueError(f"The message {str(message)[:80]} has no `role`, or no text as its `content`.")
    told = messages[0]["role"] == "system"
    turns = []
    for message in messages[told:]:
        if message["role"] not in _SPEAKERS:
            raise ValueError(
                f"role={message['role']!r} is not known here; messages are of user and assistant, the first of system."
            )
        turns.append(Turn(_SPEAKERS[message["role"]], message["content"]))
    return messages[0]["content"] if told else "", turns


def _rewards(row: Mapping[str, Any], exchanges: int) -> list[float]:
    """[K] what was earned; NaN at the end when nobody says."""
    earned = next((row[name] for name in ("reward", "return") if row.get(name) is not None), None)
    success = row.get("success")
    if success is not None and not isinstance(success, bool):
        raise ValueError(f"success={success!r}; give true or false.")
    if earned is None:
        earned = math.nan if success is None else float(success)
    elif not all(_is_number(one) for one in (earned if isinstance(earned, list) else [earned])):
        raise ValueError(f"reward={earned!r}; give a number, or a list with one per message of the assistant.")
    if not isinstance(earned, list):
        return [0.0] * (exchanges - 1) + [float(earned)]
    if len(earned) != exchanges:
        raise ValueError(
            f"There are {len(earned)} rewards for {exchanges} messages of the assistant; give one for each."
        )
    return [float(one) for one in earned]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
