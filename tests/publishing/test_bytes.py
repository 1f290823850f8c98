"""What our stores write is what Feast would have written, byte for byte, and each reads the other's."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from star_platform.errors import PublishError
from star_platform.publishing import objects
from star_platform.publishing.layout import Layout, as_keys, key_list, layout_of, value_block
from star_platform.publishing.model import FIELD, KeyType, PublishedNode
from star_platform.publishing.redis import check_names, records_of, stamp_of
from star_platform.publishing.wire import entity_keys, values

AS_OF = 1_700_000_000_123_456
INT64 = st.one_of(st.sampled_from([0, 1, -1, 2**62, -(2**62), 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
TEXT = st.one_of(st.sampled_from(["", "job/1", "\x00", "\r\n", "é" * 9, "😀"]), st.text(st.characters(codec="utf-8")))
IDS = st.one_of(st.lists(INT64, max_size=30, unique=True), st.lists(TEXT, max_size=30, unique=True))


def view_of(ids: list[Any], dim: int, release: int = 3, node: str | None = None) -> Any:
    key_type: KeyType = "string" if ids and isinstance(ids[0], str) else "int64"
    published = PublishedNode(node or f"n_{key_type}_{dim}", dim, len(ids), key_type, "s", AS_OF, (0, 1), "c")
    return objects.detached_view(Path("/"), release, published)


def keys_of(view: Any, ids: list[Any], config: Any) -> pa.Array:
    return as_keys(layout_of(config, view), ids)


def vectors_of(count: int, dim: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def feast_rows(view: Any, ids: list[Any], vectors: Any) -> list[Any]:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(AS_OF / 1e6, tz=UTC)
    keys = entity_keys(view.entity_columns[0].name, ids)
    return [(key, {FIELD: value}, moment, None) for key, value in zip(keys, values(vectors), strict=True)]


def make_config(folder: Path, online: dict[str, Any]) -> Any:
    from feast.repo_config import RepoConfig

    registry = {"path": str(folder / "registry.db"), "enable_online_feature_view_versioning": True}
    return RepoConfig(
        project=f"star_{os.getpid()}",
        provider="local",
        registry=registry,
        online_store=online,
        entity_key_serialization_version=3,
        repo_path=folder,
    )


def redis_settings(url: str, kind: str = "redis") -> dict[str, Any]:
    parts = make_url(url)
    where = f"{parts.host}:{parts.port},db={parts.database or 0}"
    return {"type": kind, "connection_string": where, "skip_dedup": True}


@given(IDS, st.integers(1, 400))
@settings(deadline=None, max_examples=60)
def test_keys_values_and_names_are_those_of_feast(ids: list[Any], dim: int) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.infra.online_stores.helpers import _redis_key
    from google.protobuf.timestamp_pb2 import Timestamp

    view = view_of(ids, dim)
    layout = layout_of(type("C", (), {"project": "shop"}), view)
    keys, vectors = as_keys(layout, ids), vectors_of(len(ids), dim)
    protos = entity_keys(view.entity_columns[0].name, ids)
    assert key_list(layout, keys) == [serialize_entity_key(proto, 3) for proto in protos]
    assert [row.tobytes() for row in value_block(layout, vectors)] == [v.SerializeToString() for v in values(vectors)]
    ours: dict[int, bytes] = {}
    for rows, block in records_of(layout).keys(keys):
        ours.update(zip(range(len(ids)) if rows is None else rows.tolist(), map(bytes, block), strict=True))
    assert [ours[row] for row in range(len(ids))] == [_redis_key("shop", proto, 3) for proto in protos]
    stamp = Timestamp()
    stamp.FromMicroseconds(AS_OF)
    assert stamp_of(AS_OF) == stamp.SerializeToString()


Dump = Callable[[], Any]


@pytest.fixture(params=["sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """(our store, Feast's store, settings of both, what is stored)."""
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.infra.online_stores.sqlite import SqliteOnlineStore

    from star_platform.publishing.redis import StarRedisOnlineStore
    from star_platform.publishing.sqlite import StarSqliteOnlineStore

    if request.param == "sqlite":
        path = tmp_path / "online.db"
        config = make_config(tmp_path, {"type": "sqlite", "path": str(path)})

        def dump() -> Any:
            with sqlite3.connect(path) as connection:
                names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                columns = "entity_key, feature_name, value, value_text, vector_value, event_ts, created_ts"
                return {
                    name: sorted(connection.execute(f'SELECT {columns} FROM "{name}"').fetchall()) for name in names
                }

        yield StarSqliteOnlineStore(), SqliteOnlineStore(), config, dump
        return
    import redis

    url = request.getfixturevalue("redis_url")
    client = redis.Redis.from_url(url)
    config = make_config(tmp_path, redis_settings(url))

    def dump_redis() -> Any:
        return {key: client.hgetall(key) for key in client.scan_iter(b"*" + config.project.encode())}

    client.flushdb()
    yield StarRedisOnlineStore(), RedisOnlineStore(), config, dump_redis
    client.flushdb()


@given(IDS, st.sampled_from([1, 3, 8, 31, 32, 64, 128, 200]))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_equal_those_of_feast_and_each_reads_the_other(stores: Any, ids: list[Any], dim: int) -> None:
    ours, feasts, config, dump = stores
    view, vectors = view_of(ids, dim), vectors_of(len(ids), dim, dim)
    keys = keys_of(view, ids, config)
    join_keys = entity_keys(view.entity_columns[0].name, ids)
    ours.drop_version(config, view)
    feasts.update(config, [], [view], [], [], partial=True)
    feasts.online_write_batch(config, view, feast_rows(view, ids, vectors), None)
    theirs = dump()
    read, found = ours.read_vectors(config, view, keys)
    assert found.all()
    assert read.tobytes() == vectors.tobytes()
    assert ours.count_vectors(config, view, keys) == len(ids)
    assert ours.purge_version(config, view, keys) == len(ids)
    assert ours.count_vectors(config, view, keys) == 0
    ours.write_vectors(config, view, keys, vectors, AS_OF)
    assert dump() == theirs
    ours.write_vectors(config, view, keys, vectors, AS_OF)  # again: equal times must not lose a row
    assert dump() == theirs
    if ids:
        rows = feasts.online_read(config, view, join_keys, [FIELD])
        stock = np.asarray([row[FIELD].float_list_val.val for _, row in rows], dtype=np.float32)
        assert stock.tobytes() == vectors.tobytes()
        assert {moment.timestamp() for moment, _ in rows} == {
            moment.timestamp() for moment, _ in ours.online_read(config, view, join_keys, [FIELD])
        }
    ours.purge_version(config, view, keys)


def test_reads_of_absent_repeated_and_foreign_rows(stores: Any) -> None:
    ours, feasts, config, _ = stores
    ids = [7, -3, 2**62]
    view, vectors = view_of(ids, 5), vectors_of(3, 5)
    feasts.update(config, [], [view], [], [], partial=True)
    ours.write_vectors(config, view, keys_of(view, ids, config), vectors, AS_OF)
    for asked in ([2**62, 8, 7, 7], np.array([2**62, 8, 7, 7]), pa.array([2**62, 8, 7, 7])):
        read, found = ours.read_vectors(config, view, asked)
        assert found.tolist() == [True, False, True, True]
        assert read.tobytes() == np.stack([vectors[2], np.zeros(5, np.float32), vectors[0], vectors[0]]).tobytes()
    assert ours.read_vectors(config, view, [])[0].shape == (0, 5)
    many = list(range(20_000))
    assert ours.read_vectors(config, view, many)[1].nonzero()[0].tolist() == [7]
    for wrong in (["a"], [1.5], [2**63], [True, None]):
        with pytest.raises(PublishError, match="F031"):
            ours.read_vectors(config, view, wrong)
    other = view_of(ids, 6, node=view.name.removesuffix("_embedding"))  # the same place, read as another length
    with pytest.raises(PublishError, match="F033"):
        ours.read_vectors(config, other, ids)
    assert ours.read_vectors(config, view, ids)[0].tobytes() == vectors.tobytes()  # nothing of that is left behind


def test_versions_lie_side_by_side(stores: Any) -> None:
    ours, feasts, config, _ = stores
    views = {release: view_of([1, 2], dim, release, "member") for release, dim in ((1, 4), (2, 9))}
    stored = {release: vectors_of(2, layout_of(config, view).dim, release) for release, view in views.items()}
    for release, view in views.items():
        feasts.update(config, [], [view], [], [], partial=True)
        ours.write_vectors(config, view, pa.array([1, 2]), stored[release], AS_OF)
    for release, view in views.items():
        assert ours.read_vectors(config, view, [1, 2])[0].tobytes() == stored[release].tobytes()
    assert ours.purge_version(config, views[1], pa.array([1, 2, 3])) == 2
    assert not ours.read_vectors(config, views[1], [1, 2])[1].any()
    assert ours.read_vectors(config, views[2], [1, 2])[0].tobytes() == stored[2].tobytes()


def test_the_async_twin_reads_the_same(redis_url: str, tmp_path: Path) -> None:
    from star_platform.publishing.redis import StarRedisOnlineStore

    store, config = StarRedisOnlineStore(), make_config(tmp_path, redis_settings(redis_url))
    ids = [f"job/{number}" for number in range(700)]
    view, vectors = view_of(ids, 12, node="twin"), vectors_of(700, 12)
    store.write_vectors(config, view, pa.array(ids), vectors, AS_OF)

    async def read() -> Any:
        return await asyncio.gather(*(store.read_vectors_async(config, view, [*ids[at:], "no"]) for at in range(5)))

    for at, (got, found) in enumerate(asyncio.run(read())):
        assert found.tolist() == [True] * (700 - at) + [False]
        assert got[:-1].tobytes() == vectors[at:].tobytes()
    store.purge_version(config, view, pa.array(ids))


def test_a_broken_connection_is_made_anew(redis_url: str, tmp_path: Path) -> None:
    import redis

    from star_platform.publishing.redis import StarRedisOnlineStore

    store, config = StarRedisOnlineStore(), make_config(tmp_path, redis_settings(redis_url))
    view = view_of([1], 4, node="broken")
    store.write_vectors(config, view, pa.array([1]), vectors_of(1, 4), AS_OF)
    assert store.read_vectors(config, view, [1])[1].all()
    redis.Redis.from_url(redis_url).client_kill_filter(_type="normal", skipme=True)
    assert store.read_vectors(config, view, [1])[1].all()
    store.purge_version(config, view, pa.array([1]))


def test_two_versions_with_one_field_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    one = layout_of(type("C", (), {"project": "shop"}), view_of([1], 4, 1))
    two = layout_of(type("C", (), {"project": "shop"}), view_of([1], 4, 2))
    check_names([one, two, one])

    def collide(layout: Layout) -> Any:
        return replace(records_of(layout), value_field=b"same")

    monkeypatch.setattr("star_platform.publishing.redis.records_of", collide)
    with pytest.raises(PublishError, match="F052"):
        check_names([one, two])
