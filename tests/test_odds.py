"""How likely a rule does what it does, exactly."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from agents.rollout import agent_rng, rollout
from agents.scripted import Scripted
from agents.tabular import TabularAgent
from envs.acts import Act
from envs.car_dealer.env import make_car_dealer
from envs.car_dealer.language import dealer_parser
from envs.education import knowledge as lesson
from envs.education import teachers
from envs.education.env import make_education
from envs.education.language import teacher_parser
from envs.games import RockPaperScissors
from envs.odds import chosen, distribution
from envs.sales import knowledge as shop
from envs.sales import sellers
from envs.sales.catalogue import SELLER_ACTS
from envs.sales.env import make_sales
from envs.sales.language import seller_parser
from envs.tabular import TabularEnv
from envs.twenty_questions.env import make_twenty_questions
from envs.twenty_questions.language import question_of
from tests.toy import Constant


def rule(rng: np.random.Generator) -> str:
    u = rng.random()
    if u < 0.5:
        assert not u > 0.5 and not u >= 0.7
        return "a" if rng.random() < 0.5 else "b"
    return ("c", "d", "a")[int(rng.integers(3))] if u < 0.8 else "e"


def test_the_distribution_of_a_rule_by_hand():
    # a: .5 * .5 + .3 / 3; b: .5 * .5; c and d: .3 / 3; e: .2
    assert distribution(rule) == pytest.approx({"a": 0.35, "b": 0.25, "c": 0.1, "d": 0.1, "e": 0.2})


def test_what_is_chosen_is_what_the_rule_does_and_its_log_probability():
    for seed in range(20):
        one = chosen(rule, np.random.default_rng(seed))
        assert one.act == rule(np.random.default_rng(seed))
        assert one.logprob == pytest.approx(math.log(distribution(rule)[one.act]))


def test_a_rule_that_draws_otherwise_is_refused():
    with pytest.raises(AttributeError, match="normal"):
        distribution(lambda rng: str(rng.normal()))
    with pytest.raises(TypeError):
        distribution(lambda rng: int(rng.random() * 3))


def test_the_first_act_of_the_behaviour_seller_by_hand():
    # A quarter is noise over all acts but goodbye. Of the rest half greets or talks small, evenly, since nothing was
    # said before; asking for the need is what u in [.5, .55) does, the budget [.55, .65), any of 12 products the rest.
    found = distribution(partial(sellers.behaviour, shop.begin(Act("open"))))
    noise = 0.25 / (len(SELLER_ACTS) - 1)
    assert found[Act("greet")] == pytest.approx(noise + 0.75 * 0.25)
    assert found[Act("ask_need")] == pytest.approx(noise + 0.75 * 0.05)
    assert found[Act("ask_budget")] == pytest.approx(noise + 0.75 * 0.1)
    assert found[Act("pitch", "Metro")] == pytest.approx(noise + 0.75 * 0.35 / 12)
    assert Act("goodbye") not in found


@pytest.mark.parametrize(
    ("rules", "known"),
    [(sellers.RULES, shop.begin(Act("open_need", "trail"))), (teachers.RULES, lesson.begin(Act("open")))],
)
def test_every_rule_of_the_worlds_has_a_distribution(rules, known):
    for name in ("random", "behaviour", "sloppy", "attentive", "clumsy", "expert"):
        found = distribution(partial(rules[name](), known))
        assert math.fsum(found.values()) == pytest.approx(1), name
        assert (len(found) == 1) == (name == "expert")


def test_acts_happen_as_often_as_their_probability_says():
    known = lesson.begin(Act("open"))
    found = distribution(partial(teachers.behaviour, known))
    rng, n = np.random.default_rng(0), 3000
    drawn = [teachers.behaviour(known, rng) for _ in range(n)]
    assert set(drawn) <= set(found)
    for act, probability in found.items():
        assert abs(drawn.count(act) / n - probability) < 4 * math.sqrt(probability / n)


@pytest.mark.parametrize(
    ("make", "world", "parse"),
    [
        (make_sales, "envs.sales.sellers.SellerInWords", lambda texts: seller_parser().parse(texts)),
        (make_education, "envs.education.teachers.TeacherInWords", lambda texts: teacher_parser().parse(texts)),
        (make_car_dealer, "envs.car_dealer.dealers.DealerInWords", lambda texts: dealer_parser().parse(texts)),
        (make_twenty_questions, "envs.twenty_questions.askers.AskerInWords", lambda texts: map(question_of, texts)),
    ],
)
def test_the_choices_of_a_speaker_are_those_behind_its_words(make, world, parse):
    agent, alike, turns = Scripted("behaviour", world), 0, 0
    for one in rollout(agent, make("program"), range(12)):
        heard = [one.prefix(k) for k in range(one.exchanges)]
        rngs = [agent_rng(one.seed, k) for k in range(one.exchanges)]
        choices = agent.choices(heard, rngs)
        assert all(choice.logprob < 0 for choice in choices)  # it could always have made a noise instead
        read = parse([step.utterance.text for step in one.steps])
        alike += sum(str(act) == choice.act for act, choice in zip(read, choices, strict=True))
        turns += len(choices)
    assert alike > 0.9 * turns  # the parser may mishear


def test_a_player_of_a_game_knows_its_table():
    game = RockPaperScissors(mu=[0.6, 0.3, 0.1])
    agent, env = TabularAgent(game), TabularEnv(game=game)
    held = rollout(agent, env, range(10))
    for one in held:
        (choice,) = agent.choices([one.prefix(0)], [agent_rng(one.seed, 0)])
        assert choice.act == one.steps[0].utterance.text
        of = dict(zip(game.build().actions, [0.6, 0.3, 0.1], strict=True))
        assert choice.logprob == pytest.approx(math.log(of[choice.act]))


def test_who_follows_no_rule_has_no_choices():
    assert Constant("red").choices([], []) is None
