"""What a critic says against what comes of playing on: the forks, the figures, the run's record, the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from agents.agent import Agent, Critique
from agents.forks import fork
from agents.iterppo import IterPPO
from agents.language import language
from agents.multi_turn_rlhf import MultiTurnRLHF
from agents.ppo import PPO
from agents.practice import Budget, Practice
from agents.rollout import Moment, play, rollout
from agents.turn_gradient import TurnGradient
from benchmarks import diagnose
from benchmarks.build import Forks as Asked
from benchmarks.diagnose import of_critic
from envs.trajectory import Step, Trajectory, Utterance
from results.statistics import correlation, correlation_interval, noise_ceiling
from tests.conftest import AnyColour
from tests.toy import Constant, Customer, Shop

CONF = Path(__file__).parent / "conf"
V = {1: 0.7 / 3}
"""What one who offers any of three colours may expect with so many exchanges left: with one, .9/3 - .1·2/3 = .7/3; with
n, .9/3 + (V(n - 1) - .1)·2/3."""
V[2] = 0.3 + (V[1] - 0.1) * 2 / 3
V[3] = 0.3 + (V[2] - 0.1) * 2 / 3


def wanted(trajectory: Trajectory) -> str:
    return trajectory.opening[0].text.removesuffix(".").split()[-1]


class Knows(AnyColour):
    """Offers any colour, and knows exactly what comes of it."""

    def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
        values, after = [], []
        for one in trajectories:
            for k, step in enumerate(one.steps):
                left = 3 - k
                values.append(V[left])
                after.append(0.9 if step.utterance.text == wanted(one) else V.get(left - 1, 0.0) - 0.1)
        return Critique(np.array(values), np.array(after), np.array(after) - np.array(values))


def test_what_comes_of_the_moments_of_a_known_world():
    forks = fork(AnyColour(), Shop(Customer()), range(100, 160), 20, np.random.default_rng(0))
    assert forks.after.shape == forks.anew.shape == (60, 20)
    right = [
        one.steps[k].utterance.text == wanted(one) for one, k in zip(forks.trajectories, forks.exchanges, strict=True)
    ]
    assert np.all(forks.after[right] == 0.9)  # the customer takes it, whatever else is drawn
    last = (forks.exchanges == 2) & ~np.array(right)
    assert last.any() and np.all(forks.after[last] == pytest.approx(-0.1))
    for left in (1, 2, 3):
        anew = forks.anew[forks.exchanges == 3 - left]
        assert anew.mean() == pytest.approx(V[left], abs=4 * anew.std() / np.sqrt(anew.size))


def test_moments_are_drawn_evenly_from_a_conversation():
    forks = fork(Constant("green and blue"), Shop(Customer()), range(300), 2, np.random.default_rng(0))
    counts = np.bincount(forks.exchanges, minlength=3)  # nobody takes that, so each conversation has three moments
    assert counts.sum() == 300 and counts.min() > 70
    assert list(forks.turns()[:3]) == [0 + forks.exchanges[0], 3 + forks.exchanges[1], 6 + forks.exchanges[2]]


def test_what_was_said_is_said_again_and_then_the_agent_is_asked():
    env = Shop(Customer())
    (held,) = play(Constant(""), env, [Moment(env.begin(7))], said=[Utterance("purple")])
    assert [step.utterance.text for step in held.steps] == ["purple", wanted(held)]
    moments = [Moment(env.begin(7))] * 2
    one, other = play(Constant("green"), env, moments, said=[None, Utterance("purple")])
    assert [of.steps[0].utterance.text for of in (one, other)] == ["green", "purple"]


def test_continuations_of_a_failing_user_are_left_out():
    forks = fork(AnyColour(), Shop(Customer(failing=0.3)), range(40), 4, np.random.default_rng(0))
    assert len(forks.trajectories) < 40 and all(one.judged for one in forks.trajectories)
    assert np.isnan(forks.after).any() and np.isfinite(forks.after).any()
    with pytest.raises(ValueError, match="None of 3 conversations was scored"):
        fork(AnyColour(), Shop(Customer(failing=1.0)), range(3), 4, np.random.default_rng(0))


def test_an_exact_critic_comes_to_its_ceiling_and_another_does_not():
    found = of_critic(Knows(), Shop(Customer()), Asked(160, 16))
    for kind in ("q", "advantage"):
        assert found[f"{kind}_correlation"] == pytest.approx(found[f"{kind}_ceiling"], abs=0.06)
        assert found[f"{kind}_correlation_low"] < found[f"{kind}_correlation"] < found[f"{kind}_correlation_high"]
    assert found["q_rmse"] < 0.1

    class Guesses(Knows):
        def critique(self, trajectories: Sequence[Trajectory]) -> Critique:
            n = sum(one.exchanges for one in trajectories)
            drawn = np.random.default_rng(1).normal(size=n)
            return Critique(np.full(n, np.nan), drawn, drawn)

    found = of_critic(Guesses(), Shop(Customer()), Asked(160, 4))
    assert abs(found["q_correlation"]) < 0.25 and not any(name.startswith("v_") for name in found)


def test_an_agent_without_a_critic_is_not_asked():
    assert of_critic(AnyColour(), Shop(Customer()), Asked(8, 2)) == {}
    assert of_critic(Knows(), Shop(Customer()), Asked(0, 2)) == {}


def test_the_ceiling_by_hand():
    # Averages 1 and 5 have the variance 8; each average of two has the noise 2/2 = 1; so (8 - 1)/8 of it is real.
    assert noise_ceiling(np.array([[0.0, 2.0], [4.0, 6.0]])) == pytest.approx(np.sqrt(7 / 8))
    assert noise_ceiling(np.array([[0.0, 2.0, np.nan], [4.0, np.nan, 6.0], [np.nan, 9.0, np.nan]])) == pytest.approx(
        np.sqrt(7 / 8)
    )
    assert noise_ceiling(np.array([[0.0, 2.0], [2.0, 0.0]])) != noise_ceiling(np.array([[0.0, 2.0], [0.0, 3.0]]))
    assert noise_ceiling(np.array([[0.0, 2.0], [0.0, 3.0]])) == 0.0
    assert np.isnan(noise_ceiling(np.array([[1.0, 2.0]])))


def test_the_correlation_is_scipys_and_leaves_out_what_is_missing():
    rng = np.random.default_rng(0)
    first = rng.normal(size=50)
    second = first + rng.normal(size=50)
    assert correlation(first, second) == pytest.approx(pearsonr(first, second)[0])
    holes = np.where(np.arange(50) % 7 == 0, np.nan, second)
    kept = np.isfinite(holes)
    assert correlation(first, holes) == pytest.approx(pearsonr(first[kept], second[kept])[0])
    assert np.isnan(correlation(first[:2], second[:2])) and np.isnan(correlation(first, np.ones(50)))
    estimate = correlation_interval(first, second, np.random.default_rng(0))
    assert estimate.low < pearsonr(first, second)[0] < estimate.high


@pytest.fixture(scope="module")
def critics(colour_start: str) -> dict[str, Agent]:
    """Learners with a critic, after they prepared and learnt a little."""
    iterppo = IterPPO(
        colour_start, PPO(rounds=1, conversations=16, epochs=1, batch_size=16), max_new_tokens=6, warm_start=1.0
    )
    rlhf = MultiTurnRLHF(
        colour_start, TurnGradient(), reward="return", max_new_tokens=6, conversations_per_step=16, policy_delay=0.9
    )
    for agent in (iterppo, rlhf):
        practice = Practice(Shop(Customer()), Budget(32, 32, 40), 0, AnyColour())
        agent.prepare(practice)
        agent.improve(practice)
    return {"iterppo": iterppo, "rlhf": rlhf}


@pytest.mark.parametrize("name", ["iterppo", "rlhf"])
def test_a_critic_says_something_of_every_turn_and_of_its_past_alone(critics, name: str):
    agent = critics[name]
    held = rollout(agent, Shop(Customer()), range(12))
    critique = agent.critique(held)
    lengths = [one.exchanges for one in held]
    assert len(critique.values) == len(critique.action_values) == len(critique.advantages) == sum(lengths)
    assert np.isfinite(critique.values).all()
    longest = held[int(np.argmax(lengths))]
    alone = agent.critique([longest])
    begin = sum(lengths[: int(np.argmax(lengths))])
    np.testing.assert_allclose(alone.values, critique.values[begin : begin + longest.exchanges], atol=1e-5)
    if name == "iterppo":
        np.testing.assert_allclose(critique.advantages, critique.action_values - critique.values, atol=1e-6)
    else:
        assert np.isnan(critique.action_values).all()
        ends = np.cumsum(lengths) - 1
        assert np.isnan(critique.advantages[ends]).all() and np.isfinite(np.delete(critique.advantages, ends)).all()
        np.testing.assert_allclose(alone.advantages[0], alone.values[1] - alone.values[0], atol=1e-6)


def test_values_are_read_at_the_prompt_and_at_the_end_of_what_was_said(critics):
    agent = critics["iterppo"]
    held = max(rollout(agent, Shop(Customer()), range(12)), key=lambda one: one.exchanges)
    critique, policy, q = agent.critique([held]), agent.policy, agent.q
    for k, step in enumerate(held.steps):
        prompt = policy.prompt_ids(held.prefix(k))
        said = [*prompt, *step.utterance.tokens, *policy.tail(list(step.utterance.tokens))]
        for ids, heads, read in ((prompt, q.v_heads, critique.values), (said, q.q_heads, critique.action_values)):
            with torch.no_grad():
                state = q.trunk(input_ids=torch.tensor([ids])).last_hidden_state[:, -1]
                assert q.unscaled(heads(state)).item() == pytest.approx(read[k], abs=1e-5)


def test_how_an_agent_spoke_by_hand():
    def held(*texts: str) -> Trajectory:
        steps = tuple(Step(Utterance(text), "Yes.", 0.0) for text in texts)
        return Trajectory(0, "", (), steps, True, "outcome", True, True)

    # Five utterances of 2, 2, 2, 1 and 2 words; one is repeated in its conversation; three are different.
    found = language([held("Hello there", "hello  there", "good day"), held("Bye", "good day")])
    assert found == {"words": 9 / 5, "repetition": 1 / 5, "distinct_utterances": 3 / 5}
    assert all(np.isnan(value) for value in language([]).values())


def run(monkeypatch: pytest.MonkeyPatch, main, results: Path, *words: str) -> None:
    given = [f"--config-dir={CONF}", "env=shop", "budget=tiny", f"results={results}", *words]
    monkeypatch.setattr(sys, "argv", ["main.py", *given])
    main()


def test_the_command_asks_a_finished_run_and_writes_beside_its_record(monkeypatch, tmp_path: Path, capsys):
    from benchmarks import run as runner

    with pytest.raises(SystemExit):
        run(monkeypatch, diagnose.main, tmp_path, "agent=bandit")
    assert "is not finished; run it first: python -m benchmarks.run" in capsys.readouterr().err
    run(monkeypatch, runner.main, tmp_path, "agent=bandit")
    (record,) = tmp_path.rglob("record.json")
    kept = json.loads(record.read_text())["diagnostics"]
    assert kept["words"] == 1.0 and 0.0 <= kept["repetition"] < 1.0
    run(monkeypatch, diagnose.main, tmp_path, "agent=bandit", "forks.moments=6", "forks.continuations=3")
    written = json.loads((record.parent / "diagnostics.json").read_text())
    assert written == {"moments": 6, "continuations": 3, **kept}
    with pytest.raises(SystemExit):
        run(monkeypatch, diagnose.main, tmp_path, "agent=bandit", "forks.continuations=1")
    assert "forks.continuations=1; give at least 2." in capsys.readouterr().err
