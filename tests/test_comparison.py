"""Who is told from whom: Holm's correction, letters, pairs of a section, the noise floor; and whether it all holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from results.calibration import REGIMES, World, coverage, false_alarms, found, main
from results.comparison import compare, holm, letter_groups, pass_columns, pass_table
from results.crossed import Components, detectable_difference
from results.noise import noise_floor, splits
from results.record import Evaluation, Record
from results.sections import Section, sections_of
from tests.test_record import RECORD

NAN = float("nan")


def record(agent: str, seed: int, returns: list[float], learns: bool = True) -> Record:
    """One evaluation, every scenario a cluster; returns above one half are successes."""
    names = [str(i) for i in range(len(returns))]
    one = Evaluation("plain", "iid_test", list(range(len(names))), names, returns, [r > 0.5 for r in returns], 2.0, 0)
    return replace(RECORD, agent=agent, seed=seed, learns=learns, evaluations=[one])


def flat(agent: str, *means: float, learns: bool = True) -> list[Record]:
    """An agent whose seeds have these returns everywhere."""
    return [record(agent, seed, [mean] * 20, learns) for seed, mean in enumerate(means)]


def section(*agents: list[Record]) -> Section:
    (one,) = sections_of([record for records in agents for record in records])
    return one


# ---- families of tests ----------------------------------------------------------------------------------------------


def test_holm_by_hand():
    # sorted .01, .02, .03, .04: times 4, 3, 2, 1 is .04, .06, .06, .04, made to rise: .04, .06, .06, .06
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.6, NAN, 0.02])), [0.6, NAN, 0.04])
    assert holm(np.array([])).size == 0


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(0).uniform(0, 0.1, 30)
    np.testing.assert_allclose(holm(p_values), multitest.multipletests(p_values, method="holm")[1], atol=1e-12)


def test_letters_by_hand():
    assert letter_groups(3, []) == ["a", "a", "a"]
    assert letter_groups(3, [(0, 1), (0, 2), (1, 2)]) == ["a", "b", "c"]
    assert letter_groups(3, [(0, 2)]) == ["a", "ab", "b"]
    # Piepho's example of a broken chain: 0 differs from 2 and 3, 1 from 3
    assert letter_groups(4, [(0, 2), (0, 3), (1, 3)]) == ["a", "ab", "bc", "c"]
    assert letter_groups(0, []) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.data())
def test_two_share_a_letter_if_and_only_if_they_are_not_different(members, data):
    pairs = list(combinations(range(members), 2))
    different = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    letters = letter_groups(members, different)
    for one, other in pairs:
        assert bool(set(letters[one]) & set(letters[other])) == ((one, other) not in different)
    assert all(letters)


# ---- a section -------------------------------------------------------------------------------------------------------


def test_pairs_are_tested_and_corrected_as_one_family():
    means = {"one": (0.50, 0.52, 0.54), "two": (0.40, 0.42, 0.47), "three": (0.10, 0.12, 0.11)}
    comparison = compare(section(*(flat(agent, *values) for agent, values in means.items())))
    plain = [ttest_ind(means[a], means[b], equal_var=False).pvalue for a, b in combinations(means, 2)]
    assert [(pair.first.agent, pair.second.agent) for pair in comparison.pairs] == list(combinations(means, 2))
    np.testing.assert_allclose([pair.gain.p_value for pair in comparison.pairs], plain, atol=1e-9)
    np.testing.assert_allclose([pair.adjusted for pair in comparison.pairs], holm(np.array(plain)), atol=1e-9)
    assert [pair.different for pair in comparison.pairs] == [True, True, True]
    assert list(comparison.letters.values()) == ["a", "b", "c"]


def test_an_agent_that_learnt_once_is_in_no_pair_and_one_that_does_not_learn_is():
    comparison = compare(section(flat("once", 0.9), flat("twice", 0.5, 0.6), flat("never", 0.1, learns=False)))
    assert [(pair.first.agent, pair.second.agent) for pair in comparison.pairs] == [("twice", "never")]
    assert [entry.agent for entry in comparison.letters] == ["twice", "never"]


def test_the_detectable_difference_is_that_between_learners():
    learners = [flat("one", 0.4, 0.44, 0.47), flat("two", 0.6, 0.64, 0.67)]
    comparison = compare(section(*learners, flat("start", 0.0, learns=False)))
    of_seeds = np.var([0.4, 0.44, 0.47], ddof=1) / 3
    alone = Components((of_seeds, of_seeds), (0.0, 0.0), (3, 3), (0.0,), (20,))  # nothing from scenarios
    assert comparison.detectable == pytest.approx(detectable_difference(alone))
    assert comparison.planned(12) < comparison.detectable / 2
    assert np.isnan(compare(section(flat("one", 0.4, 0.5), flat("start", 0.0, learns=False))).detectable)


def test_only_learners_have_a_chance_to_be_better_than_the_start():
    references = {"start": "echo"}
    agents = [flat("bandit", 0.1, 0.5, 0.6), flat("echo", 0.3, learns=False), flat("fixed", 0.9, learns=False)]
    one = section(*([replace(record, references=references) for record in records] for records in agents))
    improvement = compare(one).improvement
    assert [entry.agent for entry in improvement] == ["bandit"]
    assert next(iter(improvement.values())).value == pytest.approx(2 / 3)


def test_pass_hat_k_is_shown_for_as_many_runs_as_there_are():
    runs = [record("bandit", seed, [1.0] * (10 + 5 * seed) + [0.0] * (10 - 5 * seed)) for seed in range(3)]
    one = section(runs, flat("echo", 1.0, learns=False))
    tables = {entry.agent: pass_table(one, entry) for entry in one.entries}
    # successes on 10, 15 and 20 scenarios: 10 with c = 3, 5 with c = 2 (1 of 3 pairs), 5 with c = 1
    assert {k: share.value for k, share in tables["bandit"].items()} == {2: pytest.approx((10 + 5 / 3) / 20)}
    assert tables["echo"] == {} and pass_columns(one) == [2]
    assert pass_columns(section(flat("never", 0.1, 0.2))) == []


# ---- the same agent under two names ---------------------------------------------------------------------------------


def test_seeds_are_halved_in_every_way():
    assert splits(4) == [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    assert [first for first, _ in splits(3)] == [(0,), (1,), (2,)]
    assert len(splits(5)) == 10 and len(splits(10)) == 35


def test_the_noise_floor_is_the_difference_between_halves_at_the_size_of_the_table():
    floor = noise_floor(section(flat("bandit", 0.0, 0.2, 0.6, 0.8), flat("echo", 1.0, learns=False)))
    # halves .1 and .7, .3 and .5, .4 and .4: two of four seeds differ by √2 as much as four of eight would
    sizes = np.array([0.6, 0.2, 0.0]) / np.sqrt(2)
    assert [twin.at_full_size for twin in floor.twins] == pytest.approx(list(-sizes))
    assert floor.floor == pytest.approx(np.quantile(sizes, 0.95))
    # .6 with s² / 2 = .01 each: t = .6 / √.02 = 4.24 of ν = 2, p = .051
    assert (floor.tests, floor.called_different) == (3, 0)
    assert floor.twins[0].gain.p_value == pytest.approx(0.0513, abs=1e-4)


def test_halves_of_one_seed_are_no_test():
    floor = noise_floor(section(flat("bandit", 0.0, 0.3, 0.6)))
    assert (len(floor.twins), floor.tests) == (3, 0)
    # .0 against .45: one and two of three seeds differ by √(1 + 1/2) / √(2/3) = 1.5 as much
    assert floor.twins[0].at_full_size == pytest.approx(-0.45 / 1.5)
    assert np.isnan(noise_floor(section(flat("bandit", 0.5))).floor)


# ---- whether it holds ------------------------------------------------------------------------------------------------

BALANCED = REGIMES["as much as scenarios"]


def test_an_agent_under_several_names_is_called_different_one_time_in_twenty_at_most():
    alarms = false_alarms(BALANCED, agents=5, seeds=5, tables=200, rng=np.random.default_rng(0))
    assert 0.01 < alarms.pairs <= 0.05 + 2 * alarms.error
    assert alarms.families <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_planted_difference_is_found_with_the_power_it_was_planted_for():
    hits = found(BALANCED, seeds=5, tables=600, rng=np.random.default_rng(1))
    assert hits.share == pytest.approx(0.8, abs=0.05)


def test_three_seeds_are_covered_where_the_bootstrap_does_not_cover_them():
    held = coverage(REGIMES["seeds dominate"], seeds=3, tables=300, rng=np.random.default_rng(2))
    assert held.percentile < 0.87 < 0.9 < held.ours


def test_the_true_mean_of_a_world_is_that_of_many_tables():
    world = World(seeds=0.5, clusters=400)
    values = np.concatenate([world.table([0.7], 20, np.random.default_rng(seed)) for seed in range(30)])
    assert world.success(0.7) == pytest.approx(values.mean(), abs=0.02)
    assert world.success(world.level(0.3)) == pytest.approx(0.3)


def test_the_command_prints_its_three_tables(capsys):
    main(["--tables", "10", "--seeds", "3", "--agents", "2"])
    said = capsys.readouterr().out
    assert [said.count(word) for word in ("## Coverage", "## A/A", "## A planted", "seeds dominate")] == [1, 1, 1, 3]


@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("name", REGIMES)
def test_the_statistics_hold_in_every_world(name, seeds):
    rng = np.random.default_rng(seeds)
    alarms = false_alarms(REGIMES[name], agents=6, seeds=seeds, tables=200, rng=rng)
    assert alarms.pairs <= 0.05 + 2 * alarms.error
    assert found(REGIMES[name], seeds, tables=2000, rng=rng).share == pytest.approx(0.8, abs=0.05)
    assert coverage(REGIMES[name], seeds, tables=2000, rng=rng).ours > 0.89
