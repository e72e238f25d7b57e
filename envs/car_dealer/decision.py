"""The buyer's last line, as LMRL-Gym's buyer ends a conversation, and how it is kept from the dealer.

The user's side writes it behind the words of a buyer that has decided::

    Okay, I'll take it. Output: Decision=Accept MSRP=$33,000 Buy Price=$29,700

All of it comes from the ledger (``Mind``), nothing from what was said. ``stripped`` takes every such line out of what
the dealer gets to see, also one that a voice made up.
"""

from __future__ import annotations

import re
from typing import Final

from envs.car_dealer.program import Mind

_DECISION: Final = re.compile(
    r"\s*Output:\s*Decision=(?:Accept|Reject)(?:\s+MSRP=\$[\d,]+)?(?:\s+Buy Price=\$[\d,]+)?", re.IGNORECASE
)


def decision_line(mind: Mind) -> str:
    """What was decided, as the ledger has it; empty while nothing is. Without a price named there is no MSRP."""
    if mind.outcome == "open":
        return ""
    msrp = f" MSRP=${mind.msrp:,}" if mind.quoted is not None else ""
    if mind.outcome == "bought":
        return f"Output: Decision=Accept{msrp} Buy Price=${mind.price:,}"
    return f"Output: Decision=Reject{msrp}"


def with_decision(words: str, mind: Mind) -> str:
    """What the user's side says altogether."""
    return f"{words} {decision_line(mind)}".rstrip()


def stripped(words: str) -> str:
    """The words without any decision line."""
    return _DECISION.sub("", words).strip()
