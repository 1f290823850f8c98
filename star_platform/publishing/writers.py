"""How rows reach an online store: by its own records where we know them byte for byte, else by Feast's public path.

Every writer works on detached views (`objects.detached_view`). The store is told by its family, not by whose class
feature_store.yaml names: the bytes are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_platform.errors import PublishError
from star_platform.publishing.bulk import write_parallel
from star_platform.publishing.layout import from_values, layout_of
from star_platform.publishing.model import FIELD
from star_platform.publishing.usage_sinks import store_family
from star_platform.publishing.wire import entity_keys, values

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

Floats = npt.NDArray[np.float32]


class OnlineWriter(Protocol):
    """Writes, counts and removes the vectors of one version in one online store."""

    @property
    def drops(self) -> bool:
        """Whether `drop` removes a version at once; otherwise it goes by `remove`, and `drop` does nothing."""

    def create(self, view: FeatureView, *, fresh: bool) -> None:
        """Make room for a version; `fresh` removes what an earlier try with other vectors left there."""

    def write(self, view: FeatureView, keys: pa.Array, vectors: Floats, as_of: int) -> None:
        """Write keys [n] and float32 [n, dim], all of them or raise; writing them again changes nothing."""

    def write_files(self, view: FeatureView, files: Mapping[int, Path], as_of: int) -> Iterator[int] | None:
        """Write whole shards from their Parquet files, yielding their numbers; None where `write` is as fast."""

    def count(self, view: FeatureView, keys: pa.Array) -> int | None:
        """Rows that the store holds of this version, at least those of `keys`; None where it cannot count exactly."""

    def read(self, view: FeatureView, keys: pa.Array) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Stored vectors float32 [n, dim], zeros where absent, and found bool [n]."""

    def remove(self, view: FeatureView, keys: pa.Array) -> int:
        """Remove rows by key; how many there were. Raises PublishError F055 where the store has no way to."""

    def size(self, view: FeatureView, keys: pa.Array) -> tuple[int, int]:
        """Rows and bytes that removing `keys` gives back, as far as the store can tell; nothing is removed."""

    def drop(self, view: FeatureView) -> None:
        """Remove the whole version at once, where the store can."""


@contextmanager
def _answering() -> Iterator[None]:
    """Turns what the driver of any online store raises into PublishError F050; Python's own errors are bugs."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, OSError):
            raise
        raise PublishError(
            "F050",
            f"the online store does not answer: {str(error).strip() or type(error).__name__}",
            hint="see that the server runs, then `star-platform release --resume`; what it took is not sent again",
        ) from error


class FeastWriter:
    """Any online store, through `Provider.online_write_batch` in batches of `batch_rows`.

    Not through data frames: their Arrow-to-proto step keeps the first chunk only, and is slower.
    """

    def __init__(self, store: FeatureStore, batch_rows: int = 2_000) -> None:
        self._store = store
        self._batch_rows = batch_rows
        self.drops = False

    def create(self, view: FeatureView, *, fresh: bool) -> None:
        if fresh:
            self.drop(view)
        with _answering():
            self._store.provider.update_infra(self._store.project, [], [view], [], [], partial=True)

    def write(self, view: FeatureView, keys: pa.Array, vectors: Floats, as_of: int) -> None:
        column = view.entity_columns[0].name
        moment = datetime.fromtimestamp(as_of / 1e6, tz=UTC)
        for at in range(0, len(keys), self._batch_rows):
            ids = keys.slice(at, self._batch_rows).to_pylist()
            block = values(vectors[at : at + self._batch_rows])
            rows: list[Any] = [
                (key, {FIELD: value}, moment, None) for key, value in zip(entity_keys(column, ids), block, strict=True)
            ]
            with _answering():
                self._store.provider.online_write_batch(self._store.config, view, rows, None)

    def write_files(self, view: FeatureView, files: Mapping[int, Path], as_of: int) -> Iterator[int] | None:  # noqa: ARG002
        return None

    def count(self, view: FeatureView, keys: pa.Array) -> int | None:  # noqa: ARG002
        return None

    def read(self, view: FeatureView, keys: pa.Array) -> tuple[Floats, npt.NDArray[np.bool_]]:
        layout, column = layout_of(self._store.config, view), view.entity_columns[0].name
        blobs: list[bytes | None] = []
        for at in range(0, len(keys), self._batch_rows):
            asked = entity_keys(column, keys.slice(at, self._batch_rows).to_pylist())
            with _answering():
                rows = self._store.provider.online_read(self._store.config, view, asked, [FIELD])
            blobs += [(row[FIELD].SerializeToString() or None) if row else None for _, row in rows]
        return from_values(layout, blobs)

    def remove(self, view: FeatureView, keys: pa.Array) -> int:
        raise self._unable(view, f"remove {len(keys)} single rows")

    def size(self, view: FeatureView, keys: pa.Array) -> tuple[int, int]:
        layout = layout_of(self._store.config, view)
        return len(keys), len(keys) * (len(layout.key_prefix) + layout.value_bytes)

    def drop(self, view: FeatureView) -> None:
        """Nothing: Feast can only delete all versions of a view."""

    def _unable(self, view: FeatureView, what: str) -> PublishError:
        return PublishError(
            "F055",
            f"Feast has no way to {what} of {view.name} in a store of type {self._store.config.online_store.type}",
            hint="remove them with the store's own tools; SQLite, Redis and Postgres are handled here",
        )


class DirectWriter(FeastWriter):
    """SQLite and Redis, whose records our stores write themselves.

    processes: how many write the shards of a large version at the same time (Redis only; SQLite has one writer).
    """

    def __init__(self, store: FeatureStore, online: Any, processes: int = 1) -> None:
        super().__init__(store)
        self._online, self._processes = online, processes
        self.drops = bool(online.drops_versions)

    def create(self, view: FeatureView, *, fresh: bool) -> None:
        self._online.make_room(self._store.config)
        super().create(view, fresh=fresh)

    def write(self, view: FeatureView, keys: pa.Array, vectors: Floats, as_of: int) -> None:
        self._online.write_vectors(self._store.config, view, keys, vectors, as_of)

    def write_files(self, view: FeatureView, files: Mapping[int, Path], as_of: int) -> Iterator[int] | None:
        job = self._online.bulk_job(self._store.config, view, as_of) if self._processes > 1 and len(files) > 1 else None
        return write_parallel(job, files, self._processes) if job is not None else None

    def count(self, view: FeatureView, keys: pa.Array) -> int | None:
        return int(self._online.count_vectors(self._store.config, view, keys))

    def read(self, view: FeatureView, keys: pa.Array) -> tuple[Floats, npt.NDArray[np.bool_]]:
        vectors, found = self._online.read_vectors(self._store.config, view, keys)
        return vectors, found

    def remove(self, view: FeatureView, keys: pa.Array) -> int:
        return int(self._online.purge_version(self._store.config, view, keys))

    def size(self, view: FeatureView, keys: pa.Array) -> tuple[int, int]:
        rows, size = self._online.size_of(self._store.config, view, keys)
        return rows, size

    def drop(self, view: FeatureView) -> None:
        self._online.drop_version(self._store.config, view)


class PostgresWriter(FeastWriter):
    """Writes and reads by Feast's public path; counts and removes by SQL, which Feast offers for all versions only."""

    def __init__(self, store: FeatureStore) -> None:
        super().__init__(store)
        self.drops = True

    def count(self, view: FeatureView, keys: pa.Array) -> int | None:  # noqa: ARG002
        return self._execute(view, "SELECT count(*) FROM {}")

    def remove(self, view: FeatureView, keys: pa.Array) -> int:
        from star_platform.publishing.layout import key_list

        if not self._exists(view):
            return 0
        names = key_list(layout_of(self._store.config, view), keys)
        query = "WITH gone AS (DELETE FROM {} WHERE entity_key = ANY(%s) RETURNING 1) SELECT count(*) FROM gone"
        return self._execute(view, query, names)

    def size(self, view: FeatureView, keys: pa.Array) -> tuple[int, int]:  # noqa: ARG002
        if not self._exists(view):
            return 0, 0
        size = self._execute(view, "SELECT pg_total_relation_size(%s::regclass)", self._quoted(view))
        return self._execute(view, "SELECT count(*) FROM {}"), size

    def drop(self, view: FeatureView) -> None:
        self._execute(view, "DROP TABLE IF EXISTS {}")

    def _exists(self, view: FeatureView) -> bool:
        return bool(self._execute(view, "SELECT count(to_regclass(%s))", self._quoted(view)))

    def _quoted(self, view: FeatureView) -> str:
        return f'"{layout_of(self._store.config, view).table}"'

    def _execute(self, view: FeatureView, query: str, *parameters: Any) -> int:
        """The number that a statement answers; `{}` is the version's table."""
        from psycopg import sql

        online = self._store.provider.online_store
        statement = sql.SQL(query).format(sql.Identifier(layout_of(self._store.config, view).table))
        with _answering(), online._get_conn(self._store.config) as connection, connection.transaction():
            row = connection.execute(statement, parameters or None)
            return int(row.fetchone()[0]) if row.description else 0


def fast_store(config: Any) -> Any:
    """Our store for what `config` names, whether it names ours or the stock one; None where there is none.

    None too where settings ask for more than Feast's plain records: Redis clusters, expiring keys, vector columns.
    """
    family, settings = store_family(config), config.online_store
    if family == "sqlite" and not (settings.vector_enabled or settings.enable_openai_compatible_store):
        from star_platform.publishing.sqlite import StarSqliteOnlineStore

        return StarSqliteOnlineStore()
    if family == "redis" and settings.redis_type.value != "redis_cluster" and not settings.key_ttl_seconds:
        from star_platform.publishing.redis import StarRedisOnlineStore

        return StarRedisOnlineStore()
    return None


def default_processes() -> int:
    """One process fills a Redis server; more help only where it has a core of its own, and then up to three."""
    return max(1, min(3, len(os.sched_getaffinity(0)) - 1))


def best_writer(processes: int) -> Callable[[FeatureStore], OnlineWriter]:
    """Chooses by the store that feature_store.yaml names."""

    def choose(store: FeatureStore) -> OnlineWriter:
        online = fast_store(store.config)
        if online is not None:
            return DirectWriter(store, online, processes)
        return PostgresWriter(store) if store_family(store.config) == "postgres" else FeastWriter(store)

    return choose
