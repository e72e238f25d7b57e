"""The car buyer's program, the rewards, what a dealer can know, the planner: expected numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from envs.acts import UNCLEAR, Act
from envs.car_dealer import program
from envs.car_dealer.catalogue import BUYER_ACTS, DEALER_ACTS, PERSONALITIES, TEMPERAMENTS
from envs.car_dealer.corpus import converse
from envs.car_dealer.dealers import RULES
from envs.car_dealer.env import sample_profile
from envs.car_dealer.knowledge import Knowledge, begin, learn
from envs.car_dealer.planner import Planner, more_wanted, possible_outcomes, useful_acts
from envs.car_dealer.program import Mind, Profile, buying_probability, interest, level, respond
from envs.car_dealer.rewards import fancy, revenue

ANNA = Profile("polite", "Honda", "sedan", ("leather", "sunroof", "camera"), 30)
"""Warm; the car for her costs 33 000 by the sticker."""
HANS = Profile("angry", "Honda", "sedan", ("leather",), 30)
"""Hot."""
SHOWN = Mind(type="sedan")
QUOTED = Mind(type="sedan", quoted=33)


def chances(profile: Profile, mind: Mind, act: Act) -> dict[str, float]:
    """Probabilities by what is said."""
    found: dict[str, float] = {}
    for one in respond(profile, mind, act):
        said = " ".join(map(str, one.moves))
        found[said] = found.get(said, 0.0) + one.probability
    return found


def only(profile: Profile, mind: Mind, act: Act) -> program.Outcome:
    (outcome,) = respond(profile, mind, act)
    return outcome


@pytest.mark.parametrize("act", [*DEALER_ACTS, UNCLEAR], ids=str)
def test_what_may_happen_is_a_distribution_over_known_moves(act: Act):
    minds = [Mind(), SHOWN, QUOTED, Mind(type="truck", quoted=99), Mind(trust=0, type="sedan", quoted=11, discounts=3)]
    for personality, mind in product(PERSONALITIES, minds):
        outcomes = respond(Profile(personality, "Honda", "sedan", ("leather",), 30), mind, act)
        assert sum(outcome.probability for outcome in outcomes) == pytest.approx(1.0)
        assert all(move in BUYER_ACTS for outcome in outcomes for move in outcome.moves)
        assert all(outcome.mind.exchanges == 1 for outcome in outcomes)


def test_every_personality_has_one_temperament():
    assert sorted(one for own in TEMPERAMENTS.values() for one in own) == sorted(PERSONALITIES)


def test_how_readily_the_type_is_told_depends_on_temperament_and_trust():
    # Warm: .9, and of that .4 with the brand beside it. Hot: .65 and .25. Trust 2 adds .2 (at most .97), trust 0 takes
    # .25 off.
    told = {"tell_type(sedan) tell_brand(Honda)": 0.36, "tell_type(sedan)": 0.54, "withhold": 0.1}
    assert chances(ANNA, Mind(), Act("ask_type")) == pytest.approx(told)
    told = {"tell_type(sedan) tell_brand(Honda)": 0.1625, "tell_type(sedan)": 0.4875, "withhold": 0.35}
    assert chances(HANS, Mind(), Act("ask_type")) == pytest.approx(told)
    assert chances(ANNA, Mind(trust=2), Act("ask_brand"))["tell_brand(Honda)"] == pytest.approx(0.97)
    assert chances(HANS, Mind(trust=0), Act("ask_budget"))["tell_budget(30)"] == pytest.approx(0.45 - 0.25)


def test_features_are_told_one_by_one_until_they_are_pointed_out():
    assert "tell_feature(leather)" in chances(ANNA, SHOWN, Act("ask_features"))
    two = Mind(type="sedan", pointed_out=frozenset({"leather", "sunroof"}))
    assert "tell_feature(camera)" in chances(ANNA, two, Act("ask_features"))
    assert "that_is_all" in chances(HANS, two, Act("ask_features"))


def test_before_the_right_type_is_shown_nothing_else_is_heard():
    for act in (Act("show_brand", "Honda"), Act("feature", "leather"), Act("quote", "33"), Act("discount")):
        outcome = only(ANNA, Mind(type="truck"), act)
        assert outcome.moves == (Act("premature"),) and outcome.mind == Mind(type="truck", exchanges=1)


def test_the_right_brand_and_two_wanted_features_make_the_interest():
    assert interest(ANNA, SHOWN) == 0
    assert interest(ANNA, Mind(brand="Honda", pointed_out=frozenset({"leather", "heated"}))) == 2
    assert interest(ANNA, Mind(brand="Honda", pointed_out=frozenset(ANNA.features))) == 3
    assert interest(ANNA, Mind(brand="Ford", pointed_out=frozenset(ANNA.features))) == 2


def test_a_price_suits_the_budget_of_its_own_trim():
    assert [level(ANNA, quoted) for quoted in (None, 11, 33, 55)] == ["none", "plain", "fits", "dear"]


def test_who_is_shown_the_wrong_type_trusts_less_or_walks_away():
    # Hot with trust 1: walks away with .2; else .25 say which type they want.
    heard = chances(HANS, Mind(), Act("show_type", "truck"))
    assert heard == pytest.approx({"wrong_type tell_type(sedan)": 0.2, "wrong_type": 0.6, "leave": 0.2})
    stays = [one for one in respond(HANS, Mind(), Act("show_type", "truck")) if one.mind.outcome == "open"]
    assert {one.mind.trust for one in stays} == {0}


def test_a_price_over_the_budget_annoys_and_one_below_it_does_not():
    # Warm with trust 1 walks away with .06; else .4 name the budget.
    heard = chances(ANNA, SHOWN, Act("quote", "55"))
    assert heard == pytest.approx({"too_dear tell_budget(30)": 0.94 * 0.4, "too_dear": 0.94 * 0.6, "leave": 0.06})
    assert chances(ANNA, SHOWN, Act("quote", "11")) == {"too_plain": 1.0}
    assert chances(ANNA, SHOWN, Act("quote", "33")) == {"in_range": 1.0}


def test_buying_depends_on_price_interest_and_trust():
    keen = {"type": "sedan", "brand": "Honda", "pointed_out": frozenset({"leather", "sunroof"}), "quoted": 33}
    # 33 000 is 1.1 of the budget, 29 700 .99, 26 400 .88, 23 100 .77. Trust 1: × .9.
    assert buying_probability(ANNA, QUOTED) == pytest.approx(0.15 * 0.9)
    assert [buying_probability(ANNA, Mind(**keen, trust=2, discounts=n)) for n in range(4)] == [0.75, 0.92, 0.95, 0.97]
    # 11 000 is one trim below: half of .6, × .9.
    assert buying_probability(ANNA, Mind(type="sedan", quoted=11)) == pytest.approx(0.27)


def test_nobody_buys_another_type_or_over_the_budget_whatever_is_said():
    keen = {"brand": "Honda", "pointed_out": frozenset(ANNA.features), "trust": 2}
    assert buying_probability(ANNA, Mind(**keen, type="truck", quoted=33, discounts=3)) == 0.0
    assert buying_probability(ANNA, Mind(**keen, type="sedan", quoted=55, discounts=3)) == 0.0  # 38 500 of 30 000
    assert buying_probability(ANNA, Mind(**keen, type="sedan")) == 0.0


def test_who_is_asked_to_buy_buys_haggles_declines_or_walks_away():
    # p = .15 × .9 = .135. Of the rest, .4 haggle (warm); of those who don't, .06 walk away (trust 1).
    rest = 1 - 0.135
    expected = {"buy": 0.135, "counter": rest * 0.4, "not_yet": rest * 0.6 * 0.94, "leave": rest * 0.6 * 0.06}
    assert chances(ANNA, QUOTED, Act("close")) == pytest.approx(expected)


def test_a_buyer_that_haggles_keeps_its_word_at_the_price_it_named():
    (haggled,) = (one.mind for one in respond(ANNA, QUOTED, Act("close")) if one.moves == (Act("counter"),))
    assert haggled.named == 1 and haggled.price_at(haggled.named) == 29_700
    assert buying_probability(ANNA, haggled) == pytest.approx(0.135)
    assert "counter" not in chances(ANNA, haggled, Act("close"))  # one offer at a time
    met = only(ANNA, haggled, Act("discount")).mind
    assert met.price == 29_700 and buying_probability(ANNA, met) == 0.95


def test_the_ledger_takes_off_what_was_discounted_and_no_more():
    mind = QUOTED
    for _ in range(3):
        mind = only(ANNA, mind, Act("discount")).mind
    assert mind.discounts == 3 and mind.price == 23_100 and mind.msrp == 33_000
    assert only(ANNA, mind, Act("discount")).mind.discounts == 3


def test_there_is_no_price_before_one_is_named():
    with pytest.raises(ValueError, match="No price was named"):
        _ = SHOWN.price


def test_patience_runs_out_with_the_temper():
    for profile, stays in ((ANNA, 10), (HANS, 8)):
        mind = Mind()
        for _ in range(stays):
            assert mind.outcome == "open"
            mind = respond(profile, mind, Act("ask_brand"))[-1].mind
        assert mind.outcome == "left" and mind.exchanges == stays


def test_nothing_happens_after_the_end():
    with pytest.raises(ValueError, match="bought already"):
        respond(ANNA, Mind(outcome="bought"), Act("close"))


# ---- rewards ---------------------------------------------------------------------------------------------------------


def ended(outcome: str, quoted: int | None, discounts: int = 0) -> Mind:
    return Mind(type="sedan", quoted=quoted, discounts=discounts, outcome=outcome)


def test_revenue_is_the_price_paid_in_hundred_thousands():
    assert revenue(ANNA, ended("bought", 33, 1)) == pytest.approx(0.297)
    assert revenue(ANNA, ended("left", 33)) == 0.0


def test_fancy_is_the_price_over_the_mean_of_budget_and_sticker():
    # 29 700 / ((30 000 + 33 000) / 2) = 29 700 / 31 500.
    assert fancy(ANNA, ended("bought", 33, 1)) == pytest.approx(29_700 / 31_500)
    # Bought below the budget: 11 000 / ((30 000 + 11 000) / 2).
    assert fancy(ANNA, ended("bought", 11)) == pytest.approx(11_000 / 20_500)


def test_fancy_charges_for_a_rejected_car_below_the_budget_as_lmrl_gym_does():
    # -(30 000 - 11 000) / 11 000.
    assert fancy(ANNA, ended("left", 11)) == pytest.approx(-19 / 11)
    assert fancy(ANNA, ended("sent_away", 11)) == pytest.approx(-19 / 11)


def test_being_rejected_over_the_budget_pays_nothing():
    # LMRL-Gym's definition pays -(30 000 - 99 000) / 99 000 = +.70 here, and +.09 for the fitting trim.
    for quoted, exploit in ((99, 69 / 99), (33, 3 / 33)):
        mind = ended("left", quoted)
        assert -(1000 * ANNA.budget - mind.msrp) / mind.msrp == pytest.approx(exploit)
        assert fancy(ANNA, mind) == 0.0


def test_without_a_price_there_is_nothing_to_reward():
    assert fancy(ANNA, ended("left", None)) == 0.0 == revenue(ANNA, ended("left", None))


def test_no_rejection_is_worth_more_than_nothing_and_every_sale_is():
    for personality, budget, quoted in product(("polite",), (10, 30, 50, 70, 90), (11, 33, 55, 77, 99)):
        buyer = Profile(personality, "Honda", "sedan", ("leather",), budget)
        assert fancy(buyer, ended("left", quoted)) <= 0.0 < fancy(buyer, ended("bought", quoted, 3))


# ---- knowledge and planner -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["random", "behaviour", "attentive", "expert"])
def test_what_a_dealer_can_know_follows_the_buyers_mind_exactly(rule: str):
    decide = RULES[rule]()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        profile = sample_profile("train", rng)
        known, mind = begin(Act("open")), Mind()
        while mind.outcome == "open":
            act = decide(known, rng)
            outcome = program.draw(respond(profile, mind, act), rng)
            mind, known = outcome.mind, learn(known, act, outcome.moves)
            if mind.outcome == "open":
                assert known.mind == mind
                assert known.type_fits == (mind.type == profile.type)
                assert known.brand_fits == (mind.brand == profile.brand)
                assert known.type in (None, profile.type) and profile.type not in known.not_types
                assert known.brand in (None, profile.brand) and profile.brand not in known.not_brands
                assert set(known.wanted) <= set(profile.features) and not known.unwanted & set(profile.features)
                assert known.hits + int(known.brand_fits) >= interest(profile, mind)
                assert profile.budget in known.budgets


def test_what_was_told_says_only_that_there_are_so_many():
    # One of 1 to 4, equally likely: after the first was told another exists with 3/4, after the second with 2/3.
    assert more_wanted(Knowledge()) == 1.0
    assert more_wanted(Knowledge(wanted=("leather",))) == pytest.approx(3 / 4)
    assert more_wanted(Knowledge(wanted=("leather", "camera"))) == pytest.approx(2 / 3)
    told: dict[int, list[bool]] = {1: [], 2: []}
    for seed in range(4000):
        features = sample_profile("train", np.random.default_rng(seed)).features
        for k in (1, 2):
            if len(features) >= k:
                told[k].append(len(features) > k)
    assert np.mean(told[1]) == pytest.approx(3 / 4, abs=0.03) and np.mean(told[2]) == pytest.approx(2 / 3, abs=0.03)


def test_what_a_dealer_expects_sums_to_one():
    known = learn(begin(Act("open")), Act("show_type", "truck"), (Act("right_type"),))
    for state in (begin(Act("open")), known, learn(known, Act("quote", "55"), (Act("too_dear"),))):
        for act in useful_acts(state):
            assert sum(probability for probability, _, _ in possible_outcomes(state, act)) == pytest.approx(1.0)


READY = Knowledge(
    mind=Mind(
        trust=2, type="sedan", brand="Honda", pointed_out=frozenset({"leather", "camera"}), quoted=33, exchanges=9
    ),
    temperament="warm", type="sedan", brand="Honda", wanted=("leather", "camera"), budgets=(30,),
)  # fmt: skip


def test_in_the_last_exchange_the_planner_asks_to_buy():
    # .75 at 33 000.
    planner = Planner()
    assert planner.best(READY) == Act("close")
    assert planner.value(READY) == pytest.approx(0.75 * 0.33)


def test_with_two_exchanges_left_it_asks_at_the_full_price_first():
    # Sold with .75. Else .4 haggle, with no time left to meet them: asked again, .75 buy. Of the others .98 stay, with
    # trust 1: .75 × .9. To give a discount at once and ask then is worth .92 × .297 = .273.
    two_left = replace(READY, mind=replace(READY.mind, exchanges=8))
    expected = 0.75 * 0.33 + 0.25 * (0.4 * 0.75 * 0.33 + 0.6 * 0.98 * 0.75 * 0.9 * 0.33)
    planner = Planner()
    assert planner.best(two_left) == Act("close")
    assert planner.value(two_left) == pytest.approx(expected)
    assert planner.act_value(two_left, Act("discount")) == pytest.approx(0.92 * 0.297)


def test_by_the_other_reward_the_same_sale_is_worth_its_share():
    # .75 × 33 000 / 31 500; turned away it costs nothing.
    assert Planner("fancy").value(READY) == pytest.approx(0.75 * 33_000 / 31_500)


def test_names_do_not_change_a_states_key():
    one = learn(begin(Act("open")), Act("show_type", "sedan"), (Act("wrong_type"),))
    other = learn(begin(Act("open")), Act("show_type", "truck"), (Act("wrong_type"),))
    assert one.key == other.key and one.not_types != other.not_types


def test_the_dealers_stand_in_the_order_the_world_was_made_for():
    means = {}
    for rule in ("random", "behaviour", "myopic", "expert", "optimum"):
        decide = RULES[rule]()
        means[rule] = np.mean([converse(decide, np.random.default_rng(seed)).reward() for seed in range(400)])
    assert means["random"] < 0.01 < means["behaviour"] < 0.5 * means["expert"] < means["expert"] < means["optimum"]
    assert means["myopic"] < 0.5 * means["expert"]


def test_the_attentive_dealer_never_asks_to_buy():
    rng = np.random.default_rng(0)
    for _ in range(60):
        dialogue = converse(RULES["attentive"](), rng)
        assert all(exchange.act.kind not in ("close", "discount") for exchange in dialogue.exchanges)
