"""Vectors out of any online store: the bytes themselves where Feast's own SQLite or Redis layout holds them.

Our stores read what a stock store wrote, so a client takes the fast way whichever of the two feature_store.yaml names.
Everything else, Postgres among it, is read through Feast's public `online_read`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from star_platform.errors import PublishError
from star_platform.publishing.layout import Ids, as_keys, from_values
from star_platform.publishing.model import FIELD, join_key
from star_platform.publishing.usage_sinks import store_family
from star_platform.publishing.wire import entity_keys

if TYPE_CHECKING:
    from feast import FeatureStore

    from star_platform.publishing.snapshot import Version

    Read = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]

_FEAST_IDS = 1_000
"""Ids per request through Feast's public path."""


class VectorStore(Protocol):
    """Reads what a version holds, without routes and without counting: float32 [n, dim] and found bool [n]."""

    def read(self, version: Version, ids: Ids) -> Read: ...

    async def read_async(self, version: Version, ids: Ids) -> Read: ...


class DirectVectors:
    """An online store of ours, or of Feast's with the same bytes."""

    def __init__(self, online: Any, config: Any) -> None:
        self._online, self._config = online, config
        self._async = hasattr(online, "read_vectors_async")

    def read(self, version: Version, ids: Ids) -> Read:
        result: Read = self._online.read_vectors(self._config, version.layout, ids)
        return result

    async def read_async(self, version: Version, ids: Ids) -> Read:
        if not self._async:
            return await asyncio.to_thread(self.read, version, ids)
        result: Read = await self._online.read_vectors_async(self._config, version.layout, ids)
        return result


class FeastVectors:
    """Any online store, through `online_read`."""

    def __init__(self, online: Any, config: Any) -> None:
        self._online, self._config = online, config

    def read(self, version: Version, ids: Ids) -> Read:
        keys: list[Any] = as_keys(version.layout, ids).to_pylist()
        blobs: list[bytes | None] = []
        for at in range(0, len(keys), _FEAST_IDS):
            entities = entity_keys(join_key(version.node), keys[at : at + _FEAST_IDS])
            rows = self._read(version, entities)
            blobs += [_blob(values) for _, values in rows]
        return from_values(version.layout, blobs)

    async def read_async(self, version: Version, ids: Ids) -> Read:
        return await asyncio.to_thread(self.read, version, ids)

    def _read(self, version: Version, entities: list[Any]) -> list[tuple[Any, Any]]:
        """Feast's rows; asked for once more where the connection was dead, as after a restart of the server."""
        held = getattr(self._online, "_conn", None)
        try:
            try:
                rows: list[tuple[Any, Any]] = self._online.online_read(self._config, version.view, entities, [FIELD])
            except Exception as error:
                if not self._drop_dead(held, error):
                    raise
                rows = self._online.online_read(self._config, version.view, entities, [FIELD])
        except PublishError:
            raise
        except Exception as error:  # each store has its driver, each driver its errors
            raise PublishError(
                "F050",
                f"the online store does not answer: {str(error).strip() or type(error).__name__}",
                hint="see that the server runs and that the release was not purged",
            ) from error
        return rows

    def _drop_dead(self, held: Any, error: Exception) -> bool:
        """Let go of the connections that Feast's Postgres store would keep although they are closed; whether any was.

        held: its one connection before the read that failed; another thread may have let go of it meanwhile.
        """
        pool = getattr(self._online, "_conn_pool", None)
        if pool is not None:
            from psycopg import OperationalError

            lost = isinstance(error, OperationalError)
            if lost:
                pool.check()
            return lost
        lost = bool(getattr(held, "closed", False))
        if lost and self._online._conn is held:
            self._online._conn = None
        return lost


def vector_store(store: FeatureStore) -> VectorStore:
    """The fastest way into the online store of a Feast client."""
    config, online = store.config, store.provider.online_store
    if getattr(config.online_store, "redis_type", None) == "redis_cluster":
        return FeastVectors(online, config)  # whose keys lie on many servers
    if hasattr(online, "read_vectors"):
        return DirectVectors(online, config)
    family = store_family(config)
    if family == "sqlite":
        from star_platform.publishing.sqlite import StarSqliteOnlineStore

        return DirectVectors(StarSqliteOnlineStore(), config)
    if family == "redis":
        from star_platform.publishing.redis import StarRedisOnlineStore

        return DirectVectors(StarRedisOnlineStore(), config)
    return FeastVectors(online, config)


def _blob(values: Any) -> bytes | None:
    """Feast reports an absent entity as it likes: no values, or an empty one."""
    value = values.get(FIELD) if values else None
    return (value.SerializeToString() or None) if value is not None else None
