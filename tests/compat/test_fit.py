"""Closed forms against known answers, dense solvers, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from star_platform.compat.fit import Linear, low_rank, procrustes, r2, relative_penalty, ridge
from star_platform.compat.moments import Moments
from star_platform.errors import CompatError

Z = np.array([[1.0, 0], [0, 1], [1, 1]])


def _data(
    n: int = 400, d_n: int = 12, d_m: int = 7, noise: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d_n)) * rng.uniform(0.2, 3, d_n) + rng.normal(size=d_n)
    return z, z @ rng.normal(size=(d_n, d_m)) + rng.normal(size=d_m) + noise * rng.normal(size=(n, d_m))


def _squared(linear: Linear, z: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(z @ linear.weights + linear.bias - y).sum())


def _score(linear: Linear, z: np.ndarray, y: np.ndarray) -> float:
    return 1 - _squared(linear, z, y) / float(np.square(y - y.mean(axis=0)).sum())


def test_procrustes_by_hand() -> None:
    y = np.array([[0.0, 1], [-1, 0], [-1, 1]])
    found = procrustes(Moments.of(Z, y))
    np.testing.assert_allclose(found.weights, [[0, 1], [-1, 0]], atol=1e-12)
    assert _squared(found, Z, y) < 1e-20


def test_ridge_by_hand() -> None:
    found = ridge(Moments.of(Z, np.array([[2.0], [0], [2]])), 0.5, bias=False)
    np.testing.assert_allclose(found.weights[:, 0], [1.523810, 0.190476], atol=1e-6)


def test_ridge_is_the_dense_solution_from_a_wide_space_to_a_narrow_one_and_back() -> None:
    for d_n, d_m in ((12, 7), (7, 12)):
        z, y = _data(d_n=d_n, d_m=d_m)
        centred, answers = z - z.mean(axis=0), y - y.mean(axis=0)
        expected = np.linalg.solve(centred.T @ centred + 3.0 * np.eye(d_n), centred.T @ answers)
        found = ridge(Moments.of(z, y), 3.0)
        assert found.weights.shape == (d_n, d_m)
        np.testing.assert_allclose(found.weights, expected, atol=1e-9)
        np.testing.assert_allclose(found.bias, y.mean(axis=0) - z.mean(axis=0) @ expected, atol=1e-9)


def test_without_a_penalty_it_is_least_squares() -> None:
    z, y = _data()
    np.testing.assert_allclose(ridge(Moments.of(z, y), bias=False).weights, np.linalg.lstsq(z, y)[0], atol=1e-9)


def test_fewer_entities_than_dimensions_have_the_solution_of_least_norm() -> None:
    z, y = _data(n=5)
    np.testing.assert_allclose(ridge(Moments.of(z, y), bias=False).weights, np.linalg.lstsq(z, y)[0], atol=1e-6)


def test_a_column_that_never_varies_does_no_harm() -> None:
    z, y = _data()
    z[:, 3] = 1.0
    found = ridge(Moments.of(z, y))
    np.testing.assert_allclose(z @ found.weights + found.bias, z @ np.linalg.lstsq(z, y)[0], atol=1e-6)


def test_the_penalty_is_relative_to_the_scale_of_the_vectors() -> None:
    z, y = _data()
    for factor in (1e-3, 1e3):
        sums, scaled = Moments.of(z, y), Moments.of(z * factor, y)
        one = ridge(sums, relative_penalty(sums, 0.1)).weights
        other = ridge(scaled, relative_penalty(scaled, 0.1)).weights
        np.testing.assert_allclose(other * factor, one, rtol=1e-8)


def test_weights_count_entities_more_than_once() -> None:
    z, y = _data(n=60)
    times = np.random.default_rng(1).integers(1, 5, 60)
    weighted = Moments.of(z, y, times)
    repeated = Moments.of(np.repeat(z, times, axis=0), np.repeat(y, times, axis=0))
    np.testing.assert_allclose(ridge(weighted, 1.0).weights, ridge(repeated, 1.0).weights, atol=1e-9)
    assert (weighted.rows, weighted.n) == (60, times.sum())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_streamed_sums_are_the_dense_solution_in_any_order_of_shards(data: st.DataObject) -> None:
    n = data.draw(st.integers(30, 200))
    z, y = _data(n, data.draw(st.integers(2, 20)), data.draw(st.integers(2, 20)), seed=data.draw(st.integers(0, 99)))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))
    shards = [Moments.of(*each) for each in zip(np.split(z, cuts), np.split(y, cuts), strict=True)]
    total = Moments.none(z.shape[1], y.shape[1])
    for shard in data.draw(st.permutations(shards)):
        total = total + shard
    dense = Moments.of(z, y)
    assert total.rows == n
    for name in ("n", "z", "y", "zz", "zy", "yy"):
        np.testing.assert_allclose(getattr(total, name), getattr(dense, name), rtol=1e-12, atol=1e-12 * n)
    centred, answers = z - z.mean(axis=0), y - y.mean(axis=0)
    penalty = relative_penalty(total, 1e-3)
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(z.shape[1]), centred.T @ answers)
    np.testing.assert_allclose(ridge(total, penalty).weights, expected, atol=1e-6)
    np.testing.assert_allclose(procrustes(total).weights, procrustes(dense).weights, atol=1e-6)
    assert r2(total, ridge(total, penalty)) == pytest.approx(_score(ridge(dense, penalty), z, y), abs=1e-6)


def test_a_rotated_copy_is_found_exactly() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=(500, 9))
    rotation = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    rotation[:, 0] *= -1  # a reflection is allowed
    sums = Moments.of(z, z @ rotation)
    found = procrustes(sums)
    assert r2(sums, found) == pytest.approx(1.0, abs=1e-10)
    np.testing.assert_allclose(found.weights, orthogonal_procrustes(z, z @ rotation)[0], atol=1e-9)


@pytest.mark.parametrize(("d_n", "d_m"), [(9, 5), (5, 9)])
def test_procrustes_of_unequal_dimensions_is_that_of_padded_vectors(d_n: int, d_m: int) -> None:
    z, y = _data(d_n=d_n, d_m=d_m)
    wide = np.zeros((2, len(z), 9))
    wide[0, :, :d_n], wide[1, :, :d_m] = z, y
    found = procrustes(Moments.of(z, y)).weights
    np.testing.assert_allclose(found, orthogonal_procrustes(wide[0], wide[1])[0][:d_n, :d_m], atol=1e-9)
    small = found.T @ found if d_m < d_n else found @ found.T
    np.testing.assert_allclose(small, np.eye(5), atol=1e-9)


def test_the_stretch_of_procrustes_is_the_best_one() -> None:
    for d_n, d_m in ((6, 6), (9, 5), (5, 9)):
        z, y = _data(d_n=d_n, d_m=d_m)
        sums = Moments.of(z, y)
        best = _squared(procrustes(sums, scale=True), z, y)
        found = procrustes(sums, scale=True)
        for factor in (0.99, 1.01):
            assert _squared(Linear(found.weights * factor, found.bias), z, y) > best
        assert best <= _squared(procrustes(sums), z, y)


def test_low_rank_is_cut_where_it_costs_least() -> None:
    z, y = _data(noise=0.5)
    sums = Moments.of(z, y)
    found = low_rank(sums, 3, 0.0)
    assert np.linalg.matrix_rank(found.weights, tol=1e-8) == 3
    images = (z - z.mean(axis=0)) @ ridge(sums).weights
    u, s, vt = np.linalg.svd(images, full_matrices=False)
    np.testing.assert_allclose((z - z.mean(axis=0)) @ found.weights, (u[:, :3] * s[:3]) @ vt[:3], atol=1e-6)
    np.testing.assert_allclose(low_rank(sums, 7).weights, ridge(sums).weights, atol=1e-8)


def test_noise_is_not_explained() -> None:
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=(2, 20_000, 16))
    fitted = ridge(Moments.of(z[:15_000], y[:15_000]))
    found = r2(Moments.of(z[15_000:], y[15_000:]), fitted)
    assert found == pytest.approx(0.0, abs=0.01)


def test_r2_of_vectors_that_do_not_vary_is_not_given() -> None:
    sums = Moments.of(Z, np.ones((3, 2)))
    assert r2(sums, ridge(sums)) is None


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(CompatError, match="C012"):
        Moments.of(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(CompatError, match="C012"):
        Moments.of(np.full((3, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(CompatError, match="C013"):
        ridge(Moments.none(3, 2))
