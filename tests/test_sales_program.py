"""The buyer's program, what a seller can know of it, and the planner: expected numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from envs.acts import UNCLEAR, Act
from envs.sales import program
from envs.sales.catalogue import BUDGETS, BUYER_ACTS, NEEDS, SELLER_ACTS, STYLES, WORRIES
from envs.sales.corpus import converse
from envs.sales.env import profiles_of
from envs.sales.knowledge import Knowledge, begin, learn
from envs.sales.planner import Planner, possible_outcomes, useful_acts
from envs.sales.program import Mind, Profile, buying_probability, fit, respond
from envs.sales.sellers import RULES

ANNA = Profile("trail", "tight", "theft", 7, "plain")
"""Wants the Ridge, the basic trail bicycle."""


def only(profile: Profile, mind: Mind, act: Act) -> program.Outcome:
    (outcome,) = respond(profile, mind, act)
    return outcome


@pytest.mark.parametrize("act", [*SELLER_ACTS, UNCLEAR], ids=str)
@pytest.mark.parametrize("style", STYLES)
def test_what_may_happen_is_a_distribution_over_known_moves(act: Act, style: str):
    products = (None, "Ridge", "Summit", "Metro")
    for idle, shown, worried, discounts in product((False, True), products, (True, False), (0, 2)):
        profile = Profile("trail", "tight", "theft", 7, style, idle)
        outcomes = respond(profile, Mind(shown=shown, worried=worried, discounts=discounts), act)
        assert sum(outcome.probability for outcome in outcomes) == pytest.approx(1.0)
        assert all(move in BUYER_ACTS for outcome in outcomes for move in outcome.moves)
        assert all(outcome.mind.spent > 0 or outcome.mind.outcome != "open" for outcome in outcomes)


def test_a_product_fits_by_need_and_tier():
    assert [fit(ANNA, name) for name in (None, "Metro", "Summit", "Ridge")] == ["none", "wrong", "dear", "full"]
    rich = Profile("trail", "ample", "theft", 7, "plain")
    assert [fit(rich, name) for name in ("Ridge", "Summit")] == ["basic", "full"]


def test_nobody_buys_what_does_not_fit_whatever_is_said():
    for shown in (None, "Metro", "Falcon"):
        mind = Mind(trust=3, worried=False, discounts=2, shown=shown)
        assert buying_probability(ANNA, mind) == 0.0


def test_buying_needs_trust_and_an_answered_worry():
    # .9 for a full fit; × 1 with trust 2 and no worry; × .75 with trust 1; × .2 with an open worry and no discount.
    assert buying_probability(ANNA, Mind(trust=2, worried=False, shown="Ridge")) == pytest.approx(0.9)
    assert buying_probability(ANNA, Mind(trust=1, worried=False, shown="Ridge")) == pytest.approx(0.675)
    assert buying_probability(ANNA, Mind(trust=1, worried=True, shown="Ridge")) == pytest.approx(0.135)


def test_only_the_right_reassurance_after_a_fitting_pitch_answers_the_worry():
    shown = Mind(shown="Ridge")
    assert not only(ANNA, shown, Act("reassure", "theft")).mind.worried
    assert only(ANNA, shown, Act("reassure", "upkeep")).mind.worried
    assert only(ANNA, Mind(), Act("reassure", "theft")).mind.worried
    assert only(ANNA, Mind(shown="Metro"), Act("reassure", "theft")).mind.worried


def test_the_ledger_takes_off_what_was_discounted_and_no_more():
    mind = Mind(shown="Ridge")
    for _ in range(2):
        mind = only(ANNA, mind, Act("discount")).mind
    assert mind.discounts == 2 and mind.price == pytest.approx(590 * 0.7)
    assert only(ANNA, mind, Act("discount")).mind.discounts == 2


def test_there_is_no_price_before_a_pitch():
    with pytest.raises(ValueError, match="No product was shown"):
        _ = Mind().price


def test_patience_runs_out_and_little_of_it_is_said_aloud_once():
    mind, said = Mind(), []
    for _ in range(7):
        outcome = only(ANNA, mind, Act("discount"))
        mind = outcome.mind
        said.append(outcome.moves)
    hurried = [Act("hurry") in moves for moves in said]
    assert hurried == [False] * 4 + [True] + [False] * 2
    assert said[-1] == (Act("leave"),) and mind.outcome == "left"


def test_an_unclear_utterance_costs_patience_and_trust_and_changes_nothing_else():
    outcome = only(ANNA, Mind(trust=2, shown="Ridge"), UNCLEAR)
    assert outcome.moves == (Act("confused"),)
    assert outcome.mind == Mind(trust=1, spent=2, shown="Ridge")


def test_nothing_happens_after_the_end():
    with pytest.raises(ValueError, match="bought already"):
        respond(ANNA, Mind(outcome="bought"), Act("close"))


@pytest.mark.parametrize("rule", ["random", "behaviour", "expert"])
def test_what_a_seller_can_know_follows_the_buyers_mind_exactly(rule: str):
    decide = RULES[rule]()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        profile = profiles_of("train")[int(rng.integers(len(profiles_of("train"))))]
        known, mind = begin(Act("open")), Mind()
        for _ in range(8):
            act = decide(known, rng)
            outcome = program.draw(respond(profile, mind, act), rng)
            before, mind, known = known, outcome.mind, learn(known, act, outcome.moves)
            if mind.outcome != "open":
                break
            assert known == learn(before, act, outcome.moves, mind)
            assert (known.mind.trust, known.mind.spent, known.mind.worried) == (mind.trust, mind.spent, mind.worried)
            assert (known.mind.discounts, known.mind.hurried) == (mind.discounts, mind.hurried)
            assert profile.patience in known.patience
            assert known.need in (None, profile.need) and profile.need not in known.not_needs
            assert known.worry in (None, profile.worry) and profile.worry not in known.not_worries
            assert known.budget in (None, profile.budget)


def test_what_a_seller_expects_is_the_average_over_all_buyers_it_can_not_tell_apart():
    known = learn(begin(Act("open")), Act("ask_need"), (Act("withhold"),))
    for act in useful_acts(known):
        expected: dict[str, float] = {}
        for probability, outcome in possible_outcomes(known, act):
            expected[outcome.moves[0].kind] = expected.get(outcome.moves[0].kind, 0.0) + probability
        everyone = list(product(NEEDS, BUDGETS, WORRIES, known.patience, STYLES[:3]))
        average: dict[str, float] = {}
        for buyer in everyone:
            for outcome in respond(Profile(*buyer), known.mind, act):
                kind = outcome.moves[0].kind
                average[kind] = average.get(kind, 0.0) + outcome.probability / len(everyone)
        assert expected == pytest.approx(average)


def test_the_planner_closes_when_all_is_ready_and_values_it_by_hand():
    ready = Knowledge(
        mind=Mind(trust=2, shown="Ridge", worried=False), need="trail", budget="tight", fit="full", exchanges=7
    )
    planner = Planner()
    assert planner.best(ready) == Act("close")
    assert planner.value(ready) == pytest.approx(0.9)


def test_with_two_exchanges_left_the_planner_answers_a_known_worry_first():
    known = Knowledge(
        mind=Mind(trust=1, shown="Ridge"), need="trail", budget="tight", worry="theft", fit="full", exchanges=6
    )
    planner = Planner()
    assert planner.best(known) == Act("reassure", "theft")
    assert planner.value(known) == pytest.approx(0.9)  # trust 2 afterwards, no worry, nobody's patience out


def test_names_of_needs_do_not_change_a_states_key():
    one = learn(begin(Act("open")), Act("pitch", "Metro"), (Act("wrong_kind"),))
    other = learn(begin(Act("open")), Act("pitch", "Mule"), (Act("wrong_kind"),))
    assert one.key(8) == other.key(8) and one.not_needs != other.not_needs


def test_only_what_is_left_of_patience_and_time_tells_states_apart():
    slow = Knowledge(mind=Mind(spent=4), patience=(7, 9), exchanges=4)
    assert slow.key(8) == replace(slow, mind=Mind(spent=2), patience=(5, 7)).key(8)
    assert slow.key(8) != replace(slow, exchanges=3).key(8)  # 5 more exchanges, not 4
    assert slow.key(9) == replace(slow, exchanges=3).key(9)  # 5 or 6, and patience for 5
    assert slow.key(8) != replace(slow, patience=(7,)).key(8)
    assert Knowledge(mind=Mind(greeted=True)).key(8) != replace(slow, mind=Mind(spent=0, greeted=True)).key(8)


def test_states_that_are_solved_together_have_the_same_value(monkeypatch: pytest.MonkeyPatch):
    known = Knowledge(mind=Mind(spent=3), exchanges=3, patience=(7, 9))
    together = Planner()
    value, best = together.value(known), together.best(known)
    monkeypatch.setattr(Knowledge, "key", lambda self, horizon: self)
    apart = Planner()
    assert apart.value(known) == value and apart.best(known) == best
    assert apart.states > 1.5 * together.states


def test_a_corpus_is_reproducible_and_pays_only_at_a_sale():
    one, same = (converse(RULES["behaviour"](), np.random.default_rng(5)) for _ in range(2))
    assert one == same
    for seed in range(60):
        dialogue = converse(RULES["expert"](), np.random.default_rng(seed))
        bought = any(move.kind == "buy" for move in dialogue.exchanges[-1].line.moves)
        assert (dialogue.reward > 0) == bought


def test_the_sellers_stand_in_the_order_the_world_was_made_for():
    means = {}
    for rule in ("random", "behaviour", "myopic", "expert"):
        decide = RULES[rule]()
        means[rule] = np.mean([converse(decide, np.random.default_rng(seed)).reward for seed in range(600)])
    assert means["random"] < 0.03 < means["behaviour"] < 0.5 * means["expert"]
    assert means["myopic"] < means["behaviour"] + 0.04
