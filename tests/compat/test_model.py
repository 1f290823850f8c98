"""A map applies as written, survives the disk bit for bit, and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from star_platform.compat.model import CompatMap, Hidden, Vectors, load_maps, save_maps
from star_platform.errors import CompatError

from .worlds import linear_map

RNG = np.random.default_rng(0)


def residual_map() -> CompatMap:
    hidden = Hidden(RNG.normal(size=(5, 7)), RNG.normal(size=7), RNG.normal(size=(7, 3)), RNG.normal(size=3))
    linear = linear_map(3, 2, RNG.normal(size=(5, 3)), RNG.normal(size=3))
    return replace(linear, method="residual", hidden=hidden, fidelity={"r2": 0.97})


def test_rows_are_entities_and_the_map_multiplies_on_the_right() -> None:
    fitted = linear_map(2, 1, [[1, 0], [0, 2], [3, 0]], [10, 20])
    mapped = fitted.apply(np.array([[1, 1, 1], [0, 0, 0]]))
    np.testing.assert_array_equal(mapped, [[14, 22], [10, 20]])
    assert mapped.dtype == np.float32
    assert fitted.name == "member:r2->r1"
    assert fitted.dims == (3, 2)


def test_a_network_is_added_to_the_matrix() -> None:
    fitted = residual_map()
    x = RNG.normal(size=(20, 5))
    hidden = fitted.hidden
    assert hidden is not None
    inner = np.maximum(x @ hidden.w1 + hidden.b1, 0.0)
    expected = x @ fitted.weights + fitted.bias + inner @ hidden.w2 + hidden.b2
    np.testing.assert_allclose(fitted.apply(x), expected, rtol=1e-4, atol=1e-4)


def test_normalised_targets_get_vectors_of_length_one_and_zeros_stay() -> None:
    fitted = linear_map(2, 1, np.eye(3), normalise=True)
    mapped = fitted.apply(np.array([[3.0, 4, 0], [0, 0, 0]]))
    np.testing.assert_allclose(mapped, [[0.6, 0.8, 0], [0, 0, 0]], rtol=1e-6)


def test_the_input_is_left_alone() -> None:
    vectors = RNG.normal(size=(4, 3)).astype(np.float32)
    before = vectors.copy()
    linear_map(2, 1, np.eye(3), normalise=True).apply(vectors)
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("wrong", [np.zeros((2, 4)), np.zeros(3)])
def test_vectors_of_another_dimension_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(CompatError, match="C003"):
        linear_map(2, 1, np.zeros((3, 5))).apply(wrong)


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(CompatError, match="C003"):
        linear_map(2, 1, np.zeros((3, 5)), np.zeros(4))
    with pytest.raises(CompatError, match="C002"):
        Vectors(pa.array([1, 2]), np.zeros((3, 4), np.float32))


def test_maps_come_back_from_disk_bit_for_bit_and_in_order(tmp_path: Path) -> None:
    maps = [residual_map(), linear_map(3, 1, RNG.normal(size=(5, 2)), node="job", normalise=True, via="composed")]
    save_maps(tmp_path, maps)
    job, member = load_maps(tmp_path)
    assert (job.name, member.name) == ("job:r3->r1", "member:r3->r2")
    assert (job.via, job.normalise, member.method) == ("composed", True, "residual")
    assert dict(member.fidelity) == {"r2": 0.97}
    x = RNG.normal(size=(9, 5))
    np.testing.assert_array_equal(member.apply(x), maps[0].apply(x))
    assert [each.fingerprint for each in (member, job)] == [each.fingerprint for each in maps]


def test_equal_maps_give_equal_bytes(tmp_path: Path) -> None:
    maps = [residual_map(), linear_map(3, 1, RNG.normal(size=(5, 2)))]
    for name, order in (("one", maps), ("other", maps[::-1])):
        (tmp_path / name).mkdir()
        save_maps(tmp_path / name, order)
    for file in ("maps.safetensors", "maps.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_no_maps_are_maps_too(tmp_path: Path) -> None:
    save_maps(tmp_path, [])
    assert load_maps(tmp_path) == ()


def test_fingerprints_tell_maps_apart() -> None:
    fitted = linear_map(2, 1, np.eye(3))
    others = [
        replace(fitted, normalise=True),
        replace(fitted, target_space="another"),
        linear_map(2, 1, np.eye(3), np.full(3, 1e-9)),
    ]
    assert len({each.fingerprint for each in (fitted, *others)}) == 4
    assert replace(fitted, fidelity={"r2": 1.0}).fingerprint == fitted.fingerprint


@pytest.mark.parametrize("damage", ["missing", "cut", "not json", "another"])
def test_damaged_maps_are_not_read(tmp_path: Path, damage: str) -> None:
    save_maps(tmp_path, [linear_map(2, 1, np.eye(3))])
    if damage == "missing":
        (tmp_path / "maps.safetensors").unlink()
    elif damage == "cut":
        (tmp_path / "maps.safetensors").write_bytes((tmp_path / "maps.safetensors").read_bytes()[:-8])
    elif damage == "not json":
        (tmp_path / "maps.json").write_text("{")
    else:
        text = (tmp_path / "maps.json").read_text().replace('"member"', '"job"')
        (tmp_path / "maps.json").write_text(text)
    with pytest.raises(CompatError, match="C001"):
        load_maps(tmp_path)


def test_two_maps_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompatError, match="C004"):
        save_maps(tmp_path, [linear_map(2, 1, np.eye(3))] * 2)
