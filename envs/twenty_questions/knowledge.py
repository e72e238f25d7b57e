"""What an asker can know: all that was answered, as the few facts that matter for what to do next."""

from __future__ import annotations

from dataclasses import dataclass, replace

from envs.acts import Act
from envs.twenty_questions.program import HORIZON, NO, RIGHT, YES
from envs.twenty_questions.table import TABLE, Things, split_by


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known before the next question."""

    left: Things = TABLE.everything
    """What the thing may be; all of it is equally likely."""
    yes: frozenset[str] = frozenset()
    """Properties that were said to be true of it."""
    no: frozenset[str] = frozenset()
    latest: str | None = None
    """The property that was last said to be true of it."""
    exchanges: int = 0

    @property
    def asked(self) -> frozenset[str]:
        """Properties whose answer was given."""
        return self.yes | self.no

    @property
    def exchanges_left(self) -> int:
        return HORIZON - self.exchanges


def learn(known: Knowledge, act: Act, answer: Act) -> Knowledge:
    """What is known after ``act`` was answered so.

    An answer after which nothing could be it (somebody who answers untruly) leaves what may be as it was.
    """
    known = replace(known, exchanges=known.exchanges + 1)
    if answer not in (YES, NO, RIGHT) or act.kind not in ("ask", "guess"):
        return known
    yes, no = split_by(TABLE, known.left, act)
    known = replace(known, left=(no if answer == NO else yes) or known.left)
    if act.kind == "guess" or act.about is None:
        return known
    if answer == NO:
        return replace(known, no=known.no | {act.about})
    return replace(known, yes=known.yes | {act.about}, latest=act.about)
