"""A product of maps is the maps one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.compat.compose import chain, compose, concerns
from star_platform.compat.fit import r2, ridge
from star_platform.compat.model import Hidden
from star_platform.compat.moments import Moments
from star_platform.errors import CompatError

from .worlds import factors, linear_map, seen

DIMS = st.integers(1, 12)


@given(DIMS, DIMS, DIMS, st.integers(0, 99))
def test_the_product_is_sequential_application(d3: int, d2: int, d1: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = linear_map(3, 2, rng.normal(size=(d3, d2)), rng.normal(size=d2))
    second = linear_map(2, 1, rng.normal(size=(d2, d1)), rng.normal(size=d1))
    both = compose(first, second)
    x = rng.normal(size=(20, d3))
    sequential = (x @ first.weights + first.bias) @ second.weights + second.bias
    np.testing.assert_allclose(x @ both.weights + both.bias, sequential, atol=1e-6)
    assert (both.name, both.via, both.dims) == ("member:r3->r1", "composed", (d3, d1))
    assert (both.source_space, both.target_space) == ("space-3", "space-1")
    assert np.linalg.matrix_rank(both.weights) <= min(d3, d2, d1)


def test_a_chain_is_composed_from_left_to_right() -> None:
    rng = np.random.default_rng(0)
    maps = [linear_map(n, n - 1, rng.normal(size=(4, 4)), rng.normal(size=4)) for n in (5, 4, 3, 2)]
    whole = chain(*maps)
    expected = maps[0].weights @ maps[1].weights @ maps[2].weights @ maps[3].weights
    np.testing.assert_allclose(whole.weights, expected, atol=1e-9)
    assert whole.name == "member:r5->r1"


def test_normalised_spaces_on_the_whole_way_compose_exactly() -> None:
    rng = np.random.default_rng(1)
    first = linear_map(3, 2, rng.normal(size=(6, 5)), normalise=True)
    second = linear_map(2, 1, rng.normal(size=(5, 4)), normalise=True)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    np.testing.assert_allclose(compose(first, second).apply(x), second.apply(first.apply(x)), atol=1e-5)
    assert concerns(first, second) == ()


def test_direct_is_never_worse_on_what_it_was_fitted_on() -> None:
    hidden = factors(2000, 10)
    r3, r2_, r1 = (seen(hidden, dim, dim, noise=0.3) for dim in (20, 6, 12))
    to_2, to_1, direct = ridge(Moments.of(r3, r2_)), ridge(Moments.of(r2_, r1)), ridge(Moments.of(r3, r1))
    composed = compose(linear_map(3, 2, *to_2), linear_map(2, 1, *to_1))
    sums = Moments.of(r3, r1)
    best, through = r2(sums, direct), r2(sums, type(direct)(composed.weights, composed.bias))
    assert best is not None
    assert through is not None
    assert best > through + 0.05  # six dimensions in between cannot hold ten factors


def test_a_narrow_release_in_between_is_said() -> None:
    (narrow,) = concerns(linear_map(3, 2, np.ones((8, 3))), linear_map(2, 1, np.ones((3, 6))))
    assert "rank 3 of 6" in narrow
    assert concerns(linear_map(3, 2, np.ones((8, 6))), linear_map(2, 1, np.ones((6, 6)))) == ()
    unit = linear_map(3, 2, np.ones((8, 6)), normalise=True)
    (lengths,) = concerns(unit, linear_map(2, 1, np.ones((6, 6)), np.ones(6)))
    assert "length 1" in lengths


def test_networks_and_maps_that_do_not_follow_each_other_are_refused() -> None:
    first, second = linear_map(3, 2, np.ones((4, 4))), linear_map(2, 1, np.ones((4, 4)))
    network = Hidden(np.ones((4, 2)), np.ones(2), np.ones((2, 4)), np.ones(4))
    for pair in ((replace(first, hidden=network), second), (first, replace(second, hidden=network))):
        with pytest.raises(CompatError, match="C014"):
            compose(*pair)
    for wrong in (
        second.__class__(**{**vars(second), "source_space": "another"}),
        linear_map(2, 1, np.ones((4, 4)), node="job"),
        linear_map(4, 1, np.ones((4, 4))),
        linear_map(2, 1, np.ones((5, 4))),
    ):
        with pytest.raises(CompatError, match="C015"):
            compose(first, wrong)
