"""Which of two suggestions pleases the customer more now: short-sighted feedback on single turns.

What a suggestion brings is foreseen through the business: over everything that it may send, how the wrapped world's own
judge of single turns foresees the customer to take it. A business that falls silent brings nothing, 0 in every part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from envs.acts import Act
from envs.env import Episode
from envs.suggested_response.sending import own_acts, sending
from envs.suggested_response.users import Facts, Talk
from envs.suggested_response.world import named_world
from envs.turn_judges import Foreseen


class SuggestedTurns(Foreseen):
    """Compares what each suggestion can be expected to bring in its exchange, by the wrapped world's criteria.

    Exact over what the business may send, which is taken by its act; an edit is as good as the suggestion.
    """

    def __init__(self, world: str = "sales"):
        self.world = named_world(world)
        self.customer = self.world.turn_judge()
        super().__init__(self.customer.judge)
        self.speaker = self.world.speaker(self.world.skill)

    def foresee(self, moments: Sequence[Episode], utterances: Sequence[str]) -> list[Mapping[str, float] | str]:
        return [self._foreseen(moment, text) for moment, text in zip(moments, utterances, strict=True)]

    def _foreseen(self, moment: Episode, suggested: str) -> Mapping[str, float] | str:
        if not isinstance(moment.scenario.facts, Facts):
            return f"the scenario of seed {moment.seed} has no business"
        talk = Talk.of(moment)
        weights = self._sent(moment, talk, suggested)
        foreseen = self.customer.foresee([talk.episode] * len(weights), list(weights))
        parts: list[Mapping[str, float]] = []
        for one in foreseen:
            if isinstance(one, str):
                return one
            parts.append(one)
        return {
            name: math.fsum(p * one[name] for p, one in zip(weights.values(), parts, strict=True))
            for name in self.judge.measures
        }

    def _sent(self, moment: Episode, talk: Talk, suggested: str) -> dict[str, float]:
        """Words that may be sent, one text per act, and how likely."""
        facts: Facts = moment.scenario.facts
        if facts.auto_reply:
            return {suggested: 1.0}
        (heard,) = self.world.reader.read([talk.episode.then("agent", suggested)])
        act = heard.act if suggested.strip() else None
        own = own_acts(self.speaker, self.speaker.know(talk.episode.heard_by("agent")))
        sent = sending(self.world, facts.business, talk.trust, act, own).acts
        words: dict[str, float] = {}
        for what, probability in sent.items():
            text = suggested if what == act else self._worded(what, talk.episode)
            words[text] = words.get(text, 0.0) + probability
        return words

    def _worded(self, act: Act, episode: Episode) -> str:
        return self.world.say(act, episode, np.random.default_rng(0))
