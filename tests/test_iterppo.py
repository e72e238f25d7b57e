"""Iterative PPO as an agent, on a world of three colours and a model of a few thousand parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.agent import Agent
from agents.imitation import Imitation
from agents.iterppo import IterPPO
from agents.ppo import PPO
from agents.practice import Budget, Practice
from agents.reader import TRUNK_RATE
from agents.rollout import rollout
from benchmarks.learn import prepare
from envs.conversation import Conversation
from envs.env import Episode
from envs.trajectory import Utterance
from envs.users import Reply
from tests.toy import COLOURS, Customer, Shop


class AnyColour(Agent):
    """Offers a colour at random: the behaviour whose conversations are logged."""

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(COLOURS[int(rng.integers(3))]) for rng in rngs]


class Mumbler(AnyColour):
    """Says colours backwards."""

    def act(
        self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator], *, explore: bool = True
    ) -> list[Utterance]:
        return [Utterance(said.text[::-1]) for said in super().act(conversations, rngs)]


class OnlyGreen(Customer):
    """Takes green, whatever it said."""

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        return [Reply("I'll take it." if e.turns[-1].text == "green" else "Not that.") for e in episodes]


def practice(seed: int = 0, logged: int = 240, failing: float = 0.0) -> Practice:
    return Practice(Shop(Customer(failing=failing)), Budget(320, 80, logged), seed, AnyColour())


def agent(start: str | None) -> IterPPO:
    solver = PPO(rounds=2, conversations=80, epochs=3, batch_size=20, learning_rate=1e-3, kl_coef=0.01)
    return IterPPO(start, solver, max_new_tokens=6, q_learning_rate=1e-3, q_epochs=2.0, warm_start=4.0)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    imitation = Imitation(epochs=6.0, max_new_tokens=6)
    imitation.prepare(practice())
    folder = tmp_path_factory.mktemp("start")
    imitation.save(folder)
    return str(folder / "policy")


def mean_return(one: Agent, n: int = 120) -> float:
    return float(np.mean([t.returns() for t in rollout(one, Shop(OnlyGreen(), split="iid_test"), range(n))]))


def test_imitation_speaks_as_the_logged_behaviour_does(start: str):
    one = agent(start)
    said = [step.utterance.text for t in rollout(one, Shop(Customer()), range(60)) for step in t.steps]
    assert np.mean([text in COLOURS for text in said]) > 0.8
    assert {text for text in said if text in COLOURS} == set(COLOURS)


def test_iterative_ppo_learns_to_offer_what_sells(start: str):
    one, meter = agent(start), practice()
    meter.env = Shop(OnlyGreen())
    torch.manual_seed(1)
    one.prepare(meter)
    before = mean_return(one)
    rows = []
    while not meter.exhausted:
        rows.append(one.improve(meter))
        meter.iteration += 1
    assert meter.spent.conversations == 320
    assert mean_return(one) > before + 0.15
    assert {"q_auc", "q_brier", "q_r2", "kl", "entropy", "clip_fraction", "response_length"} <= set(rows[0])


def test_odd_language_is_what_the_start_would_hardly_say(start: str):
    one, meter = agent(start), practice(logged=0)
    one.prepare(meter)
    one.improve(meter)
    odd = rollout(Mumbler(), Shop(Customer()), range(20))
    usual = rollout(agent(start), Shop(Customer()), range(20))
    assert one._odd_language(odd) > 0.9
    assert one._odd_language(usual) < 0.1


def test_a_restored_agent_goes_on_exactly_as_the_one_that_was_saved(start: str, tmp_path: Path):
    runs, metrics = [], []
    for interrupted in (False, True):
        one, meter = agent(start), practice(logged=40)
        torch.manual_seed(2)
        one.prepare(meter)
        one.improve(meter)
        meter.iteration += 1
        if interrupted:
            one.save(tmp_path)
            state = json.loads(json.dumps(meter.state()))
            one, meter = agent(start), practice(logged=40)
            one.restore(tmp_path)
            meter.restore(state)
        torch.manual_seed(3)
        metrics.append(one.improve(meter))
        runs.append(one)
    assert metrics[0] == metrics[1]
    for mine, other in zip(runs[0].policy.model.parameters(), runs[1].policy.model.parameters(), strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(runs[0].q.parameters(), runs[1].q.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_without_a_start_one_is_made_from_the_logged_data():
    one, meter = agent(None), practice(logged=60)
    one.prepare(meter)
    assert rollout(one, Shop(Customer()), range(2))
    metrics = one.improve(meter)
    assert np.isfinite(metrics["policy_loss"])


@pytest.mark.parametrize("made_here", [True, False], ids=["start made here", "start given"])
def test_what_is_prepared_depends_on_the_runs_seed_alone(start: str, made_here: bool):
    prepared = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        one = agent(None if made_here else start)
        prepare(one, practice(logged=40))
        prepared.append([*one.policy.model.parameters(), *one.q.parameters()])
    for mine, other in zip(*prepared, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("conversations", [81, 82, 119, 120])
def test_a_small_rest_of_the_budget_goes_with_the_last_iteration(conversations: int):
    meter = Practice(Shop(Customer()), Budget(conversations, 80), 0)
    taken = []
    while not meter.exhausted:
        taken.append(len(meter.converse(AnyColour())))
    assert taken == ([conversations] if conversations < 120 else [80, 40])


@pytest.mark.parametrize("held_out", [0.0, 0.01, 0.95])
def test_whatever_is_held_out_something_is_learnt_from(start: str, held_out: float):
    solver = PPO(rounds=3, epochs=2, batch_size=20, learning_rate=1e-2, kl_coef=0.0)
    one = IterPPO(start, solver, max_new_tokens=6, held_out=held_out, window=1)
    meter = Practice(Shop(Customer()), Budget(10, 10, 0), 0, AnyColour())
    one.prepare(meter)
    metrics = one.improve(meter)
    assert np.isfinite(metrics["policy_loss"]) and metrics["kl"] > 0 and metrics["start_kl"] > 0
    assert [len(batch) for batch in one._batches] == [10]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"window": 0}, "window=0"), ({"held_out": 1.5}, "held_out=1.5"), ({"q_members": 0}, "q_members=0"),
     ({"gamma": 2.0}, "gamma=2.0"), ({"q_batch_size": 0}, "q_batch_size=0")],
)  # fmt: skip
def test_values_out_of_range_are_named(start: str, values: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        IterPPO(start, PPO(), **values)


def test_the_solvers_values_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"solver\.conversations=0"):
        PPO(conversations=0)


def test_a_start_that_has_learnt_to_read_keeps_its_trunk_in_q(start: str):
    one = agent(start)
    assert one._new_q(np.random.default_rng(0)).trunk_learning_rate == TRUNK_RATE
    one.start.model.config.learnt_to_read = True
    assert one._new_q(np.random.default_rng(0)).trunk_learning_rate == 0.0
    shipped = agent(str(Path(__file__).parents[1] / "envs" / "simulators" / "sales_seller"))
    assert shipped._new_q(np.random.default_rng(0)).trunk_learning_rate == 0.0


def test_too_few_scored_conversations_are_an_error_that_says_so(start: str):
    one, meter = agent(start), practice(logged=0, failing=1.0)
    one.prepare(meter)
    with pytest.raises(RuntimeError, match="Of 80 conversations 0 were scored"):
        one.improve(meter)


def test_unscored_conversations_teach_nothing_and_are_counted(start: str):
    one, meter = agent(start), practice(logged=0, failing=0.3)
    one.prepare(meter)
    metrics = one.improve(meter)
    assert metrics["unscored"] == meter.spent.unscored > 0
    assert all(trajectory.judged for batch in one._batches for trajectory in batch)
    assert np.isfinite(metrics["q_loss"])


def test_role_markers_are_never_said(start: str):
    one = agent(start)
    one.policy.temperature = 5.0
    said = [step.utterance for t in rollout(one, Shop(Customer()), range(40)) for step in t.steps]
    banned = set(one.policy.banned)
    assert not any(banned & set(utterance.tokens) for utterance in said)
    assert not any("<|" in utterance.text for utterance in said)


def test_a_missing_start_is_named():
    with pytest.raises(FileNotFoundError, match="no/such/folder"):
        agent("no/such/folder")
