"""ArCHer, REFUEL, CollabLLM and best of n: their losses by hand, and that they learn on a world of three colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.agent import Agent
from agents.archer import Archer, actor_loss
from agents.best_of_n import BestOfN
from agents.chat_learner import ChatLearner
from agents.chat_model import ChatModel
from agents.collabllm import CollabLLM, dpo_loss, reward_from
from agents.practice import Branch, Budget, Continued, Practice
from agents.reader import Reader, Text
from agents.refuel import Refuel, regression_loss
from agents.rollout import Moment, agent_rng, rollout
from agents.utterance_critic import Turns, UtteranceCritic, turns_of
from agents.utterance_pairs import PairSolver, UtterancePair, margins, paired
from benchmarks.learn import improve, prepare
from envs.conversation import Conversation
from envs.env import Episode
from envs.trajectory import Step, Trajectory, Utterance
from envs.users import Reply
from tests.conftest import AnyColour, tiny_model
from tests.toy import Customer, Shop

METRICS = Path(__file__).parent.parent / "docs" / "metrics.md"


class OnlyGreen(Customer):
    """Takes green, whatever it said."""

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        answers = super().reply(episodes, rngs)
        taken = ["I'll take it." if episode.turns[-1].text == "green" else "Not that." for episode in episodes]
        return [one if one.failure else Reply(text) for one, text in zip(answers, taken, strict=True)]


def practice(failing: float = 0.0, conversations: int = 320) -> Practice:
    return Practice(Shop(OnlyGreen(failing=failing)), Budget(conversations, 80, 120), 0, AnyColour())


def archer(start: str | None) -> Archer:
    rates = {"learning_rate": 5e-4, "critic_trunk_learning_rate": 0.0}
    steps = {"pool": 48, "critic_epochs": 6, "actor_steps": 5, "actor_batch_size": 24, "conversations_per_round": 40}
    return Archer(start, max_new_tokens=6, warm_start=2, warm_up=1, **rates, **steps)  # type: ignore[arg-type]


def refuel(start: str | None) -> Refuel:
    return Refuel(start, PairSolver(epochs=3, batch_size=16, learning_rate=2e-3), eta=4.0, max_new_tokens=6)


def collabllm(start: str | None) -> CollabLLM:
    solver = PairSolver(epochs=3, batch_size=8, learning_rate=1e-3)
    return CollabLLM(start, solver, responses=2, samples=2, max_new_tokens=6)


def best_of_n(start: str | None) -> BestOfN:
    fitting = {"q_epochs": 6.0, "warm_start": 6.0, "q_batch_size": 16, "q_trunk_learning_rate": 0.0}
    return BestOfN(start, n=4, max_new_tokens=6, **fitting)  # type: ignore[arg-type]


MAKERS: list[Callable[[str | None], ChatLearner]] = [archer, refuel, collabllm, best_of_n]
each = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def mean_return(agent: Agent) -> float:
    return float(np.mean([t.returns() for t in rollout(agent, Shop(OnlyGreen()), range(120))]))


@each
def test_it_learns_to_offer_what_is_taken(make: Callable[[str | None], ChatLearner], colour_start: str):
    agent, one = make(colour_start), practice()
    before = mean_return(refuel(colour_start))
    prepare(agent, one)
    while not one.exhausted:
        improve(agent, one)
    assert one.spent.conversations == 320
    assert mean_return(agent) > before + 0.1


@each
def test_interrupted_and_restored_it_becomes_the_same_agent(
    make: Callable[[str | None], ChatLearner], colour_start: str, tmp_path: Path
):
    straight, one = make(colour_start), practice(conversations=160)
    prepare(straight, one)
    improve(straight, one)
    straight.save(tmp_path)
    again, other = make(colour_start), practice(conversations=160)
    again.restore(tmp_path)
    other.restore(one.state())
    logged = [improve(agent, its) for agent, its in ((straight, one), (again, other))]
    assert one.exhausted and other.exhausted
    assert logged[0] == pytest.approx(logged[1], nan_ok=True)
    for a, b in zip(straight.policy.model.parameters(), again.policy.model.parameters(), strict=True):
        assert a.equal(b)
    said = [[step.utterance.text for t in rollout(a, Shop(OnlyGreen()), range(8)) for step in t.steps]
            for a in (straight, again)]  # fmt: skip
    assert said[0] == said[1]


@each
def test_users_who_fail_are_counted_and_teach_nothing(make: Callable[[str | None], ChatLearner], colour_start: str):
    agent, one = make(colour_start), practice(failing=0.3, conversations=80)
    prepare(agent, one)
    metrics = improve(agent, one)
    assert one.spent.unscored > 0 and metrics["unscored"] == one.spent.unscored
    assert np.isfinite(metrics["practice_return"])
    explained = set(re.findall(r"^\| `(\w+)`", METRICS.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(metrics) <= explained, f"docs/metrics.md does not explain {sorted(set(metrics) - explained)}"


@each
def test_when_every_conversation_fails_the_run_stops_with_words(
    make: Callable[[str | None], ChatLearner], colour_start: str
):
    agent, one = make(colour_start), Practice(Shop(OnlyGreen(failing=1.0)), Budget(24, 24, 0), 0, AnyColour())
    prepare(agent, one)
    with pytest.raises(RuntimeError, match=r"was scored.* see why the user or the judge fails"):
        improve(agent, one)


WRONG = [
    (Archer, {"polyak": 1.5}, "polyak=1.5"), (Archer, {"actor_steps": 0}, "actor_steps=0"),
    (Refuel, {"eta": -1.0}, "eta=-1.0"), (CollabLLM, {"responses": 1}, "responses=1"),
    (CollabLLM, {"window": 0}, "window=0"), (BestOfN, {"n": 0}, "n=0"), (BestOfN, {"speaker": "me"}, "speaker='me'"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "named"), WRONG)
def test_values_out_of_range_are_named(kind: type, options: dict[str, object], named: str):
    solver = (PairSolver(),) if kind in (Refuel, CollabLLM) else ()
    with pytest.raises(ValueError, match=named):
        kind(None, *solver, **options)


# ---- ArCHer ---------------------------------------------------------------------------------------------------------


class Times(nn.Module):
    """Heads whose members multiply the one number of a state."""

    def __init__(self, *factors: float):
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors)[:, None])

    def forward(self, states: Tensor) -> Tensor:
        return self.factors * states[:, 0]


def two_turns(rewards: Sequence[float] = (0.0, 1.0)) -> Trajectory:
    said = [Utterance("yes please", (70, 71, 1)), Utterance("maybe later", (80, 1))]
    steps = tuple(Step(one, "good day", reward) for one, reward in zip(said, rewards, strict=True))
    return Trajectory(0, "", Conversation().then("user", "hello there").turns, steps, True, "outcome", True, True)


def read_by_hand(policy: ChatModel, critic: UtteranceCritic) -> Turns:
    """Both turns of ``two_turns`` and a fresh utterance at each, for heads that are tables."""
    critic.target.q, critic.target.v = Times(1.0, 3.0), Times(1.0, 2.0)
    critic.live.q, critic.live.v = Times(1.0, 2.0), Times(1.0, 1.0)
    turns = turns_of(policy, [two_turns()], [[Utterance("", (60, 1)), Utterance("", (61, 1))]])
    assert turns is not None
    return turns


BEFORE, AFTER, FRESH = (torch.tensor(row)[:, None] for row in ([0.2, 0.6], [0.1, 0.8], [0.3, 0.5]))
"""The states of s_1 and s_2, of (s_1, a_1) and (s_2, a_2), and of (s_1, ã_1) and (s_2, ã_2)."""


def test_the_critics_targets_and_losses_are_those_worked_out_by_hand():
    policy = tiny_model()
    critic = UtteranceCritic(policy, np.random.default_rng(0), gamma=0.95, trunk_learning_rate=0.0)
    turns = read_by_hand(policy, critic)
    q, v = critic.targets(turns, BEFORE, FRESH)
    # Q_k(s_1, a_1) ← 0 + .95 V̄_k(s_2) with V̄ = (1, 2) · .6; Q_k(s_2, a_2) ← 1, the end. V_k(s) ← Q̄_k(s, ã).
    assert q.tolist() == [pytest.approx([0.57, 1.0]), pytest.approx([1.14, 1.0])]
    assert v.tolist() == [pytest.approx([0.3, 0.5]), pytest.approx([0.9, 1.5])]
    states = (BEFORE, AFTER, FRESH)
    q_loss, v_loss = critic._step(turns, states, states)
    # Q_1 = (.1, .8): ((.1-.57)² + (.8-1)²)/2 = (.2209 + .04)/2; Q_2 = (.2, 1.6): (.94² + .6²)/2 = (.8836 + .36)/2.
    assert q_loss == pytest.approx((0.2209 + 0.04) / 2 + (0.8836 + 0.36) / 2)
    # V_1 = (.2, .6): (.01 + .01)/2; V_2 = (.2, .6): ((.2-.9)² + (.6-1.5)²)/2 = (.49 + .81)/2.
    assert v_loss == pytest.approx(0.01 + 0.65)


def test_the_target_follows_by_a_tenth_of_the_way():
    critic = UtteranceCritic(tiny_model(), np.random.default_rng(0), polyak=0.1)
    before = [p.clone() for p in critic.target.parameters()]
    with torch.no_grad():
        for parameter in critic.live.parameters():
            parameter.add_(1.0)
    critic._follow()
    for old, new in zip(before, critic.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_a_trunk_that_stays_is_read_by_the_target_too_and_does_not_move():
    critic = UtteranceCritic(tiny_model(), np.random.default_rng(0), trunk_learning_rate=0.0)
    assert critic.target.reader is critic.live.reader
    before = [p.clone() for p in critic.live.reader.parameters()]
    critic._follow()
    assert all(a.equal(b) for a, b in zip(before, critic.live.reader.parameters(), strict=True))


def test_a_trunk_that_learns_has_a_target_of_its_own_and_both_are_saved(tmp_path: Path):
    policy, rng = tiny_model(), np.random.default_rng(0)
    critic, again = (UtteranceCritic(policy, rng, trunk_learning_rate=1e-3) for _ in range(2))
    turns = turns_of(policy, [two_turns()], [[Utterance("", (60, 1)), Utterance("", (61, 1))]])
    assert turns is not None
    first = critic.fit([turns], rng, steps=1)
    assert critic.fit([turns], rng, steps=20)["q_loss"] < first["q_loss"]
    mine, followed, start = (
        next(iter(trunk.parameters())) for trunk in (critic.live.reader.trunk, critic.target.reader.trunk, policy.model)
    )
    assert not mine.equal(start) and not followed.equal(start) and not mine.equal(followed)
    torch.save(critic.state(), tmp_path / "critic.pt")
    again.restore(torch.load(tmp_path / "critic.pt", weights_only=True))
    for one in (critic, again):
        one.fit([turns], rng, steps=1)
    for a, b in zip(
        [*critic.live.parameters(), *critic.target.parameters()],
        [*again.live.parameters(), *again.target.parameters()],
        strict=True,
    ):
        assert a.equal(b)


def test_the_actors_loss_is_that_worked_out_by_hand():
    # log π(ã_1) = -1 - 2 = -3, log π(ã_2) = -.5; A = (.5, -1): -((-3)(.5) + (-.5)(-1))/2 = .5.
    logprobs, advantages = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True), torch.tensor([0.5, -1.0])
    loss = actor_loss(logprobs, torch.tensor([0, 0, 1]), advantages)
    assert loss.item() == pytest.approx(0.5)
    loss.backward()
    assert logprobs.grad is not None and logprobs.grad.tolist() == [-0.25, -0.25, 0.5]  # -A / 2, no ratio and no clip


def test_the_advantage_is_the_lesser_q_less_the_lesser_v():
    policy = tiny_model()
    critic = UtteranceCritic(policy, np.random.default_rng(0), trunk_learning_rate=0.0)
    turns = read_by_hand(policy, critic)
    critic.live.q, critic.live.v = Times(1.0, -1.0), Times(2.0, 3.0)
    after, before = critic.live.states(turns)[2][:, 0], critic.live.states(turns)[0][:, 0]
    expected = -after.abs() - torch.minimum(2 * before, 3 * before)
    torch.testing.assert_close(critic.advantages(turns.fresh), expected, atol=1e-5, rtol=1e-5)


def test_a_turn_to_which_the_policy_says_nothing_teaches_q_and_not_v():
    policy = tiny_model()
    turns = turns_of(policy, [two_turns()], [[Utterance(""), Utterance("", (61, 1))]])
    assert turns is not None
    assert (
        turns.answered.tolist() == [1] and turns.rewards.tolist() == [0.0, 1.0] and turns.ends.tolist() == [False, True]
    )
    assert turns_of(policy, [two_turns()], [[Utterance(""), Utterance("")]]) is None


def test_the_replay_keeps_the_latest(colour_start: str):
    agent, one = Archer(colour_start, max_new_tokens=6, replay=30, pool=8, critic_epochs=1, actor_steps=1), practice()
    prepare(agent, one)
    improve(agent, one)
    assert [t.seed for t in agent._replay] == sorted(t.seed for t in agent._replay) and len(agent._replay) == 30
    assert agent._replay[-1].seed % (1 << 20) == 79


# ---- pairs: REFUEL and CollabLLM ------------------------------------------------------------------------------------


def test_a_margin_is_the_difference_of_what_two_passes_give():
    model = tiny_model()
    prompt = tuple(model.prompt_ids(two_turns().prefix(1)))
    pairs = [UtterancePair(prompt, (70, 71, 1), (80, 1), 0.0), UtterancePair(prompt[:9], (60, 1), (61, 62, 63, 1), 0.0)]

    def apart(one: UtterancePair, said: tuple[int, ...]) -> Tensor:
        ids = [*one.prompt, *said]
        return model.logprobs([(ids, [False] * len(one.prompt) + [True] * len(said))]).sum()

    expected = torch.stack([apart(one, one.first) - apart(one, one.second) for one in pairs])
    torch.testing.assert_close(margins(model, pairs), expected, atol=1e-4, rtol=0)


def test_the_losses_of_pairs_are_those_worked_out_by_hand():
    # moved = (-1 + 3) - (-2 + 2.5) = 1.5; η (R - R') = 4 (.75 - .5) = 1; (1.5 - 1)² = .25.
    moved = torch.tensor([(-1 + 3) - (-2 + 2.5)])
    assert regression_loss(moved, torch.tensor([0.25]), 4.0).item() == pytest.approx(0.25)
    # -log σ(.1 · 10) = log(1 + e^-1) = .31326, whatever the gap; at 0 it is log 2.
    both = dpo_loss(torch.tensor([10.0, 0.0]), torch.tensor([0.3, 0.9]), beta=0.1)
    assert both.tolist() == pytest.approx([0.3132617, np.log(2)])


def test_refuel_compares_what_follows_the_turn_at_which_a_conversation_parts(colour_start: str):
    agent = Refuel(colour_start, PairSolver(), gamma=0.5, max_new_tokens=6)
    first, second = two_turns((9.0, 1.0)), two_turns((9.0, 0.25))
    second = Trajectory(**{**_fields(second), "steps": (second.steps[0], Step(Utterance("no", (90, 1)), None, 0.25))})
    pair = agent._pair(Branch(1, first, second))
    assert pair is not None
    assert (pair.first, pair.second, pair.gap) == ((80, 1), (90, 1), pytest.approx(0.75))  # the 9 before is in both
    assert list(pair.prompt) == agent.policy.prompt_ids(first.prefix(1))
    assert agent._pair(Branch(0, first, second)) is None  # the same was said


def _fields(trajectory: Trajectory) -> dict[str, object]:
    return {name: getattr(trajectory, name) for name in Trajectory.__dataclass_fields__}


def test_pairs_of_equal_or_empty_utterances_are_none():
    model, x = tiny_model(), two_turns().prefix(0)
    assert paired(model, x, Utterance("a", (70, 1)), Utterance("a", (70, 1)), 1.0) is None
    assert paired(model, x, Utterance(""), Utterance("a", (70, 1)), 1.0) is None


def test_what_came_of_a_response_is_counted_from_it_on():
    held = two_turns((0.25, 1.0))
    # From turn 0 with γ = ½: .25 + ½ · 1 = .75, less .01 for each of 3 + 2 tokens; from turn 1: 1 - .02.
    assert reward_from(held, 0, window=None, token_cost=0.01, gamma=0.5) == pytest.approx(0.70)
    assert reward_from(held, 1, window=None, token_cost=0.01, gamma=0.5) == pytest.approx(0.98)
    assert reward_from(held, 0, window=1, token_cost=0.01, gamma=0.5) == pytest.approx(0.25 - 0.03)


def test_a_multiturn_reward_is_the_mean_over_scored_continuations_and_the_best_meets_the_worst(colour_start: str):
    agent = CollabLLM(colour_start, PairSolver(), responses=3, samples=2, max_new_tokens=6)
    unscored = Trajectory(**{**_fields(two_turns()), "judged": False})
    won, lost = two_turns((0.0, 1.0)), two_turns((0.0, 0.0))
    said = tuple(Utterance("", (token, 1)) for token in (70, 71, 72))
    moment = Moment(Shop(Customer()).begin(3))
    one = Continued(moment, said, ((won, lost), (won, unscored), (lost, lost)))
    rewards = agent.multiturn_rewards(one)
    assert rewards == pytest.approx([0.5, 1.0, 0.0])
    pair = agent._pair(one, rewards)
    assert pair is not None and (pair.first, pair.second, pair.gap) == ((71, 1), (72, 1), pytest.approx(1.0))
    assert agent._pair(one, np.array([0.5, 0.5, np.nan])) is None
    assert np.isnan(agent.multiturn_rewards(Continued(moment, said[:1], ((unscored,),)))).all()


# ---- best of n ------------------------------------------------------------------------------------------------------


def test_the_best_of_the_starts_own_samples_is_said_whatever_else_is_in_the_batch(colour_start: str):
    agent, one = best_of_n(colour_start), practice()
    prepare(agent, one)
    conversations = [Shop(OnlyGreen()).begin(seed).heard_by("agent") for seed in range(12)]

    def said(at: Sequence[int]) -> list[Utterance]:
        return agent.act([conversations[i] for i in at], [agent_rng(i, 0) for i in at])

    together = said(range(12))
    apart = [said([i])[0] for i in range(12)]
    assert [said.tokens for said in together] == [said.tokens for said in apart]
    seeds = agent_rng(3, 0).integers(2**63, size=4)
    samples = agent.start.speak([conversations[3]] * 4, [np.random.default_rng(seed) for seed in seeds])
    (scores,) = agent.scores([conversations[3]], [samples])
    assert together[3].tokens == samples[int(np.argmax(scores))].tokens


def test_an_utterance_without_tokens_is_never_the_best(colour_start: str):
    agent = best_of_n(colour_start)
    prepare(agent, practice())
    conversation = Shop(OnlyGreen()).begin(0).heard_by("agent")
    row = [Utterance(""), Utterance("green", (70, 1)), Utterance("green", (70, 1))]
    (scores,) = agent.scores([conversation], [row])
    assert scores[0] == -np.inf and np.isfinite(scores[1]) and np.argmax(scores) == 1


def test_no_weight_of_the_policy_changes(colour_start: str):
    agent, one = best_of_n(colour_start), practice(conversations=80)
    prepare(agent, one)
    before = [p.clone() for p in agent.q.parameters()]
    improve(agent, one)
    assert any(not a.equal(b) for a, b in zip(before, agent.q.parameters(), strict=True))
    for a, b in zip(agent.policy.model.parameters(), agent.start.model.parameters(), strict=True):
        assert a.equal(b)


def test_before_there_is_a_critic_nothing_is_chosen(colour_start: str):
    with pytest.raises(RuntimeError, match="prepare"):
        best_of_n(colour_start).act([two_turns().prefix(0)], [np.random.default_rng(0)])


def test_a_text_is_read_alike_in_any_company():
    reader = Reader(tiny_model(), 0.0)
    texts = [Text(tuple(range(5, 5 + n)), np.array([0, n - 1])) for n in (3, 11, 5, 11, 2)]
    for one, states in zip(texts, reader.states(texts, batch_size=2), strict=True):
        torch.testing.assert_close(states, reader.states([one])[0])
