"""Rewards of single turns: what the solver is told is what the model says of the same words as a text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.chat_model import ChatModel
from agents.mixture import Mixture
from agents.packing import Packed, Prompts, pack
from agents.preference_model import PreferenceModel
from agents.turn_model import TurnContest, TurnPair, TurnReward, compared, said
from envs.chat_format import train_tokenizer
from envs.conversation import Conversation
from envs.decoding import small_model

WORDS = ["hello I want red", "how about green", "not that one", "then take blue or red", "I will take it"]
FIRST = Conversation().then("user", WORDS[0])
SECOND = FIRST.then("agent", "how about green").then("user", "not that one")


def model(seed: int = 0) -> ChatModel:
    tokenizer = train_tokenizer(WORDS * 3, 300)
    small = small_model(tokenizer, hidden_size=32, layers=2, intermediate_size=48, seed=seed)
    with torch.no_grad():
        small.get_input_embeddings().weight.mul_(6)
    return ChatModel(small, tokenizer, temperature=0.7, max_new_tokens=6)


def ids(policy: ChatModel, text: str) -> tuple[int, ...]:
    tokens = policy._encoding(FIRST, policy.prompt_ids(FIRST), text, True)
    assert tokens
    return tokens


def prompts(policy: ChatModel) -> Prompts:
    whole = policy.prompt_ids(SECOND)
    ends = np.array([len(policy.prompt_ids(FIRST)) - 1, len(whole) - 1])
    return Prompts(whole, ends, (FIRST, SECOND))


RESPONSES = ("then take blue", "red")


def packed(policy: ChatModel) -> Packed:
    rows = [[ids(policy, text) for text in RESPONSES]]
    return pack([prompts(policy)], rows, [[policy.tail(tokens) for tokens in rows[0]]])


def pairs(policy: ChatModel, n: int = 60) -> list[TurnPair]:
    """At the first prompt ``red`` is better than ``how about green``."""
    prompt = tuple(policy.prompt_ids(FIRST))
    return [TurnPair(prompt, ids(policy, "red"), ids(policy, "how about green"), 1.0)] * n


def fitted(policy: ChatModel, kind: str) -> PreferenceModel:
    rng = np.random.default_rng(0)
    judge = PreferenceModel(policy, rng, kind=kind, trunk_learning_rate=0.0)  # type: ignore[arg-type]
    judge.fit([compared(policy, pair) for pair in pairs(policy)], rng, epochs=3)
    return judge


def test_an_utterance_is_read_where_the_user_is_given_the_turn():
    policy = model()
    tokens = ids(policy, "red")
    text = said(policy, policy.prompt_ids(FIRST), tokens)
    longer = FIRST.then("agent", "red").then("user", "not that one")
    assert policy.prompt_ids(longer)[: len(text.ids)] == list(text.ids)
    assert text.places.tolist() == [len(text.ids) - 1]


def test_the_reward_of_a_response_is_that_of_its_text_and_its_prompts_value_stands_before():
    policy = model()
    scorer = TurnReward(fitted(policy, "bradley_terry"), policy, pairs(policy), np.random.default_rng(1))
    value, along = scorer.values(packed(policy), [prompts(policy)], np.random.default_rng(2))
    texts = [
        said(policy, policy.prompt_ids(x), ids(policy, y)) for x, y in zip((FIRST, SECOND), RESPONSES, strict=True)
    ]
    expected = scorer.model.rewards(scorer.model.features(texts))
    last = packed(policy).last
    assert along[last].numpy() == pytest.approx(expected, abs=1e-4)
    inner = torch.ones(len(along), dtype=torch.bool)
    inner[last] = False
    assert torch.equal(along[inner], value[packed(policy).response][inner])


def test_the_value_of_a_prompt_is_what_the_pairs_earn_there_on_average():
    policy = model()
    data = pairs(policy, 400)
    scorer = TurnReward(fitted(policy, "bradley_terry"), policy, data, np.random.default_rng(1), epochs=30)
    value, _ = scorer.values(packed(policy), [prompts(policy)], np.random.default_rng(2))
    texts = [said(policy, data[0].prompt, tokens) for tokens in (data[0].first, data[0].second)]
    assert value[0].item() == pytest.approx(scorer.model.rewards(scorer.model.features(texts)).mean(), abs=0.1)


def test_the_unit_of_rewards_is_their_difference_within_prompts_alone():
    policy = model()
    judge = fitted(policy, "bradley_terry")
    elsewhere = tuple(policy.prompt_ids(SECOND))
    equal = [TurnPair(elsewhere, ids(policy, "red"), ids(policy, "red"), 0.5)] * 60  # another prompt, nothing to choose
    mixed = [*pairs(policy), *equal]
    rewards = judge.rewards(judge.features([said(policy, p.prompt, t) for p in mixed for t in (p.first, p.second)]))
    scorer = TurnReward(judge, policy, mixed, np.random.default_rng(1))
    assert scorer.spread.item() == pytest.approx(np.mean((rewards[::2] - rewards[1::2]) ** 2) ** 0.5 / 2**0.5, rel=1e-4)


def test_a_contest_is_against_what_the_mixture_says_to_the_same_prompt():
    policy, start = model(0), model(1)
    judge = fitted(policy, "general")
    scorer = TurnContest(judge, Mixture(policy, start, 0.3), spread=0.2)
    value, along = scorer.values(packed(policy), [prompts(policy)], np.random.default_rng(5))
    seeds = np.random.default_rng(5).integers(2**63, size=2)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    theirs = Mixture(policy, start, 0.3).speak([FIRST, SECOND], rngs)
    for i, (prompt, said_here, opponent) in enumerate(zip((FIRST, SECOND), RESPONSES, theirs, strict=True)):
        own = judge.features([said(policy, policy.prompt_ids(prompt), ids(policy, said_here))])
        other = judge.features([said(policy, policy.prompt_ids(prompt), opponent.tokens)])
        assert along[packed(policy).last[i]].item() == pytest.approx(float(judge.compare(own, other)[0]), abs=1e-4)
    assert value.tolist() == [0.5, 0.5]


def test_what_was_preferred_has_the_greater_reward():
    policy = model()
    rows = [[ids(policy, "red")], [ids(policy, "how about green")]]
    first = Prompts(policy.prompt_ids(FIRST), prompts(policy).ends[:1], (FIRST,))
    both = pack([first, first], rows, [[policy.tail(tokens) for tokens in row] for row in rows])
    scorer = TurnReward(fitted(policy, "bradley_terry"), policy, pairs(policy), np.random.default_rng(1))
    _, along = scorer.values(both, [first, first], np.random.default_rng(0))
    red, green = along[both.last].tolist()
    assert red > green


def test_one_pair_is_enough_to_be_told_something():
    policy = model()
    judge, (pair,) = fitted(policy, "bradley_terry"), pairs(policy, 1)
    scorer = TurnReward(judge, policy, [pair], np.random.default_rng(1))
    better, worse = judge.rewards(judge.features([said(policy, pair.prompt, t) for t in (pair.first, pair.second)]))
    value, along = scorer.values(packed(policy), [prompts(policy)], np.random.default_rng(2))
    assert torch.isfinite(value).all() and torch.isfinite(along).all()
    assert scorer.spread.item() == pytest.approx((better - worse) / 2**0.5, rel=1e-4)
