"""The verdict on one claim of the literature: what was to be matched, what was measured, and what follows.

A claim holds or fails when the whole 95% interval of what decides it says so, and is undecided otherwise: a number that
merely lies on the right side decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from results.statistics import Estimate

Outcome = Literal["holds", "fails", "undecided", "measured"]
"""``measured`` is no verdict: a number worth knowing that could not have come out against the claim."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim, judged. Frozen and plain, so that it is a row of a table and an object of JSON."""

    claim: str
    """In words, as a sentence that can be wrong."""
    number_to_match: str
    """What the source reports, or the criterion it sets."""
    measured: str
    """Ours, in words and numbers."""
    low: float | None
    """Lower end of the 95% interval of what decides; None where nothing is estimated (an exact count) or measured."""
    high: float | None
    """Its upper end."""
    verdict: Outcome
    note: str = ""
    """What a reader has to know before believing it."""


def above(estimate: Estimate, bar: float) -> Outcome:
    """Whether the estimated number is above ``bar``: holds or fails if the whole interval is on one side of it."""
    return "holds" if estimate.low > bar else "fails" if estimate.high < bar else "undecided"


def within(estimate: Estimate, low: float, high: float) -> Outcome:
    """Whether the estimated number is in [``low``, ``high``]: holds if the whole interval is, fails if no part."""
    if low <= estimate.low and estimate.high <= high:
        return "holds"
    return "fails" if estimate.high < low or estimate.low > high else "undecided"


def beside(estimate: Estimate, number: float) -> str:
    """Where the source's number lies, seen from our interval."""
    if estimate.low <= number <= estimate.high:
        return "The source's number is in our interval."
    return f"The source's number is {'below' if number < estimate.low else 'above'} our interval."


def share(value: float) -> str:
    """A number with three decimals, as papers print shares: .909."""
    words = f"{value:z.3f}"
    return words.replace("0.", ".", 1) if abs(value) < 1 else words
