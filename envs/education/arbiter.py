"""The lesson's books, when somebody else speaks for the student (``envs.two_seats``).

What a student has understood is in its mind, and nobody understands more by saying so. So the world's own student goes
on deciding, misconception, comfort, test and all; the seat is told what it would say, and says it in words of its own.
"""

from __future__ import annotations

from envs.env import Assessment, Episode
from envs.two_seats import OwnUser


class EducationArbiter(OwnUser):
    """See the module's docstring. The student's payoff is 1 if it passed the test, else 0."""

    def payoff(self, episode: Episode, assessment: Assessment) -> float:
        return float(assessment.success is True)
