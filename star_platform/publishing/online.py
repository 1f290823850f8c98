"""The online half: writes the rows of a version that no registry knows yet, in bounded batches.

`FeastWriter` takes Feast's public path, which costs one Python object per row whatever we do; a writer that streams
Arrow batches into one store's own records implements the same protocol.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_platform.errors import PublishError
from star_platform.progress import Progress
from star_platform.publishing.model import FIELD
from star_platform.publishing.prepare import Prepared
from star_platform.publishing.wire import entity_keys, values

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView


class OnlineWriter(Protocol):
    """Writes detached views (`objects.detached_view`) into one online store."""

    def create(self, view: FeatureView, *, fresh: bool) -> None:
        """Make room for a version; `fresh` removes what an earlier try with other vectors left there."""

    def write(self, view: FeatureView, keys: pa.Array, vectors: npt.NDArray[np.float32], as_of: int) -> None:
        """Write keys [n] and float32 [n, dim], all of them or raise; writing them again changes nothing."""

    def count(self, view: FeatureView) -> int | None:
        """Rows that the store holds of this version; None where the store cannot count them exactly."""


class FeastWriter:
    """Any online store, through `Provider.online_write_batch` in batches of `batch_rows`.

    Not through data frames: their Arrow-to-proto step keeps the first chunk only, and is slower.
    """

    def __init__(self, store: FeatureStore, batch_rows: int = 2_000) -> None:
        self._store = store
        self._batch_rows = batch_rows

    def create(self, view: FeatureView, *, fresh: bool) -> None:
        database = sqlite_path(self._store)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # readers of other versions go on during the write
                if fresh:
                    connection.execute(f'DROP TABLE IF EXISTS "{table_name(self._store, view)}"')
        self._update([], [view])

    def write(self, view: FeatureView, keys: pa.Array, vectors: npt.NDArray[np.float32], as_of: int) -> None:
        join_key = view.entity_columns[0].name
        moment = datetime.fromtimestamp(as_of / 1e6, tz=UTC)
        for at in range(0, len(keys), self._batch_rows):
            ids = keys.slice(at, self._batch_rows).to_pylist()
            block = values(vectors[at : at + self._batch_rows])
            rows: list[Any] = [
                (key, {FIELD: value}, moment, None)
                for key, value in zip(entity_keys(join_key, ids), block, strict=True)
            ]
            self._store.provider.online_write_batch(self._store.config, view, rows, None)

    def count(self, view: FeatureView) -> int | None:
        database = sqlite_path(self._store)
        if database is None:
            return None
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = f'SELECT count(*) FROM "{table_name(self._store, view)}"'
            return int(connection.execute(query).fetchone()[0])

    def _update(self, delete: list[Any], keep: list[Any]) -> None:
        self._store.provider.update_infra(self._store.project, delete, keep, [], [], partial=True)


def sqlite_path(store: FeatureStore) -> Path | None:
    """The file of Feast's SQLite online store, or None for another store."""
    from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig

    config = store.config
    if not isinstance(config.online_store, SqliteOnlineStoreConfig):
        return None
    return Path(config.repo_path or ".", config.online_store.path)


def table_name(store: FeatureStore, view: FeatureView) -> str:
    """The SQL table of one version, named by Feast's own rule."""
    from feast.infra.online_stores.helpers import compute_table_id

    return str(compute_table_id(store.project, view, enable_versioning=True))


@dataclass
class Acknowledgements:
    """The shards that the online store has taken, one line each in `path`, so that a killed publish goes on there.

    identity: what was written and how it was cut; lines of another identity do not count.
    """

    path: Path
    identity: str

    def done(self) -> set[int]:
        """Numbers of the shards taken; an unfinished last line does not count."""
        result: set[int] = set()
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry["identity"] == self.identity:
                result.add(int(entry["shard"]))
        return result

    def forget(self) -> None:
        """Let the next try write every shard again."""
        self.path.unlink(missing_ok=True)

    def add(self, shard: int, rows: int) -> None:
        entry = {"identity": self.identity, "shard": shard, "rows": rows}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry, sort_keys=True))  # the break first: a torn line stays alone
            file.flush()
            os.fsync(file.fileno())


def write_online(
    writer: OnlineWriter,
    view: FeatureView,
    prepared: Prepared,
    as_of: int,
    shard_rows: int,
    acknowledged: Acknowledgements,
    live: bool,
    progress: Progress,
) -> None:
    """Write every shard that is not acknowledged, then compare the count; raises PublishError F021.

    `live`: a registry knows the version already. Its rows are then overwritten with themselves, never dropped.
    """
    shards = prepared.shards(shard_rows)
    done = acknowledged.done()
    writer.create(view, fresh=not done and not live)
    with progress.task(f"online {prepared.node}", total=prepared.rows, unit="rows") as task:
        for number, rows in enumerate(shards):
            if number not in done:
                keys = prepared.keys.slice(rows.start, len(rows))
                writer.write(view, keys, prepared.vectors[rows.start : rows.stop], as_of)
                acknowledged.add(number, len(rows))
            task.advance(len(rows))
    check_count(writer, view, prepared)


def check_count(writer: OnlineWriter, view: FeatureView, prepared: Prepared) -> None:
    """Raises PublishError F021 when the store counts other than the rows of `prepared`."""
    count = writer.count(view)
    if count is not None and count != prepared.rows:
        raise PublishError(
            "F021",
            f"the online store holds {count} vectors of {prepared.node}, {prepared.rows} were published",
            hint="run `star-platform release --resume`: it writes them again",
        )
