from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_platform.demo.downstream import Impressions, compare, pair_features, read_impressions
from star_platform.demo.world import SPECIALITIES, make_world
from star_platform.publishing.read import Fetched


def vectors(impressions: Impressions, node: str, informative: bool) -> Fetched:
    """One-hot specialities, which a perfect encoder would find, or noise; every tenth id is unknown."""
    world, rng = make_world(600, 3), np.random.default_rng(0)
    ids = impressions.distinct(node)
    if node == "member":
        speciality = world.members.later[np.searchsorted(world.members.ids, ids)]
    else:
        speciality = world.jobs.speciality[[int(str(name)[4:]) for name in ids]]
    values = np.eye(SPECIALITIES)[speciality] if informative else rng.normal(size=(len(ids), SPECIALITIES))
    found = np.arange(len(ids)) % 10 != 9
    return Fetched(node, 1, "space", tuple(ids), (values * found[:, None]).astype(np.float32), found)


def test_good_vectors_help_and_noise_does_not(market: Path) -> None:
    impressions = read_impressions(market)
    given = {
        name: (vectors(impressions, "member", good), vectors(impressions, "job", good))
        for name, good in (("truth", True), ("noise", False))
    }
    own, truth, noise = compare(impressions, given)
    assert [one.name for one in (own, truth, noise)] == ["own columns only", "truth", "noise"]
    assert own.auc.value is not None
    assert 0.55 < own.auc.value < 0.75
    assert truth.gain is not None
    assert truth.gain.above_zero
    assert truth.gain.value is not None
    assert truth.gain.value > 0.08
    assert noise.auc.value == pytest.approx(own.auc.value, abs=0.05)
    assert own.test_pairs == len(impressions.applied) - impressions.cut


def test_training_pairs_come_before_test_pairs(market: Path) -> None:
    import pyarrow.parquet as pq

    impressions = read_impressions(market)
    shown = np.sort(pq.read_table(market / "impressions.parquet")["shown_at"].to_numpy())
    assert len(impressions.applied) == len(shown)
    assert shown[impressions.cut - 1] <= shown[impressions.cut]
    assert impressions.own.shape == (len(shown), 6)
    assert np.isfinite(impressions.own).all()


def test_rows_follow_the_pairs(market: Path) -> None:
    impressions = read_impressions(market)
    ids = impressions.distinct("member")
    found = np.array([index % 2 == 0 for index in range(len(ids))])
    values = np.arange(len(ids), dtype=np.float32)[:, None] * found[:, None]
    rows, present = impressions.rows(Fetched("member", 1, "s", tuple(ids), values, found))
    index = {value: position for position, value in enumerate(ids)}
    expected = [index[value] for value in impressions.ids["member"].tolist()]
    assert rows[:, 0].tolist() == [position if position % 2 == 0 else 0 for position in expected]
    assert present.tolist() == [position % 2 == 0 for position in expected]


def test_pairs_with_a_missing_side_say_nothing() -> None:
    left, right = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 4.0], [0.0, 1.0], [3.0, 3.0]])
    features = pair_features(left, np.array([True, True, False]), right, np.array([True, True, True]))
    np.testing.assert_allclose(features, [[2, 8, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
