"""Means and the bootstrap against numbers worked out by hand, and its interval against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from results.statistics import (
    Estimate,
    interval,
    matrix,
    mean,
    resampled_means,
    resampled_rows,
    scenario_weights,
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
    two = np.array([[1.0, 2.0, NAN], [0.0, 4.0, 8.0]])
    np.testing.assert_allclose(resampled_rows(two, weights), [[1.5, 4], [1, 0], [2, 20 / 3], [NAN, 8]])


def test_the_bootstrap_of_a_mean_is_scipys_given_the_same_resamples():
    values = np.random.default_rng(1).exponential(1.0, 40)
    drawn = np.random.default_rng(7).integers(0, 40, (999, 40))  # as scipy draws them
    weights = np.stack([np.bincount(one, minlength=40) for one in drawn]).astype(float)
    ours = interval(float(values.mean()), resampled_means(values[None], weights, generator()))
    theirs = bootstrap(
        (values,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_seeds_and_clusters_drawn_together_vary_as_the_two_stages_add_up():
    values = np.add.outer([0.0, 1.0, 2.0], np.arange(4.0))  # [3 seeds, 4 scenarios], no noise of single cells
    drawn = resampled_means(values, apart(4, 20000), generator())
    # var of {0, 1, 2} is 2/3, over 3 draws 2/9; of {0, 1, 2, 3} 5/4, over 4 draws 5/16
    assert drawn.var() == pytest.approx(2 / 9 + 5 / 16, rel=0.03)


def test_the_interval_is_the_central_95_percent():
    assert interval(5.0, np.arange(1001.0)) == Estimate(5.0, 25.0, 975.0)
    assert math.isnan(interval(NAN, np.arange(5.0)).low)


def test_the_same_generator_gives_the_same_replicates():
    values = np.random.default_rng(1).normal(0, 1, (3, 100))
    first, second = (resampled_means(values, apart(100), generator()) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_estimate_reads_as_a_number_with_its_interval():
    assert str(Estimate(-0.0001, -0.25, 0.5)) == "0.000 [-0.250, 0.500]"
    assert str(Estimate(0.5, NAN, NAN)) == "0.500"
    assert str(Estimate(NAN, NAN, NAN)) == "none scored"
