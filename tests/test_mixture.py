"""The mixture of two policies says what its two sets of logits, interpolated, make likely."""

import numpy as np
import pytest
import torch

from agents.chat_model import ChatModel
from agents.mixture import Mixture
from envs.chat_format import train_tokenizer
from envs.conversation import Conversation
from envs.decoding import small_model

TALK = Conversation().then("user", "which bicycle do you have for me")


def model(seed: int) -> ChatModel:
    tokenizer = train_tokenizer(["which bicycle do you have for me", "this one is red and that one is blue"], 300)
    small = small_model(tokenizer, hidden_size=32, layers=2, intermediate_size=48, seed=seed)
    with torch.no_grad():
        small.get_input_embeddings().weight.mul_(8)  # so that the two models differ in what they say
    return ChatModel(small, tokenizer, temperature=0.7, max_new_tokens=6)


def said(speaker: ChatModel, n: int = 24) -> list[str]:
    return [one.text for one in speaker.speak([TALK] * n, [np.random.default_rng(i) for i in range(n)])]


def test_a_share_of_nothing_is_the_policy_itself():
    policy, other = model(0), model(1)
    assert said(Mixture(policy, other, 0.0)) == said(policy)


def test_a_mixture_with_itself_is_the_policy_itself():
    policy = model(0)
    assert said(Mixture(policy, policy.clone(), 0.4)) == said(policy)


def test_nearly_all_of_the_other_is_the_other():
    policy, other = model(0), model(1)
    assert said(policy) != said(other)
    assert said(Mixture(policy, other, 0.999999)) == said(other)


def test_log_probabilities_of_what_is_said_are_those_of_the_interpolated_logits():
    policy, other = model(0), model(1)
    mixture = Mixture(policy, other, 0.25)
    (utterance,) = mixture.speak([TALK], [np.random.default_rng(3)])
    prompt = policy.prompt_ids(TALK)
    ids = torch.tensor([[*prompt, *utterance.tokens]])
    logits = [each.model(input_ids=ids).logits[0, len(prompt) - 1 : -1] for each in (policy, other)]
    mixed = (0.75 * logits[0] + 0.25 * logits[1]) / 0.7
    mixed[:, list(policy.banned)] = -torch.inf
    expected = mixed.log_softmax(-1)[torch.arange(len(utterance.tokens)), list(utterance.tokens)]
    assert utterance.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_mixture_follows_a_policy_that_learns():
    policy, other = model(0), model(1)
    mixture = Mixture(policy, other, 0.2)
    said(mixture)
    with torch.no_grad():
        for weight, like in zip(policy.model.parameters(), other.model.parameters(), strict=True):
            weight.copy_(like)
    assert said(mixture) == said(other)


def test_a_share_of_one_or_more_is_refused():
    with pytest.raises(ValueError, match=r"share=1.0"):
        Mixture(model(0), model(1), 1.0)


def test_what_a_mixture_can_not_do_is_refused():
    mixture = Mixture(model(0), model(1), 0.2)
    with pytest.raises(TypeError, match="policy"):
        mixture.clone()
