"""Where `usage` adds counts up: in the online store itself, beside the vectors and out of Feast's sight.

Redis: the hash `star:usage:<project>`. SQLite and Postgres: the table `<project>_star_usage`. Nobody has to set
anything up; the first writer does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from star_platform.publishing.usage import UsageCount, UsageSink

if TYPE_CHECKING:
    from feast.repo_config import RepoConfig

_LOCK_SECONDS = 5.0
"""How long a flush waits for a publisher that writes to the same SQLite file; then it tries again later."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS {table} (
    consumer TEXT NOT NULL, node TEXT NOT NULL, release INTEGER NOT NULL, day TEXT NOT NULL,
    reads BIGINT NOT NULL, vectors BIGINT NOT NULL, PRIMARY KEY (consumer, node, release, day)
)"""
_ADD = """
INSERT INTO {table} AS t (consumer, node, release, day, reads, vectors) VALUES ({values})
ON CONFLICT (consumer, node, release, day)
DO UPDATE SET reads = t.reads + excluded.reads, vectors = t.vectors + excluded.vectors"""
_READ = "SELECT consumer, node, release, day, reads, vectors FROM {table}"


class SqliteUsage:
    """A table in the file of Feast's SQLite online store; the empty text stands for an unknown consumer."""

    def __init__(self, database: Path, project: str) -> None:
        self._database = database
        self._table = '"' + f"{project}_star_usage".replace('"', '""') + '"'

    def add(self, counts: Sequence[UsageCount]) -> None:
        with self._connection("rw") as connection, connection:
            connection.execute(_SCHEMA.format(table=self._table))
            connection.executemany(_ADD.format(table=self._table, values="?, ?, ?, ?, ?, ?"), map(_row, counts))

    def read(self) -> list[UsageCount]:
        if not self._database.exists():
            return []
        with self._connection("ro") as connection:
            known = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
            if not connection.execute(known, [self._table.strip('"')]).fetchone()[0]:
                return []
            return [_from_row(row) for row in connection.execute(_READ.format(table=self._table))]

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        """Never creates the file: that is the publisher's to do."""
        uri = f"{self._database.resolve().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS)) as connection:
            yield connection


class RedisUsage:
    """A hash whose fields are `[consumer, node, release, day, what]` as JSON, `what` being reads or vectors."""

    def __init__(self, config: RepoConfig) -> None:
        from feast.infra.online_stores.redis import RedisOnlineStore

        self._settings = config.online_store
        self._store = RedisOnlineStore()  # connects as its settings say: one server, a cluster, sentinels
        self._key = f"star:usage:{config.project}"

    def add(self, counts: Sequence[UsageCount]) -> None:
        with self._client().pipeline(transaction=True) as pipe:
            for count in counts:
                identity = [count.consumer, count.node, count.release, count.day.isoformat()]
                pipe.hincrby(self._key, json.dumps([*identity, "reads"]), count.reads)
                pipe.hincrby(self._key, json.dumps([*identity, "vectors"]), count.vectors)
            pipe.execute()

    def read(self) -> list[UsageCount]:
        sums: dict[tuple[Any, ...], dict[str, int]] = {}
        for name, value in self._client().hgetall(self._key).items():
            *identity, what = json.loads(name)
            sums.setdefault(tuple(identity), {})[what] = int(value)
        return [
            UsageCount(consumer, node, release, date.fromisoformat(day), found.get("reads", 0), found.get("vectors", 0))
            for (consumer, node, release, day), found in sums.items()
        ]

    def _client(self) -> Any:
        return self._store._get_client(self._settings)


class PostgresUsage:
    """A table in the schema of Feast's Postgres online store."""

    def __init__(self, config: RepoConfig) -> None:
        self._settings = config.online_store
        self._table = '"' + f"{config.project}_star_usage".replace('"', '""') + '"'

    def add(self, counts: Sequence[UsageCount]) -> None:
        with self._connection() as connection, connection.cursor() as cursor:
            if not self._known(cursor):  # CREATE TABLE asks for rights that a reader may lack
                cursor.execute(_SCHEMA.format(table=self._table))
            cursor.executemany(_ADD.format(table=self._table, values="%s, %s, %s, %s, %s, %s"), list(map(_row, counts)))

    def read(self) -> list[UsageCount]:
        with self._connection() as connection, connection.cursor() as cursor:
            if not self._known(cursor):
                return []
            return [_from_row(row) for row in cursor.execute(_READ.format(table=self._table)).fetchall()]

    def _known(self, cursor: Any) -> bool:
        return cursor.execute("SELECT to_regclass(%s)", [self._table]).fetchone()[0] is not None

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """One transaction: committed at the end, rolled back by an error."""
        from feast.infra.utils.postgres.connection_utils import _get_conn

        with _get_conn(self._settings) as connection:
            yield connection


def sink_of(config: RepoConfig) -> UsageSink | None:
    """Where the readers of this online store add their counts; None for a kind of store that is not known here."""
    kind = store_family(config)
    if kind == "sqlite":
        return SqliteUsage(Path(config.repo_path or ".", config.online_store.path), config.project)
    if kind == "redis":
        return RedisUsage(config)
    if kind == "postgres":
        return PostgresUsage(config)
    return None


def store_family(config: RepoConfig) -> Literal["sqlite", "redis", "postgres"] | None:
    """The kind of online store that feature_store.yaml names: Feast's own or a subclass; None for any other.

    Told from the names of the classes of its settings, so that no client library is imported that is not used.
    """
    names = {kind.__name__ for kind in type(config.online_store).__mro__}
    if "SqliteOnlineStoreConfig" in names:
        return "sqlite"
    if "RedisOnlineStoreConfig" in names:
        return "redis"
    return "postgres" if "PostgreSQLOnlineStoreConfig" in names else None


def _row(count: UsageCount) -> tuple[Any, ...]:
    return (count.consumer or "", count.node, count.release, count.day.isoformat(), count.reads, count.vectors)


def _from_row(row: Sequence[Any]) -> UsageCount:
    consumer, node, release, day, reads, vectors = row
    return UsageCount(consumer or None, node, int(release), date.fromisoformat(day), int(reads), int(vectors))
