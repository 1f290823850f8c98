"""Entities are joined by id, whatever the order of rows."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.compat.fit import ridge
from star_platform.compat.geometry import mean_old, measure
from star_platform.compat.model import Vectors
from star_platform.compat.moments import Moments, moments
from star_platform.compat.pairs import find, hold_out, locate, pair
from star_platform.errors import CompatError

from .worlds import linear_map

IDS = st.lists(st.integers(-(2**40), 2**40), unique=True, max_size=40)


def vectors(ids: list[object], dim: int = 2) -> Vectors:
    """A vector that tells whose it is."""
    marks = np.array([hash(each) % 1_000_003 for each in ids], dtype=np.float32)
    return Vectors(pa.array(ids), np.repeat(marks[:, None], dim, axis=1))


@given(IDS, IDS, st.booleans())
def test_the_join_finds_what_both_have(one: list[int], other: list[int], text: bool) -> None:
    new, old = ([f"m{each}" for each in ids] if text else ids for ids in (one, other))
    if not new or not old:
        return
    found = pair(vectors(list(new)), vectors(list(old)), "member")
    assert [new[row] for row in found.rows] == [each for each in new if each in set(old)]
    assert [old[row] for row in found.old_rows] == [each for each in new if each in set(old)]
    for _, z, y in found.blocks(3):
        np.testing.assert_array_equal(z, y)


def test_nothing_in_common_and_nothing_at_all() -> None:
    assert len(pair(vectors([1, 2]), vectors([3]), "member")) == 0
    assert find(pa.array([], pa.int64()), pa.array([1]), "member").tolist() == []
    assert find(pa.array([1]), pa.array([], pa.int64()), "member").tolist() == [-1]


@pytest.mark.parametrize("twice", [[1, 2, 1], ["a", "b", "a"]])
def test_ids_that_stand_twice_are_refused_on_either_side(twice: list[object]) -> None:
    once = twice[:2]
    for new, old in ((once, twice), (twice, once)):
        with pytest.raises(CompatError, match="C010"):
            pair(vectors(new), vectors(old), "member")
    with pytest.raises(CompatError, match="C010"):
        find(pa.array([1, None]), pa.array([1]), "member")


def test_numbers_and_text_are_not_the_same_ids() -> None:
    with pytest.raises(CompatError, match="C011"):
        pair(vectors([1, 2]), vectors(["1", "2"]), "member")
    assert find(pa.array([1, 2], pa.int32()), pa.array([2], pa.int64()), "member").tolist() == [-1, 0]


def test_keys_may_repeat_and_be_missing() -> None:
    assert locate(pa.array([5, 5, None, 7, 9]), pa.array([7, 5]), "member").tolist() == [1, 1, -1, 0, -1]
    assert locate(pa.array(["a", None, "b"]), pa.array(["b"]), "member").tolist() == [-1, -1, 0]
    assert locate(pa.array([1, 1]), pa.array(["1"]), "member").tolist() == [0, 0]
    assert locate(pa.array([None, None], pa.int64()), pa.array([1]), "member").tolist() == [-1, -1]


def test_the_hold_out_is_a_share_that_depends_on_the_id_alone() -> None:
    for ids in (pa.array(range(20_000)), pa.array([f"member-{i}" for i in range(20_000)])):
        rows = np.arange(20_000)
        held = hold_out(ids, rows, 0.1, seed=0)
        assert held.mean() == pytest.approx(0.1, abs=0.01)
        shuffled = np.random.default_rng(0).permutation(20_000)
        np.testing.assert_array_equal(hold_out(ids.take(pa.array(shuffled)), rows, 0.1, 0), held[shuffled])
        assert hold_out(ids, rows, 0.1, seed=1)[held].mean() == pytest.approx(0.1, abs=0.03)
        assert held[hold_out(ids, rows, 0.05, 0)].all()
        assert hold_out(ids, rows[held], 0.1, 0).all()


def test_ids_in_a_slice_of_an_array_hash_as_themselves() -> None:
    ids = pa.array([f"member-{i}" for i in range(1000)])
    np.testing.assert_array_equal(
        hold_out(ids.slice(300, 200), np.arange(200), 0.3, 0), hold_out(ids, np.arange(300, 500), 0.3, 0)
    )


def test_vectors_on_disk_are_summed_block_by_block(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, dim in (("new", 6), ("old", 4)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(40_000, dim)).astype(np.float32))
        arrays[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    order = rng.permutation(40_000)
    both = pair(Vectors(pa.array(np.arange(40_000)), arrays["new"]), Vectors(pa.array(order), arrays["old"]), "member")
    aligned = np.empty_like(arrays["old"])
    aligned[order] = arrays["old"]
    found, dense = moments(both), Moments.of(arrays["new"], aligned)
    np.testing.assert_allclose(found.zy, dense.zy, atol=1e-8)
    part = both.take(both.rows % 3 == 0)
    np.testing.assert_allclose(moments(part).zy, Moments.of(arrays["new"][::3], aligned[::3]).zy, atol=1e-8)


def test_memory_grows_with_ids_and_never_with_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit and its judging over vectors on disk: far less than one copy of the vectors per further entity."""
    monkeypatch.setattr("star_platform.compat.geometry.CANDIDATES", 1000)  # what both sizes reach
    peaks = []
    for n in (60_000, 120_000):
        made = {}
        for name in ("new", "old"):
            made[name] = np.lib.format.open_memmap(tmp_path / name, mode="w+", dtype=np.float32, shape=(n, 64))
            made[name][:] = np.random.default_rng(0).normal(size=(n, 64))
        tracemalloc.start()
        ids = pa.array(np.arange(n))
        both = pair(Vectors(ids, made["new"]), Vectors(ids, made["old"]), "member")
        held = hold_out(ids, both.rows, 0.1, 0)
        linear = ridge(moments(both.take(~held)), 1.0)
        judge = both.take(held)
        measure(linear_map(2, 1, *linear), judge, mean_old(judge))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 60_000 * 64 * 4 / 2
