"""What a seller can know: everything the buyer has said, as the few facts that matter for what to do next.

It is the information state of the world seen as a partially observed Markov decision process: given it, nothing else
said so far changes the distribution of what comes next. ``envs.sales.planner`` plans on it; the scripted sellers act
on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from envs.acts import Act
from envs.sales.catalogue import NEEDS, PRODUCTS, TIERS, WORRIES
from envs.sales.program import HURRY_AT, PATIENCE, Fit, Mind, Profile, respond

_FIT_BY_REACTION: dict[str, Fit] = {"like": "full", "too_dear": "dear", "too_basic": "basic", "wrong_kind": "wrong"}


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the seller knows before its next act."""

    idle: bool = False
    mind: Mind = Mind()
    """The buyer's mind, which its reactions reveal step by step (all but its patience)."""
    style: str | None = None
    """The buyer's style where it is known. It only shifts how likely the buyer is to tell things."""
    need: str | None = None
    not_needs: frozenset[str] = frozenset()
    """Needs that a rejected pitch has ruled out."""
    budget: str | None = None
    worry: str | None = None
    not_worries: frozenset[str] = frozenset()
    """Worries that a reassurance without effect has ruled out."""
    fit: Fit = "none"
    patience: tuple[int, ...] = PATIENCE
    """Values the buyer's patience may still have, all equally likely."""
    exchanges: int = 0

    def key(self, horizon: int) -> tuple[object, ...]:
        """States with equal keys have the same future in a conversation of at most ``horizon`` exchanges.

        They may differ in the names of needs and worries, which the world treats alike, and in how they came about:
        what is left of the buyer's patience counts, not what it was, and what is left of the horizon where patience may
        last longer (an act costs at least 1).
        """
        m = self.mind
        patience = tuple(value - m.spent for value in self.patience)
        exchanges = min(horizon - self.exchanges, max(patience))
        need = len(self.not_needs) if self.need is None else -1
        worry = -2 if not m.worried else (len(self.not_worries) if self.worry is None else -1)
        flags = (m.greeted or m.spent > 0, m.chatted, m.hurried)  # before the first act no patience is spent
        return (
            self.style, self.idle, exchanges, m.trust, m.discounts, flags, need, self.budget, worry, self.fit, patience,
        )  # fmt: skip

    def candidate_need(self) -> str:
        """The need if known, else the first that is not ruled out."""
        return self.need or next((n for n in NEEDS if n not in self.not_needs), NEEDS[0])

    def candidate_worry(self) -> str:
        return self.worry or next((w for w in WORRIES if w not in self.not_worries), WORRIES[0])

    def product(self, tier: str) -> str:
        """The name of the candidate need's product of a tier."""
        need = self.candidate_need()
        return next(p.name for p in PRODUCTS.values() if p.need == need and p.tier == tier)

    def best_tier(self, unknown: str = "basic") -> str:
        """The tier that the known budget asks for, or ``unknown``."""
        return unknown if self.budget is None else TIERS[self.budget == "ample"]


def begin(opening: Act, style: str | None = None) -> Knowledge:
    """What the buyer's first words tell."""
    need = opening.about if opening.kind == "open_need" else None
    return Knowledge(idle=opening.kind == "open_idle", style=style, need=need)


def learn(known: Knowledge, act: Act, moves: tuple[Act, ...], mind: Mind | None = None) -> Knowledge:
    """What is known after the seller did ``act`` and the buyer answered ``moves``.

    ``mind`` is the buyer's afterwards, for whoever has it from the program already; None: it is told from the moves.
    Moves that the program could not have answered (a misheard reply) leave the mind as it was, one exchange older.
    """
    facts = _facts(known, act, moves)
    if mind is None:
        mind = _mind_after(facts, known.mind, act, moves)
    patience = _possible_patience(known, mind, moves)
    return replace(facts, mind=mind, patience=patience, exchanges=known.exchanges + 1)


def _facts(known: Knowledge, act: Act, moves: tuple[Act, ...]) -> Knowledge:
    for move in moves:
        if move.kind in ("tell_need", "tell_budget", "tell_worry"):
            told: dict[str, Any] = {move.kind.removeprefix("tell_"): move.about}
            known = replace(known, **told)
        elif move.kind in _FIT_BY_REACTION and act.kind == "pitch" and act.about:
            known = _after_pitch(known, act.about, _FIT_BY_REACTION[move.kind])
        elif move.kind == "convinced" and act.kind == "reassure":
            known = replace(known, worry=act.about)
        elif move.kind == "unmoved" and act.kind == "reassure" and act.about:
            known = replace(known, not_worries=known.not_worries | {act.about})
    return _by_elimination(known)


def _by_elimination(known: Knowledge) -> Knowledge:
    if known.need is None and len(known.not_needs) == len(NEEDS) - 1:
        known = replace(known, need=known.candidate_need())
    if known.worry is None and len(known.not_worries) == len(WORRIES) - 1:
        known = replace(known, worry=known.candidate_worry())
    return known


def _after_pitch(known: Knowledge, name: str, suits: Fit) -> Knowledge:
    product = PRODUCTS[name]
    if suits == "wrong":
        return replace(known, fit=suits, not_needs=known.not_needs | {product.need})
    budget = {"dear": "tight", "basic": "ample"}.get(suits, "ample" if product.tier == "premium" else "tight")
    return replace(known, fit=suits, need=product.need, budget=budget)


def _someone(known: Knowledge, patience: int) -> Profile:
    """Some buyer about whom everything known is true."""
    need, budget, worry = known.candidate_need(), known.budget or "tight", known.candidate_worry()
    return Profile(need, budget, worry, patience, known.style or "plain", known.idle)


def _mind_after(known: Knowledge, mind: Mind, act: Act, moves: tuple[Act, ...]) -> Mind:
    if moves[:1] == (Act("leave"),):
        return replace(mind, outcome="left")
    kinds = {move.kind for move in moves} - {"hurry"}
    for outcome in respond(_someone(known, patience=99), mind, act):
        if {move.kind for move in outcome.moves} - {"hurry"} <= kinds | {"tell_worry", "tell_need"} and (
            outcome.moves[0].kind == moves[0].kind
        ):
            hurried = mind.hurried or Act("hurry") in moves
            return outcome.mind if outcome.mind.hurried == hurried else replace(outcome.mind, hurried=hurried)
    return replace(mind, spent=mind.spent + 1)


def _possible_patience(known: Knowledge, mind: Mind, moves: tuple[Act, ...]) -> tuple[int, ...]:
    if mind.outcome != "open":
        return known.patience
    left = [(p, p - mind.spent) for p in known.patience]
    if Act("hurry") in moves:
        possible = tuple(p for p, rest in left if 0 < rest <= HURRY_AT)
    elif mind.hurried:
        possible = tuple(p for p, rest in left if rest > 0)
    else:
        possible = tuple(p for p, rest in left if rest > HURRY_AT)
    return possible or known.patience[-1:]
