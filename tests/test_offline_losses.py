"""The losses of the offline learners, by hand, on conversations of two turns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.chat_model import ChatModel
from agents.dmpo import DMPO, dmpo_margins, turn_weights, weighted_logprobs
from agents.filtered_imitation import agent_only, best_fraction
from agents.ilql import ilql_terms
from agents.logged_data import kl_to_start
from agents.mc_returns import mc_terms
from agents.reader import Text
from agents.token_q import Decisions, Unit, chosen, cross_entropy, decisions
from envs.conversation import Turn
from envs.simulators.sft import IGNORED
from envs.trajectory import Step, Trajectory, Utterance
from tests.conftest import tiny_model


def talk(*exchanges: tuple[str, str, float]) -> Trajectory:
    steps = tuple(Step(Utterance(said), reply, reward) for said, reply, reward in exchanges)
    return Trajectory(0, "", (Turn("user", "hello there"),), steps, True, "outcome", True, True)


TWO_TURNS = talk(("what do you need", "maybe later", 0.25), ("good day", "yes please", 1.0))


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return tiny_model()


# ---- tokens as decisions --------------------------------------------------------------------------------------------


def test_every_token_of_the_agent_is_a_decision_and_rewards_follow_the_last_of_a_turn(model: ChatModel):
    read, made = model.trajectory_tokens(TWO_TURNS), decisions(model, TWO_TURNS)
    assert made.tokens.tolist() == np.array(read.ids)[read.agent].tolist()
    assert (made.text.places + 1).tolist() == np.flatnonzero(read.agent).tolist()
    first = int(read.turn_ends[0] - read.prompt_ends[0])  # tokens of the first turn
    assert np.flatnonzero(made.rewards).tolist() == [first - 1, len(made.tokens) - 1]
    assert made.rewards[[first - 1, -1]].tolist() == [0.25, 1.0]


def test_time_counts_the_agents_tokens_alone():
    # Two turns of two tokens. Backwards with γ = .5: 1; 0 + .5 · 1 = .5; .25 + .5 · .5 = .5; 0 + .5 · .5 = .25.
    made = Decisions(Text([], np.zeros(0)), np.zeros(4), np.array([0.0, 0.25, 0.0, 1.0]))
    assert made.returns(0.5).tolist() == [0.25, 0.5, 0.5, 1.0]


def test_the_reward_of_a_turn_without_tokens_follows_the_decision_before_it(model: ChatModel):
    read = model.trajectory_tokens(TWO_TURNS)
    silent = replace(read, turn_ends=np.array([read.turn_ends[0], read.prompt_ends[1]]))
    reader = type("Reads", (), {"trajectory_tokens": lambda self, one: silent})()
    made = decisions(reader, TWO_TURNS)
    assert made.rewards[-1] == 1.25 and len(made.tokens) == read.turn_ends[0] - read.prompt_ends[0]


def test_the_unit_of_q_is_the_spread_of_returns_around_their_mean():
    # Returns with γ = .5: [-1.5, -1] and [-3, -2]; their mean is -1.875, and their variance
    # (.375² + .875² + 1.125² + .125²) / 4 = 2.1875 / 4.
    data = [Decisions(Text([], np.zeros(0)), np.zeros(2), np.array(paid)) for paid in ([-1.0, -1.0], [-2.0, -2.0])]
    unit = Unit.of(data, 0.5)
    assert unit.mean == -1.875 and unit.scale == pytest.approx((2.1875 / 4) ** 0.5)
    assert unit.returns(data[0], 0.5) == pytest.approx([0.375 / unit.scale, 0.875 / unit.scale])
    paid = unit.rewards(data[0], 0.5)
    assert paid[1] == pytest.approx(0.875 / unit.scale)  # the last: its return, since nothing follows
    assert paid[0] + 0.5 * paid[1] == pytest.approx(0.375 / unit.scale)  # r + γ V' of the decision before


def test_where_all_returns_are_the_same_their_scale_stays():
    data = [Decisions(Text([], np.zeros(0)), np.zeros(1), np.array([0.3]))] * 1000
    unit = Unit.of(data, 0.9)  # of which NumPy's standard deviation is 1e-16, and their mean not quite .3
    assert unit.scale == 1.0 and unit.returns(data[0], 0.9) == pytest.approx([0.0], abs=1e-9)


# ---- MC returns and ILQL --------------------------------------------------------------------------------------------


def test_mc_returns_by_hand():
    # Two decisions, three tokens. The tokens said are 1 and 0, whose Q are .5 and 0; their returns .25 and 1:
    # ½ (.25² + 1²) / 2 = .265625.
    # Cross-entropy: of [0, .5, 0] at 1 it is ln(2 + e^.5) - .5 = .7943, of [0, 0, 0] it is ln 3 = 1.0986; mean .9465.
    q = torch.tensor([[[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]])
    mc, cql = mc_terms(q, torch.tensor([1, 0]), torch.tensor([0.25, 1.0]))
    assert mc.item() == pytest.approx(0.265625)
    assert cql.item() == pytest.approx((math.log(2 + math.exp(0.5)) - 0.5 + math.log(3)) / 2)


ENDS = np.array([2])


def terms(**changes: Tensor) -> tuple[float, float]:
    values = {
        "q": torch.tensor([[0.5, 0.4, 0.8], [0.6, 0.4, 0.7]]),
        "target": torch.tensor([0.5, 0.3, 0.7]),
        "v": torch.tensor([0.3, 0.5, 0.2]),
        **changes,
    }
    losses = ilql_terms(**values, rewards=torch.tensor([0.0, 0.2, 1.0]), ends=ENDS, gamma=0.9, expectile=0.7)
    return losses[0].item(), losses[1].item()


def test_ilql_by_hand():
    # Two turns, of two tokens and of one; .2 is paid after the first turn and 1 at the end. Targets r + γ V(s'):
    # 0 + .9 · .5 = .45, .2 + .9 · .2 = .38, 1 + 0 = 1.
    # Q_1: ½ (.05² + .02² + .2²) / 3 = ½ · .0429 / 3; Q_2: ½ (.15² + .02² + .3²) / 3 = ½ · .1129 / 3. Sum: .1558 / 6.
    # V: Q̄ - V is .2, -.2, .5, so the weights are .7, |.7 - 1| = .3, .7:
    # ½ (.7 · .04 + .3 · .04 + .7 · .25) / 3 = ½ · .215 / 3.
    q_loss, v_loss = terms()
    assert q_loss == pytest.approx(0.1558 / 6)
    assert v_loss == pytest.approx(0.215 / 6)


def test_no_gradient_flows_through_ilqls_targets():
    q, v = torch.zeros(2, 3, requires_grad=True), torch.full((3,), 0.5, requires_grad=True)
    target = torch.ones(3)
    q_loss, v_loss = ilql_terms(q, target, v, torch.zeros(3), ENDS, 0.9, 0.7)
    assert torch.autograd.grad(q_loss, v, allow_unused=True, retain_graph=True) == (None,)
    # The first of V: .7 · (V - Q̄) / 3 = .7 · -.5 / 3.
    assert torch.autograd.grad(v_loss, v)[0][0].item() == pytest.approx(-0.35 / 3)


def test_values_are_picked_and_cross_entropies_summed_over_the_two_q():
    q = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    assert chosen(q, torch.tensor([1, 0])).tolist() == [[2.0, 3.0], [6.0, 7.0]]
    # Of logits one apart, ln(1 + e^-1) for the greater and ln(1 + e) for the smaller; both Q have one of each.
    expected = 2 * (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert cross_entropy(q, torch.tensor([1, 0])).item() == pytest.approx(expected)


# ---- DMPO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "gamma", "expected"),
    [
        (2, 0.5, [1.0, 0.5 * 0.5 / 0.75]),  # (1 - .5²)/(1 - .5²), .5 (1 - .5)/(1 - .5²)
        (3, 0.7, [1.0, 0.7 * 0.51 / 0.657, 0.49 * 0.3 / 0.657]),
        (4, 1.0, [1.0, 0.75, 0.5, 0.25]),
        (3, 0.0, [1.0, 0.0, 0.0]),  # the first turn alone
        (1, 0.7, [1.0]),
    ],
)
def test_the_weights_of_turns_by_hand(turns: int, gamma: float, expected: list[float]):
    assert turn_weights(turns, gamma) == pytest.approx(expected)


def test_dmpos_margin_and_loss_by_hand():
    # log π/μ, weighted: w -1 - -1.5 = .5, l -2 - -1.75 = -.25; β .4 · .75 = .3; -ln σ(.3) = ln(1 + e^-.3) = .5544.
    margins = dmpo_margins(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.75]]), 0.4)
    assert margins.tolist() == pytest.approx([0.3])
    assert -torch.nn.functional.logsigmoid(margins).item() == pytest.approx(0.55436, abs=1e-5)


@pytest.mark.parametrize(("weights", "second"), [("discounted", 1 / 3), ("uniform", 1.0)])
def test_of_a_conversation_the_agents_tokens_count_by_the_weight_of_their_turn(
    colour_start: str, weights: str, second: float
):
    learner = DMPO(colour_start, gamma=0.5, weights=weights)
    shop = talk(("red", "Not that.", 0.0), ("blue", "I'll take it.", 1.0))
    read = learner.policy.trajectory_tokens(shop)
    with torch.no_grad():
        found = weighted_logprobs(learner.policy, [learner._weighed(shop)]).item()
        by_token = learner.policy.logprobs([(read.ids, read.agent)])[0].numpy()
    turns = [by_token[a + 1 : b + 1].sum() for a, b in zip(read.prompt_ends, read.turn_ends, strict=True)]
    assert found == pytest.approx(turns[0] + second * turns[1], rel=1e-5)  # φ(0, 2) = 1, φ(1, 2) = ⅓ as above


def test_conversations_side_by_side_weigh_what_they_weigh_alone(colour_start: str):
    learner = DMPO(colour_start)
    talks = [talk(("red", "Not that.", 0.0), ("blue", "I'll take it.", 1.0)), talk(("green", "Not that.", 0.0))]
    weighed = [learner._weighed(one) for one in talks]
    with torch.no_grad():
        together = weighted_logprobs(learner.policy, weighed)
        alone = [weighted_logprobs(learner.policy, [one])[0] for one in weighed]
    torch.testing.assert_close(together, torch.stack(alone))


# ---- filtered imitation ---------------------------------------------------------------------------------------------


def test_the_best_fraction_is_kept_and_ties_at_its_edge_are_drawn():
    returns = [0.0, 1.0, 0.5, 0.0, 0.5, 0.5, 1.0, 0.0, 0.0, 0.0]
    kept = [best_fraction(returns, 0.4, np.random.default_rng(seed)).tolist() for seed in range(40)]
    assert all(len(one) == 4 and {1, 6} <= set(one) <= {1, 2, 4, 5, 6} and one == sorted(one) for one in kept)
    assert {i for one in kept for i in one} == {1, 2, 4, 5, 6}  # every one of the tied is drawn now and then


@pytest.mark.parametrize(("fraction", "kept"), [(0.0, [1]), (0.1, [1]), (1.0, [0, 1, 2])])
def test_at_least_one_conversation_is_kept_and_at_most_all(fraction: float, kept: list[int]):
    assert best_fraction([0.1, 0.9, 0.5], fraction, np.random.default_rng(0)).tolist() == kept


def test_what_the_user_said_is_not_imitated(model: ChatModel):
    read = model.trajectory_tokens(TWO_TURNS)
    example = agent_only(read)
    learnt = [place for place, label in enumerate(example.labels) if label != IGNORED]
    assert learnt == np.flatnonzero(read.agent).tolist()
    assert [example.labels[place] for place in learnt] == [read.ids[place] for place in learnt]


# ---- the distance to the start --------------------------------------------------------------------------------------


def test_the_distance_to_the_start_is_a_mean_over_the_agents_tokens(model: ChatModel):
    other = model.clone()
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.mul_(1.3)
    talks = [TWO_TURNS, talk(("yes please", "no thanks", 0.0))]
    kl = []
    for one in map(model.trajectory_tokens, talks):
        logits = [m.model(input_ids=torch.tensor([one.ids])).logits[0] for m in (other, model)]
        for each in logits:
            each[:, list(model.banned)] = -1e9
        p, q = (each.log_softmax(-1)[np.flatnonzero(one.agent) - 1] for each in logits)
        kl += (p.exp() * (p - q)).sum(-1).tolist()
    assert kl_to_start(other, model, talks) == pytest.approx(np.mean(kl), rel=1e-4)
    assert kl_to_start(other, model, talks, batch_size=1) == pytest.approx(np.mean(kl), rel=1e-4)
    assert kl_to_start(model, model, talks) == 0.0
