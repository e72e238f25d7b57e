"""The offline learners as agents, on a world of three colours and a model of a few thousand parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.chat_learner import ChatLearner
from agents.dmpo import DMPO, decided_pairs
from agents.filtered_imitation import FilteredImitation
from agents.ilql import ILQL
from agents.iterppo_offline import OfflineIterPPO
from agents.logged_data import scored
from agents.mc_returns import MCReturns
from agents.ppo import PPO
from agents.practice import Budget, Practice
from agents.rollout import rollout
from agents.token_q import Unit, decisions
from agents.token_q_learner import TokenQLearner
from benchmarks.learn import improve, prepare
from envs.env import Episode
from envs.judges import BradleyTerry, Pair, Preference
from envs.users import Reply
from tests.conftest import AnyColour
from tests.toy import Customer, Shop

Make = Callable[[str | None], ChatLearner]

SPEAKING = {"temperature": 0.7, "max_new_tokens": 6}
PPO_STEP = PPO(rounds=2, epochs=3, batch_size=20, learning_rate=1e-3, kl_coef=0.05)
HEADS = {"epochs": 4.0, "batch_size": 12, "learning_rate": 1e-2, "cql_coef": 0.02, "width": 32, "beta": 6.0}
AGENTS: dict[str, Make] = {
    "filtered imitation": lambda start: FilteredImitation(
        start, fraction=0.3, epochs=3, learning_rate=3e-3, **SPEAKING
    ),
    "mc returns": lambda start: MCReturns(start, trunk_learning_rate=0.0, **HEADS, **SPEAKING),
    "ilql": lambda start: ILQL(  # values travel back a token a step
        start, polyak=0.2, trunk_learning_rate=0.0, **{**HEADS, "epochs": 20.0, "beta": 12.0}, **SPEAKING
    ),
    "ilql, trunk learns": lambda start: ILQL(start, polyak=0.05, trunk_learning_rate=1e-3, **HEADS, **SPEAKING),
    "dmpo": lambda start: DMPO(start, epochs=3, batch_size=12, learning_rate=5e-4, **SPEAKING),
    "iterppo offline": lambda start: OfflineIterPPO(start, PPO_STEP, q_epochs=6, q_batch_size=8, **SPEAKING),
}


class OnlyGreen(Customer):
    """Takes green, whatever it said."""

    def reply(self, episodes: Sequence[Episode], rngs: Sequence[np.random.Generator]) -> list[Reply]:
        answers = super().reply(episodes, rngs)
        taken = ["I'll take it." if episode.turns[-1].text == "green" else "Not that." for episode in episodes]
        return [one if one.failure else Reply(text) for one, text in zip(answers, taken, strict=True)]


def practice(failing: float = 0.0, logged: int = 160, judge: object = None) -> Practice:
    env = Shop(OnlyGreen(failing=failing))
    return Practice(env, Budget(80, 80, logged), 0, AnyColour(), judge=judge or BradleyTerry(8.0))


def mean_return(one: ChatLearner, n: int = 60) -> float:
    return float(np.mean([t.returns() for t in rollout(one, Shop(OnlyGreen(), split="iid_test"), range(n))]))


def weights(one: ChatLearner) -> list[torch.Tensor]:
    """Everything that was learnt or may be, and the units it is in."""
    parts = [one.start.model, one.policy.model]
    if isinstance(one, TokenQLearner):
        parts.append(one.q)
    if isinstance(one, ILQL):
        parts += [one.target, one.v_heads]
    return [p for part in parts for p in (*part.parameters(), *part.buffers())]


def spoken(one: ChatLearner) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    one.policy.forget()  # what it has read for other conversations is equal to rounding only
    held = rollout(one, Shop(OnlyGreen()), range(6))
    return [(step.utterance.tokens, step.utterance.logprobs) for t in held for step in t.steps]


@pytest.mark.parametrize("name", AGENTS)
def test_it_learns_to_offer_what_sells_from_logs_alone_and_goes_on_exactly_after_a_restart(
    colour_start: str, tmp_path: Path, name: str
):
    one, again, meter = AGENTS[name](colour_start), AGENTS[name](colour_start), practice()
    prepare(one, meter)
    before = mean_return(one)  # offers a colour at random
    (tmp_path / "prepared").mkdir()
    one.save(tmp_path / "prepared")
    metrics = improve(one, meter)
    assert meter.exhausted and meter.spent.conversations == 0
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert metrics["start_kl"] > 0
    if isinstance(one, TokenQLearner):
        assert one.q.unit == Unit.of([decisions(one.start, talk) for talk in scored(meter)][16:], one.gamma)
    if name != "ilql, trunk learns":  # which needs more steps than a test has
        assert mean_return(one) > before + 0.08

    again.restore(tmp_path / "prepared")
    other = practice()
    other._logged, other._logged_pairs = meter._logged, meter._logged_pairs
    assert improve(again, other) == metrics
    (tmp_path / "learnt").mkdir()
    one.save(tmp_path / "learnt")
    read = AGENTS[name](colour_start)
    read.restore(tmp_path / "learnt")
    for mine, repeated, restored in zip(weights(one), weights(again), weights(read), strict=True):
        assert torch.equal(mine, repeated) and torch.equal(mine, restored)
    assert spoken(one) == spoken(read)


@pytest.mark.parametrize("name", ["filtered imitation", "mc returns", "ilql", "iterppo offline"])
def test_unscored_conversations_teach_nothing_and_are_counted(colour_start: str, name: str):
    one, meter = AGENTS[name](colour_start), practice(failing=0.3, logged=40)
    prepare(one, meter)
    metrics = improve(one, meter)
    assert metrics["unscored"] == sum(not t.judged for t in meter.logged()) > 0
    assert metrics["unscored"] + metrics["logged_conversations"] == 40
    finite = [key for key in metrics if not key.startswith("q_")]  # four conversations may all have ended alike
    assert all(np.isfinite(metrics[key]) for key in finite), metrics


@pytest.mark.parametrize("name", ["filtered imitation", "mc returns", "dmpo", "iterppo offline"])
def test_nothing_to_learn_from_is_an_error_that_says_so(colour_start: str, name: str):
    one, meter = AGENTS[name](colour_start), practice(failing=1.0, logged=8)
    prepare(one, meter)
    with pytest.raises(ValueError, match=r"Of \d logged .* none"):
        improve(one, meter)


class Moody:
    """A judge that fails, calls a tie, prefers the first and the second by turns."""

    name = "moody"

    def prefer(self, pairs: Sequence[Pair]) -> list[Preference]:
        kinds = [Preference(float("nan"), "no idea"), Preference(0.5, tie=1.0), Preference(1.0), Preference(0.0)]
        return [kinds[i % 4] for i in range(len(pairs))]


def test_pairs_without_a_winner_are_left_out_and_counted_and_the_winner_stands_first():
    meter = practice(logged=16, judge=Moody())
    ordered, counts = decided_pairs(meter)
    pairs, _ = meter.logged_pairs()
    assert counts == {"pairs": 4.0, "pairs_tied": 2.0, "pairs_unjudged": 2.0}
    assert ordered == [pairs[2], pairs[3][::-1], pairs[6], pairs[7][::-1]]


def test_without_a_start_one_is_made_from_the_logged_data_and_speaks_before_it_learns():
    one = MCReturns(None, **{**HEADS, "epochs": 0.2}, **SPEAKING)
    meter = practice(logged=40)
    prepare(one, meter)
    assert len(rollout(one, Shop(OnlyGreen()), range(2))) == 2
    assert np.isfinite(improve(one, meter)["mc_loss"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda start: FilteredImitation(start, fraction=1.5), "fraction=1.5"),
        (lambda start: MCReturns(start, beta=-1.0), "beta=-1.0"),
        (lambda start: MCReturns(start, beta=1.0, gamma=2.0), "gamma=2.0"),
        (lambda start: ILQL(start, beta=1.0, expectile=1.2), "expectile=1.2"),
        (lambda start: DMPO(start, weights="late"), "weights='late'"),
        (lambda start: DMPO(start, batch_size=0), "batch_size=0"),
        (lambda start: OfflineIterPPO(start, PPO_STEP, held_out=1.0), "held_out=1.0"),
    ],
)
def test_values_out_of_range_are_named(colour_start: str, make: Make, message: str):
    with pytest.raises(ValueError, match=message):
        make(colour_start)
