"""The exact optimum: dynamic programming over what may still be thought of.

All that matters for the future is which things are left, all equally likely, and how many exchanges. With n things
left the exchange costs 1, unless it is the right guess:

    a question       V(S, k) = -1 + |A|/n V(A, k-1) + |B|/n V(B, k-1)     A: those of S for which the answer is yes
    a guess of i     V(S, k) = (n-1)/n (-1 + V(S without i, k-1))         B: the others
    nothing left     V(S, 0) = 0                                         the conversation is over

and where the other one did not listen, with probability p, it is -1 + V(S, k-1) instead. A question whose answer is
known is left out, as is a guess of what is ruled out: guessing something that may be is at least as good.

The search is branch and bound. ``bound`` is what the best of all tables would allow, one in which any number of the
things left can be told from the rest; it depends on the number of things alone. The values are exact all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from envs.acts import Act
from envs.twenty_questions.program import HORIZON
from envs.twenty_questions.table import TABLE, Table, Things, split_by

_EQUAL = 1e-9
"""Values nearer than this differ by rounding."""


class Planner:
    """Solves what it is asked, and remembers it.

    Args:
        table: what can be thought of.
        misses: probability that an exchange is lost because the other one did not listen.
    """

    def __init__(self, table: Table = TABLE, misses: float = 0.0):
        self.table, self.misses = table, misses
        self._solved: dict[tuple[Things, int], tuple[float, Act | None]] = {}

    def value(self, left: Things, exchanges: int) -> float:
        """The expected return of the best asker with these things left and so many exchanges to go."""
        return self._solve(left, exchanges)[0]

    def best(self, left: Things, exchanges: int) -> Act:
        """What that asker does; of equally good acts, the first in the order of the bounds and the table."""
        act = self._solve(left, exchanges)[1]
        if act is None:
            raise ValueError(
                f"left={left:b}, exchanges={exchanges}: there is nothing to do; give at least one of each."
            )
        return act

    def _solve(self, left: Things, exchanges: int) -> tuple[float, Act | None]:
        if not (left and exchanges):
            return 0.0, None
        if (left, exchanges) not in self._solved:
            best, chosen = -float(HORIZON + exchanges), None  # below anything
            candidates = sorted(self._candidates(left, exchanges), key=lambda one: -one[0])
            for most, act in candidates:
                if most <= best + _EQUAL:
                    break
                value = self._of(left, exchanges, act)
                if value > best + _EQUAL:
                    best, chosen = value, act
            self._solved[left, exchanges] = best, chosen
        return self._solved[left, exchanges]

    def _candidates(self, left: Things, exchanges: int) -> Iterator[tuple[float, Act]]:
        """What may be worth doing, and the most that it can bring."""
        n = left.bit_count()
        for one in self.table.properties:
            yes, no = split_by(self.table, left, Act("ask", one))
            if yes and no:
                yield _asked(n, yes.bit_count(), exchanges, self.misses), Act("ask", one)
        for thing in self.table.named(left):
            yield _guessed(n, exchanges, self.misses), Act("guess", thing)

    def _of(self, left: Things, exchanges: int, act: Act) -> float:
        """The expected return of doing ``act`` and the best afterwards."""
        n = left.bit_count()
        yes, no = split_by(self.table, left, act)
        after = no.bit_count() / n * (-1 + self.value(no, exchanges - 1))
        if act.kind == "ask":
            after += yes.bit_count() / n * (-1 + self.value(yes, exchanges - 1))
        if not self.misses:
            return after
        return (1 - self.misses) * after + self.misses * (-1 + self.value(left, exchanges - 1))


@cache
def bound(n: int, exchanges: int, misses: float = 0.0) -> float:
    """What the best asker can expect with n things left, whatever the table."""
    if n == 0 or exchanges == 0:
        return 0.0
    questions = (_asked(n, yes, exchanges, misses) for yes in range(1, n // 2 + 1))
    return max([_guessed(n, exchanges, misses), *questions])


def _asked(n: int, yes: int, exchanges: int, misses: float) -> float:
    """The most that a question can bring which is answered yes for ``yes`` of n things."""
    parts = (yes, n - yes)
    after = -1 + sum(part * bound(part, exchanges - 1, misses) for part in parts) / n
    return _if_heard(after, n, exchanges, misses)


def _guessed(n: int, exchanges: int, misses: float) -> float:
    """The most that a guess can bring."""
    return _if_heard((n - 1) / n * (-1 + bound(n - 1, exchanges - 1, misses)), n, exchanges, misses)


def _if_heard(after: float, n: int, exchanges: int, misses: float) -> float:
    if not misses:
        return after
    return (1 - misses) * after + misses * (-1 + bound(n, exchanges - 1, misses))
