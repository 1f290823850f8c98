"""Intervals that know that rows of one member are not independent."""

from __future__ import annotations

import numpy as np
import pytest

from star_platform.evaluation.auc import auc, delong
from star_platform.evaluation.bootstrap import ClusterBootstrap, interval, stratified_auc

RNG = np.random.default_rng(3)
MEMBERS = RNG.integers(0, 60, 400)
LABELS = RNG.integers(0, 2, 400)
SCORES = np.round(LABELS + RNG.normal(size=400) + RNG.normal(size=60)[MEMBERS], 1)


def test_each_resample_is_the_auc_of_the_rows_of_drawn_members() -> None:
    bootstrap = ClusterBootstrap(MEMBERS, resamples=100, seed=1)
    found = bootstrap.auc(LABELS, SCORES)
    for b in (0, 7, 99):
        rows = np.repeat(np.arange(400), bootstrap.weights[b][bootstrap.codes])
        assert found[b] == pytest.approx(auc(LABELS[rows], SCORES[rows]))
    assert (bootstrap.weights.sum(axis=1) == bootstrap.count).all()


def test_each_resample_is_the_mean_of_the_rows_of_drawn_members() -> None:
    bootstrap = ClusterBootstrap(MEMBERS, resamples=300, seed=1)
    part = np.flatnonzero(LABELS > 0)
    found = bootstrap.mean(SCORES[part], part)
    for b in (0, 150, 299):
        rows = np.repeat(part, bootstrap.weights[b][bootstrap.codes[part]])
        assert found[b] == pytest.approx(SCORES[rows].mean())


def test_rows_repeated_leave_the_bootstrap_and_shrink_delong() -> None:
    twice = [np.tile(each, 4) for each in (MEMBERS, LABELS, SCORES)]
    value = auc(LABELS, SCORES)
    once = interval(value, ClusterBootstrap(MEMBERS, 200, 5).auc(LABELS, SCORES))
    again = interval(value, ClusterBootstrap(twice[0], 200, 5).auc(twice[1], twice[2]))
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    one, four = delong(LABELS, SCORES), delong(twice[1], twice[2])
    assert one is not None
    assert four is not None
    assert four.covariance[0, 0] < 0.3 * one.covariance[0, 0]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Members with an effect of their own: bounds by member cover, and DeLong's do not."""
    rng = np.random.default_rng(0)
    by_member, by_row = 0, 0
    runs = 200
    for run in range(runs):
        members = np.repeat(np.arange(50), 12)
        labels = np.repeat(rng.integers(0, 2, 50), 12)
        scores = labels + rng.normal(size=50)[members] * 1.5 + rng.normal(size=600)
        truth = 0.65256  # Phi(1 / sqrt(2 * (2.25 + 1)))
        found = interval(auc(labels, scores), ClusterBootstrap(members, 200, run).auc(labels, scores))
        assert found.low is not None
        assert found.high is not None
        by_member += found.low <= truth <= found.high
        independent = delong(labels, scores)
        assert independent is not None
        bounds = independent.interval()
        assert bounds is not None
        by_row += bounds[0] <= truth <= bounds[1]
    assert by_member / runs > 0.88
    assert by_row / runs < 0.7


def test_the_same_seed_gives_the_same_resamples() -> None:
    one, other = (ClusterBootstrap(MEMBERS, 100, seed) for seed in (4, 4))
    np.testing.assert_array_equal(one.weights, other.weights)
    assert (ClusterBootstrap(MEMBERS, 100, 5).weights != one.weights).any()


def test_paired_differences_are_narrower() -> None:
    bootstrap = ClusterBootstrap(MEMBERS, 400, 0)
    better = SCORES + 0.3 * LABELS
    one, other = bootstrap.auc(LABELS, better), bootstrap.auc(LABELS, SCORES)
    paired = interval(0.0, one - other)
    assert paired.low is not None
    assert paired.high is not None
    assert paired.low > 0.0
    assert paired.high - paired.low < 0.5 * np.ptp(np.percentile(one, [2.5, 97.5]))


def test_an_undefined_figure_has_no_interval() -> None:
    bootstrap = ClusterBootstrap([0, 1, 2], 200, 0)
    found = interval(1.0, bootstrap.auc([1, 0, 0], [3, 2, 1]))  # the one positive is often not drawn
    assert found.value == 1.0
    assert found.low is None
    assert interval(None, np.array([1.0])).low is None
    assert np.isnan(ClusterBootstrap([], 100, 0).auc([], [])).all()


def test_strata_compare_only_within() -> None:
    strata = np.random.default_rng(1).integers(0, 4, 400)
    won, pairs = 0.0, 0
    for stratum in range(4):
        positive, negative = (SCORES[(strata == stratum) & (label == LABELS)] for label in (1, 0))
        higher, same = positive[:, None] > negative, positive[:, None] == negative
        won += float(higher.sum() + 0.5 * same.sum())
        pairs += higher.size
    assert stratified_auc(LABELS, SCORES, strata) == pytest.approx(won / pairs)
    assert stratified_auc(LABELS, SCORES, np.zeros(400)) == pytest.approx(auc(LABELS, SCORES))
    assert stratified_auc([1, 0], [1.0, 0.0], [0, 1]) is None
    bootstrap = ClusterBootstrap(MEMBERS, 100, 1)
    found = bootstrap.auc(LABELS, SCORES, strata=strata)
    rows = np.repeat(np.arange(400), bootstrap.weights[3][bootstrap.codes])
    assert found[3] == pytest.approx(stratified_auc(LABELS[rows], SCORES[rows], strata[rows]))
    assert stratified_auc(LABELS, strata.astype(float), strata) == 0.5, "what the strata say alone earns nothing"
