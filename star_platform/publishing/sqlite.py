"""Feast's SQLite online store with routes, counted reads, and vectors as arrays instead of one object per float.

The records are those of Feast, byte for byte: a stock client reads what this store wrote, and the other way round.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig

from star_platform.errors import PublishError
from star_platform.publishing.layout import (
    Ids,
    Layout,
    as_keys,
    from_values,
    key_blocks,
    key_list,
    layout_of,
    rows_as_bytes,
    value_block,
)
from star_platform.publishing.model import FIELD
from star_platform.publishing.routed import ROUTE_TTL, RoutedReads

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.repo_config import RepoConfig

_READ_IDS = 500
_MAPPED_BYTES = 1 << 36
"""Reads go through the memory map of the file, as far as SQLite was built to map one."""
_WRITE_ROWS = 10_000
_WRITE_PRAGMAS = (
    "page_size = 16384",  # of a new file: a vector takes a quarter of a page of the usual size, or most of it
    "journal_mode = WAL",
    "synchronous = NORMAL",  # a crash of the machine may lose the last shards, which a resumed publish finds out
    "cache_size = -65536",  # 64 MiB: the pages of a shard's indexes
    "wal_autocheckpoint = 8192",  # 128 MiB
)


class StarSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """Settings of `online_store` in feature_store.yaml: Feast's, and two of ours."""

    type: Literal["star_platform.publishing.sqlite.StarSqliteOnlineStore"] = (
        "star_platform.publishing.sqlite.StarSqliteOnlineStore"
    )
    count_reads: bool = True
    """Add up who reads which release, in the store itself; see `who-uses`."""
    route_ttl_seconds: float = ROUTE_TTL
    """A running client follows a retirement after this time at the latest."""


class StarSqliteOnlineStore(RoutedReads, SqliteOnlineStore):  # type: ignore[misc]
    """Takes stock settings too: what is read and written does not depend on ours."""

    drops_versions = True
    _writer: tuple[str, sqlite3.Connection] | None = None

    def make_room(self, config: RepoConfig) -> None:
        """Readers go on beside a writer from here on: write-ahead logging stays on in the file."""
        with _answering(), self._writing(config):
            pass

    def bulk_job(self, config: RepoConfig, view: FeatureView | Layout, as_of: int) -> None:  # noqa: ARG002
        """None: one process writes to SQLite at a time."""
        return

    def write_vectors(
        self,
        config: RepoConfig,
        view: FeatureView | Layout,
        keys: pa.Array,
        vectors: npt.NDArray[np.float32],
        as_of: int,
    ) -> None:
        """Write keys [n] and float32 [n, dim] in one transaction: all or none. Rows that are there are replaced.

        as_of: microseconds since the epoch. Raises PublishError F050 when the file cannot be written.
        """
        layout = layout_of(config, view)
        moment = _event_time(as_of)
        sql = (
            f'INSERT INTO "{layout.table}" (entity_key, feature_name, value, value_text, event_ts, created_ts)'
            f" VALUES (?, '{FIELD}', ?, NULL, {moment}, NULL) ON CONFLICT (entity_key, feature_name) DO UPDATE SET"
            " value = excluded.value, value_text = NULL, event_ts = excluded.event_ts, created_ts = NULL"
        )
        with _answering(), self._writing(config) as connection, connection:
            for rows, names in key_blocks(layout, keys):
                # In the order of the index, which is not that of the ids: half the time of any other.
                order = np.argsort(names.view(f"S{names.shape[1]}").ravel())
                at = order if rows is None else rows[order]
                for start in range(0, len(order), _WRITE_ROWS):
                    part = slice(start, start + _WRITE_ROWS)
                    blobs = rows_as_bytes(value_block(layout, vectors[at[part]]))
                    connection.executemany(sql, zip(rows_as_bytes(names[order[part]]), blobs, strict=True))

    def read_vectors(
        self, config: RepoConfig, view: FeatureView | Layout, ids: Ids
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The vectors that this very version holds, float32 [n, dim] (zeros where absent), and found bool [n].

        No route is followed and nothing is counted: that is the caller's.

        Raises:
            PublishError: F031 ids of the wrong type, F033 a value of another shape, F050 the file cannot be read.
        """
        layout = layout_of(config, view)
        names = key_list(layout, as_keys(layout, ids))
        found: dict[bytes, bytes] = {}
        with _answering():
            connection = self._reading(config)
            for at in range(0, len(names), _READ_IDS):
                part = names[at : at + _READ_IDS]
                marks = ",".join("?" * len(part))
                sql = f'SELECT entity_key, value FROM "{layout.table}" WHERE entity_key IN ({marks})'
                found.update(connection.execute(f"{sql} AND feature_name = '{FIELD}'", part))
        return from_values(layout, [found.get(name) for name in names])

    def count_vectors(self, config: RepoConfig, view: FeatureView | Layout, keys: pa.Array | None = None) -> int:  # noqa: ARG002
        """Every row of the version, whatever its key."""
        with _answering():
            query = f'SELECT count(*) FROM "{layout_of(config, view).table}"'
            return int(self._reading(config).execute(query).fetchone()[0])

    def purge_version(self, config: RepoConfig, view: FeatureView | Layout, keys: pa.Array) -> int:
        """Delete the rows of `keys`; how many there were. `drop_version` deletes the table."""
        layout = layout_of(config, view)
        with _answering(), self._writing(config) as connection, connection:
            if not _exists(connection, layout.table):
                return 0
            sql = f'DELETE FROM "{layout.table}" WHERE entity_key = ?'
            return int(connection.executemany(sql, ((name,) for name in key_list(layout, keys))).rowcount)

    def drop_version(self, config: RepoConfig, view: FeatureView | Layout) -> None:
        """Drop the version's table; its pages are free for other tables then, the file keeps its size."""
        with _answering(), self._writing(config) as connection, connection:
            connection.execute(f'DROP TABLE IF EXISTS "{layout_of(config, view).table}"')

    def size_of(self, config: RepoConfig, view: FeatureView | Layout, keys: pa.Array) -> tuple[int, int]:  # noqa: ARG002
        """Rows of the version's table, and the bytes of its pages and those of its indexes."""
        layout = layout_of(config, view)
        with _answering():
            connection = self._reading(config)
            if not _exists(connection, layout.table):
                return 0, 0
            rows = int(connection.execute(f'SELECT count(*) FROM "{layout.table}"').fetchone()[0])
            names = "SELECT name FROM sqlite_master WHERE tbl_name = ?"
            try:
                query = f"SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN ({names})"
                return rows, int(connection.execute(query, [layout.table]).fetchone()[0])
            except sqlite3.OperationalError:  # built without the table of statistics
                return rows, rows * (layout.value_bytes + 3 * (len(layout.key_prefix) + 8))

    def _reading(self, config: RepoConfig) -> sqlite3.Connection:
        """A read-only connection of this thread."""
        local = self.__dict__.get("_local") or self.__dict__.setdefault("_local", threading.local())
        if getattr(local, "config", None) is not config:
            path = Path(self._get_db_path(config)).resolve()
            local.connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
            local.connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
            local.config = config
        connection: sqlite3.Connection = local.connection
        return connection

    @contextmanager
    def _writing(self, config: RepoConfig) -> Iterator[sqlite3.Connection]:
        """A connection that readers of other versions can go on beside; kept, or every shard would be copied twice.

        What it has committed is copied from the log into the file when the log has grown large, and when it is closed:
        with this store.
        """
        path = str(Path(self._get_db_path(config)).resolve())
        if self._writer is None or self._writer[0] != path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
            for pragma in _WRITE_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            self._writer = (path, connection)
        yield self._writer[1]


def _event_time(as_of: int) -> int:
    """`as_of` as Feast's own adapter stores it: seconds of the naive moment, in the zone of this machine."""
    from feast.infra.online_stores.sqlite import adapt_datetime_epoch
    from feast.utils import to_naive_utc

    return int(adapt_datetime_epoch(to_naive_utc(datetime.fromtimestamp(as_of / 1e6, tz=UTC))))


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, [table]).fetchone()[0])


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise PublishError(
            "F050",
            f"the online store does not answer: {error}",
            hint="see that its file can be written and its disk has room, then `star-platform release --resume`",
        ) from error


def stock_config(settings: Any) -> Any:
    """The settings as Feast's own class takes them."""
    return SqliteOnlineStoreConfig(
        **{name: getattr(settings, name) for name in SqliteOnlineStoreConfig.model_fields if name != "type"}
    )


__all__: Sequence[str] = ("StarSqliteOnlineStore", "StarSqliteOnlineStoreConfig", "stock_config")
