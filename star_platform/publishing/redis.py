"""Feast's Redis online store with routes, counted reads, and batches of bytes instead of one object per float.

The records are those of Feast, byte for byte: a stock client reads what this store wrote, and the other way round.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig

from star_platform.errors import PublishError
from star_platform.publishing.bulk_worker import pack
from star_platform.publishing.layout import Ids, Layout, as_keys, layout_of, wrong_value
from star_platform.publishing.model import FIELD
from star_platform.publishing.redis_records import Records, count_of
from star_platform.publishing.resp import ask_integers
from star_platform.publishing.resp_values import Values, ask_values, ask_values_async
from star_platform.publishing.routed import ROUTE_TTL, RoutedReads

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.repo_config import RepoConfig

Vectors = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
_READ_IDS = 5_000
_STAMP_BYTES = 11


class StarRedisOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """Settings of `online_store` in feature_store.yaml: Feast's, and two of ours."""

    type: Literal["star_platform.publishing.redis.StarRedisOnlineStore"] = (
        "star_platform.publishing.redis.StarRedisOnlineStore"
    )
    skip_dedup: bool = True
    """Feast's other setting silently drops rows that are written again."""
    count_reads: bool = True
    """Add up who reads which release, in the store itself; see `who-uses`."""
    route_ttl_seconds: float = ROUTE_TTL
    """A running client follows a retirement after this time at the latest."""


class StarRedisOnlineStore(RoutedReads, RedisOnlineStore):  # type: ignore[misc]
    """Takes stock settings too: what is read and written does not depend on ours."""

    drops_versions = False

    def make_room(self, config: RepoConfig) -> None:
        """Nothing: a version is two fields in the hash of each entity."""

    def bulk_job(self, config: RepoConfig, view: FeatureView | Layout, as_of: int) -> dict[str, Any] | None:
        """What `bulk_worker` needs to write shards of a version, as JSON data; None behind Redis Sentinel."""
        if config.online_store.redis_type.value != "redis":
            return None
        nodes, settings = self._parse_connection_string(config.online_store.connection_string)
        address = {"host": nodes[0]["host"], "port": int(nodes[0]["port"])}
        return pack(records_of(layout_of(config, view)), stamp_of(as_of), {**settings, **address})

    def write_vectors(
        self,
        config: RepoConfig,
        view: FeatureView | Layout,
        keys: pa.Array,
        vectors: npt.NDArray[np.float32],
        as_of: int,
    ) -> None:
        """Write keys [n] and float32 [n, dim], replacing what is there; every row is acknowledged or it raises.

        as_of: microseconds since the epoch. Raises PublishError F050 or F051.
        """
        records = records_of(layout_of(config, view))
        ask_integers(self._get_client(config.online_store), records.hset(keys, vectors, stamp_of(as_of)))

    def read_vectors(self, config: RepoConfig, view: FeatureView | Layout, ids: Ids) -> Vectors:
        """The vectors that this very version holds, float32 [n, dim] (zeros where absent), and found bool [n].

        No route is followed and nothing is counted: that is the caller's.

        Raises:
            PublishError: F031 ids of the wrong type, F033 a stored value of another shape, F050 or F051 the server.
        """
        layout = layout_of(config, view)
        records, keys = records_of(layout), as_keys(layout, ids)
        client, parts = self._get_client(config.online_store), []
        for at in range(0, max(len(keys), 1), _READ_IDS):
            part = keys.slice(at, _READ_IDS)
            block, order = records.hget(part)
            replies = Values(len(part), layout.value_bytes)
            try:
                ask_values(client, block, replies)
            except ValueError as error:
                raise wrong_value(layout) from error
            parts.append(records.vectors(*replies.result(), order))
        return _joined(parts)

    async def read_vectors_async(self, config: RepoConfig, view: FeatureView | Layout, ids: Ids) -> Vectors:
        """Twin of `read_vectors`."""
        layout = layout_of(config, view)
        records, keys = records_of(layout), as_keys(layout, ids)
        client, parts = await self._get_client_async(config.online_store), []
        for at in range(0, max(len(keys), 1), _READ_IDS):
            part = keys.slice(at, _READ_IDS)
            block, order = records.hget(part)
            replies = Values(len(part), layout.value_bytes)
            try:
                await ask_values_async(client, block, replies)
            except ValueError as error:
                raise wrong_value(layout) from error
            parts.append(records.vectors(*replies.result(), order))
        return _joined(parts)

    def drop_version(self, config: RepoConfig, view: FeatureView | Layout) -> None:
        """Nothing: a version goes by `purge_version`, entity by entity."""

    def size_of(self, config: RepoConfig, view: FeatureView | Layout, keys: pa.Array) -> tuple[int, int]:
        """How many of `keys` have the version, and the bytes of its fields: Redis frees somewhat more than that."""
        records, rows = records_of(layout_of(config, view)), self.count_vectors(config, view, keys)
        fields = len(records.time_field) + len(records.value_field) + _STAMP_BYTES + records.layout.value_bytes
        return rows, rows * fields

    def count_vectors(self, config: RepoConfig, view: FeatureView | Layout, keys: pa.Array) -> int:
        """How many of `keys` the version holds a vector of the right length for, each asked for."""
        layout = layout_of(config, view)
        right = b":%d\r" % layout.value_bytes
        batches = records_of(layout).hstrlen(keys)
        return ask_integers(self._get_client(config.online_store), batches, lambda replies: replies.count(right))

    def purge_version(self, config: RepoConfig, view: FeatureView | Layout, keys: pa.Array) -> int:
        """Remove the version from `keys`, by name and without a scan; how many of them had it."""
        batches = records_of(layout_of(config, view)).hdel(keys)
        return (ask_integers(self._get_client(config.online_store), batches, count_of) + 1) // 2


@cache
def records_of(layout: Layout) -> Records:
    """Raises PublishError F002 when the names of the version's two fields are not distinct."""
    from feast.infra.online_stores.helpers import _mmh3

    return Records(layout, f"_ts:{layout.storage}".encode(), _mmh3(f"{layout.storage}:{FIELD}"))


def stamp_of(as_of: int) -> bytes:
    """Microseconds since the epoch as Feast stores an event time."""
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromtimestamp(as_of / 1e6, tz=UTC))
    return bytes(stamp.SerializeToString())


def check_names(layouts: list[Layout]) -> None:
    """Raises PublishError F052 when two versions of one entity would share a field: its name is 32 bits of a hash."""
    taken: dict[tuple[str, bytes], str] = {}
    for layout in layouts:
        field = (layout.node, records_of(layout).value_field)
        other = taken.setdefault(field, layout.storage)
        if other != layout.storage:
            raise PublishError(
                "F052",
                f"{layout.storage} and {other} have one field name in Redis",
                hint="release again: the next number has another name",
            )


def stock_config(settings: Any) -> Any:
    """The settings as Feast's own class takes them."""
    fields = RedisOnlineStoreConfig.model_fields.keys() - {"type"}
    return RedisOnlineStoreConfig(**{name: getattr(settings, name) for name in fields})


def _joined(parts: list[Vectors]) -> Vectors:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([vectors for vectors, _ in parts]), np.concatenate([found for _, found in parts])
