"""Our PPO beside TRL's: that both are given the same reward, and what is said where there is no PPOTrainer."""

from __future__ import annotations

import numpy as np
import torch

from agents.packing import Prompts, pack
from agents.q_function import QFunction
from benchmarks.trl_ppo import QAsReward, VAsValue, main
from envs.chat_format import USER
from envs.conversation import Conversation
from tests.conftest import TEXTS, tiny_model


def test_trls_reward_is_q_where_the_user_is_given_the_turn_and_its_value_is_v():
    policy = tiny_model()
    q = QFunction(policy, np.random.default_rng(0))
    q.spread.fill_(0.25)
    prompts, responses = [], []
    for i, text in enumerate(TEXTS[:6]):
        conversation = Conversation().then("user", text)
        ids = policy.prompt_ids(conversation)
        prompts.append(Prompts(ids, np.array([len(ids) - 1]), (conversation,)))
        ended = () if i % 3 == 0 else (policy.tokenizer.eos_token_id,)  # some ran out of tokens before they ended
        responses.append((*policy.tokenizer.encode(TEXTS[(i * 2 + 1) % 6]), *ended))
    tails = [[policy.tail(one)] for one in responses]
    value, along = q.values(packed := pack(prompts, [[one] for one in responses], tails))

    rows = [[*prompt.ids, *said] for prompt, said in zip(prompts, responses, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])  # padded on the left, as TRL does
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    at = mask.cumsum(1) - mask.long()
    (user,) = policy.tokenizer.convert_tokens_to_ids([USER])
    reward, v = QAsReward(q, policy.tokenizer.eos_token_id, user), VAsValue(q)
    with torch.no_grad():
        states = reward.backbone(input_ids=ids, attention_mask=mask, position_ids=at).hidden_states[-1]
        theirs = reward.score(states)[:, -1, 0] * 0.25
        torch.testing.assert_close(theirs, along[packed.last], atol=1e-5, rtol=1e-4)
        plain = v.backbone(input_ids=ids, attention_mask=mask, position_ids=at).last_hidden_state
        before = torch.tensor([width - len(said) - 1 for said in responses])
        read = v.score(plain)[torch.arange(len(rows)), before, 0] * 0.25
    torch.testing.assert_close(read, value, atol=1e-5, rtol=1e-4)


def test_where_there_is_no_ppo_trainer_it_is_said_what_to_install(capsys):
    assert main([]) == 1
    assert "trl==1.12.0 and requests" in capsys.readouterr().err
