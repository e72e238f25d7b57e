"""How conversations went, apart from what they paid: figures that tell a sick simulator, or an agent that has found a
way around one."""

from __future__ import annotations

from collections.abc import Sequence

from envs.acts import Act
from envs.conversation import Speaker
from envs.env import ConversationEnv, StopReason
from envs.trajectory import Trajectory

EARLY = 2
"""A user that leaves within so many exchanges has left early."""
_TELLS = "tell_"
"""How the names of acts begin by which a user tells something of itself."""


def health(env: ConversationEnv, trajectories: Sequence[Trajectory]) -> dict[str, float | None]:
    """Shares in [0, 1], None where there was nothing to count or ``env`` reads no acts:

    - ``empty_replies``: of the user's replies, those without a word;
    - ``repeated_replies``: those it had given before in the same conversation, word by word;
    - ``role_flips``: those that do what only the agent does, and nothing that the user does;
    - ``disclosures``: those by which the user tells something of itself;
    - ``early_stops``: of the conversations, those that the user left within ``EARLY`` exchanges;
    - ``unclear_acts``: of the agent's utterances, those in which the world reads no act.
    """
    replies = [[step.reply for step in one.steps if step.reply is not None] for one in trajectories]
    every = [reply for row in replies for reply in row]
    said = [step.utterance.text for one in trajectories for step in one.steps]
    heard, flipped = _read(env, "user", every), _read(env, "agent", every)
    done = _read(env, "agent", said)
    both_ways = None if heard is None or flipped is None else list(zip(heard, flipped, strict=True))
    return {
        "empty_replies": _share([not reply.strip() for reply in every]),
        "repeated_replies": _share([reply in row[:i] for row in replies for i, reply in enumerate(row)]),
        "role_flips": _share([not _clear(own) and _clear(other) for own, other in both_ways] if both_ways else None),
        "disclosures": _share([any(act.kind.startswith(_TELLS) for act in acts) for acts in heard] if heard else None),
        "early_stops": _share(
            [one.stop_reason == StopReason.USER_LEFT and one.exchanges <= EARLY for one in trajectories]
        ),
        "unclear_acts": _share([not _clear(acts) for acts in done] if done else None),
    }


def _read(env: ConversationEnv, speaker: Speaker, texts: Sequence[str]) -> list[tuple[Act, ...]] | None:
    """The acts of each text; equal ones are read once."""
    different = list(dict.fromkeys(texts))
    acts = env.acts_in(speaker, different) if different else []
    if acts is None:
        return None
    of = dict(zip(different, acts, strict=True))
    return [of[text] for text in texts]


def _clear(acts: tuple[Act, ...]) -> bool:
    return any(act.kind != "unclear" for act in acts)


def _share(cases: Sequence[bool] | None) -> float | None:
    return sum(cases) / len(cases) if cases else None
