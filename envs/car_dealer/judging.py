"""Which of two things to say pleases the buyer more now: short-sighted feedback on single turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from envs.car_dealer.language import dealer_parser
from envs.car_dealer.program import Mind, Profile, respond
from envs.env import Episode
from envs.judges import Criteria, Criterion
from envs.turn_judges import Foreseen

SATISFACTION_WIDTH = 1.0


class DealerTurns(Foreseen):
    """Compares the satisfaction that each utterance can be expected to bring in its exchange, exactly.

    The expectation is over what the program may answer; the utterance is understood as the buyers understand it.
    """

    def __init__(self, sharpness: float = 4.0):
        super().__init__(Criteria({"satisfaction": Criterion(1.0, SATISFACTION_WIDTH)}, sharpness, name="satisfaction"))
        self.parser = dealer_parser()

    def foresee(self, moments: Sequence[Episode], utterances: Sequence[str]) -> list[Mapping[str, float] | str]:
        acts = self.parser.parse(utterances)
        foreseen: list[Mapping[str, float] | str] = []
        for moment, act in zip(moments, acts, strict=True):
            profile = moment.scenario.facts
            if not isinstance(profile, Profile):
                foreseen.append(f"the scenario of seed {moment.seed} has no buyer's profile")
                continue
            mind = moment.memory if isinstance(moment.memory, Mind) else Mind()
            outcomes = respond(profile, mind, act)
            foreseen.append({"satisfaction": math.fsum(one.probability * one.satisfaction for one in outcomes)})
        return foreseen
