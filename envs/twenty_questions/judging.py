"""Which of two things to say brings more, now: feedback on single turns.

The rater knows the thing and sees what the exchange brings: how many of the things that it might be are ruled out, in
bits, and for the right guess one bit more. It sees nothing of what will follow. In this world that is nearly all there
is to see: a rater of single turns is a good judge here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from envs.acts import UNCLEAR
from envs.env import Episode
from envs.judges import Criteria, Criterion
from envs.turn_judges import Foreseen
from envs.twenty_questions.language import question_of
from envs.twenty_questions.program import Mind, Secret, respond

BITS_WIDTH = 1.0


class QuestionTurns(Foreseen):
    """Compares the bits that each utterance can be expected to bring in its exchange, exactly.

    The expectation is over what may be missed; the utterance is understood as the user understands it.
    """

    def __init__(self, sharpness: float = 4.0):
        super().__init__(Criteria({"bits": Criterion(1.0, BITS_WIDTH)}, sharpness, name="bits"))

    def foresee(self, moments: Sequence[Episode], utterances: Sequence[str]) -> list[Mapping[str, float] | str]:
        return [_foreseen(moment, text) for moment, text in zip(moments, utterances, strict=True)]


def _foreseen(moment: Episode, text: str) -> Mapping[str, float] | str:
    secret = moment.scenario.facts
    if not isinstance(secret, Secret):
        return f"the scenario of seed {moment.seed} has no secret of this world"
    mind = moment.memory if isinstance(moment.memory, Mind) else Mind()
    outcomes = respond(secret, mind, question_of(text) or UNCLEAR)
    return {"bits": math.fsum(one.probability * _bits(mind, one.mind) for one in outcomes)}


def _bits(before: Mind, after: Mind) -> float:
    return math.log2(before.left.bit_count() / after.left.bit_count()) + after.found
