"""Means, scores and intervals against numbers worked out by hand, and the interquartile mean against rliable's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import trim_mean

from results.statistics import (
    Estimate,
    difference_interval,
    interval,
    iqm,
    iqm_interval,
    matrix,
    mean,
    mean_interval,
    resampled_means,
    scenario_weights,
    score_interval,
    seed_weights,
)

NAN = float("nan")


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def apart(count: int, replicates: int = 4000) -> np.ndarray:
    """Weights for ``count`` scenarios that are a cluster each."""
    return scenario_weights([str(i) for i in range(count)], generator(), replicates)


def test_a_mean_leaves_out_what_was_not_scored():
    assert mean(matrix([[1.0, None, 2.0], [3.0, None, None]])) == 2.0
    assert math.isnan(mean(matrix([[None, None]])))


def test_successes_become_ones_and_zeros():
    np.testing.assert_array_equal(matrix([[True, False, None]]), [[1.0, 0.0, NAN]])


def test_clusters_are_drawn_whole():
    weights = scenario_weights(["a", "b", "a", "c"], generator(), 500)
    assert weights.shape == (500, 4)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)


def test_scenarios_without_a_key_are_clusters_of_their_own():
    weights = scenario_weights(["", "", "x", "x"], generator(), 500)
    assert (weights[:, 0] != weights[:, 1]).any()
    np.testing.assert_array_equal(weights[:, 2], weights[:, 3])


def test_seeds_are_drawn_with_replacement_and_a_single_one_always():
    np.testing.assert_array_equal(seed_weights(1, 5, generator()), np.ones((5, 1)))
    np.testing.assert_array_equal(seed_weights(3, 5, generator()).sum(axis=1), 3)


def test_resampled_means_follow_their_weights():
    values, weights = np.array([[1.0, 2.0, NAN]]), np.array([[1.0, 1, 1], [3, 0, 0], [0, 1, 2], [0, 0, 3]])
    np.testing.assert_allclose(resampled_means(values, weights, generator()), [1.5, 1, 2, NAN])


def test_the_interval_is_the_central_95_percent():
    assert interval(5.0, np.arange(1001.0)) == Estimate(5.0, 25.0, 975.0)
    assert math.isnan(interval(NAN, np.arange(5.0)).low)


def test_equal_values_have_an_interval_without_width():
    assert mean_interval(np.full((3, 10), 0.5), apart(10), generator()) == Estimate(0.5, 0.5, 0.5)


def test_the_interval_of_one_run_is_the_usual_one_of_a_mean():
    values = np.random.default_rng(1).normal(2.0, 3.0, (1, 1000))
    estimate = mean_interval(values, apart(1000), generator())
    half = 1.96 * values.std() / math.sqrt(1000)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.03)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.03)


def test_equal_scenarios_under_one_key_count_as_one():
    values = np.random.default_rng(1).normal(0, 1, 100)
    alone = mean_interval(values[None], apart(100), generator())
    fourfold = mean_interval(np.repeat(values, 4)[None], scenario_weights(
        [str(i // 4) for i in range(400)], generator()), generator())  # fmt: skip
    assert (fourfold.low, fourfold.high) == pytest.approx((alone.low, alone.high), abs=0.02)


def test_seeds_that_disagree_widen_the_interval():
    noise = np.random.default_rng(1).normal(0, 0.1, (5, 400))
    agreeing = mean_interval(noise, apart(400), generator())
    spread = mean_interval(noise + np.arange(5)[:, None], apart(400), generator())
    # the mean of 5 draws of 0…4 has the standard deviation sqrt(2 / 5)
    assert spread.high - spread.low == pytest.approx(2 * 1.96 * math.sqrt(2 / 5), rel=0.1)
    assert agreeing.high - agreeing.low < 0.05


def test_a_paired_difference_is_narrower_than_its_parts():
    scenario = np.random.default_rng(1).normal(0, 1, (1, 500))
    difference = difference_interval(scenario + 0.25, scenario, apart(500), generator())
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_score_is_0_at_the_start_and_1_at_the_optimum():
    start, optimum = np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[2.0, 3.0, 2.0, 3.0]])
    score = score_interval(np.array([[1.0, 1.0, 2.0, 2.0]]), start, optimum, apart(4), generator())
    assert score.value == pytest.approx((1.5 - 0.5) / (2.5 - 0.5))
    assert score.low < 0.5 < score.high
    for values, wanted in ((start, 0.0), (optimum, 1.0)):
        exact = score_interval(values, start, optimum, apart(4), generator())
        assert (exact.value, exact.low, exact.high) == pytest.approx((wanted, wanted, wanted))


def test_a_score_halfway_in_every_scenario_has_no_width():
    start = np.random.default_rng(1).normal(0, 1, (1, 50))
    optimum = start + np.random.default_rng(2).uniform(1, 2, (1, 50))
    score = score_interval((start + optimum) / 2, start, optimum, apart(50), generator())
    assert (score.value, score.low, score.high) == pytest.approx((0.5, 0.5, 0.5))


def test_there_is_no_score_between_equal_references():
    same = np.ones((1, 4))
    assert math.isnan(score_interval(same * 2, same, same.copy(), apart(4), generator()).value)


def test_the_interquartile_mean_leaves_out_a_quarter_on_either_side():
    assert iqm(np.array([[100.0, 1.0, 2.0, -50.0], [3.0, 4.0, 5.0, 6.0]])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm(np.array([[1.0, 2.0, 9.0]])) == 4.0  # ⌊3/4⌋ = 0


def test_iqm_agrees_with_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    for shape in ((10, 7), (3, 1), (5, 3)):
        scores = np.random.default_rng(3).normal(0.5, 0.2, shape)
        assert iqm(scores) == pytest.approx(metrics.aggregate_iqm(scores))


def test_the_interval_of_iqm_is_that_of_a_bootstrap_stratified_by_environment():
    scores = np.random.default_rng(3).normal(0.5, 0.2, (10, 7))
    rng, drawn = np.random.default_rng(4), []
    for _ in range(2000):  # rliable's procedure, run by run: its own does not import beside pandas 3
        runs = np.stack([rng.choice(column, size=10) for column in scores.T], axis=1)
        drawn.append(trim_mean(runs, 0.25, axis=None))
    ours = iqm_interval(scores, generator())
    assert ours.value == pytest.approx(trim_mean(scores, 0.25, axis=None))
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)


def test_the_same_generator_gives_the_same_interval():
    values = np.random.default_rng(1).normal(0, 1, (3, 100))
    assert mean_interval(values, apart(100), generator()) == mean_interval(values, apart(100), generator())


def test_an_estimate_reads_as_a_number_with_its_interval():
    assert str(Estimate(-0.0001, -0.25, 0.5)) == "0.000 [-0.250, 0.500]"
    assert str(Estimate(NAN, NAN, NAN)) == "none scored"
