"""How conversations went, in shares: by hand on three conversations in a shop."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from toy import Customer, Shop

from agents.agent import Agent, Critique
from benchmarks.diagnose import _note_critique
from benchmarks.evaluate import summarise
from benchmarks.health import health
from envs.acts import Act
from envs.conversation import Turn
from envs.sales.env import make_sales
from envs.sales.language import buyer_phrasebook, seller_phrasebook
from envs.trajectory import Step, Trajectory, Utterance


def talk(*exchanges: tuple[str, str | None], stop_reason: str = "exchange_limit", seed: int = 0) -> Trajectory:
    steps = tuple(Step(Utterance(text), reply, 0.0) for text, reply in exchanges)
    opening = (Turn("user", "Hello, do you have a bike?"),)
    return Trajectory(seed, "Sell.", opening, steps, False, stop_reason, False, True, attributes={"style": "curt"})


RNG = np.random.default_rng(0)
ASKS = seller_phrasebook().say(Act("ask_need"), RNG)
TELLS = buyer_phrasebook().say(Act("tell_need", "commute"), RNG)
LEAVES, GOES = "Okay, I'm going home.", buyer_phrasebook().say(Act("hurry"), RNG)
CONVERSATIONS = [
    talk((ASKS, TELLS), (ASKS, TELLS), ("Blue gravy quietly.", "")),
    talk((ASKS, LEAVES), stop_reason="user_left"),
    talk((ASKS, ASKS), (ASKS, GOES), (ASKS, LEAVES), stop_reason="user_left"),
]


def test_every_share_is_that_of_its_own_cases():
    found = health(make_sales("program"), CONVERSATIONS)
    assert found["empty_replies"] == 1 / 7
    assert found["repeated_replies"] == 1 / 7  # the second telling
    assert found["role_flips"] == 1 / 7  # the buyer that asks what the seller does
    assert found["disclosures"] == 2 / 7
    assert found["early_stops"] == 1 / 3  # the third left after three exchanges
    assert found["unclear_acts"] == 1 / 7


def test_a_world_that_reads_no_acts_has_the_figures_that_need_none():
    env = Shop(Customer())
    found = health(env, CONVERSATIONS)
    assert found["empty_replies"] == 1 / 7
    assert found["role_flips"] is found["disclosures"] is found["unclear_acts"] is None


def test_where_nothing_was_answered_there_is_nothing_to_count():
    found = health(make_sales("program"), [talk((ASKS, None))])
    assert found["empty_replies"] is found["role_flips"] is None
    assert found["unclear_acts"] == 0.0


def test_a_summary_has_the_users_attributes_and_how_it_ended():
    found = summarise("program", make_sales("program", split="iid_test"), CONVERSATIONS)
    assert found.attributes == {"style": ["curt", "curt", "curt"]}
    assert found.stop_reasons == {"exchange_limit": 1, "user_left": 2}
    assert found.split == "iid_test"


class Critic(Agent):
    """Says 0.5 at every turn, and nothing of Q."""

    def act(self, conversations, rngs, *, explore=True):
        raise NotImplementedError

    def critique(self, trajectories):
        turns = sum(one.exchanges for one in trajectories)
        return Critique(np.full(turns, 0.5), np.full(turns, math.nan), np.arange(turns, dtype=float))


def test_what_the_critic_said_is_kept_turn_by_turn(tmp_path):
    path = tmp_path / "critique.jsonl"
    _note_critique(Critic(), [replace(CONVERSATIONS[0], seed=7), CONVERSATIONS[1]], path)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "seed": 7, "values": [0.5, 0.5, 0.5], "action_values": [None, None, None], "advantages": [0.0, 1.0, 2.0],
    }  # fmt: skip
    assert second["advantages"] == pytest.approx([3.0])
