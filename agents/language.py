"""How an agent spoke, in numbers that need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.trajectory import Trajectory


def language(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """How an agent spoke: words per utterance, the share of utterances that it had said before in the same
    conversation, and the share of different ones among all. NaN where nothing was said."""
    said = [[" ".join(step.utterance.text.lower().split()) for step in one.steps] for one in trajectories]
    every = [text for one in said for text in one]
    if not every:
        return dict.fromkeys(("words", "repetition", "distinct_utterances"), float("nan"))
    return {
        "words": float(np.mean([len(text.split()) for text in every])),
        "repetition": sum(len(one) - len(set(one)) for one in said) / len(every),
        "distinct_utterances": len(set(every)) / len(every),
    }
