"""What practice grants, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from agents.agent import Agent
from agents.practice import Budget, BudgetSpent, Practice
from agents.rollout import agent_rng
from envs.conversation import Conversation
from envs.judges import ByOutcome, Preference
from envs.trajectory import Utterance
from tests.toy import COLOURS, Constant, Customer, Shop


class AnyColour(Agent):
    """Offers a colour at random."""

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(COLOURS[int(rng.integers(3))], (1, 2)) for rng in rngs]


class SecondIsLonger:
    """A judge of turns: the longer word is better."""

    name = "longer"

    def prefer_turns(self, moments, first, second):  # type: ignore[no-untyped-def]
        return [Preference(float(len(a) > len(b))) for a, b in zip(first, second, strict=True)]


def practice(n: int = 100, logged: int = 20) -> Practice:
    return Practice(
        Shop(Customer()), Budget(n, 20, logged), 3, Constant("red"), judge=ByOutcome(), turn_judge=SecondIsLonger()
    )


def said(trajectory) -> list[str]:  # type: ignore[no-untyped-def]
    return [step.utterance.text for step in trajectory.steps]


def test_pairs_share_the_scenario_and_nothing_else():
    agent, one = AnyColour(), practice()
    pairs = one.pairs(agent, agent, 40)
    assert all(a.opening == b.opening and a.key == b.key and a.seed == b.seed for a, b in pairs)
    assert {(a.take, b.take) for a, b in pairs} == {(0, 1)}
    assert sum(said(a) == said(b) for a, b in pairs) < 20
    assert one.spent.conversations == 80 and one.remaining == 20


def test_pairs_of_one_agent_are_those_of_two_alike():
    same = AnyColour()
    assert practice().pairs(same, same, 10) == practice().pairs(AnyColour(), AnyColour(), 10)


def test_a_branch_is_equal_up_to_its_moment_and_drawn_anew_from_there():
    one = practice()
    branches = one.branches(AnyColour(), 40, np.random.default_rng(0))
    for branch in branches:
        k = branch.exchange
        assert branch.first.steps[:k] == branch.second.steps[:k]
        assert branch.second.exchanges > k
        assert branch.first.prefix(k) == branch.second.prefix(k)
    assert sum(said(b.first) != said(b.second) for b in branches) > 10
    assert one.spent.conversations == 80
    new = sum(b.first.exchanges + b.second.exchanges - b.exchange for b in branches)
    assert one.spent.exchanges == new
    assert one.spent.agent_tokens == 2 * new and one.spent.user_tokens == 3 * new


def test_alternatives_stand_beside_every_turn_and_meet_no_user():
    one = practice()
    found = one.alternatives(AnyColour(), 30)
    assert one.spent.conversations == 30
    assert one.spent.exchanges == sum(a.trajectory.exchanges for a in found)
    for each in found:
        assert len(each.others) == len(each.moments) == each.trajectory.exchanges
        assert [m.episode.heard_by("agent") for m in each.moments] == [
            each.trajectory.prefix(k) for k in range(each.trajectory.exchanges)
        ]
    assert any(said(a.trajectory) != [o.text for o in a.others] for a in found)


def test_no_scenario_is_met_twice():
    one, agent = practice(), AnyColour()
    seeds = [t.seed for t in one.converse(agent, 10)]
    seeds += [a.seed for a, _ in one.pairs(agent, agent, 10)]
    seeds += [b.first.seed for b in one.branches(agent, 10, np.random.default_rng(0))]
    seeds += [t.seed for t in one.converse(agent, 10)]
    assert len(set(seeds)) == len(seeds) == 40


def test_more_than_the_budget_is_refused_and_costs_nothing():
    one = practice(n=7)
    with pytest.raises(BudgetSpent, match="8 conversations asked for, 7 of 7"):
        one.pairs(AnyColour(), AnyColour(), 4)
    assert one.spent.conversations == 0


def test_labels_are_counted_and_those_of_equal_ends_are_even():
    one = practice()
    pairs = one.pairs(Constant(""), Constant("purple"), 20)  # the first always sells, the second never
    assert one.labels(pairs).tolist() == [1.0] * 20
    assert [p.probability for p in one.preferences(pairs)] == [1.0] * 20
    assert one.spent.judge_calls == 40
    equal = practice().pairs(Constant("purple"), Constant("purple"), 20)
    labels = practice().labels(equal)
    assert set(labels) == {0.0, 1.0}


def test_turns_are_labelled_by_the_judge_of_turns():
    one = practice()
    (found,) = one.alternatives(Constant("purple"), 1)
    assert one.turn_labels(found.moments[:2], ["green", "red"], ["red", "green"]).tolist() == [1.0, 0.0]


def test_logged_pairs_are_the_same_for_every_seed_and_cost_nothing():
    first, second = practice(), practice()
    second.seed = 8
    pairs, labels = first.logged_pairs()
    others, same = second.logged_pairs()
    assert len(pairs) == 10 and pairs == others and labels.tolist() == same.tolist()
    assert first.spent.conversations == first.spent.judge_calls == 0


class Undecided:
    """A judge that decides every second pair."""

    name = "undecided"

    def prefer(self, pairs):  # type: ignore[no-untyped-def]
        return [Preference(1.0) if i % 2 else Preference(float("nan"), "no idea") for i in range(len(pairs))]


def test_what_a_judge_could_not_decide_is_counted_and_has_no_label():
    one = practice()
    one.judge = Undecided()
    pairs = one.pairs(AnyColour(), AnyColour(), 10)
    assert np.isnan(one.labels(pairs)).sum() == 5
    assert sum(p.judged for p in one.preferences(pairs)) == 5
    assert one.spent.judge_calls == 20 and one.spent.judge_failures == 10


def test_the_first_take_of_a_seed_has_the_stream_that_the_seed_alone_had():
    for seed in (5, (1 << 32) + 5, (1 << 33) + 7):
        before = np.random.default_rng((seed, 3, 0xA9E27)).random()
        assert agent_rng(seed, 2).random() == before != agent_rng(seed, 2, take=1).random()
        assert Shop(Customer()).begin(seed).rng.random() == np.random.default_rng((seed, 1)).random()


def test_without_a_judge_the_remedy_is_named():
    one = Practice(Shop(Customer()), Budget(10, 5), 0)
    with pytest.raises(ValueError, match="judge=outcome"):
        one.labels([])
    with pytest.raises(ValueError, match="turn_judge"):
        one.turn_labels([], [], [])


def test_continuations_part_at_one_moment_and_what_was_said_there_is_said_in_all_of_them():
    one = practice(n=200)
    found = one.continuations(AnyColour(), 10, 3, 4, np.random.default_rng(0))
    assert len(found) == 10 and one.spent.conversations == 120
    for each in found:
        k, trunk = each.exchange, each.held[0][0]
        assert len(each.said) == 3 and [len(row) for row in each.held] == [4, 4, 4]
        assert each.moment.episode.heard_by("agent") == trunk.prefix(k)
        assert all(held.prefix(k) == trunk.prefix(k) for row in each.held for held in row)
        for utterance, row in zip(each.said, each.held, strict=True):
            assert [held.steps[k].utterance for held in row] == [utterance] * 4
        takes = [held.take for row in each.held for held in row]
        assert takes == list(range(12))  # every one is a draw of its own
    after = [[said(held)[each.exchange + 1 :] for held in row] for each in found for row in each.held]
    assert any(row[0] != row[1] for row in after)
    assert any(len({utterance.text for utterance in each.said}) > 1 for each in found)


def test_branches_are_continuations_of_two_responses_with_one_sample_each():
    agent = AnyColour()
    branches = practice().branches(agent, 20, np.random.default_rng(4))
    found = practice().continuations(agent, 20, 2, 1, np.random.default_rng(4))
    assert [(b.exchange, b.first, b.second) for b in branches] == [
        (c.exchange, c.held[0][0], c.held[1][0]) for c in found
    ]


def test_what_continuations_spend_is_counted_from_the_moment_on():
    one = practice(n=200)
    found = one.continuations(AnyColour(), 10, 2, 3, np.random.default_rng(1))
    new = sum(held.exchanges for each in found for row in each.held for held in row)
    new -= sum(5 * each.exchange for each in found)  # all but the first of each began at its moment
    assert one.spent.exchanges == new and one.spent.user_tokens == 3 * new
    with pytest.raises(BudgetSpent, match="141 conversations asked for"):
        one.continuations(AnyColour(), 47, 1, 3, np.random.default_rng(0))
