"""Win rates, cycles and equilibria against numbers worked out by hand; what is raised when the orders disagree."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.intransitivity import main as intransitivity
from benchmarks.intransitivity import measure
from benchmarks.winrates import Run, compare, main
from envs.judges import BradleyTerry, ByOutcome, Cyclic, Preference
from envs.trajectory import write_jsonl
from results.preferences import (
    AsymmetryError,
    Cycles,
    check_antisymmetry,
    cycles,
    explained_by_a_reward,
    logit,
    nash_average,
)
from results.winrates import win_rates
from tests.test_judges import conversation
from tests.test_leaderboard import record
from tests.toy import Constant, Customer, Shop

NAN = float("nan")
ROUND = np.array([[0.5, 0.75, 0.25], [0.25, 0.5, 0.75], [0.75, 0.25, 0.5]])
"""0 over 1 over 2 over 0, three to one each."""


def by_reward(rewards) -> np.ndarray:
    r = np.array(rewards)
    return 1 / (1 + np.exp(r[None, :] - r[:, None]))


# ---- cycles and what no reward explains ------------------------------------------------------------------------------


def test_rock_paper_scissors_is_one_cycle_and_no_reward_explains_any_of_it():
    assert cycles(ROUND) == Cycles(1, 1) and cycles(ROUND).share == 1
    found = explained_by_a_reward(ROUND)
    assert found.total == pytest.approx(3 * math.log(3) ** 2) and found.share == pytest.approx(1)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=7))
def test_bradley_terry_has_no_cycle_and_no_curl(rewards):
    table = by_reward(rewards)
    assert cycles(table, margin=1e-9).cyclic == 0
    assert explained_by_a_reward(table).unexplained == pytest.approx(0, abs=1e-12)


def test_half_of_it_can_be_explained():
    # Log-odds 0 over 1: 3, 1 over 2: 0, 0 over 2: 0. Row means (with the item itself) 1, -1, 0 are the rewards; they
    # give 2, -1, 1, which leaves 1, 1, -1: 3 of 9.
    p = 1 / (1 + math.exp(-3))
    table = np.array([[0.5, p, 0.5], [1 - p, 0.5, 0.5], [0.5, 0.5, 0.5]])
    assert explained_by_a_reward(table).share == pytest.approx(3 / 9)


def test_triples_that_are_not_decided_do_not_count():
    table = ROUND.copy()
    table[0, 1], table[1, 0] = 0.55, 0.45
    assert cycles(table, margin=0.1) == Cycles(0, 0) and math.isnan(cycles(table, margin=0.1).share)
    table[0, 1] = table[1, 0] = NAN
    assert cycles(table) == Cycles(0, 0)


def test_four_items_have_four_triples():
    # 0, 1, 2 go round and 3 loses to all: one cycle, and three triples with 3 that don't go round.
    table = np.full((4, 4), 0.9)
    table[:3, :3], table[3] = ROUND, 0.1
    assert cycles(table) == Cycles(1, 4)


def test_a_pair_without_a_verdict_is_left_out_of_the_fit():
    table = by_reward([0.0, 1.0, 2.0])
    table[0, 2] = table[2, 0] = NAN
    found = explained_by_a_reward(table)
    assert (found.total, found.unexplained) == (pytest.approx(2.0), pytest.approx(0, abs=1e-12))


def test_certainty_has_finite_log_odds():
    assert logit(np.array([0.0, 0.5, 1.0])).tolist() == [-6.9, 0.0, 6.9]


# ---- equilibria ------------------------------------------------------------------------------------------------------


def test_the_equilibrium_of_rock_paper_scissors_is_even():
    found = nash_average(ROUND)
    assert found.weights == pytest.approx([1 / 3] * 3) and found.ratings == pytest.approx([0.5] * 3)


def test_a_dominant_item_is_the_equilibrium():
    found = nash_average(by_reward([0.0, 2.0, 1.0]))
    assert found.weights == pytest.approx([0, 1, 0], abs=1e-6)
    assert found.ratings == pytest.approx([1 / (1 + math.e**2), 0.5, 1 / (1 + math.e)])


def test_a_copy_changes_no_rating():
    at = [0, 0, 1, 2]
    found = nash_average(ROUND[np.ix_(at, at)])
    assert found.ratings == pytest.approx([0.5] * 4)
    assert found.weights[:2].sum() == pytest.approx(1 / 3) and found.weights[2:] == pytest.approx([1 / 3] * 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 7))
def test_nothing_gains_against_an_equilibrium(seed, n):
    upper = np.triu(np.random.default_rng(seed).random((n, n)), 1)
    table = upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(n)
    found = nash_average(table)
    assert found.weights.sum() == pytest.approx(1) and found.weights.min() >= 0
    assert found.ratings.max() <= 0.5 + 1e-7 and found.ratings @ found.weights == pytest.approx(0.5)


def test_a_game_with_a_hole_has_no_equilibrium():
    with pytest.raises(ValueError, match="no preference"):
        nash_average(np.array([[0.5, NAN], [NAN, 0.5]]))


# ---- win rates -------------------------------------------------------------------------------------------------------


def both(upper: np.ndarray) -> np.ndarray:
    """[runs, runs, scenarios] from what stands above the diagonal."""
    judged = np.array(upper, dtype=float)
    for i, j in zip(*np.tril_indices(len(judged), -1), strict=True):
        judged[i, j] = 1 - judged[j, i]
    judged[np.arange(len(judged)), np.arange(len(judged))] = 0.5
    return judged


def two_agents(rates, scenarios: int = 4) -> np.ndarray:
    """Agent a has a run per row of ``rates``, b one per column; ``rates`` hold on every scenario."""
    rates = np.array(rates, dtype=float)
    n, m = rates.shape
    judged = np.full((n + m, n + m, scenarios), NAN)
    judged[:n, n:] = rates[:, :, None]
    judged[n:, :n] = 1 - rates.T[:, :, None]
    return judged


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_win_rate_is_the_mean_over_pairings_and_scenarios():
    judged = both(np.full((3, 3, 2), 0.5))
    judged[0, 1], judged[1, 0] = [0.9, 0.7], [0.1, 0.3]
    judged[0, 2], judged[2, 0] = [0.4, NAN], [0.6, NAN]
    rates = win_rates(judged, ["a", "b", "b"], ["x", "y"], generator())
    assert (rates.agents, rates.runs, rates.scenarios) == (("a", "b"), (1, 2), 2)
    assert rates.table[0, 1] == pytest.approx((0.9 + 0.7 + 0.4) / 3) and math.isnan(rates.table[0, 0])
    assert rates.table[1, 0] == pytest.approx(1 - 2 / 3)
    assert rates.unjudged.tolist() == [[0, 1], [1, 0]]
    assert rates.spread[0, 1] == pytest.approx(0.2 * math.sqrt(2))  # pairings .8 and .4
    assert rates.low[1, 0] == pytest.approx(1 - rates.high[0, 1])


def test_the_interval_draws_seeds_of_both_and_not_pairings():
    # The rows' seeds differ by .2, the columns' not at all. Two seeds drawn from two: .4, .5 or .6 with 1/4, 1/2, 1/4.
    rates = win_rates(two_agents([[0.4] * 8, [0.6] * 8]), ["a"] * 2 + ["b"] * 8, list("wxyz"), generator())
    assert (rates.table[0, 1], rates.low[0, 1], rates.high[0, 1]) == pytest.approx((0.5, 0.4, 0.6))


def test_the_interval_draws_clusters_of_scenarios():
    judged = two_agents([[0.5]], 6)
    judged[0, 1] = [0.2, 0.2, 0.2, 0.8, 0.8, 0.8]
    judged[1, 0] = 1 - judged[0, 1]
    two = win_rates(judged, ["a", "b"], list("xxxyyy"), generator())
    six = win_rates(judged, ["a", "b"], list("uvwxyz"), generator())
    assert (two.low[0, 1], two.high[0, 1]) == pytest.approx((0.2, 0.8))  # both draws of one cluster: 1/4 each
    assert 0.25 < six.low[0, 1] < 0.35 and 0.65 < six.high[0, 1] < 0.75


def test_intervals_cover_a_planted_difference():
    covered = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        a, b, easy = rng.normal(0, 0.05, 8), rng.normal(0, 0.05, 8), rng.normal(0, 0.1, 60)
        judged = two_agents(np.zeros((8, 8)), 60)
        judged[:8, 8:] = 0.6 + a[:, None, None] - b[None, :, None] + easy + rng.normal(0, 0.1, (8, 8, 60))
        judged[8:, :8] = 1 - np.swapaxes(judged[:8, 8:], 0, 1)
        estimate = win_rates(judged, ["a"] * 8 + ["b"] * 8, [str(s) for s in range(60)], rng, 400).estimate(0, 1)
        covered += estimate.low <= 0.6 <= estimate.high
    assert 50 <= covered <= 60  # 95% of 60 are 57; the bootstrap of 8 seeds is a little narrow


@pytest.mark.parametrize("back", [0.3, NAN])
def test_orders_that_contradict_each_other_are_raised(back):
    judged = two_agents([[0.6]], 3)
    judged[1, 0, 2] = back
    with pytest.raises(AsymmetryError, match=r"P\[0, 1, 2\] = 0.6 and P\[1, 0, 2\] = "):
        win_rates(judged, ["a", "b"], list("xyz"), generator())


def test_a_win_over_oneself_is_raised():
    with pytest.raises(AsymmetryError):
        check_antisymmetry(np.array([[0.7]]))


def test_agents_that_go_round_are_counted_with_and_without_certainty():
    judged = both(np.repeat(ROUND[:, :, None], 40, axis=2))
    sure = win_rates(judged, list("abc"), [str(s) for s in range(40)], generator())
    assert sure.cycles == sure.certain_cycles == Cycles(1, 1)
    assert sure.equilibrium.weights == pytest.approx([1 / 3] * 3)
    judged[0, 1], judged[1, 0] = np.tile([1.0, 0.05], 20), np.tile([0.0, 0.95], 20)  # .525, within what chance can do
    unsure = win_rates(judged, list("abc"), [str(s) for s in range(40)], generator())
    assert (unsure.cycles, unsure.certain_cycles) == (Cycles(1, 1), Cycles(0, 0))


# ---- from conversations ----------------------------------------------------------------------------------------------


class FirstPlace:
    name = "first_place"

    def prefer(self, pairs):
        return [Preference(0.8) for _ in pairs]


def test_runs_are_compared_and_what_failed_is_counted():
    runs = [Run("a", [conversation(1.0), conversation(judged=False)]), Run("b", [conversation(0.0)] * 2)]
    rates = compare(ByOutcome(), runs)
    assert rates.table[0, 1] == 1 and rates.unjudged[0, 1] == 1
    with pytest.raises(AsymmetryError, match="asked in both orders"):
        compare(FirstPlace(), runs)


@pytest.fixture
def folders(tmp_path):
    """Runs of the toy shop: two seeds of bandit, and echo, which does not learn."""
    runs = [("bandit", 0.6, 0, True), ("bandit", 0.8, 1, True), ("echo", 0.7, 0, False)]
    for n, (agent, value, seed, learns) in enumerate(runs):
        folder = tmp_path / "runs" / str(n)
        (folder / "trajectories").mkdir(parents=True)
        (folder / "record.json").write_text(record(agent, value, seed, learns=learns).to_json())
        (folder / "overrides.json").write_text("{}")
        them = [conversation(value) for _ in range(20)]
        rows = [json.loads(one.to_json()) | {"seed": s, "key": str(s)} for s, one in enumerate(them)]
        (folder / "trajectories" / "plain-iid_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(folders, *more: str) -> int:
    chosen = ["--env", "shop", "--user", "plain", "--budget", "tiny", "--judge", "outcome"]
    return main(["--runs", str(folders / "runs"), "--out", str(folders / "out"), *chosen, *more])


def test_the_command_writes_tables_and_pictures(folders, capsys):
    assert command(folders, "judge.flip=0.1") == 0
    written = [folders.joinpath("out", name).stat().st_size for name in map(str, capsys.readouterr().out.split())]
    assert len(written) == 4 and min(written) > 100
    table = pd.read_csv(folders / "out" / "winrates-shop-plain-tiny.csv")
    one = table[(table["row"] == "bandit") & (table["column"] == "echo")].iloc[0]
    assert one.win_rate == pytest.approx(0.5)  # .9 with one seed, .1 with the other
    assert (one.low, one.high) == pytest.approx((0.1, 0.9)) and one.row_runs == 2 and one.scenarios == 20
    page = (folders / "out" / "winrates-shop-plain-tiny.md").read_text()
    assert "judge.flip=0.1" in page and "rows + columns = 1 was checked" in page and "| bandit" in page


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--user", "nobody"], "there are: --user plain --budget tiny"),
        (["--agents", "bandit,mtpo"], "'mtpo' has no finished run here; there are bandit, echo"),
        (["--agents", "bandit"], "win rates need two or more"),
        (["--split", "ood_test"], "plain-ood_test.jsonl"),
        (
            ["--split", "test"],
            "--split test is none that all agents were evaluated with; choose one of iid_test, ood_test",
        ),
        (["--talked-with", "nobody"], "--talked-with nobody is none"),
        (["--split", "ood_test"], "packed without conversations. Leave that run out, or make it anew: python"),
        (["judge.flop=1"], "flop"),
    ],
)
def test_what_is_missing_is_named(folders, capsys, more, words):
    assert command(folders, *more) == 1
    assert words in capsys.readouterr().err


def test_a_missing_scenario_is_named(folders, capsys):
    path = folders / "runs" / "0" / "trajectories" / "plain-iid_test.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert command(folders) == 1
    assert "lacks the scenario of seed 19" in capsys.readouterr().err
    write_jsonl(path, [])
    assert command(folders) == 1


# ---- intransitivity --------------------------------------------------------------------------------------------------


class ByLength(Cyclic):
    """Rock, paper, scissors on the number of exchanges."""

    def __init__(self) -> None:
        super().__init__()
        self.measures = ("exchanges",)

    def compare(self, first, second):
        return super().compare(first - 1, second - 1)


SHOP = Shop(Customer())
PATIENT = {"echo": Constant(), "red": Constant("red")}


def test_a_reward_has_no_intransitivity_and_a_cycle_has():
    figures = measure(BradleyTerry(2.0), SHOP, PATIENT, scenarios=12)
    assert (figures["conversations"], figures["cyclic_triples"], figures["unjudged_pairs"]) == (48, 0, 0)
    assert figures["unexplained_share"] == pytest.approx(0, abs=1e-12)
    assert figures["preferences"][0][1] > 0.5 > figures["preferences"][1][0]
    assert measure(ByLength(), SHOP, PATIENT | {"green": Constant("green")}, 12)["decided_triples"] == 0


def test_failed_conversations_are_counted_as_unjudged_pairs():
    figures = measure(ByOutcome(), Shop(Customer(failing=0.5)), PATIENT, scenarios=12)
    assert 0 < figures["unjudged_pairs"] < 12 * 6


def test_the_command_says_what_it_can_not_find(capsys):
    assert intransitivity(["--env", "sales", "--user", "nobody", "--judge", "outcome"]) == 1
    assert "choose one of hybrid, program" in capsys.readouterr().err
    assert intransitivity(["--env", "slaes"]) == 1
    assert "--env slaes is none of conf/env; choose one of car_dealer" in capsys.readouterr().err
    assert intransitivity(["--env", "sales", "--judge", "nobody"]) == 1
