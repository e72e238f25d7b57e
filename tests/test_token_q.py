"""A policy perturbed by Q of tokens says what the sum of both sets of logits makes likely."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from agents.chat_model import ChatModel
from agents.token_q import Perturbed, TokenQ, Unit, decisions
from agents.token_q_learner import TokenQLearner
from envs.chat_format import train_tokenizer
from envs.conversation import Conversation
from envs.decoding import Decoder, small_model
from envs.trajectory import Step, Trajectory, Utterance

TALK = Conversation().then("user", "which bicycle do you have for me")
LONGER = TALK.then("agent", "this one is red").then("user", "which one")
WORDS = ["which bicycle do you have for me", "this one is red and that one is blue"]


def speaker(kind: str = "llama") -> ChatModel:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(WORDS, 300)
    if kind == "gpt2":
        ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=128, **ends)
        model = GPT2LMHeadModel(config).eval()
    else:
        model = small_model(tokenizer, hidden_size=32, layers=2, intermediate_size=48)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(4)
    return ChatModel(model, tokenizer, temperature=0.7, max_new_tokens=6)


def some_q(policy: ChatModel, rate: float) -> TokenQ:
    """Two Q that say something, on the policy's trunk or, with a rate, on one that has learnt."""
    q = TokenQ(policy, np.random.default_rng(0), members=2, width=8, trunk_learning_rate=rate)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        q.heads.outer.normal_(generator=generator)
        if rate:
            for weight in q.reader.trunk.parameters():
                weight.mul_(1.2)
    return q


def rngs(n: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(n)]


def said(one: ChatModel, n: int = 24) -> list[str]:
    return [utterance.text for utterance in one.speak([TALK] * n, rngs(n))]


def perturbed_by_hand(policy: ChatModel, q: TokenQ, beta: float, ids: list[int]) -> torch.Tensor:
    """[T, V] log-probabilities after every token, from the models' own forward passes."""
    inputs = torch.tensor([ids])
    with torch.no_grad():
        states = q.reader.trunk(input_ids=inputs).last_hidden_state[0]
        hidden = (states @ q.heads.inner + q.heads.bias).relu()  # [K, T, width]
        first, second = hidden @ q.heads.outer + q.heads.level
        logits = (policy.model(input_ids=inputs).logits[0] + beta * torch.minimum(first, second)) / policy.temperature
    logits[:, list(policy.banned)] = -torch.inf
    return logits.log_softmax(-1)


@pytest.mark.parametrize("rate", [0.0, 1e-3], ids=["trunk stays", "trunk learns"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_log_probabilities_of_what_is_said_are_those_of_the_perturbed_logits(kind: str, rate: float):
    policy = speaker(kind)
    q = some_q(policy, rate)
    both = [TALK, LONGER]
    for conversation, utterance in zip(both, Perturbed(policy, q, 1.5).speak(both, rngs(2)), strict=True):
        prompt = policy.prompt_ids(conversation)
        expected = perturbed_by_hand(policy, q, 1.5, [*prompt, *utterance.tokens])[len(prompt) - 1 : -1]
        tokens = list(utterance.tokens)
        assert utterance.logprobs == pytest.approx(expected[range(len(tokens)), tokens].tolist(), abs=1e-4)


@pytest.mark.parametrize("rate", [0.0, 1e-3], ids=["trunk stays", "trunk learns"])
def test_scoring_and_distributions_are_those_that_are_sampled_from(rate: float):
    policy = speaker()
    q = some_q(policy, rate)
    one = Perturbed(policy, q, 1.5)
    ids = policy.prompt_ids(LONGER)
    expected = perturbed_by_hand(policy, q, 1.5, ids)
    with torch.no_grad():
        scores = one.logprobs([(ids, [True] * len(ids))])[0, 1:]
        places = torch.arange(len(ids))
        whole = one.distributions({"input_ids": torch.tensor([ids])}, torch.zeros_like(places), places)
    finite = [ids[t + 1] not in policy.banned for t in range(len(ids) - 1)]
    torch.testing.assert_close(scores[finite], expected[range(len(ids) - 1), ids[1:]][finite], atol=1e-4, rtol=1e-4)
    may = [token for token in range(whole.shape[1]) if token not in policy.banned]
    torch.testing.assert_close(whole[:, may], expected[:, may], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_many_at_once_say_what_each_says_alone(kind: str):
    policy = speaker(kind)
    one = Perturbed(policy, some_q(policy, 1e-3), 1.5)
    talks = [TALK, LONGER] * 4
    together = one.speak(talks, rngs(8))
    alone = [Perturbed(policy, one.q, 1.5).speak([talks[i]], [np.random.default_rng(i)])[0] for i in range(8)]
    assert [each.tokens for each in together] == [each.tokens for each in alone]
    for each, other in zip(together, alone, strict=True):
        assert each.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("rate", [0.0, 1e-3], ids=["trunk stays", "trunk learns"])
def test_before_anything_is_learnt_it_is_the_policy_itself(rate: float):
    policy = speaker()
    q = TokenQ(policy, np.random.default_rng(0), members=2, width=8, trunk_learning_rate=rate)
    assert said(Perturbed(policy, q, 16.0)) == said(policy)
    assert said(Perturbed(policy, some_q(policy, rate), 0.0)) == said(policy)
    assert said(Perturbed(policy, some_q(policy, rate), 4.0)) != said(policy)


@pytest.mark.parametrize("rate", [0.0, 1e-3], ids=["trunk stays", "trunk learns"])
def test_it_follows_a_q_that_learns(rate: float):
    policy = speaker()
    one = Perturbed(policy, some_q(policy, rate), 4.0)
    said(one)
    with torch.no_grad():
        for weight in (p for p in one.q.parameters() if p.requires_grad):
            weight.mul_(1.3)
    assert said(one) == said(Perturbed(policy, one.q, 4.0))


def test_a_great_beta_takes_the_token_of_the_greatest_least_q():
    policy = speaker()
    q = some_q(policy, 0.0)
    with torch.no_grad():
        q.heads.outer.zero_()
        q.heads.level[0, 0, [20, 30]] = torch.tensor([5.0, 2.0])  # the first Q prefers 20 …
        q.heads.level[1, 0, [20, 30]] = torch.tensor([1.0, 2.0])  # … the second knows it better: least 1 and 2
    (utterance,) = Perturbed(policy, q, 1e4).speak([TALK], rngs(1), greedy=True)
    sampled = [step.tokens for step in Perturbed(policy, q, 1e4)._decoder.generate(
        [policy.prompt_ids(TALK)], np.full((1, 6), 0.5), max_new_tokens=6, banned=policy.banned)]  # fmt: skip
    assert sampled == [(30,) * 6] and utterance.text


def test_what_a_perturbed_policy_can_not_do_is_refused(tmp_path):
    policy = speaker()
    one = Perturbed(policy, some_q(policy, 0.0), 1.0)
    for refused in (one.clone, lambda: one.save(tmp_path)):
        with pytest.raises(TypeError, match="policy"):
            refused()
    with pytest.raises(ValueError, match=r"beta=-1"):
        Perturbed(policy, one.q, -1.0)
    with pytest.raises(ValueError, match="not both"):
        Decoder(policy.model, policy.tokenizer, policy.model, 0.5, perturbation=one._decoder._rows._perturbation)


LATER = Trajectory(1, "", TALK.turns, (Step(Utterance("this one"), "which", 0.0),), False, "exchange_limit", None, True)


class Untaught(TokenQLearner):
    """Speaks by a Q that is given to it."""

    def __init__(self, policy: ChatModel, q: TokenQ, beta: float):
        self.start, self.q, self.policy = policy, q, Perturbed(policy, q, beta)

    def loss(self, states, batch):
        raise NotImplementedError


def test_what_it_tells_is_in_returns():
    policy = speaker()
    q = TokenQ(policy, np.random.default_rng(0), members=2, width=8, trunk_learning_rate=0.0)  # 0 wherever it is asked
    q.unit = Unit(-5.0, 2.0)
    assert q.of_decisions([decisions(policy, LATER)]).tolist() == [-5.0] * len(decisions(policy, LATER).tokens)
    critique = Untaught(policy, q, 1.5).critique([LATER])
    assert critique.values == pytest.approx([-5.0]) and critique.action_values == pytest.approx([-5.0])
    with torch.no_grad():
        q.heads.level.fill_(1.5)
    assert Untaught(policy, q, 1.5).critique([LATER]).action_values == pytest.approx([-5.0 + 2.0 * 1.5])


@pytest.mark.parametrize("rate", [0.0, 1e-3], ids=["trunk stays", "trunk learns"])
def test_a_critique_has_q_at_the_end_of_a_turn_and_the_mean_q_of_what_begins_it(rate: float):
    policy = speaker()
    q = some_q(policy, rate)
    steps = (Step(Utterance("this one is red"), "which one", 0.0), Step(Utterance("that one is blue"), "do", 1.0))
    talk = Trajectory(0, "", TALK.turns, steps, True, "outcome", True, True)
    read = policy.trajectory_tokens(talk)
    odds = perturbed_by_hand(policy, q, 1.5, read.ids).exp()
    with torch.no_grad():
        states = q.reader.trunk(input_ids=torch.tensor([read.ids])).last_hidden_state[0]
        values = q.least(states)  # [T, V]
    critique = Untaught(policy, q, 1.5).critique([LATER, talk])
    own = slice(-2, None)  # the turns of the talk, behind another's
    said = [values[end - 1, read.ids[end]].item() for end in read.turn_ends]
    mean = [(odds[before] * values[before]).sum().item() for before in read.prompt_ends]
    assert critique.action_values[own] == pytest.approx(said, abs=1e-4)
    assert critique.values[own] == pytest.approx(mean, abs=1e-4)
    assert critique.advantages[own] == pytest.approx(np.subtract(said, mean), abs=1e-4)
