"""Feast's DuckDB offline store, which appends a file where Feast's own rewrites the whole dataset.

Feast reads all rows and writes them again for every append, in place: the cost grows with the history, two writers lose
each other's rows, and a folder cannot be appended to at all. Here a batch is one Parquet file, complete when its name
appears. The same batch has the same name, so that writing it again changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.repo_config import RepoConfig

_MERGED_FROM = b"star.merged_from"
_MERGE_ABOVE = 64
_GRACE_SECONDS = 600.0


class TextDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    """Feast's settings."""

    type: Literal["star_platform.publishing.nearline.offline.TextDuckDBOfflineStore"] = (
        "star_platform.publishing.nearline.offline.TextDuckDBOfflineStore"
    )


class TextDuckDBOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """Reads as Feast does."""

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the Parquet folder of the view."""
        folder = Path(config.repo_path, feature_view.batch_source.path)
        schema = pq.read_schema(next(folder.glob("*.parquet")))
        append(folder, table.select(schema.names).cast(schema))
        if progress:
            progress(len(table))


def append(folder: Path, table: pa.Table) -> Path:
    """Add a file with these rows; durable when this returns."""
    digest = hashlib.blake2b(digest_size=12)
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                digest.update(buffer or b"")
            digest.update(f"{chunk.offset}:{len(chunk)};".encode())
    path = folder / f"rows-{digest.hexdigest()}.parquet"
    if not path.exists():
        _write(path, table)
    return path


def compact(folder: Path, above: int = _MERGE_ABOVE, grace: float = _GRACE_SECONDS) -> int:
    """Merge small files when there are more than `above`; how many were merged or deleted.

    The merged ones are deleted by a later call, `grace` seconds after, when nobody reads them any more: until then
    their rows are there twice, which a join on the newest row does not notice. One process at a time; others pass.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0
        merged = {path: _merged_from(path) for path in folder.glob("merged-*.parquet")}
        old = {name for path, names in merged.items() if path.stat().st_mtime < time.time() - grace for name in names}
        gone = [path for name in old if (path := folder / name).exists()]
        for path in gone:
            path.unlink()
        taken = {name for names in merged.values() for name in names}
        small = sorted(path for path in folder.glob("rows-*.parquet") if path.name not in taken)
        if len(small) <= above:
            return len(gone)
        names = [path.name for path in small]
        table = pa.concat_tables([pq.read_table(path) for path in small]).combine_chunks()
        metadata = {**(table.schema.metadata or {}), _MERGED_FROM: "\n".join(names).encode()}
        digest = hashlib.blake2b("\n".join(names).encode(), digest_size=12).hexdigest()
        _write(folder / f"merged-{digest}.parquet", table.replace_schema_metadata(metadata))
        return len(gone) + len(small)


def _merged_from(path: Path) -> list[str]:
    names: bytes = (pq.read_schema(path).metadata or {}).get(_MERGED_FROM, b"")
    return names.decode().splitlines()


def _write(path: Path, table: pa.Table) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, draft, compression="zstd")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
