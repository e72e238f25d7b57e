"""MTPO, multi-turn RLHF and single-turn RLHF, on a world of three colours and a model of a few thousand parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from agents.agent import Agent
from agents.mtpo import MTPO, mean_wins
from agents.multi_turn_rlhf import MultiTurnRLHF
from agents.ppo import PPO
from agents.practice import Budget, Practice
from agents.rollout import rollout
from agents.single_turn_rlhf import SingleTurnRLHF
from agents.turn_gradient import TurnGradient
from benchmarks.learn import improve, prepare
from envs.env import Episode
from envs.judges import BradleyTerry, Pair, Preference
from envs.users import Reply
from tests.conftest import AnyColour
from tests.toy import Customer, Shop


class OnlyGreen(Customer):
    """Takes green, whatever it said."""

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        answers = super().reply(episodes, rngs)
        taken = ["I'll take it." if episode.turns[-1].text == "green" else "Not that." for episode in episodes]
        return [one if one.failure else Reply(text) for one, text in zip(answers, taken, strict=True)]


class Wanted:
    """A judge of turns: green is better than anything else."""

    name = "wanted"

    def prefer_turns(self, moments: Sequence[Episode], first: Sequence[str], second: Sequence[str]) -> list[Preference]:
        return [Preference(0.5 + 0.5 * ((a == "green") - (b == "green"))) for a, b in zip(first, second, strict=True)]


class Asleep:
    """A judge that never decides."""

    name = "asleep"

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        return [Preference(float("nan"), "the judge fell asleep") for _ in pairs]


def practice(failing: float = 0.0, conversations: int = 320) -> Practice:
    budget = Budget(conversations, 160, 200)
    env = Shop(OnlyGreen(failing=failing))
    return Practice(env, budget, 0, AnyColour(), judge=BradleyTerry(8.0), turn_judge=Wanted())


METRICS = Path(__file__).parent.parent / "docs" / "metrics.md"
LEARNER = TurnGradient(kl_coef=0.002, learning_rate=1e-3)  # with 2e-3 one seed of four lost green altogether
STEPS = {"conversations_per_step": 32, "policy_delay": 0.2, "max_new_tokens": 6, "judge_epochs": 6.0}


def mtpo(start: str | None) -> MTPO:
    return MTPO(start, LEARNER, **STEPS)


def mtpo_tau(start: str | None) -> MTPO:
    return MTPO(start, LEARNER, tau=0.05, feedback="oracle", **STEPS)


def mtpo_labels(start: str | None) -> MTPO:
    return MTPO(start, LEARNER, feedback="labels", **STEPS)


def multi_turn_rlhf(start: str | None) -> MultiTurnRLHF:
    return MultiTurnRLHF(start, LEARNER, **STEPS)


def on_returns(start: str | None) -> MultiTurnRLHF:
    return MultiTurnRLHF(start, LEARNER, reward="return", **STEPS)


def single_turn(labels: str, learner: str) -> Callable[[str | None], SingleTurnRLHF]:
    def make(start: str | None) -> SingleTurnRLHF:
        solver = PPO(rounds=4, epochs=3, batch_size=20, learning_rate=1e-3, kl_coef=0.01)
        return SingleTurnRLHF(start, solver, labels=labels, learner=learner, max_new_tokens=6, judge_epochs=6.0)  # type: ignore[arg-type]

    make.__name__ = f"{learner}_{labels}"
    return make


MAKERS = [mtpo, mtpo_tau, mtpo_labels, multi_turn_rlhf, on_returns]
MAKERS += [single_turn(labels, learner) for labels in ("reward", "value") for learner in ("rlhf", "nash")]


def mean_return(agent: Agent) -> float:
    return float(np.mean([t.returns() for t in rollout(agent, Shop(OnlyGreen()), range(150))]))


def learnt(make: Callable[[str | None], Agent], start: str) -> Agent:
    agent, one = make(start), practice()
    prepare(agent, one)
    while not one.exhausted:
        improve(agent, one)
    return agent


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_it_learns_to_offer_what_is_taken(make: Callable[[str | None], Agent], colour_start: str):
    before = mean_return(make(colour_start))
    assert mean_return(learnt(make, colour_start)) > before + 0.1


@pytest.mark.parametrize(
    "make", [mtpo, mtpo_tau, multi_turn_rlhf, single_turn("value", "nash")], ids=lambda make: make.__name__
)
def test_interrupted_and_restored_it_becomes_the_same_agent(
    make: Callable[[str | None], Agent], colour_start: str, tmp_path: Path
):
    straight, one = make(colour_start), practice()
    prepare(straight, one)
    improve(straight, one)
    straight.save(tmp_path)
    again, other = make(colour_start), practice()
    again.restore(tmp_path)
    other.restore(one.state())
    logged = [improve(agent, its) for agent, its in ((straight, one), (again, other))]
    assert one.exhausted and other.exhausted
    assert logged[0] == pytest.approx(logged[1], nan_ok=True)
    for a, b in zip(straight.policy.model.parameters(), again.policy.model.parameters(), strict=True):  # type: ignore[attr-defined]
        assert a.equal(b)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_users_who_fail_are_counted_and_never_an_outcome(make: Callable[[str | None], Agent], colour_start: str):
    agent, one = make(colour_start), practice(failing=0.2, conversations=160)
    prepare(agent, one)
    metrics = improve(agent, one)
    assert one.spent.unscored > 0 and metrics["unscored"] > 0
    assert np.isfinite(metrics["practice_return"])
    explained = set(re.findall(r"^\| `(\w+)`", METRICS.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(metrics) <= explained, f"docs/metrics.md does not explain {sorted(set(metrics) - explained)}"


@pytest.mark.parametrize("make", [mtpo_tau, mtpo_labels, single_turn("value", "rlhf")], ids=lambda make: make.__name__)
def test_a_judge_who_never_decides_stops_the_run_with_words(make: Callable[[str | None], Agent], colour_start: str):
    agent, one = make(colour_start), practice(conversations=160)
    one.judge = Asleep()
    prepare(agent, one)
    with pytest.raises(RuntimeError, match="judge fails"):
        improve(agent, one)


def test_both_conversations_of_a_pair_are_learnt_from_with_outcomes_that_sum_to_one(colour_start: str):
    agent, one = MTPO(colour_start, LEARNER, tau=0.1, feedback="oracle", generations=2, **STEPS), practice()
    prepare(agent, one)
    trajectories, outcomes = agent.converse(one, 32)
    assert len(trajectories) == len(outcomes) == 32 and one.spent.conversations == 32
    assert outcomes[::2] + outcomes[1::2] == pytest.approx(np.ones(16))
    assert [t.seed for t in trajectories[::2]] == [t.seed for t in trajectories[1::2]]


def test_with_more_than_two_in_a_context_each_is_compared_with_all_the_others():
    nan = float("nan")
    assert mean_wins(3, iter([1.0, 0.6, 0.3])) == pytest.approx([0.8, 0.15, 0.55])
    assert mean_wins(3, iter([nan, 0.6, nan])) == pytest.approx([0.6, nan, 0.4], nan_ok=True)
    assert mean_wins(1, iter([])) == pytest.approx([nan], nan_ok=True)


def test_a_context_of_four_spends_four(colour_start: str):
    agent, one = MTPO(colour_start, LEARNER, feedback="oracle", generations=4, **STEPS), practice()
    prepare(agent, one)
    trajectories, outcomes = agent.converse(one, 30)
    assert one.spent.conversations == 28 and one.spent.judge_calls == 7 * 6
    assert [t.take for t in trajectories] == [0, 1, 2, 3] * 7
    assert outcomes.reshape(7, 4).mean(1) == pytest.approx(np.full(7, 0.5))


def test_an_odd_conversation_at_the_end_is_left_and_the_run_ends(colour_start: str):
    agent, one = mtpo_labels(colour_start), practice(conversations=33)
    prepare(agent, one)
    improve(agent, one)
    assert one.spent.conversations == 32 and one.exhausted


BAD = [({"tau": 1.5}, "tau=1.5"), ({"feedback": "crowd"}, "'crowd'"), ({"conversations_per_step": 1}, "per_step=1")]


@pytest.mark.parametrize(("options", "named"), BAD)
def test_values_out_of_range_are_named(options: dict[str, object], named: str):
    with pytest.raises(ValueError, match=named):
        MTPO(None, LEARNER, **options)  # type: ignore[arg-type]
