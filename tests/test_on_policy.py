"""On-policy learners: their losses by hand, and that they learn, resume and count on a world of three colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.actor_critic import CriticSettings, value_loss
from agents.advantages import Unit, less_the_others
from agents.agent import Agent
from agents.chat_model import TrajectoryTokens
from agents.clipped_gradient import ClippedGradient, ClippedLearning, Minibatch
from agents.decisions import Level, advantages, decisions
from agents.grpo_trajectories import GRPOTrajectories, group_advantages
from agents.online_filtered_imitation import OnlineFilteredImitation, best
from agents.ppo import chosen_logprobs
from agents.practice import Budget, Practice
from agents.reinforce import Reinforce
from agents.rollout import rollout
from agents.token_batch import token_batch, token_logprobs
from agents.token_ppo import TokenPPO
from agents.turn_ppo import TurnPPO
from benchmarks.learn import improve, prepare
from envs.conversation import Turn
from envs.env import Episode
from envs.trajectory import Step, Trajectory, Utterance
from envs.users import Reply
from tests.conftest import AnyColour, tiny_model
from tests.toy import Customer, Shop

METRICS = Path(__file__).parent.parent / "docs" / "metrics.md"

# ---- by hand --------------------------------------------------------------------------------------------------------

TALK = TrajectoryTokens(
    ids=[5, 6, 7, 20, 21, 8, 9, 30, 31, 10],
    agent=np.isin(np.arange(10), [3, 4, 7, 8]),
    prompt_ends=np.array([2, 6]),
    turn_ends=np.array([4, 8]),
)
"""Two turns of two tokens each; paid 1 at the end."""
PAID = np.array([0.0, 1.0])
MOVED = torch.tensor([0.1, 0.05, 0.2, 0.1])
"""log π - log π_old of the four tokens."""


def minibatch(learning: ClippedLearning, level: Level, talks: Sequence[TrajectoryTokens] = (TALK,)) -> Minibatch:
    """``talks``, all paid 1 at the end, of which the policy has ``MOVED`` since."""
    (one,) = learning.minibatches(talks, [PAID] * len(talks), level, np.random.default_rng(0))
    with torch.no_grad():
        now = chosen_logprobs(token_logprobs(learning.policy, one.batch), one.batch)
    return replace(one, old=now - MOVED.repeat(len(talks)))


def learning(**settings: object) -> ClippedLearning:
    policy = tiny_model()
    chosen = {"minibatch": None, "kl_coef": 0.0, **settings}
    return ClippedLearning(ClippedGradient(**chosen), policy, policy.clone())  # type: ignore[arg-type]


def loss_of(level: Level, found: np.ndarray, **settings: object) -> tuple[float, float]:
    """The loss on ``TALK`` and the clip fraction."""
    learner = learning(**settings)
    loss, metrics = learner._loss(minibatch(learner, level), torch.from_numpy(found).float(), None)
    return loss.item(), metrics["clip_fraction"]


def test_turn_ppos_advantages_are_those_worked_out_by_hand():
    # γ .99, λ .9, so γλ = .891; V = .4, .5.  δ_2 = 1 - .5 = .5;  δ_1 = 0 + .99·.5 - .4 = .095
    # Â_2 = .5;  Â_1 = .095 + .891·.5 = .5405
    found = advantages(np.array([0, 0]), PAID, np.array([0.4, 0.5]), 0.99, 0.9)
    assert found == pytest.approx([0.5405, 0.5])


def test_turn_ppos_loss_has_one_ratio_per_turn():
    # ρ_1 = exp(.1 + .05) = 1.161834, inside 1 ± .2: 1.161834 · .5405 = .627971
    # ρ_2 = exp(.2 + .1) = 1.349859, outside, and Â_2 > 0: 1.2 · .5 = .6
    # L = -(.627971 + .6) / 2 = -.613986; one of two is clipped
    loss, clipped = loss_of("turn", np.array([0.5405, 0.5]))
    assert loss == pytest.approx(-0.613986, abs=1e-5) and clipped == 0.5


def test_with_a_mean_ratio_long_turns_are_not_clipped_sooner():
    # ρ_1 = exp(.075) = 1.077884: .582596;  ρ_2 = exp(.15) = 1.161834: .580917;  L = -(.582596 + .580917) / 2
    loss, clipped = loss_of("turn", np.array([0.5405, 0.5]), ratio="mean")
    assert loss == pytest.approx(-0.581757, abs=1e-5) and clipped == 0.0


def test_a_turn_that_went_badly_is_not_clipped_where_it_became_likelier():
    # Â_2 < 0 and ρ_2 = 1.349859 above 1.2: the minimum is ρ_2 Â_2 = -.674929, not -.6
    # L = -(.627971 - .674929) / 2 = .023479
    loss, _ = loss_of("turn", np.array([0.5405, -0.5]))
    assert loss == pytest.approx(0.023479, abs=1e-5)


def test_token_ppos_advantages_and_loss_are_those_worked_out_by_hand():
    # γ 1, λ .95; V before the four tokens .4, .45, .5, .6; the user's tokens take no time.
    # δ = .05, .05, .1, 1 - .6 = .4;  Â_4 = .4;  Â_3 = .1 + .95·.4 = .48;  Â_2 = .05 + .95·.48 = .506;
    # Â_1 = .05 + .95·.506 = .5307
    one = minibatch(learning(), "token")
    assert one.decisions.rewards.tolist() == [0.0, 0.0, 0.0, 1.0]
    values = np.array([0.4, 0.45, 0.5, 0.6])
    found = advantages(one.decisions.owners, one.decisions.rewards, values, 1.0, 0.95)
    assert found == pytest.approx([0.5307, 0.506, 0.48, 0.4])
    # ρ = 1.105171, 1.051271, 1.221403, 1.105171; the third is brought to 1.2:
    # .586514 + .531943 + .576 + .442068 = 2.136525;  L = -2.136525 / 4 = -.534131
    loss, clipped = loss_of("token", found)
    assert loss == pytest.approx(-0.534131, abs=1e-5) and clipped == 0.25


def test_a_conversation_is_one_decision_with_one_ratio():
    # ρ = exp(.45) = 1.568312, outside 1 ± .2: L = -1.2 · .7 = -.84
    assert loss_of("conversation", np.array([0.7])) == (pytest.approx(-0.84), 1.0)


def test_kl_in_the_reward_is_taken_off_that_of_its_own_decision():
    drift = torch.tensor([0.2, -0.1, 0.3, 0.1])
    priced = {}
    for level in ("turn", "token"):
        learner = learning(kl="reward", kl_coef=0.5)
        priced[level] = learner.priced(replace(minibatch(learner, level), drift=drift))
    assert priced["turn"] == pytest.approx([-0.5 * 0.1, 1 - 0.5 * 0.4])
    assert priced["token"] == pytest.approx([-0.1, 0.05, -0.15, 0.95])


def test_exact_kl_is_the_sum_over_a_decisions_tokens():
    losses = {}
    for level, beta in (("token", 0.0), ("token", 1.0), ("turn", 0.0), ("turn", 1.0)):
        learner = learning(kl_coef=beta)
        with torch.no_grad():
            learner.start.model.get_input_embeddings().weight.mul_(1.5)
        one = minibatch(learner, level)
        losses[level, beta] = learner._loss(one, torch.zeros(len(one.decisions)), None)[0].item()
    # Two tokens to a turn: the mean over two turns of a sum of two is twice the mean over four tokens.
    kl = losses["token", 1.0] - losses["token", 0.0]
    assert kl > 1e-4 and losses["turn", 1.0] - losses["turn", 0.0] == pytest.approx(2 * kl, rel=1e-4)


def test_a_clipped_value_is_charged_for_where_it_may_not_go():
    # .5 may only come to .4: (.4 - .6)² = .04 above (.5 - .6)² = .01; .1 is within .2 of .2: (.1 - .6)² = .25
    values, old, targets = torch.tensor([[0.5, 0.1]]), torch.tensor([[0.2, 0.2]]), torch.tensor([0.6, 0.6])
    assert value_loss(values, old, targets, 0.2).item() == pytest.approx((0.04 + 0.25) / 2)
    assert value_loss(values, old, targets, None).item() == pytest.approx((0.01 + 0.25) / 2)


def test_the_baseline_of_each_is_the_mean_of_the_others():
    # 1 - (0 + .5)/2 = .75;  0 - (1 + .5)/2 = -.75;  .5 - (1 + 0)/2 = 0
    assert less_the_others(np.array([1.0, 0.0, 0.5])) == pytest.approx([0.75, -0.75, 0.0])
    assert less_the_others(np.array([3.0])).tolist() == [0.0]


def test_a_group_is_compared_with_itself():
    # Mean .25; deviation √((.75² + 3 · .25²) / 3) = .5
    four, flat = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.1, 0.1])
    assert group_advantages([four, flat], "group") == pytest.approx([1.5, -0.5, -0.5, -0.5, 0, 0], abs=1e-3)
    assert group_advantages([np.full(7, 0.1)], "group").tolist() == [0.0] * 7  # whose mean is not .1 to the last digit
    assert group_advantages([four, flat], "none") == pytest.approx([0.75, -0.25, -0.25, -0.25, 0, 0])
    # Σ of squares .75 over six conversations: deviation √.125 = .353553
    batch = group_advantages([four, flat], "batch")
    assert batch == pytest.approx(np.array([0.75, -0.25, -0.25, -0.25, 0, 0]) / 0.353553, abs=1e-2)


def test_a_weighted_mean_over_tokens_gives_every_conversation_the_same():
    # Ratios of 1. Four tokens with Â 1 in one conversation, two with Â 0 in the other: by conversation -(1 + 0) / 2,
    # by token -4 / 6.
    short = replace(TALK, turn_ends=np.array([4, 6]))
    learner = learning()
    (one,) = learner.minibatches([TALK, short], [PAID, PAID], "token", np.random.default_rng(0))
    advantage = torch.from_numpy((one.chosen[one.decisions.owners] == 0).astype(np.float32))
    weights = torch.from_numpy((1 / np.bincount(one.decisions.owners))[one.decisions.owners]).float()
    assert learner._loss(one, advantage, weights)[0].item() == pytest.approx(-1 / 2)
    assert learner._loss(one, advantage, None)[0].item() == pytest.approx(-4 / 6)


def test_one_step_on_the_whole_batch_has_reinforces_gradient():
    learner, found = learning(max_grad_norm=1e9), np.array([2.0, -1.0])
    other = replace(TALK, ids=[5, 6, 7, 22, 21, 8, 9, 33, 31, 10])
    (one,) = learner.minibatches([TALK, other], [PAID, PAID], "conversation", np.random.default_rng(0))
    ordered = found[one.chosen]
    learner._loss(one, torch.from_numpy(ordered).float(), None)[0].backward()
    ours = [p.grad.clone() for p in learner.policy.model.parameters()]
    learner.policy.model.zero_grad()
    logprobs = learner.policy.logprobs([(talk.ids, talk.agent) for talk in (TALK, other)]).sum(1)
    (-(torch.from_numpy(found).float() * logprobs).mean()).backward()
    for mine, p in zip(ours, learner.policy.model.parameters(), strict=True):
        assert torch.allclose(mine, p.grad, atol=1e-5, rtol=1e-3)


def test_the_reward_of_a_turn_without_tokens_goes_to_the_decision_before_it():
    silent = replace(TALK, turn_ends=np.array([4, 6]))
    batch = token_batch([silent])
    made = {level: decisions(batch, [silent], [np.array([0.25, 0.5])], level) for level in ("turn", "token")}
    assert made["turn"].rewards.tolist() == [0.75]
    assert made["token"].rewards.tolist() == [0.0, 0.75]
    first_silent = replace(TALK, turn_ends=np.array([2, 8]))
    batch = token_batch([first_silent])
    assert decisions(batch, [first_silent], [np.array([0.25, 0.5])], "turn").rewards.tolist() == [0.5]


def test_a_conversation_in_which_nobody_spoke_is_left_out_and_a_batch_of_them_refused():
    silent = replace(TALK, turn_ends=TALK.prompt_ends)
    learner, rng = learning(), np.random.default_rng(0)
    (one,) = learner.minibatches([silent, TALK], [PAID, PAID], "conversation", rng)
    assert one.chosen.tolist() == [1] and len(one.decisions) == 1
    with pytest.raises(ValueError, match="tokens"):
        learner.minibatches([silent], [PAID], "token", rng)


def test_what_reaches_the_quantile_is_imitated_and_ties_are_all_in():
    def chosen(returns: list[float], skip_lowest: bool = False) -> list[int]:
        return best(np.array(returns), 0.9, skip_lowest).tolist()

    # Place .9 · 4 = 3.6 of five, between .5 and 1: .5 + .6 · .5 = .8
    assert chosen([0.0, 0.5, 1.0, 0.0, 0.0]) == [2]
    # A half succeeded: all successes are in. One of twenty: the cutoff is 0, and everything is.
    assert chosen([0.0, 1.0, 0.0, 1.0]) == [1, 3]
    assert chosen([0.0] * 19 + [1.0]) == list(range(20))
    assert chosen([0.0] * 19 + [1.0], skip_lowest=True) == [19]
    assert chosen([0.0] * 3, skip_lowest=True) == []


def test_the_unit_is_the_deviation_of_everything_seen():
    unit = Unit()
    assert unit.show(np.array([0.5, 0.5])) == 1.0  # nothing to measure by yet
    assert unit.show(np.array([1.0, 0.0])) == pytest.approx(np.sqrt(0.125))  # of .5, .5, 1, 0


# ---- agents ---------------------------------------------------------------------------------------------------------


class OnlyGreen(Customer):
    """Takes green, whatever it said."""

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        answers = super().reply(episodes, rngs)
        taken = ["I'll take it." if episode.turns[-1].text == "green" else "Not that." for episode in episodes]
        return [one if one.failure else Reply(text) for one, text in zip(answers, taken, strict=True)]


def practice(failing: float = 0.0, conversations: int = 192) -> Practice:
    return Practice(Shop(OnlyGreen(failing=failing)), Budget(conversations, 96, 40), 0, AnyColour())


STEPS = ClippedGradient(learning_rate=2e-3, epochs=2, minibatch=16, kl_coef=0.002)
CRITIC = CriticSettings(learning_rate=2e-3, epochs=4, clip=0.2)
SIZES = {"conversations_per_step": 32, "max_new_tokens": 6}


def turn_ppo(start: str | None) -> TurnPPO:
    return TurnPPO(start, STEPS, CRITIC, gamma=0.99, gae_lambda=0.9, **SIZES)


def token_ppo(start: str | None) -> TokenPPO:
    steps = replace(STEPS, kl="reward")
    return TokenPPO(start, steps, CRITIC, normalise="batch", imitation_coef=0.01, imitation_batch=4, **SIZES)


def reinforce(start: str | None) -> Reinforce:
    return Reinforce(start, replace(STEPS, epochs=1, minibatch=None, learning_rate=4e-3), **SIZES)


def grpo_trajectories(start: str | None) -> GRPOTrajectories:
    return GRPOTrajectories(start, STEPS, generations=4, **SIZES)


def online_filtered_imitation(start: str | None) -> OnlineFilteredImitation:
    return OnlineFilteredImitation(start, learning_rate=2e-3, epochs=2.0, batch_size=8, max_new_tokens=6)


MAKERS = [turn_ppo, token_ppo, reinforce, grpo_trajectories, online_filtered_imitation]
each_agent = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def mean_return(agent: Agent) -> float:
    return float(np.mean([t.returns() for t in rollout(agent, Shop(OnlyGreen()), range(150))]))


@each_agent
def test_it_learns_to_offer_what_is_taken(make: Callable[[str | None], Agent], colour_start: str):
    agent, one = make(colour_start), practice()
    prepare(agent, one)
    before = mean_return(agent)
    while not one.exhausted:
        improve(agent, one)
    assert mean_return(agent) > before + 0.1


@each_agent
def test_interrupted_and_restored_it_becomes_the_same_agent(
    make: Callable[[str | None], Agent], colour_start: str, tmp_path: Path
):
    straight, one = make(colour_start), practice(conversations=80)
    one.budget = Budget(80, 40, 40)
    prepare(straight, one)
    improve(straight, one)
    straight.save(tmp_path)
    again, other = make(colour_start), practice()
    other.budget = one.budget
    again.restore(tmp_path)
    other.restore(one.state())
    logged = [improve(agent, its) for agent, its in ((straight, one), (again, other))]
    assert one.exhausted and other.exhausted
    assert logged[0] == pytest.approx(logged[1], nan_ok=True)
    for a, b in zip(straight.policy.model.parameters(), again.policy.model.parameters(), strict=True):  # type: ignore[attr-defined]
        assert a.equal(b)
    if isinstance(straight, TurnPPO) and isinstance(again, TurnPPO):
        for a, b in zip(straight.critic.value.parameters(), again.critic.value.parameters(), strict=True):
            assert a.equal(b)


@each_agent
def test_users_who_fail_are_counted_and_never_an_outcome(make: Callable[[str | None], Agent], colour_start: str):
    agent, one = make(colour_start), practice(failing=0.2, conversations=48)
    one.budget = Budget(48, 48, 40)
    prepare(agent, one)
    metrics = improve(agent, one)
    assert one.spent.unscored > 0 and metrics["unscored"] == one.spent.unscored
    assert all(np.isfinite(value) for value in metrics.values())
    explained = set(re.findall(r"^\| `(\w+)`", METRICS.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(metrics) <= explained, f"docs/metrics.md does not explain {sorted(set(metrics) - explained)}"


@each_agent
def test_when_every_user_fails_the_run_stops_with_words(make: Callable[[str | None], Agent], colour_start: str):
    agent, one = make(colour_start), practice(failing=1.0, conversations=8)
    one.budget = Budget(8, 8, 0)
    prepare(agent, one)
    with pytest.raises(RuntimeError, match="user or"):
        if isinstance(agent, TokenPPO):
            agent.imitation_coef = 0.0
        improve(agent, one)


def test_what_the_policy_learns_from_is_worked_out_by_hand(colour_start: str, monkeypatch: pytest.MonkeyPatch):
    agent = TurnPPO(colour_start, STEPS, CRITIC, gamma=0.99, gae_lambda=0.9, normalise="none", **SIZES)
    prepare(agent, practice())
    with torch.no_grad():
        agent.critic.value.heads.outer.zero_()
        agent.critic.value.heads.level.fill_(0.4)  # V = .4 everywhere
    steps = (Step(Utterance("red"), "Not that.", -0.1), Step(Utterance("green"), "I'll take it.", 0.9))
    one = Trajectory(0, "", (Turn("user", "Hello, I want red."),), steps, True, "outcome", True, True)
    seen: list[np.ndarray] = []
    regressed: list[np.ndarray] = []
    monkeypatch.setattr(agent.learning, "learn", lambda _, found, *rest, **more: seen.extend(found) or {})
    monkeypatch.setattr(agent.critic, "fit", lambda _, old, targets, rng: regressed.extend(targets) or 0.0)
    agent.step([one], np.array([one.returns()]), np.random.default_rng(0))
    # δ_2 = .9 - .4 = .5;  δ_1 = -.1 + .99·.4 - .4 = -.104;  Â_1 = -.104 + .891·.5 = .3415;  targets Â + .4
    assert seen[0] == pytest.approx([0.3415, 0.5], abs=1e-6)
    assert regressed[0] == pytest.approx([0.7415, 0.9], abs=1e-6)


def test_advantages_are_centred_and_in_the_unit_that_was_chosen(colour_start: str):
    found, outcomes = [np.array([1.0, 2.0]), np.array([3.0])], np.array([0.0, 1.0])
    learnt_from = {}
    for normalise in ("batch", "returns", "none"):
        agent = TurnPPO(colour_start, STEPS, CRITIC, normalise=normalise, **SIZES)  # type: ignore[arg-type]
        prepare(agent, practice())
        learnt_from[normalise] = np.concatenate(agent._normalised(found, outcomes))
    # Mean 2; deviation √(2/3) = .816497 of the batch, .5 of the returns
    assert learnt_from["batch"] == pytest.approx([-1 / 0.816497, 0.0, 1 / 0.816497], rel=1e-5)
    assert learnt_from["returns"] == pytest.approx([-2.0, 0.0, 2.0])
    assert learnt_from["none"] == pytest.approx([1.0, 2.0, 3.0])


def test_a_group_is_of_one_scenario_and_one_that_is_alone_in_it_is_left_out(colour_start: str):
    agent, one = grpo_trajectories(colour_start), practice(failing=0.45)
    prepare(agent, one)
    trajectories, outcomes = agent.converse(one, 34)
    assert one.spent.conversations == 32  # eight groups of four
    groups = [[t for t in trajectories if t.seed == seed] for seed in dict.fromkeys(t.seed for t in trajectories)]
    assert all(len(group) >= 2 for group in groups) and all(t.judged for t in trajectories)
    assert len(trajectories) < 32 - one.spent.unscored + 1
    for group, start in zip(groups, np.cumsum([0, *map(len, groups)])[:-1], strict=True):
        assert outcomes[start : start + len(group)].sum() == pytest.approx(0.0, abs=1e-9)


def test_everything_collected_so_far_counts_for_the_cutoff(colour_start: str):
    agent, one = online_filtered_imitation(colour_start), practice()
    prepare(agent, one)
    metrics = [improve(agent, one) for _ in range(2)]
    returns = np.array([t.returns() for t in agent._held])
    assert len(returns) == 192
    for found, so_far in zip(metrics, (returns[:96], returns), strict=True):
        reach = so_far[so_far >= np.quantile(so_far, 0.9)]
        assert found["imitated"] == len(reach) and found["imitated_return"] == pytest.approx(reach.mean())
        assert found["threshold_return"] == reach.min() and found["tied"] == np.sum(so_far == reach.min())


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: ClippedGradient(clip=-1.0), r"learner\.clip=-1"),
    (lambda: ClippedGradient(ratio="median"), r"learner\.ratio='median'"),  # type: ignore[arg-type]
    (lambda: ClippedGradient(minibatch=0), r"learner\.minibatch=0"),
    (lambda: CriticSettings(epochs=0), r"critic\.epochs=0"),
    (lambda: TurnPPO(None, STEPS, CRITIC, gamma=1.5), "gamma=1.5"),
    (lambda: TurnPPO(None, STEPS, CRITIC, normalise="yes"), "normalise='yes'"),  # type: ignore[arg-type]
    (lambda: TokenPPO(None, STEPS, CRITIC, imitation_coef=-1.0), "imitation_coef=-1"),
    (lambda: Reinforce(None, STEPS), "one step per batch"),
    (lambda: GRPOTrajectories(None, STEPS, generations=1), "generations=1"),
    (lambda: GRPOTrajectories(None, STEPS, scale="std"), "scale='std'"),  # type: ignore[arg-type]
    (lambda: OnlineFilteredImitation(None, quantile=2.0), "quantile=2"),
]


@pytest.mark.parametrize(("build", "named"), BAD)
def test_values_out_of_range_are_named(build: Callable[[], object], named: str):
    with pytest.raises(ValueError, match=named):
        build()
