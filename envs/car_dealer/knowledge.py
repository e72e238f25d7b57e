"""What a dealer can know: everything the buyer has said, as the few facts that matter for what to do next.

It is the information state of the world seen as a partially observed Markov decision process, but for what the buyer's
manner gives away of its temperament. ``envs.car_dealer.planner`` plans on it; the scripted dealers act on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from envs.acts import Act
from envs.car_dealer.catalogue import BRANDS, BUDGETS, FEATURES, MSRPS, TYPES
from envs.car_dealer.program import Mind, Profile, respond


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the dealer knows before its next act."""

    mind: Mind = field(default_factory=Mind)
    """The buyer's mind, which its reactions reveal step by step."""
    temperament: str | None = None
    """The buyer's temperament where it is known. It shifts how likely the buyer is to tell things and to leave."""
    type: str | None = None
    not_types: frozenset[str] = frozenset()
    """Types that were shown and are wrong."""
    brand: str | None = None
    not_brands: frozenset[str] = frozenset()
    wanted: tuple[str, ...] = ()
    """Features that the buyer wants, in the order in which that became known."""
    unwanted: frozenset[str] = frozenset()
    all_told: bool = False
    """Whether there are no others."""
    budgets: tuple[int, ...] = BUDGETS
    """Budgets that are possible, in thousands of dollars."""

    @property
    def budget(self) -> int | None:
        return self.budgets[0] if len(self.budgets) == 1 else None

    @property
    def type_fits(self) -> bool:
        """Whether the right type has been shown."""
        return self.type is not None and self.mind.type == self.type

    @property
    def brand_fits(self) -> bool:
        return self.brand is not None and self.mind.brand == self.brand

    @property
    def hits(self) -> int:
        """Wanted features that were pointed out."""
        return len(self.mind.pointed_out.intersection(self.wanted))

    @property
    def open_feature(self) -> str | None:
        """A wanted feature that was not pointed out."""
        return next((one for one in self.wanted if one not in self.mind.pointed_out), None)

    @property
    def suits(self) -> str:
        """How the price that was named suits the budget, as far as is known: none, fits, dear or plain."""
        if self.mind.quoted is None:
            return "none"
        trim = MSRPS.index(self.mind.quoted)
        if self.budgets == BUDGETS[trim : trim + 1]:
            return "fits"
        return "dear" if BUDGETS.index(self.budgets[-1]) < trim else "plain"

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for states that differ only in the names of types, brands and features, which the world treats alike,
        and in a budget that is known: all prices are proportional to it."""
        mind = self.mind
        kind = "fits" if self.type_fits else "known" if self.type else len(self.not_types)
        brand = "fits" if self.brand_fits else "known" if self.brand else "unknown"
        features = (len(self.wanted), self.hits, self.all_told)
        budgets: object = self.budgets if self.budget is None else "known"
        quoted: object = (mind.quoted, self.budgets) if self.suits == "plain" else self.suits
        money = (budgets, quoted, mind.discounts, mind.named)
        return self.temperament, mind.exchanges, mind.trust, kind, brand, features, money

    def candidate_type(self) -> str:
        """The type if known, else the first that is not ruled out."""
        return self.type or next((one for one in TYPES if one not in self.not_types), TYPES[0])

    def candidate_brand(self) -> str:
        return self.brand or next((one for one in BRANDS if one not in self.not_brands), BRANDS[0])

    def candidate_feature(self) -> str:
        """A wanted feature that was not pointed out, else the first of which nothing is known."""
        known = self.unwanted.union(self.wanted)
        return self.open_feature or next((one for one in FEATURES if one not in known), next(iter(FEATURES)))

    def candidate_price(self) -> int:
        """The sticker price of the trim for the middle one of the possible budgets, in thousands of dollars."""
        return MSRPS[BUDGETS.index(self.budgets[len(self.budgets) // 2])]


def begin(opening: Act, temperament: str | None = None) -> Knowledge:
    """What the buyer's first words tell."""
    kind = opening.about if opening.kind == "open_type" else None
    brand = opening.about if opening.kind == "open_brand" else None
    return Knowledge(temperament=temperament, type=kind, brand=brand)


def learn(known: Knowledge, act: Act, moves: tuple[Act, ...]) -> Knowledge:
    """What is known after the dealer did ``act`` and the buyer answered ``moves``.

    Moves that the program could not have answered (a misheard reply) leave the mind as it was, one exchange older.
    """
    facts = known
    for move in moves:
        facts = _told(facts, move) if move.about else _reacted(facts, act, move.kind)
    return replace(facts, mind=_mind_after(facts, known.mind, act, moves))


def _told(known: Knowledge, move: Act) -> Knowledge:
    if move.kind == "tell_type":
        return replace(known, type=move.about)
    if move.kind == "tell_brand":
        return replace(known, brand=move.about)
    if move.kind == "tell_budget":
        return replace(known, budgets=(int(str(move.about)),))
    if move.kind == "tell_feature" and move.about and move.about not in known.wanted:
        return replace(known, wanted=(*known.wanted, move.about))
    return known


def _reacted(known: Knowledge, act: Act, reaction: str) -> Knowledge:
    about = act.about or ""
    if act.kind == "show_type" and reaction in ("right_type", "wrong_type"):
        right = reaction == "right_type"
        return replace(known, type=about) if right else replace(known, not_types=known.not_types | {about})
    if act.kind == "show_brand" and reaction in ("right_brand", "other_brand"):
        right = reaction == "right_brand"
        return replace(known, brand=about) if right else replace(known, not_brands=known.not_brands | {about})
    if act.kind == "feature" and reaction == "wants_it":
        return known if about in known.wanted else replace(known, wanted=(*known.wanted, about))
    if act.kind == "feature" and reaction == "no_use":
        return replace(known, unwanted=known.unwanted | {about})
    if act.kind == "ask_features" and reaction == "that_is_all":
        return replace(known, all_told=True)
    if act.kind == "quote" and reaction in ("in_range", "too_dear", "too_plain"):
        return _priced(known, MSRPS.index(int(about)), reaction)
    return known


def _priced(known: Knowledge, trim: int, reaction: str) -> Knowledge:
    possible = {"in_range": BUDGETS[trim : trim + 1], "too_dear": BUDGETS[:trim], "too_plain": BUDGETS[trim + 1 :]}
    budgets = tuple(one for one in known.budgets if one in possible[reaction])
    return replace(known, budgets=budgets or possible[reaction] or known.budgets)


def someone(known: Knowledge, personality: str = "polite", **changes: object) -> Profile:
    """Some buyer about whom everything known is true."""
    features = known.wanted or (known.candidate_feature(),)
    profile = Profile(personality, known.candidate_brand(), known.candidate_type(), features, known.budgets[0])
    return replace(profile, **changes)  # type: ignore[arg-type]  # field names vary


def _mind_after(known: Knowledge, mind: Mind, act: Act, moves: tuple[Act, ...]) -> Mind:
    if moves[:1] == (Act("leave"),):
        return replace(mind, exchanges=mind.exchanges + 1, outcome="left")
    for outcome in respond(someone(known), mind, act):
        if outcome.moves[0].kind == moves[0].kind:
            return outcome.mind
    return replace(mind, exchanges=mind.exchanges + 1)
