"""Groups of users: their means, and the gap that is more than chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from results.groups import gap_of, group_gap, groups, lost
from results.record import Evaluation, Record
from results.sections import sections_of
from tests.test_record import RECORD


def keys(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_the_gap_is_between_the_best_and_the_worst_served():
    values = np.array([[0.0] * 40 + [1.0] * 40 + [0.5] * 40])
    gap = group_gap(values, keys(120), {"mood": ["sad"] * 40 + ["gay"] * 40 + ["calm"] * 40}, permutations=200)
    assert (gap.attribute, gap.worst, gap.best, gap.seen) == ("mood", "sad", "gay", 1.0)
    assert gap.p_value == pytest.approx(1 / 201) and 0.95 < gap.beyond_chance < 1


def test_a_gap_of_two_groups_is_free_of_the_variance_that_chance_gives_it():
    # Dealt to two groups of n at random, means differ by a variance of s² (1/n + 1/n).
    values = np.random.default_rng(0).normal(0, 1, (1, 200))
    values[0, :100] += 1.0
    gap = group_gap(values, keys(200), {"mood": ["sad"] * 100 + ["gay"] * 100}, permutations=2000)
    assert gap.seen == pytest.approx(values[0, :100].mean() - values[0, 100:].mean())
    assert gap.seen**2 - gap.beyond_chance**2 == pytest.approx(values.var(ddof=1) * 2 / 100, rel=0.1)


def test_groups_that_are_served_alike_have_no_gap_and_honest_p_values():
    rng = np.random.default_rng(0)
    attributes = {"mood": [f"m{i % 5}" for i in range(200)], "size": [f"s{i % 3}" for i in range(200)]}
    found = [group_gap(rng.normal(0, 1, (3, 200)), keys(200), attributes, permutations=99) for _ in range(200)]
    # p ≤ .05 one time in twenty: of 200, 10 ± 2 √(200 × .05 × .95) = 6.2
    assert abs(sum(gap.p_value <= 0.05 for gap in found) - 10) <= 6.2
    assert np.mean([gap.seen for gap in found]) > 0.15  # extremes of noisy means are apart
    assert np.mean([gap.beyond_chance for gap in found]) < 0.08


def test_clusters_are_dealt_whole():
    # Four users ten times each: any two of them are as far apart as the groups are, in a third of the deals
    values = np.repeat([0.0, 0.0, 1.0, 1.0], 10)[None]
    clusters = np.repeat(["a", "b", "c", "d"], 10).tolist()
    gap = group_gap(values, clusters, {"mood": ["sad"] * 20 + ["gay"] * 20}, least=10)
    assert gap.p_value == pytest.approx(1 / 3, abs=0.05)


def test_small_groups_and_unscored_conversations_are_left_out():
    values = np.array([[0.0] * 40 + [0.5] * 40 + [9.0] * 3 + [np.nan] * 40])
    attributes = {"mood": ["sad"] * 40 + ["gay"] * 40 + ["rare"] * 3 + ["lost"] * 40}
    gap = group_gap(values, keys(123), attributes, permutations=50)
    assert (gap.worst, gap.best, gap.seen) == ("sad", "gay", 0.5)
    assert group_gap(values, keys(123), {"mood": ["sad"] * 123}) is None
    assert group_gap(np.full((1, 3), np.nan), keys(3), attributes) is None


def record(agent: str, seed: int, learns: bool = True, changes: float = 0.0) -> Record:
    """Sad users get .2, gay ones .6; moody users and ood_test cost .1 each, with ``changes`` more of the latter."""
    mood = ["sad"] * 30 + ["gay"] * 30

    def evaluation(user: str, split: str) -> Evaluation:
        off = 0.1 * (user == "moody") + (0.1 + changes) * (split == "ood_test")
        returns = [(0.2 if one == "sad" else 0.6) + 0.01 * (i % 2) + 0.1 * seed - off for i, one in enumerate(mood)]
        names = [f"{split}{i}" for i in range(60)]
        one = Evaluation(user, split, list(range(60)), names, returns, [r > 0.5 for r in returns], 2.0, 0)
        return replace(one, attributes={"mood": mood}, health={"role_flips": 0.1 * (seed + 1), "empty_replies": None})

    cells = [evaluation(user, split) for user in ("plain", "moody") for split in ("iid_test", "ood_test")]
    return replace(RECORD, agent=agent, seed=seed, learns=learns, evaluations=cells, references={})


def test_every_group_has_its_mean():
    (section,) = sections_of([record("bandit", 0)])
    sad, gay = sorted(groups(section, section.entries[0], section.condition), key=lambda one: one.returns.value)
    assert (sad.attribute, sad.value, sad.scenarios, gay.value) == ("mood", "sad", 30, "gay")
    ends = ttest_1samp([0.2, 0.21] * 15, 0).confidence_interval()
    assert (sad.returns.value, sad.returns.low, sad.returns.high) == pytest.approx((0.205, ends.low, ends.high))
    assert gap_of(section, section.entries[0]).seen == pytest.approx(0.4)


def test_what_is_lost_elsewhere_is_taken_within_the_runs():
    (section,) = sections_of([record("bandit", seed) for seed in range(3)])
    gaps = lost(section, section.entries[0])
    assert list(gaps) == ["other users", "ood_test"]
    # on the same scenarios each run loses .1 with moody users, whatever its seed
    assert (gaps["other users"].value, gaps["other users"].low) == pytest.approx((0.1, 0.1))
    # other scenarios: s² / n of either split, and seeds, which move both alike, do not count
    one = np.var(np.repeat([0.2, 0.6], 30) + np.tile([0.0, 0.01], 30), ddof=1) / 60
    assert gaps["ood_test"].value == pytest.approx(0.1)
    assert gaps["ood_test"].high - gaps["ood_test"].value == pytest.approx(1.98 * np.sqrt(2 * one), rel=0.01)


def test_health_is_the_mean_over_runs_of_what_was_measured():
    (section,) = sections_of([record("bandit", seed) for seed in range(3)])
    assert section.entries[0].health(("plain",), "iid_test") == {"role_flips": pytest.approx(0.2)}
