from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import PublishError
from star_platform.publishing.model import FeastState, NodeVectors, PublishedNode, PublishedRelease
from star_platform.publishing.prepare import prepare
from star_platform.publishing.verify import absent_ids, sample_rows
from star_platform.publishing.wire import entity_keys, value_prefix, values


def source(ids: object, rows: int, dim: int = 3) -> NodeVectors:
    array = ids if isinstance(ids, pa.Array) else pa.array(ids)
    return NodeVectors("member", array, np.ones((rows, dim), dtype=np.float32))


@pytest.mark.parametrize(
    ("given_source", "code"),
    [
        (source([1, 2], 3), "F010"),
        (NodeVectors("member", pa.array([1]), np.ones((1, 2))), "F010"),  # type: ignore[arg-type]
        (NodeVectors("member", pa.array([1]), np.ones((1, 0), dtype=np.float32)), "F010"),
        (NodeVectors("member", pa.array([1]), np.ones(1, dtype=np.float32)), "F010"),
        (source([1, 2, 1], 3), "F011"),
        (source(["a", None], 2), "F011"),
        (source(pa.array([2**63], pa.uint64()), 1), "F012"),
        (source(pa.array([[1]], pa.list_(pa.int64())), 1), "F012"),
        (NodeVectors("member", pa.array([1]), np.array([[np.nan]], dtype=np.float32)), "F013"),
        (NodeVectors("member", pa.array([1]), np.array([[np.inf]], dtype=np.float32)), "F013"),
    ],
)
def test_unfit_vectors_are_refused(given_source: NodeVectors, code: str) -> None:
    with pytest.raises(PublishError) as caught:
        prepare(given_source)
    assert caught.value.code == code
    assert caught.value.hint


def test_ids_become_one_of_two_types() -> None:
    assert prepare(source(pa.array([1, 2], pa.uint16()), 2)).keys.type == pa.int64()
    assert prepare(source(pa.array(["b", "a"], pa.large_string()), 2)).key_type == "string"
    assert prepare(source(pa.chunked_array([[1], [2]]), 2)).keys.to_pylist() == [1, 2]  # type: ignore[arg-type]


def test_norms_and_checksum() -> None:
    item = prepare(NodeVectors("member", pa.array([1, 2]), np.array([[3, 4], [0, 0]], dtype=np.float32)))
    assert item.norm == (0.0, 5.0)
    assert item.checksum == prepare(NodeVectors("x", item.keys, item.vectors.copy())).checksum
    swapped = NodeVectors("member", pa.array([2, 1]), item.vectors)
    assert prepare(swapped).checksum != item.checksum
    negative_zero = NodeVectors("member", pa.array([1, 2]), np.array([[3, 4], [0, -0.0]], dtype=np.float32))
    assert prepare(negative_zero).checksum != item.checksum


def test_nothing_is_a_shard_too() -> None:
    item = prepare(source(pa.array([], pa.int64()), 0))
    assert item.norm == (0.0, 0.0)
    assert item.shards(10) == [range(0)]


@given(rows=st.integers(1, 5_000), shard=st.integers(1, 900), size=st.integers(1, 1_500))
def test_the_sample_holds_both_ends_of_every_shard(rows: int, shard: int, size: int) -> None:
    item = prepare(source(np.arange(rows), rows, dim=1))
    chosen = set(sample_rows(item, shard, size).tolist())
    assert len(chosen) >= min(size, rows)
    assert chosen <= set(range(rows))
    assert all({part.start, part.stop - 1} <= chosen for part in item.shards(shard))
    assert sorted(chosen) == sample_rows(item, shard, size).tolist()


@pytest.mark.parametrize(
    "ids", [[5, 9], [-(2**63), 2**63 - 1], ["absent-0", "absent-1", "b"], [], pa.array([], pa.string())]
)
def test_absent_ids_are_absent(ids: object) -> None:
    array = ids if isinstance(ids, pa.Array) else pa.array(ids, None if ids else pa.int64())
    absent = absent_ids(prepare(source(array, len(array))))
    assert len(absent) == 5
    assert not set(absent) & set(array.to_pylist())
    assert all(-(2**63) <= key < 2**63 for key in absent if isinstance(key, int))


@settings(deadline=None)  # the first call imports Feast
@given(dim=st.integers(1, 400), rows=st.integers(0, 4), seed=st.integers(0, 9))
def test_values_are_what_feast_would_write(dim: int, rows: int, seed: int) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    block = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    for row, value in zip(block, values(block), strict=True):
        assert value == Value(float_list_val={"val": row})
        assert value.SerializeToString() == value_prefix(dim) + row.tobytes()


@pytest.mark.parametrize("key", [0, 1, -1, 2**62, -(2**63), "", "j\N{SNOWMAN}"])
def test_keys_are_what_feast_makes_of_an_entity_row(key: int | str) -> None:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values
    from feast.value_type import ValueType

    kind = ValueType.INT64 if isinstance(key, int) else ValueType.STRING
    expected = EntityKey(join_keys=["member_id"], entity_values=python_values_to_proto_values([key], kind))
    assert entity_keys("member_id", [key])[0].SerializeToString() == expected.SerializeToString()  # type: ignore[list-item]


def node(name: str) -> PublishedNode:
    return PublishedNode(name, 2, 3, "int64", "s", 4, (0.5, 1.5), "c")


def test_a_release_survives_its_record() -> None:
    release = PublishedRelease(7, {"member": node("member"), "job": node("job")})
    assert PublishedRelease.from_record(release.record()) == release


def test_the_front_is_the_active_release_or_the_newest_that_has_the_node_type(tmp_path: object) -> None:
    first = PublishedRelease(1, {"member": node("member")})
    second = PublishedRelease(2, {"member": node("member"), "job": node("job")})
    state = FeastState(tmp_path, (second, first))  # type: ignore[arg-type]
    assert state.front() == {"job": 2, "member": 2}
    assert FeastState(tmp_path, (second, first), active=1).front() == {"job": 2, "member": 1}  # type: ignore[arg-type]


def test_another_feast_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import feast

    from star_platform.publishing.wire import check_feast

    check_feast()
    for version in ("0.66.3", "0.68.0", "1.0.0"):
        monkeypatch.setattr(feast, "__version__", version)
        with pytest.raises(PublishError, match="F001"):
            check_feast()
