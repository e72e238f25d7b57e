"""Intervals and tests over crossed seeds and scenarios: against hand-worked numbers, scipy's t-tests, a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import f_oneway, nct, norm, t, ttest_1samp, ttest_ind, ttest_rel

from results.crossed import (
    Components,
    crossed_mean,
    detectable_difference,
    difference_interval,
    mean_interval,
    power,
    score_interval,
    share_interval,
)
from results.statistics import Estimate, matrix, resampled_means, scenario_weights

NAN = float("nan")


def apart(count: int) -> list[str]:
    """Keys of ``count`` scenarios that are a cluster each."""
    return [str(i) for i in range(count)]


def difference(first: np.ndarray, second: np.ndarray):
    keys = apart(first.shape[1])
    return crossed_mean(first, keys, "first") - crossed_mean(second, keys, "second")


def test_equal_values_have_an_interval_without_width():
    assert mean_interval(np.full((3, 10), 0.5), apart(10)) == Estimate(0.5, 0.5, 0.5)


def test_what_was_not_scored_is_in_no_mean():
    assert mean_interval(matrix([[1.0, None, 3.0]]), apart(3)).value == 2.0
    assert math.isnan(mean_interval(matrix([[None, None]]), apart(2)).value)


def test_one_seed_on_one_cluster_has_no_interval():
    estimate = mean_interval(np.array([[1.0, 2.0]]), ["a", "a"])
    assert estimate.value == 1.5 and math.isnan(estimate.low) and math.isnan(estimate.high)
    several = mean_interval(np.array([[1.0, 2.0], [2.0, 3.0]]), ["a", "a"])  # seeds: 1.5 and 2.5, s / √2 = 0.5
    assert several.high == pytest.approx(2 + 0.5 * t.ppf(0.975, 1))


def test_components_worked_out_by_hand():
    # Seed means 1.5, 2, 4; scenario means 2, 3; residuals of the two-way table ±1/2, 0, ∓1/2.
    numbers = crossed_mean(np.array([[1.5, 1.5], [1.5, 2.5], [3.0, 5.0]]), apart(2)).components
    # seeds: mean 2.5, squares 1 + .25 + 2.25 = 3.5, s² = 1.75, / 3
    assert numbers.seeds == pytest.approx([1.75 / 3])
    assert numbers.scenarios == pytest.approx([0.5 / 2])  # s² of 2 and 3, / 2
    assert numbers.noise == pytest.approx([(4 * 0.25) / 2 / 6])  # sum of squares over (3 - 1)(2 - 1), / 6 cells
    v = 1.75 / 3 - 1 / 12 + 0.25
    assert numbers.variance == pytest.approx(v)
    assert numbers.degrees_of_freedom == pytest.approx(v**2 / ((1.75 / 3) ** 2 / 2 + 0.25**2 / 1))


def test_variance_of_seeds_is_never_below_nothing():
    table = np.array([[0.0, 1.0], [1.0, 0.0]])  # both seeds have the mean 1/2, all is noise of single cells
    numbers = crossed_mean(table, apart(2)).components
    assert (numbers.seeds, numbers.scenarios, numbers.from_seeds, numbers.variance) == ((0.0,), (0.0,), 0.0, 0.0)


def test_one_seed_on_scenarios_apart_is_scipys_paired_t_test():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, (1, 40)), rng.normal(0, 1, (1, 40))
    ours, theirs = difference(first, second), ttest_rel(first[0], second[0])
    ends = theirs.confidence_interval()
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-9)
    assert (ours.estimate.low, ours.estimate.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_seeds_that_differ_everywhere_alike_are_scipys_welch_test():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 5), rng.normal(1, 2, 4)
    ours = difference(np.repeat(first[:, None], 30, axis=1), np.repeat(second[:, None], 30, axis=1))
    theirs = ttest_ind(first, second, equal_var=False)
    ends = theirs.confidence_interval()
    assert ours.components.degrees_of_freedom == pytest.approx(theirs.df, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-9)
    assert (ours.estimate.low, ours.estimate.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_clusters_are_one_observation_each():
    values = np.random.default_rng(1).normal(0, 1, 50)
    fourfold = mean_interval(np.repeat(values, 4)[None], [str(i // 4) for i in range(200)])
    ends = ttest_1samp(values, 0).confidence_interval()
    assert (fourfold.low, fourfold.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_noise_is_taken_off_as_an_analysis_of_variance_does():
    # Of a two-way table without replication: F of the seeds is V_seeds / V_noise. scipy has it for one way, which is
    # the same where scenarios are taken out first, and their degrees of freedom off the residual's.
    values = np.random.default_rng(2).normal(0, 1, (4, 25)) + np.arange(25) + np.arange(4)[:, None] * 0.3
    numbers = crossed_mean(values, apart(25)).components
    centred = values - values.mean(axis=0)
    one_way = f_oneway(*centred).statistic
    assert numbers.seeds[0] / numbers.noise[0] == pytest.approx(one_way * (3 * 24) / (4 * 24), abs=1e-9)


def test_variance_is_that_of_the_bootstrap_without_its_three_biases():
    # The bootstrap of seeds and scenarios has (n - 1) / n of each and counts the noise of cells about twice more.
    values = np.random.default_rng(3).normal(0, 1, (6, 40)) + np.random.default_rng(4).normal(0, 1, (6, 1))
    one = crossed_mean(values, apart(40)).components
    weights = scenario_weights(apart(40), np.random.default_rng(5), 20000)
    drawn = resampled_means(values, weights, np.random.default_rng(6)).var()
    expected = one.seeds[0] * 5 / 6 + one.scenarios[0] * 39 / 40 + one.noise[0] * 5 / 6 * 39 / 40
    assert drawn == pytest.approx(expected, rel=0.05)


def test_a_paired_difference_is_narrower_than_its_parts():
    scenario = np.random.default_rng(1).normal(0, 1, (1, 500))
    estimate = difference_interval(scenario + 0.25, scenario, apart(500))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.25, 0.25, 0.25))


def test_an_agent_is_not_different_from_itself():
    values = np.random.default_rng(1).normal(0, 1, (1, 20))
    assert difference(values, values).p_value == 1.0


def test_the_score_is_0_at_the_start_and_1_at_the_optimum():
    start, optimum = np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[2.0, 3.0, 2.0, 3.0]])
    # (1.5 - 0.5) / 2; above the start by 1, 0, 2, 1, of 2 each: shares 1/2, 0, 1, 1/2, whose s² / 4 is 1/24
    score = score_interval(np.array([[1.0, 1.0, 2.0, 2.0]]), start, optimum, apart(4))
    half = math.sqrt(1 / 24) * t.ppf(0.975, 3)
    assert (score.value, score.low, score.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    for values, wanted in ((start, 0.0), (optimum, 1.0)):
        exact = score_interval(values, start, optimum, apart(4))
        assert (exact.value, exact.low, exact.high) == pytest.approx((wanted, wanted, wanted))


def test_a_score_halfway_in_every_scenario_has_no_width():
    start = np.random.default_rng(1).normal(0, 1, (1, 50))
    optimum = start + np.random.default_rng(2).uniform(1, 2, (1, 50))
    score = score_interval((start + optimum) / 2, start, optimum, apart(50))
    assert (score.value, score.low, score.high) == pytest.approx((0.5, 0.5, 0.5))


def test_there_is_no_score_between_equal_references():
    same = np.ones((1, 4))
    assert math.isnan(score_interval(same * 2, same, same.copy(), apart(4)).value)


def test_the_interval_of_a_score_is_that_of_a_bootstrap():
    rng = np.random.default_rng(1)
    start, optimum, own = (rng.normal(level, 0.5, (1, 400)) for level in (0.2, 0.8, 0.5))
    ours = score_interval(own, start, optimum, apart(400))
    weights = scenario_weights(apart(400), rng, 4000)
    low, high, drawn = (resampled_means(values, weights, rng) for values in (start, optimum, own))
    ends = np.quantile((drawn - low) / (high - low), [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx(tuple(ends), abs=0.01)


def test_sets_of_scenarios_and_seeds_add_up():
    # One agent on two splits: its seeds move both, each split's scenarios one.
    first = crossed_mean(np.array([[0.0, 1.0], [2.0, 3.0]]), apart(2), "agent", "iid")
    second = crossed_mean(np.array([[0.0, 3.0], [2.0, 5.0]]), apart(2), "agent", "ood")
    gap = first - second
    assert gap.value == pytest.approx(1.5 - 2.5)
    assert gap.components.seeds == pytest.approx([0.0])  # each seed loses 1, so seeds don't matter
    assert gap.components.scenarios == pytest.approx([0.5 / 2, 4.5 / 2])  # s² / 2 of {1, 2} and of {1, 4}
    assert gap.components.degrees_of_freedom == pytest.approx(2.5**2 / (0.25**2 + 2.25**2))


def test_a_share_is_wilsons_interval_at_the_number_of_conversations_that_give_its_variance():
    successes = np.array([[1.0] * 3 + [0.0] * 7])  # s² / 10 = .21 / 9: as many as nine independent ones
    q = t.ppf(0.975, 9)
    middle, half = (0.3 + q**2 / 18) / (1 + q**2 / 9), q / (1 + q**2 / 9) * math.sqrt(0.21 / 9 + q**2 / (4 * 81))
    share = share_interval(successes, apart(10))
    assert (share.value, share.low, share.high) == pytest.approx((0.3, middle - half, middle + half))


def test_all_or_none_is_no_certainty():
    q = t.ppf(0.975, 9)
    everyone, nobody = share_interval(np.ones((3, 10)), apart(10)), share_interval(np.zeros((3, 10)), apart(10))
    assert (everyone.low, everyone.high) == pytest.approx((1 / (1 + q**2 / 10), 1.0))
    assert (nobody.low, nobody.high) == pytest.approx((0.0, 1 - 1 / (1 + q**2 / 10)))


def many(variance: float) -> Components:
    """So many clusters that t is normal."""
    return Components((), (), (), (variance,), (10**7,))


def test_the_detectable_difference_of_many_is_millers_formula():
    z = norm.ppf(0.975) + norm.ppf(0.8)
    assert detectable_difference(many(0.25 / 1000)) == pytest.approx(z * math.sqrt(0.25 / 1000), rel=1e-4)
    # Miller 2024: n = (z_{α/2} + z_β)² ω² / δ²; for ω² = 1/9 and δ = .03 it is about a thousand questions (969)
    n = z**2 / 9 / 0.03**2
    assert n == pytest.approx(969, abs=1)
    assert detectable_difference(many(1 / 9 / n)) == pytest.approx(0.03, rel=1e-4)


def test_power_is_that_of_the_noncentral_t():
    few = Components((1.0,), (0.0,), (5,), (0.0,), (2,))  # ν = 4
    bar = t.ppf(0.975, 4)
    for size in (0.5, 2.0, 4.0):
        assert power(size, few) == pytest.approx(nct.sf(bar, 4, size) + nct.cdf(-bar, 4, size), abs=1e-3)
    assert power(detectable_difference(few), few) == pytest.approx(0.8)
    assert power(0.0, few) == pytest.approx(0.05, abs=1e-3)


def test_the_detectable_difference_of_few_seeds_is_found_four_times_in_five():
    # Welch's test on agents of 3 and 5 seeds that differ everywhere alike; V_seeds is 4 / 3 and 1 / 5.
    rng, wanted = np.random.default_rng(0), Components((4 / 3, 1 / 5), (0.0, 0.0), (3, 5), (0.0,), (2,))
    first, second = rng.normal(detectable_difference(wanted), 2, (3, 20000)), rng.normal(0, 1, (5, 20000))
    assert np.mean(ttest_ind(first, second, equal_var=False).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)


def test_more_seeds_shrink_their_own_part_alone():
    now = Components((0.3,), (0.1,), (2,), (0.5,), (50,))
    # Of the seeds' variance .2 is theirs and .1 noise; with four of them .1 and .05. Of the clusters' .5, .1 was noise.
    later = now.planned(4)
    assert (later.seeds, later.noise, later.seed_counts) == (pytest.approx((0.15,)), pytest.approx((0.05,)), (4,))
    assert later.scenarios == pytest.approx((0.45,))
    assert now.planned(2).variance == pytest.approx(now.variance)
