"""The single-turn machinery of Iterative PPO: packing, advantages, the clipped loss, Q and its calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.chat_model import ChatModel
from agents.packing import Prompts, like_lengths, pack
from agents.ppo import PPO, clipped_loss, exact_kl, respond, token_advantages, token_logprobs
from agents.q_function import Heads, Labelled, QFunction, calibration
from envs.conversation import Conversation
from envs.trajectory import Step, Trajectory, Utterance
from tests.conftest import TEXTS, tiny_model


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return tiny_model()


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def dialogue(model: ChatModel, turns: int) -> Prompts:
    conversation = Conversation().then("user", "hello there")
    conversations, ends, ids = [], [], []
    for k in range(turns):
        conversations.append(conversation)
        ids = model.prompt_ids(conversation)
        ends.append(len(ids) - 1)
        conversation = conversation.then("agent", TEXTS[k]).then("user", TEXTS[k + 1])
    return Prompts(ids, np.array(ends), tuple(conversations))


def test_one_packed_pass_gives_the_log_probabilities_of_one_pass_per_prompt_and_response(model: ChatModel):
    prompts = [dialogue(model, 3), dialogue(model, 1)]
    responses = [[(70, 71, 1), (80, 1), (90, 91, 92, 1)], [(60, 1)]]
    packed = pack(prompts, responses)
    together = token_logprobs(model, packed).gather(1, packed.tokens[:, None])[:, 0]
    apart = []
    for one, row in zip(prompts, responses, strict=True):
        for end, tokens in zip(one.ends, row, strict=True):
            ids = [*one.ids[: end + 1], *tokens]
            counts = [False] * (end + 1) + [True] * len(tokens)
            apart.append(model.logprobs([(ids, counts)])[0, end + 1 :])
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=0)


def test_a_packed_pass_gives_the_gradient_of_one_pass_per_prompt_and_response(model: ChatModel):
    prompts, responses = [dialogue(model, 3)], [[(70, 71, 1), (80, 1), (90, 91, 1)]]
    packed = pack(prompts, responses)
    parameters = list(model.model.parameters())
    loss = token_logprobs(model, packed).gather(1, packed.tokens[:, None]).sum()
    together = torch.autograd.grad(loss, parameters)
    apart_loss = torch.zeros(())
    for end, tokens in zip(prompts[0].ends, responses[0], strict=True):
        ids = [*prompts[0].ids[: end + 1], *tokens]
        apart_loss = apart_loss + model.logprobs([(ids, [False] * (end + 1) + [True] * len(tokens))]).sum()
    for one, other in zip(together, torch.autograd.grad(apart_loss, parameters), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_packed_places_are_where_they_say(model: ChatModel):
    packed = pack([dialogue(model, 2)], [[(70, 1), (80, 81, 1)]])
    assert packed.tokens.tolist() == [70, 1, 80, 81, 1]
    assert packed.response.tolist() == [0, 0, 1, 1, 1]
    assert packed.last.tolist() == [1, 4]
    assert packed.ids[0, packed.at].tolist() == [70, 1, 80, 81, 1]
    assert packed.before[0] == packed.prompt_ends[0] and packed.before[2] == packed.prompt_ends[1]


def test_a_tail_follows_its_response_and_is_no_part_of_it(model: ChatModel):
    responses = [[(70, 1), (80, 81, 1)]]
    bare, packed = pack([dialogue(model, 2)], responses), pack([dialogue(model, 2)], responses, [[(3,), (1, 3)]])
    assert packed.tokens.tolist() == bare.tokens.tolist()
    assert packed.ids[0, packed.reads].tolist() == [3, 3]
    assert bare.reads.tolist() == bare.at[bare.last].tolist()
    assert packed.positions[0, packed.reads[1]] == packed.prompt_ends[1] + 5
    torch.testing.assert_close(token_logprobs(model, packed), token_logprobs(model, bare), atol=1e-4, rtol=0)


def test_q_is_read_where_the_user_takes_its_turn(model: ChatModel):
    user = model.tokenizer.convert_tokens_to_ids("<|user|>")
    for texts in (["yes please"], ["yes please", "no"]):
        one = QFunction(model, generator()).label(model, trajectory(model, texts, 1.0))
        assert [one.ids[at] for at in one.reads] == [user] * len(texts)
        assert set(one.reads) <= set(one.places)
        assert one.turns[-1] == len(texts) - 1 and one.places[-1] == one.reads[-1]


def test_an_empty_response_is_refused(model: ChatModel):
    with pytest.raises(ValueError, match="no tokens"):
        pack([dialogue(model, 1)], [[()]])


def test_minibatches_of_like_length_hold_every_index_once():
    lengths = np.random.default_rng(0).integers(10, 200, 50)
    cuts = list(like_lengths(lengths, 8, np.random.default_rng(1)))
    assert sorted(np.concatenate(cuts)) == list(range(50))
    spread = np.mean([np.ptp(lengths[cut]) for cut in cuts])
    assert spread < 0.4 * np.ptp(lengths)


def test_token_advantages_are_gae_over_the_values_along_each_response(model: ChatModel):
    packed = pack([dialogue(model, 2)], [[(70, 1), (80, 81, 1)]])
    value = torch.tensor([0.5, 0.2])
    along = torch.tensor([0.6, 0.9, 0.1, 0.3, 0.8])
    # λ=1: Q − the value before the token. Response 0: .9-.5, .9-.6. Response 1: .8-.2, .8-.1, .8-.3.
    torch.testing.assert_close(token_advantages(packed, value, along, 1.0), torch.tensor([0.4, 0.3, 0.6, 0.7, 0.5]))
    # λ=0: the step of the value itself.
    torch.testing.assert_close(token_advantages(packed, value, along, 0.0), torch.tensor([0.1, 0.3, -0.1, 0.2, 0.5]))
    # λ=½, response 1: δ = (-.1, .2, .5): .5; .2+.25=.45; -.1+.225=.125. Response 0: δ = (.1, .3): .3; .25.
    torch.testing.assert_close(token_advantages(packed, value, along, 0.5), torch.tensor([0.25, 0.3, 0.125, 0.45, 0.5]))


def test_the_clipped_loss_is_ppos():
    old, new = torch.zeros(3), torch.log(torch.tensor([1.5, 0.5, 1.1]))
    loss, metrics = clipped_loss(new, old, torch.tensor([1.0, -1.0, 2.0]), 0.2)
    # min(1.5, 1.2)·1 = 1.2; min(-.5, -.8) = -.8; min(2.2, 2.2) = 2.2; the loss is minus their mean.
    assert loss.item() == pytest.approx(-(1.2 - 0.8 + 2.2) / 3, abs=1e-6)
    assert metrics["clip_fraction"] == pytest.approx(2 / 3)


def test_the_exact_kl_is_the_textbooks_and_what_may_not_be_said_adds_nothing():
    p, q = (torch.tensor([[*logs, -1e9]]) for logs in (np.log([0.5, 0.5]), np.log([0.25, 0.75])))
    expected = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert exact_kl(p, q).item() == pytest.approx(expected, abs=1e-6)
    assert exact_kl(p, p).item() == 0.0


def test_calibration_figures_are_those_worked_out_by_hand():
    figures = calibration(np.array([0.9, 0.2, 0.6, 0.1]), np.array([1.0, 0.0, 0.0, 1.0]))
    # Pairs (won, lost): .9>.2, .9>.6, .1<.2, .1<.6: 2 of 4. Squared errors .01, .04, .36, .81.
    assert figures["auc"] == pytest.approx(0.5)
    assert figures["brier"] == pytest.approx(1.22 / 4)
    assert figures["r2"] == pytest.approx(1 - (1.22 / 4) / 0.25)
    assert figures["bias"] == pytest.approx(0.45 - 0.5)


def test_calibration_without_variety_is_not_a_number():
    figures = calibration(np.array([0.5, 0.5]), np.array([0.0, 0.0]))
    assert np.isnan(figures["auc"]) and np.isnan(figures["r2"])


def trajectory(model: ChatModel, said: list[str], reward: float) -> Trajectory:
    steps = tuple(
        Step(Utterance(text), "good day", reward if k == len(said) - 1 else 0.0) for k, text in enumerate(said)
    )
    opening = Conversation().then("user", "hello there").turns
    return Trajectory(0, "", opening, steps, True, "outcome", reward > 0, True)


@pytest.mark.parametrize("trunk_learning_rate", [3e-3, 0.0], ids=["trunk learns", "trunk stays"])
def test_q_learns_which_word_decides_the_outcome(model: ChatModel, trunk_learning_rate: float):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    q = QFunction(model, rng, learning_rate=3e-3, trunk_learning_rate=trunk_learning_rate, batch_size=16)
    before = {name: tensor.clone() for name, tensor in q.trunk.state_dict().items()}
    says = [["yes please" if rng.random() < 0.5 else "no thanks" for _ in range(2)] for _ in range(160)]
    data = [q.label(model, trajectory(model, said, float(said[0] == "yes please"))) for said in says]
    q.fit(data[:128], rng, epochs=16)
    figures = q.calibration(data[128:])
    assert figures["auc"] > 0.95
    assert figures["r2"] > 0.5
    stayed = all(torch.equal(before[name], tensor) for name, tensor in q.trunk.state_dict().items())
    assert stayed == (trunk_learning_rate == 0.0)


def test_q_reads_the_same_values_packed_and_apart(model: ChatModel):
    q = QFunction(model, generator())
    said = [(70, 1), (80, 81, 1)]
    packed = pack([dialogue(model, 2)], [said], [[model.tail(tokens) for tokens in said]])
    value, along = q.values(packed)
    prompt, user = dialogue(model, 2), model.tokenizer.convert_tokens_to_ids("<|user|>")
    ids = [*prompt.ids[: prompt.ends[1] + 1], 80, 81, 1, user]
    end, read = int(prompt.ends[1]), len(ids) - 1
    places, turns = np.array([end, end + 1, end + 2, read]), np.zeros(4, dtype=np.int64)
    alone = Labelled(ids, places, turns, np.zeros(1), np.array([read]))
    states = q._states([alone])
    v, qs = q.unscaled(q.v_heads(states)).detach(), q.unscaled(q.q_heads(states)).detach()
    torch.testing.assert_close(along[2:], torch.stack([v[1], v[2], qs[3]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(value[1], v[0], atol=1e-5, rtol=0)
    assert q.at_reads([alone])[0] == pytest.approx(qs[3].item(), abs=1e-5)


def test_every_head_computes_the_network_it_holds():
    heads = Heads(hidden_size=3, width=2, members=2, generator=torch.Generator().manual_seed(0))
    states = torch.randn(5, 3)
    for m in range(2):
        inner = (states @ heads.inner[m] + heads.bias[m]).relu()
        torch.testing.assert_close(heads(states)[m], inner @ heads.outer[m, :, 0] + heads.level[m])


def test_q_without_data_says_so(model: ChatModel):
    with pytest.raises(ValueError, match="no scored conversation"):
        QFunction(model, generator()).fit([], generator())


def test_q_widens_its_bounds_to_the_returns_it_sees(model: ChatModel):
    q = QFunction(model, generator(), batch_size=4)
    data = [q.label(model, trajectory(model, ["yes please"], reward)) for reward in (-2.0, 6.0)]
    q.fit(data, np.random.default_rng(0))
    assert q.bounds.tolist() == [-2.0, 6.0]


def test_the_ratio_is_one_before_the_first_update(model: ChatModel):
    prompts = [dialogue(model, 3)]
    said = respond(model, prompts, np.random.default_rng(3))
    packed = pack(prompts, [[u.tokens for u in said[0]]])
    new = token_logprobs(model, packed).gather(1, packed.tokens[:, None])[:, 0]
    sampled = torch.tensor([x for u in said[0] for x in u.logprobs])
    torch.testing.assert_close(new, sampled, atol=1e-4, rtol=0)


class _LikesEven(QFunction):
    """A Q that is 1 when a response begins with an even token, else 0."""

    def values(self, packed, prompts, rng):  # type: ignore[no-untyped-def]
        first = torch.ones_like(packed.response, dtype=torch.bool)
        first[1:] = packed.response[1:] != packed.response[:-1]
        good = (packed.tokens[first] % 2 == 0).float()
        return torch.full_like(good, 0.5), good[packed.response]


def test_ppo_makes_what_q_likes_more_likely(model: ChatModel):
    policy = model.clone()
    prompts = [dialogue(model, 3) for _ in range(80)]
    solver = PPO(rounds=5, conversations=80, epochs=4, batch_size=8, learning_rate=5e-3, kl_coef=0.01)
    packed = pack([dialogue(model, 1)], [[(70, 1)]])
    before = token_logprobs(policy, packed)[0, ::2].exp().sum().item()
    likes = _LikesEven(policy, generator())
    likes.spread.fill_(0.5)
    metrics = solver.improve(policy, policy.clone(), likes, prompts, np.random.default_rng(0))
    after = token_logprobs(policy, packed)[0, ::2].exp().sum().item()
    assert after > before + 0.2
    assert {"kl", "entropy", "clip_fraction", "response_length", "grad_norm"} <= metrics.keys()
