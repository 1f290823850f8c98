"""The network follows what no matrix does, and starts as the matrix."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from star_platform.compat.config import CompatConfig
from star_platform.compat.fit import ridge
from star_platform.compat.geometry import errors, mean_old
from star_platform.compat.model import Vectors
from star_platform.compat.moments import moments
from star_platform.compat.pairs import Pairs, pair
from star_platform.compat.residual import fit_residual

from .worlds import factors, linear_map, seen


def bent(n: int = 6000, scale: float = 1.0) -> Pairs:
    """Old vectors that bend where the new ones go straight."""
    hidden = factors(n, 4)
    ids = pa.array(np.arange(n))
    old = seen(np.concatenate([hidden, np.abs(hidden)], axis=1), 10, 2)
    return pair(Vectors(ids, seen(hidden, 12, 1) * np.float32(scale)), Vectors(ids, old), "member")


def r2(found: Pairs, config: CompatConfig, *, network: bool) -> float:
    fit, judge = found.take(found.rows % 5 != 0), found.take(found.rows % 5 == 0)
    linear = ridge(moments(fit), 1e-3)
    fitted = linear_map(2, 1, *linear, hidden=fit_residual(fit, linear, config) if network else None)
    value = errors(fitted, judge, mean_old(judge)).figures()["r2"]
    assert isinstance(value, float)
    return value


def test_it_explains_what_a_matrix_cannot_at_any_scale_of_vectors() -> None:
    config = CompatConfig(method="residual", hidden=64, residual_epochs=40, residual_batch=256)
    for scale in (1.0, 1e-3):
        found = bent(scale=scale)
        assert r2(found, config, network=False) < 0.85
        assert r2(found, config, network=True) > 0.95


def test_without_a_step_it_is_the_linear_map() -> None:
    found = bent(500)
    linear = ridge(moments(found), 1e-3)
    hidden = fit_residual(found, linear, CompatConfig(method="residual", residual_lr=1e-30, residual_epochs=1))
    x = found.new.vectors
    np.testing.assert_allclose(
        linear_map(2, 1, *linear, hidden=hidden).apply(x), linear_map(2, 1, *linear).apply(x), atol=1e-5
    )


def test_equal_seeds_give_equal_weights() -> None:
    found = bent(500)
    linear = ridge(moments(found), 1e-3)
    one, same, other = (
        fit_residual(found, linear, CompatConfig(method="residual", residual_epochs=2, seed=seed, residual_rows=300))
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one.w2, same.w2)
    assert (one.w1 != other.w1).any()
