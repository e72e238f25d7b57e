"""Fitting a model of the judge to the preference data that is given to everybody.

As in arXiv 2405.14655, section 5: labelled once, before anybody learns, and the model is frozen afterwards. There the
pairs are conversations of the fine-tuned start; here they are those of the scripted policy that the start imitates.
They cost nobody a conversation, whereas the labels of single-turn methods are bought with the budget.
"""

from __future__ import annotations

import numpy as np

from agents.chat_model import ChatModel
from agents.practice import Practice
from agents.preference_model import Compared, Kind, PreferenceModel
from agents.reader import whole


def fit_judge(
    policy: ChatModel,
    practice: Practice,
    rng: np.random.Generator,
    *,
    kind: Kind,
    epochs: float,
    held_out: float,
    **options: float,
) -> tuple[PreferenceModel, dict[str, float]]:
    """A preference or reward model of ``practice.logged_pairs()``, and its figures on the share ``held_out`` of them.

    ``options`` are those of ``PreferenceModel``. Pairs that the judge failed on are left out. Raises ``ValueError``
    where fewer than two are left.
    """
    pairs, labels = practice.logged_pairs()
    data = [
        Compared(whole(policy, first), whole(policy, second), float(label))
        for (first, second), label in zip(pairs, labels, strict=True)
        if not np.isnan(label)
    ]
    if len(data) < 2:
        raise ValueError(
            f"Of {len(pairs)} logged pairs {len(data)} have a label, and no judge can be learnt from so few; raise "
            "budget.logged (two conversations make a pair), or see why the judge fails."
        )
    model = PreferenceModel(policy, rng, kind=kind, **options)  # type: ignore[arg-type]  # names are its own
    aside = max(1, round(held_out * len(data))) if held_out else 0
    loss = model.fit(data[aside:], rng, epochs=epochs)
    figures = model.figures(data[:aside]) if aside else {}
    figures["unlabelled"] = float(len(pairs) - len(data))
    return model, {"judge_loss": loss, **{f"judge_{name}": value for name, value in figures.items()}}
