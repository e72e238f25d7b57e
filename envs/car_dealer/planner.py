"""A strong dealer, computed: dynamic programming on what a dealer can know.

``Knowledge`` holds what a dealer can know, and the program gives the exact distribution of what comes next, so the
value of every state and act follows by backward induction over the at most ``HORIZON`` exchanges. Types, brands and
features are interchangeable to the program, so states that differ only in names are solved once (``Knowledge.key``).
The prior is that of the training split: every attribute uniform and independent.

It is optimal up to four simplifications, all in what it believes and what it considers, none in what it is paid for:

- the buyer's temperament is averaged over (but for what staying so long tells) instead of inferred from its answers.
  ``value`` of a ``Knowledge`` whose temperament is given plans for a dealer that is told it, which bounds the first
  from above; ``python -m envs.car_dealer.planner`` prints both, for both rewards;
- before the right type was shown nothing but the type is asked for: the rest can wait;
- it asks to buy and gives discounts at the price that fits the budget alone: it never tries to sell a car for smaller
  budgets, nor one over the budget that discounts would bring into reach;
- acts that can't help in a state or hardly ever do (asking what is known, guessing brands or features) are left out.

The same recursion with horizon 1 and the buyer's satisfaction as reward gives the myopic dealer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from envs.acts import Act
from envs.car_dealer.catalogue import BUDGETS, MOST_FEATURES, MSRPS, TEMPERAMENTS, TYPES, UNSEEN_PERSONALITIES
from envs.car_dealer.knowledge import Knowledge, begin, learn, someone
from envs.car_dealer.program import HORIZON, MAX_DISCOUNTS, MAX_WANTED, PATIENCE, Mind, Outcome, Profile, respond
from envs.car_dealer.rewards import REWARDS, Reward, revenue

PERSONS = {name: next(p for p in own if p not in UNSEEN_PERSONALITIES) for name, own in TEMPERAMENTS.items()}
"""Somebody of each temperament."""
SHARES = {name: len(set(own) - set(UNSEEN_PERSONALITIES)) for name, own in TEMPERAMENTS.items()}
"""How common each temperament is in training, of eight."""
_TELL_BUDGETS_APART = ("quote", "ask_budget", "close")
"""Acts to which buyers of different budgets answer differently."""


def useful_acts(known: Knowledge) -> list[Act]:
    """The acts that may help in this state, most ordinary first."""
    acts: list[Act] = []
    if not known.type_fits:
        if known.type is None:
            acts.append(Act("ask_type"))
        acts.append(Act("show_type", known.candidate_type()))
    else:
        acts += [*_money(known), *_wishes(known)]
    if known.mind.exchanges == 0:
        acts.append(Act("greet"))
    return acts


def _money(known: Knowledge) -> list[Act]:
    if known.suits == "fits":
        discounts = [Act("discount")] if known.mind.discounts < MAX_DISCOUNTS else []
        return [Act("close"), *discounts]
    quotes = [Act("quote", str(MSRPS[BUDGETS.index(budget)])) for budget in known.budgets]
    return quotes if known.budget is not None else [*quotes, Act("ask_budget")]


def _wishes(known: Knowledge) -> list[Act]:
    acts = []
    if not known.brand_fits:
        acts.append(Act("show_brand", known.brand) if known.brand else Act("ask_brand"))
    if known.hits < MAX_WANTED:
        if known.open_feature is not None:
            acts.append(Act("feature", known.open_feature))
        elif not known.all_told:
            acts.append(Act("ask_features"))
    return acts


def possible_outcomes(known: Knowledge, act: Act) -> Iterator[tuple[float, Profile, Outcome]]:
    """Everything that may follow ``act``, given what is known: with its probability, and of which buyer."""
    temperaments = _temperaments(known)
    everyone = sum(temperaments.values())
    for temperament, share in temperaments.items():
        for p, profile in _buyers(known, act, PERSONS[temperament]):
            for outcome in respond(profile, known.mind, act):
                yield share / everyone * p * outcome.probability, profile, outcome


def _temperaments(known: Knowledge) -> dict[str, int]:
    """Who the buyer may be, by share: those whose patience would be out have left."""
    if known.temperament is not None:
        return {known.temperament: 1}
    return {name: share for name, share in SHARES.items() if PATIENCE[name] > known.mind.exchanges}


def _buyers(known: Knowledge, act: Act, personality: str) -> list[tuple[float, Profile]]:
    """The buyers of one personality that ``act`` tells apart, with their probabilities."""
    buyer = someone(known, personality)
    if act.kind == "show_type" and known.type is None:
        possible = [one for one in TYPES if one not in known.not_types]
        p = 1 / len(possible)
        other = next((one for one in possible if one != act.about), possible[0])
        return [(p, replace(buyer, type=str(act.about))), (1 - p, replace(buyer, type=other))]
    if act.kind in _TELL_BUDGETS_APART:
        return [(1 / len(known.budgets), replace(buyer, budget=budget)) for budget in known.budgets]
    if act.kind == "ask_features" and known.open_feature is None:
        p = more_wanted(known)
        return [(p, replace(buyer, features=(*known.wanted, known.candidate_feature()))), (1 - p, buyer)]
    return [(1.0, buyer)]


def more_wanted(known: Knowledge) -> float:
    """Probability that the buyer wants another feature than those it told.

    It wants 1 to ``MOST_FEATURES`` with equal probability, and having told k of them says no more than that there are
    k: which ones it told is as likely for one number as for another.
    """
    k = len(known.wanted)
    if known.all_told or k >= MOST_FEATURES:
        return 0.0
    return (MOST_FEATURES - k) / (MOST_FEATURES - max(k, 1) + 1)


class Planner:
    """Values of states and acts under the best play that it considers, solved when first asked for.

    Args:
        reward: what is earned, ``revenue`` or ``fancy`` (``envs.car_dealer.rewards``).
    """

    def __init__(self, reward: str = "revenue"):
        self.reward: Reward = REWARDS[reward]
        self._values: dict[tuple[object, ...], float] = {}
        self._best: dict[tuple[object, ...], int] = {}

    def value(self, known: Knowledge) -> float:
        """Expected return from here on."""
        if known.mind.outcome != "open" or known.mind.exchanges >= HORIZON:
            return 0.0
        key, unit = known.key, self._unit(known)
        if key not in self._values:
            acts = useful_acts(known)
            values = [self.act_value(known, act) for act in acts]
            self._best[key] = max(range(len(acts)), key=values.__getitem__)
            self._values[key] = values[self._best[key]] / unit
        return self._values[key] * unit

    def _unit(self, known: Knowledge) -> float:
        """What values are measured in: all prices being proportional to budgets, a known budget scales the revenue."""
        return float(known.budget) if known.budget and self.reward is revenue else 1.0

    def act_value(self, known: Knowledge, act: Act) -> float:
        """Expected return of ``act`` now and best play afterwards."""
        goes_on: dict[tuple[Act, ...], float] = {}
        total = 0.0
        for probability, buyer, outcome in possible_outcomes(known, act):
            if outcome.mind.outcome == "open":
                goes_on[outcome.moves] = goes_on.get(outcome.moves, 0.0) + probability
            else:
                total += probability * self._gain(known, act, buyer, outcome.mind)
        return total + sum(p * self.value(learn(known, act, moves)) for moves, p in goes_on.items())

    def _gain(self, known: Knowledge, act: Act, buyer: Profile, mind: Mind) -> float:
        """What the end is worth: to an act that does not tell budgets apart, on average over those possible."""
        budgets = (buyer.budget,) if act.kind in _TELL_BUDGETS_APART else known.budgets
        return sum(self.reward(replace(buyer, budget=budget), mind) for budget in budgets) / len(budgets)

    def best(self, known: Knowledge) -> Act:
        """An act of greatest value; the first of equals in the order of ``useful_acts``."""
        self.value(known)
        return useful_acts(known)[self._best.get(known.key, 0)]

    @property
    def states(self) -> int:
        """States solved so far, up to renaming."""
        return len(self._values)


class Pleaser:
    """The myopic dealer: the act that pleases the buyer most in the next exchange, and nothing further."""

    def __init__(self) -> None:
        self._best: dict[tuple[object, ...], int] = {}

    def best(self, known: Knowledge) -> Act:
        acts, key = useful_acts(known), known.key
        if key not in self._best:
            self._best[key] = max(range(len(acts)), key=lambda i: pleasure(known, acts[i]))
        return acts[self._best[key]]


def pleasure(known: Knowledge, act: Act) -> float:
    """Expected satisfaction of the buyer with the next exchange: all that the myopic dealer looks at."""
    return sum(probability * outcome.satisfaction for probability, _, outcome in possible_outcomes(known, act))


if __name__ == "__main__":
    for name in REWARDS:
        planner = Planner(name)
        value = planner.value(begin(Act("open")))
        told = sum(SHARES[one] * planner.value(begin(Act("open"), one)) for one in SHARES) / sum(SHARES.values())
        print(f"{name}: {value:.4f} after an opening that tells nothing; a dealer told the temperament {told:.4f}")
