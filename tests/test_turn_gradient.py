"""The turns' gradient: what it is by hand, and that one pass over a conversation gives what a pass per turn gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.advantages import gae
from agents.chat_model import ChatModel, TrajectoryTokens
from agents.ppo import exact_kl
from agents.token_batch import later_in_turn, token_batch, token_logprobs
from agents.turn_gradient import Learning, TurnGradient
from agents.value_function import ValueFunction
from envs.chat_format import train_tokenizer
from envs.conversation import Turn
from envs.decoding import small_model
from envs.trajectory import Step, Trajectory, Utterance

WORDS = ["hello I want red", "how about green", "not that one", "then take blue or red", "I will take it"]


def model(seed: int = 0) -> ChatModel:
    tokenizer = train_tokenizer(WORDS * 3, 300)
    small = small_model(tokenizer, hidden_size=32, layers=2, intermediate_size=48, seed=seed)
    with torch.no_grad():
        small.get_input_embeddings().weight.mul_(4)
    return ChatModel(small, tokenizer, temperature=0.7, max_new_tokens=8)


def talk(*exchanges: tuple[str, str], returns: float = 1.0) -> Trajectory:
    steps = tuple(
        Step(Utterance(said), reply, returns if k == len(exchanges) - 1 else 0.0)
        for k, (said, reply) in enumerate(exchanges)
    )
    return Trajectory(0, "", (Turn("user", WORDS[0]),), steps, True, "outcome", True, True)


TALKS = [
    talk(
        ("how about green", "not that one"), ("then take blue or red", "not that one"), ("take red", "I will take it")
    ),
    talk(("take blue", "I will take it")),
    talk(("green", "not that"), ("red", "I will take it"), returns=0.5),
]


def read(policy: ChatModel, talks: Sequence[Trajectory] = TALKS) -> list[TrajectoryTokens]:
    return [policy.trajectory_tokens(one) for one in talks]


def learning(policy: ChatModel, policy_delay: int = 0, **settings: object) -> Learning:
    chosen = {"kl_coef": 0.1, "normalise": False, "max_grad_norm": 1e9, **settings}
    value = ValueFunction(policy, np.random.default_rng(0), trunk_learning_rate=0.0, width=8, members=2)
    return Learning(TurnGradient(**chosen), policy, model(1), value, policy_delay)  # type: ignore[arg-type]


def test_advantages_are_those_worked_out_by_hand():
    # δ_3 = 1 - .5 = .5, δ_2 = 0 + .9·.5 - .2 = .25, δ_1 = .1 + .9·.2 - .4 = -.12; γλ = .45
    advantages = gae(np.array([0.1, 0.0, 1.0]), np.array([0.4, 0.2, 0.5]), 0.9, 0.5)
    assert advantages == pytest.approx([-0.12 + 0.45 * (0.25 + 0.45 * 0.5), 0.25 + 0.45 * 0.5, 0.5])


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=8))
def test_with_lambda_one_the_targets_are_the_returns(decisions: list[tuple[float, float]]):
    rewards, values = np.array(decisions).T
    targets = gae(rewards, values, 1.0, 1.0) + values
    assert targets == pytest.approx(rewards[::-1].cumsum()[::-1], abs=1e-9)


def test_the_unit_is_the_deviation_of_all_outcomes_so_far_and_does_not_vanish():
    learner = learning(model(), normalise=True)
    assert learner._unit(np.array([0.5, 0.5])) == 1.0  # nothing to measure by yet
    assert learner._unit(np.array([1.0, 0.0])) == pytest.approx(np.std([0.5, 0.5, 1.0, 0.0]))
    assert learner._unit(np.full(4, 0.5)) == pytest.approx(np.std([1.0, 0.0, *[0.5] * 6]))
    assert learning(model(), normalise=False)._unit(np.array([1.0, 0.0])) == 1.0


@pytest.mark.parametrize("kl", ["exact", "reward"])
def test_outcomes_in_another_unit_with_alpha_in_it_teach_the_same(kl: str):
    moved = []
    for scale in (1.0, 10.0):
        policy = model()
        learner = learning(policy, normalise=True, kl_coef=0.1 * scale, kl=kl, value_learning_rate=0.0)
        with torch.no_grad():
            for weight in (learner.value.heads.outer, learner.value.heads.level):
                weight.mul_(scale)
        learner.step(read(policy), scale * np.array([1.0, 0.0, 0.3]))
        moved.append([p.grad.clone() for p in policy.model.parameters() if p.grad is not None])
    for a, b in zip(*moved, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-3)


def test_what_follows_in_a_turn_is_summed_by_hand():
    later = later_in_turn(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([0, 0, 0, 1, 1]))
    assert later.tolist() == [6.0, 4.0, 0.0, 16.0, 0.0]


def test_the_gradient_of_a_turns_kl_is_that_of_the_exact_kl_over_utterances():
    # Utterances of two tokens from {0, 1}: first by p, second by q_0 or q_1; μ likewise. The gradient of KL(π ‖ μ) over
    # utterances is the expectation of: gradient of the tokens' KLs, plus (KL that follows) · gradient of log π.
    logits = torch.tensor([0.3, -0.2, 0.9], requires_grad=True)  # of token 1: first, after a 0, after a 1
    other = torch.tensor([-0.5, 0.4, -0.1]).sigmoid()

    def kl(p: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return p * (p / m).log() + (1 - p) * ((1 - p) / (1 - m)).log()

    p = logits.sigmoid()
    (exact,) = torch.autograd.grad(
        kl(p[0], other[0]) + (1 - p[0]) * kl(p[1], other[1]) + p[0] * kl(p[2], other[2]), logits
    )
    p = logits.sigmoid()
    surrogate = torch.zeros(())
    for first, chance in ((0, 1 - p[0]), (1, p[0])):
        kls = torch.stack([kl(p[0], other[0]), kl(p[1 + first], other[1 + first])])
        later = later_in_turn(kls.detach(), torch.zeros(2, dtype=torch.long))
        surrogate = surrogate + chance.detach() * (kls.sum() + later[0] * chance.log())
    (ours,) = torch.autograd.grad(surrogate, logits)
    assert torch.allclose(ours, exact, atol=1e-6)


def test_with_kl_in_the_reward_the_loss_has_none():
    policy = model()
    learner = learning(policy, kl="reward")
    batch = token_batch(read(policy))
    logprobs = token_logprobs(policy, batch)
    chosen = logprobs.gather(1, batch.tokens[:, None])[:, 0]
    advantages = np.linspace(-1, 1, len(chosen))
    loss = learner._loss(batch, logprobs, chosen, torch.full_like(chosen, 100.0), advantages)
    assert loss.item() == pytest.approx(-float((advantages * chosen.detach().numpy()).sum()), rel=1e-4)


def test_k3_is_an_estimate_of_the_exact_kl():
    policy = model()
    one = learning(policy, kl="k3")
    batch = token_batch(read(policy))
    with torch.no_grad():
        logprobs, reference = token_logprobs(policy, batch), token_logprobs(model(1), batch)
    every = torch.arange(logprobs.shape[1])
    ratio = reference[0] - logprobs[0]
    expected = (logprobs[0].exp() * (ratio.exp() - 1 - ratio))[every].sum()
    assert expected.item() == pytest.approx(exact_kl(logprobs, reference)[0].item(), rel=1e-3)
    k3 = one._kl(logprobs, reference, batch)
    assert (k3 >= 0).all() and k3[0].item() == pytest.approx(
        (ratio.exp() - 1 - ratio)[batch.tokens[0]].item(), rel=1e-4
    )


def test_mixed_advantages_are_the_mean_of_both_and_no_baseline_has_seen_the_outcome():
    found = {}
    for level in ("turn", "token", "mixed"):
        learner = learning(model(), level=level)
        batch = token_batch(read(learner.policy))
        kl = np.full(len(batch.rows), 0.1)
        found[level], _ = learner._advantages(batch, np.array([1.0, 0.0, 0.5]), kl)
    assert found["mixed"] == pytest.approx((found["turn"] + found["token"]) / 2, abs=1e-6)


def test_one_pass_over_a_conversation_has_the_gradient_of_a_pass_per_turn():
    advantages = [np.array([0.5, -1.0, 2.0]), np.array([1.5]), np.array([-0.5, 1.0])]

    def together(policy: ChatModel) -> torch.Tensor:
        batch = token_batch(read(policy))
        logprobs, reference = token_logprobs(policy, batch), token_logprobs(model(1), batch).detach()
        chosen = logprobs.gather(1, batch.tokens[:, None])[:, 0]
        weights = torch.from_numpy(np.concatenate(advantages))[batch.turns].float()
        return -(weights * chosen).sum() + 0.1 * exact_kl(logprobs, reference).sum()

    def one_by_one(policy: ChatModel) -> torch.Tensor:
        reference, loss = model(1), torch.zeros(())
        for one, of_turns in zip(TALKS, advantages, strict=True):
            for k, (step, advantage) in enumerate(zip(one.steps, of_turns, strict=True)):
                prompt = policy.prompt_ids(one.prefix(k))
                said = policy._encoding(one.prefix(k), prompt, step.utterance.text, True)
                assert said
                ids = torch.tensor([[*prompt, *said]])
                rows = torch.zeros(len(said), dtype=torch.long)
                places = torch.arange(len(prompt) - 1, len(prompt) + len(said) - 1)
                logprobs = policy.distributions({"input_ids": ids}, rows, places)
                others = reference.distributions({"input_ids": ids}, rows, places).detach()
                chosen = logprobs[torch.arange(len(said)), torch.tensor(said)]
                loss = loss - advantage * chosen.sum() + 0.1 * exact_kl(logprobs, others).sum()
        return loss

    gradients = []
    for way in (together, one_by_one):
        policy = model()
        way(policy).backward()
        gradients.append([p.grad for p in policy.model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert a is not None and b is not None
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)


def test_the_advantage_carries_future_kl_and_the_loss_the_current_one():
    policy = model()
    learner = learning(policy, gae_lambda=1.0, gamma=1.0)
    batch = token_batch(read(policy, TALKS[:1]))
    with torch.no_grad():
        kl = exact_kl(token_logprobs(policy, batch), token_logprobs(learner.reference, batch)).double().numpy()
    by_turn = np.bincount(batch.turns.numpy(), weights=kl)
    values = learner.value.values(learner.value.reader(batch.texts))
    advantages, _ = learner._advantages(batch, np.array([1.0]), kl)
    future = np.array([by_turn[1] + by_turn[2], by_turn[2], 0.0])
    expected = 1.0 - 0.1 * future - values
    assert advantages == pytest.approx(expected[batch.turns.numpy()], abs=1e-6)


def test_kl_in_the_reward_counts_that_of_the_turn_itself():
    policy = model()
    learner = learning(policy, gae_lambda=1.0, kl="reward")
    batch = token_batch(read(policy, TALKS[1:2]))
    kl = np.full(len(batch.rows), 0.25)
    values = learner.value.values(learner.value.reader(batch.texts))
    advantages, _ = learner._advantages(batch, np.array([1.0]), kl)
    assert advantages == pytest.approx(np.full(len(kl), 1.0 - 0.1 * kl.sum() - values[0]), abs=1e-6)


def test_at_token_level_every_token_is_a_decision():
    policy = model()
    learner = learning(policy, gae_lambda=0.0, kl_coef=0.0, level="token")
    batch = token_batch(read(policy, TALKS[1:2]))
    values = learner.value.values(learner.value.reader(batch.before))
    advantages, _ = learner._advantages(batch, np.array([1.0]), np.zeros(len(batch.rows)))
    assert advantages == pytest.approx(np.append(values[1:], 1.0) - values, abs=1e-6)


def test_what_was_preferred_becomes_more_likely_and_what_was_not_less():
    policy = model()
    learner = learning(policy, kl_coef=0.0, learning_rate=1e-2, normalise=True)
    talks = [talk(("take blue", "no")), talk(("take red", "no"))]
    reads = read(policy, talks)

    def likely() -> torch.Tensor:
        with torch.no_grad():
            return policy.logprobs([(one.ids, one.agent) for one in reads]).sum(1)

    before = likely()
    for _ in range(3):
        learner.step(reads, np.array([1.0, 0.0]))
    gained = likely() - before
    assert gained[0] > 0 > gained[1]


def test_while_the_policy_is_delayed_the_critic_alone_learns():
    policy = model()
    learner = learning(policy, policy_delay=2)
    weights = [p.detach().clone() for p in policy.model.parameters()]
    first = learner.step(read(policy), np.ones(3))
    second = learner.step(read(policy), np.ones(3))
    assert all(torch.equal(a, b) for a, b in zip(weights, policy.model.parameters(), strict=True))
    assert second["value_loss"] < first["value_loss"] and "policy_loss" not in second
    assert "policy_loss" in learner.step(read(policy), np.ones(3))


def test_mirror_descent_holds_the_policy_near_where_the_iteration_began():
    def moved(mirror_coef: float) -> float:
        policy = model()
        learner = learning(policy, kl_coef=0.0, learning_rate=3e-3, mirror_coef=mirror_coef, normalise=True)
        learner.begin_iteration()
        reads, began = read(policy), policy.clone()
        for _ in range(8):
            learner.step(reads, np.array([1.0, 0.0, 0.5]))
        batch = token_batch(reads)
        with torch.no_grad():
            return exact_kl(token_logprobs(policy, batch), token_logprobs(began, batch)).mean().item()

    assert moved(10.0) < 0.5 * moved(0.0)


def test_learning_that_was_saved_goes_on_as_if_never_interrupted(tmp_path: Path):
    straight, broken = learning(model()), learning(model())
    outcomes = np.array([1.0, 0.0, 0.5])
    for learner in (straight, broken):
        learner.step(read(learner.policy), outcomes)
    broken.save(tmp_path)
    broken.policy.save(tmp_path / "policy")
    again = learning(ChatModel.load(tmp_path / "policy", temperature=0.7, max_new_tokens=8))
    again.restore(tmp_path)
    for learner in (straight, again):
        learner.step(read(learner.policy), outcomes)
    assert again.steps == straight.steps == 2
    for a, b in zip(straight.policy.model.parameters(), again.policy.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("setting", [{"gae_lambda": 1.5}, {"kl": "k9"}, {"level": "word"}, {"kl_coef": -1.0}])
def test_settings_out_of_range_are_named(setting: dict[str, object]):
    (name,) = setting
    with pytest.raises(ValueError, match=f"learner.{name}"):
        TurnGradient(**setting)  # type: ignore[arg-type]


def test_a_batch_in_which_nobody_spoke_is_refused():
    policy = model()
    silent = read(policy, [talk(("", "not that one"))])
    for one in silent:
        one.turn_ends[:] = one.prompt_ends
    with pytest.raises(ValueError, match="tokens"):
        learning(policy).step(silent, np.ones(1))
