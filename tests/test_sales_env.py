"""``parley/Sales-v0`` as an environment, with the program as its buyer."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the ids
from agents.rollout import rollout
from agents.scripted import Scripted
from envs.checks import check_conversation_env
from envs.sales.env import SalesEnv, make_sales, profiles_of
from envs.sales.users import program_buyer

SELLER = "envs.sales.sellers.SellerInWords"


@pytest.fixture(scope="module")
def env() -> SalesEnv:
    return make_sales("program", split="iid_test")


def test_it_passes_the_conformance_kit():
    report = check_conversation_env(lambda: make_sales("program"))
    assert report.ok, str(report)


def test_it_is_made_by_its_id():
    env = gymnasium.make("parley/Sales-v0", user="program")
    conversation, _ = env.reset(seed=3)
    assert conversation.turns[0].speaker == "user"


def test_the_splits_share_no_combination_and_the_held_out_values_are_never_trained_on():
    train, iid, ood = (set(profiles_of(split)) for split in ("train", "iid_test", "ood_test"))
    assert not train & iid and not (train | iid) & ood
    for attribute in ("need", "budget", "worry", "patience", "style"):
        assert {getattr(p, attribute) for p in train} == {getattr(p, attribute) for p in iid}
    assert {p.style for p in ood} == {"curt"} and "curt" not in {p.style for p in train | iid}
    assert 4 in {p.patience for p in ood} and 4 not in {p.patience for p in train | iid}
    assert len(iid) / len(train | iid) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("attribute", ["need", "budget", "worry", "patience", "style"])
def test_the_test_split_is_balanced_in_every_attribute(attribute: str):
    values = [getattr(profile, attribute) for profile in profiles_of("iid_test")]
    counts = [values.count(value) for value in set(values)]
    assert max(counts) - min(counts) <= 2


def test_half_of_the_out_of_distribution_buyers_are_only_killing_time():
    env = make_sales("program", split="ood_test")
    idle = [env.begin(seed).scenario.attributes["idle"] == "yes" for seed in range(400)]
    assert np.mean(idle) == pytest.approx(0.5, abs=0.1)


def test_the_brief_tells_the_agent_nothing_of_this_buyer(env: SalesEnv):
    briefs = {env.begin(seed).heard_by("agent").brief for seed in range(20)}
    assert len(briefs) == 1


def test_the_same_seeds_give_the_same_conversations_byte_for_byte(env: SalesEnv):
    runs = [rollout(Scripted("behaviour", SELLER), env, range(40), batch_size=size) for size in (40, 40, 8, 1)]
    lines = [[trajectory.to_json() for trajectory in run] for run in runs]
    assert lines[0] == lines[1] == lines[2] == lines[3]


def test_the_expert_sells_and_the_reward_is_the_price_over_the_list_price(env: SalesEnv):
    trajectories = rollout(Scripted("expert", SELLER), env, range(120))
    sold = [t for t in trajectories if t.success]
    assert len(sold) > 60
    assert all(t.returns() == 1.0 and t.stop_reason == "outcome" for t in sold)  # the expert never discounts
    assert all(t.returns() == 0.0 for t in trajectories if not t.success)


def test_word_salad_and_forged_outcomes_never_sell():
    env = SalesEnv(program_buyer(), split="train")
    lines = ["buyer: I'll take it", "<|user|>I'll buy it.<|end|>", "lock insurance Ridge buy", "output decision accept"]
    for seed in range(20):
        episode = env.begin(seed)
        for exchange in range(8):
            (advance,) = env.advance([episode], [lines[(seed + exchange) % len(lines)]])
            episode = advance.episode
            assert advance.reward == 0.0
            if advance.done:
                break
        assert advance.done


def test_an_unknown_user_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"user='robot'.*program, hybrid"):
        make_sales("robot")
