"""IQM, optimality gap, profiles, probability of improvement: by hand, and against rliable given the same resamples."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from results.aggregates import (
    draw_runs,
    iqm,
    optimality_gap,
    pass_hat,
    performance_profile,
    probability_of_improvement,
    profile_band,
    run_improvement,
    spread_runs,
    stratified_interval,
    wilson,
)
from results.statistics import interval, scenario_weights

NAN = float("nan")
SHAPES = ((10, 7), (3, 1), (5, 3))


@pytest.fixture
def rliable(monkeypatch):
    """rliable's library; arch, which it draws with, was written for a pandas whose decorator took other arguments."""
    metrics = pytest.importorskip("rliable.metrics")
    decorators = importlib.import_module("pandas.util._decorators")
    monkeypatch.setattr(decorators, "deprecate_kwarg", lambda *_, **__: lambda function: function)
    library = pytest.importorskip("rliable.library")
    # Its absl took what is standard error now, pytest's own file, and closes that whenever logging is configured anew
    # while another stands there; the true standard error it leaves open.
    absl = importlib.import_module("absl.logging")
    absl.get_absl_handler().python_handler.stream = sys.__stderr__
    return library, metrics


def scores(shape: tuple[int, int], seed: int = 3) -> np.ndarray:
    """With ties."""
    return np.round(np.random.default_rng(seed).normal(0.5, 0.4, shape), 1)


def rliables_picks(shape: tuple[int, int], replicates: int) -> tuple[np.ndarray, np.ndarray]:
    """The runs that its bootstrap draws after ``np.random.seed(0)``: one table of indices per replicate."""
    state = np.random.RandomState(0)  # what np.random.seed seeds
    return np.stack([state.choice(shape[0], shape, replace=True) for _ in range(replicates)]), np.arange(shape[1])


def test_the_interquartile_mean_leaves_out_a_quarter_on_either_side():
    assert iqm(np.array([[100.0, 1.0, 2.0, -50.0], [3.0, 4.0, 5.0, 6.0]])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm(np.array([[1.0, 2.0, 9.0]])) == 4.0  # ⌊3/4⌋ = 0


def test_the_optimality_gap_counts_nothing_above_the_bound():
    assert optimality_gap(np.array([[0.5, 2.0], [1.0, -0.5]])) == pytest.approx((0.5 + 0 + 0 + 1.5) / 4)


def test_a_profile_is_the_share_above_each_threshold():
    table = np.array([[0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(performance_profile(table, np.array([-1.0, 0.0, 0.5, 1.0])), [1, 0.75, 0.25, 0])


def test_ties_are_half_an_improvement():
    first, second = np.array([[1.0], [2.0]]), np.array([[1.0], [0.0], [3.0]])
    # 1 against 1, 0, 3: ½, 1, 0; 2: 1, 1, 0; of six
    assert probability_of_improvement(first, second) == pytest.approx(3.5 / 6)


def test_a_batch_of_tables_is_as_many_tables():
    batch = np.stack([scores((5, 3), seed) for seed in range(4)])
    for measure in (iqm, optimality_gap, partial(performance_profile, thresholds=np.array([0.3, 0.6]))):
        np.testing.assert_allclose(measure(batch), [measure(one) for one in batch])


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_agree_with_rliable(shape, rliable):
    library, metrics = rliable
    one, other = scores(shape), scores(shape, 4)
    assert iqm(one) == pytest.approx(metrics.aggregate_iqm(one), abs=1e-9)
    assert optimality_gap(one) == pytest.approx(metrics.aggregate_optimality_gap(one), abs=1e-9)
    assert probability_of_improvement(one, other) == pytest.approx(
        metrics.probability_of_improvement(one, other), abs=1e-9
    )
    thresholds = np.linspace(0, 1, 5)
    theirs, _ = library.create_performance_profile({"a": one}, thresholds, reps=2)
    np.testing.assert_allclose(performance_profile(one, thresholds), theirs["a"], atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_probability_of_improvement_is_scipys_u_over_the_pairs(shape):
    one, other = scores(shape), scores((4, shape[1]), 4)
    u = [
        mannwhitneyu(a, b, alternative="greater").statistic / (shape[0] * 4)
        for a, b in zip(one.T, other.T, strict=True)
    ]
    assert probability_of_improvement(one, other) == pytest.approx(np.mean(u), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_agree_with_rliable_given_the_same_resamples(shape, rliable, monkeypatch):
    library, metrics = rliable
    table, reps = scores(shape), 200
    picks = rliables_picks(shape, reps)
    for ours, theirs in ((iqm, metrics.aggregate_iqm), (optimality_gap, metrics.aggregate_optimality_gap)):
        np.random.seed(0)
        _, ends = library.get_interval_estimates({"a": table}, lambda x, f=theirs: np.array([f(x)]), reps=reps)
        drawn = interval(float(ours(table)), ours(table[picks]))
        assert (drawn.low, drawn.high) == pytest.approx(tuple(ends["a"][:, 0]), abs=1e-6)
    thresholds = np.linspace(0, 1, 5)
    np.random.seed(0)
    _, bands = library.create_performance_profile({"a": table}, thresholds, reps=reps)
    drawn = performance_profile(table[picks], thresholds)
    np.testing.assert_allclose(np.quantile(drawn, [0.025, 0.975], axis=0), bands["a"], atol=1e-6)


def test_the_interval_of_an_improvement_agrees_with_rliable_given_the_same_resamples(rliable):
    library, metrics = rliable
    one, other, reps = scores((5, 3)), scores((4, 3), 4), 200
    state = np.random.RandomState(0)
    drawn = []
    for _ in range(reps):
        first, second = (state.choice(len(x), x.shape, replace=True) for x in (one, other))
        drawn.append(probability_of_improvement(one[first, np.arange(3)], other[second, np.arange(3)]))
    np.random.seed(0)
    _, ends = library.get_interval_estimates(
        {"a": [one, other]}, lambda x, y: np.array([metrics.probability_of_improvement(x, y)]), reps=reps
    )
    ours = interval(0.5, np.array(drawn))
    assert (ours.low, ours.high) == pytest.approx(tuple(ends["a"][:, 0]), abs=1e-6)


def test_runs_are_drawn_within_their_environment():
    table = np.array([[0.0, 10.0], [1.0, 11.0]])
    drawn = table[draw_runs(table.shape, np.random.default_rng(0), 500)]
    assert drawn.shape == (500, 2, 2)
    assert set(np.unique(drawn[..., 0])) == {0.0, 1.0} and set(np.unique(drawn[..., 1])) == {10.0, 11.0}
    assert (drawn[:, 0, 0] + 10 != drawn[:, 0, 1]).any()  # each environment for itself


def test_an_interval_and_a_band_are_quantiles_of_the_same_draws():
    table = scores((5, 3))
    drawn = table[draw_runs(table.shape, np.random.default_rng(0), 300)]
    estimate = stratified_interval(optimality_gap, table, np.random.default_rng(0), 300)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(optimality_gap(drawn), [0.025, 0.975])))
    (middle,) = profile_band(table, np.array([0.5]), np.random.default_rng(0), 300)
    assert middle.value == pytest.approx((table > 0.5).mean())
    assert middle.high == pytest.approx(np.quantile((drawn > 0.5).mean(axis=(1, 2)), 0.975))


def test_spread_runs_bootstrap_to_the_whole_variance():
    runs = np.array([0.0, 1.0, 5.0])
    spread = spread_runs(runs[None, :, None])[0, :, 0]
    assert spread.mean() == pytest.approx(2.0)
    # a bootstrap draws from the variance over n; that of the spread runs is s² = (4 + 1 + 9) / 2
    assert spread.var() == pytest.approx(7.0)
    np.testing.assert_array_equal(spread_runs(np.array([[[0.5]]])), [[[0.5]]])


def test_wilsons_interval_of_three_in_three():
    z2 = 1.959963984540054**2
    estimate = wilson(1.0, 3)
    assert (estimate.low, estimate.high) == pytest.approx((3 / (3 + z2), 1.0))  # .44


def test_few_runs_that_are_all_better_are_no_certainty():
    start, better = np.zeros((1, 50)), np.ones((3, 50))
    weights = scenario_weights([str(i) for i in range(50)], np.random.default_rng(0), 100)
    estimate = run_improvement(better, start, weights, np.random.default_rng(0))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.0, wilson(1.0, 3).low, 1.0))


def test_an_improvement_is_unsure_where_scenarios_are_few():
    # Means .6 and .5; of three scenarios the better one leads in one only, so many draws turn it round.
    own, start = np.array([[1.8, 0.0, 0.0]]), np.array([[0.0, 0.75, 0.75]])
    weights = scenario_weights(["a", "b", "c"], np.random.default_rng(0), 500)
    estimate = run_improvement(own, start, weights, np.random.default_rng(0))
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 0.0, 1.0)


def test_pass_hat_k_by_hand():
    successes = np.array([[1.0, 1.0, 0.0, NAN], [1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, NAN], [1.0, 0.0, 0.0, NAN]])
    # c of n: 4 of 4, 2 of 4, 0 of 4, 1 of 1; C(2, 2) / C(4, 2) = 1/6
    np.testing.assert_allclose(pass_hat(successes, 2), [1, 1 / 6, 0, NAN])
    np.testing.assert_allclose(pass_hat(successes, 1), [1, 1 / 2, 0, 1])
    np.testing.assert_allclose(pass_hat(successes, 4), [1, 0, 0, NAN])


def test_pass_hat_k_is_the_mean_over_all_choices_of_k_runs():
    successes = np.random.default_rng(0).integers(0, 2, (5, 8)).astype(float)
    by_choice = np.mean([successes[list(choice)].all(axis=0) for choice in combinations(range(5), 3)], axis=0)
    np.testing.assert_allclose(pass_hat(successes, 3), by_choice)
