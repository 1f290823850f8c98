"""A dataset with what was published into it later: shards of rows that replace earlier rows of the same ids.

    <offline_root>/r<N>/<node>/delta-00001.parquet    as the other shards; a null vector says that the id is gone
    <offline_root>/r<N>/<node>.json                   lists them, each with its event time

Point-in-time joins see what was served at the time; the newest row of an id is what is served now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from star_platform.publishing import offline
from star_platform.publishing.model import FIELD, dataset_folder, join_key
from star_platform.publishing.prepare import Prepared

_ROWS = 65_536


def files(offline_root: Path, release: int, node: str) -> list[Path]:
    """The Parquet files of a version: first the shards, then what was published later, oldest first."""
    return [*shards(offline_root, release, node), *deltas(dataset_folder(offline_root, release, node))]


def shards(offline_root: Path, release: int, node: str) -> list[Path]:
    """The Parquet files that a version was published with."""
    return sorted(dataset_folder(offline_root, release, node).glob("part-*.parquet"))


def deltas(folder: Path) -> list[Path]:
    """What was published into a dataset later, oldest first."""
    return sorted(folder.glob("delta-*.parquet"))


def materialised(offline_root: Path, release: int, node: str) -> list[Path]:
    """Files with ids whose mapped vectors were written into the online store under this version; not vectors."""
    return sorted((offline_root / f"r{release}").glob(f"{node}.ids-*.parquet"))


def without(keys: pa.Array, others: list[pa.Array]) -> pa.Array:
    """`keys` that none of `others` holds."""
    return keys.filter(pc.invert(pc.is_in(keys, pa.concat_arrays(others)))) if others else keys


def keys_of(path: Path, node: str) -> pa.Array:
    """The ids in one file, int64 or string [n]."""
    return pq.read_table(path, columns=[join_key(node)]).column(0).combine_chunks()


def current(offline_root: Path, release: int, node: str) -> Iterator[pa.RecordBatch]:
    """The newest row of every id, in batches of at most 65,536 rows; a null vector where the id is gone."""
    superseded: pa.Array | None = None
    for path in reversed(files(offline_root, release, node)):
        for batch in pq.ParquetFile(path).iter_batches(_ROWS):
            if superseded is not None:
                batch = batch.filter(pc.invert(pc.is_in(batch.column(join_key(node)), superseded)))
            if batch.num_rows:
                yield batch
        if path.name.startswith("delta-"):
            keys = keys_of(path, node)
            superseded = keys if superseded is None else pa.concat_arrays([superseded, keys])


@dataclass(frozen=True)
class Difference:
    """How a dataset differs from the vectors that it should hold.

    rows: int64, rows of the vectors that the dataset lacks or has otherwise. gone: ids that only the dataset has.
    """

    rows: npt.NDArray[np.int64]
    gone: pa.Array


def difference(prepared: Prepared, offline_root: Path, release: int) -> Difference:
    """Compare the newest row of every id with `prepared`, bit for bit; memory grows with the ids, not the vectors."""
    find = Finder(prepared.keys)
    same = np.zeros(prepared.rows, dtype=np.bool_)
    gone: list[pa.Array] = [prepared.keys.slice(0, 0)]
    for batch in current(offline_root, release, prepared.node):
        batch = batch.filter(pc.is_valid(batch.column(FIELD)))
        rows = find(batch.column(join_key(prepared.node)))
        gone.append(batch.column(join_key(prepared.node)).filter(pa.array(rows < 0)))
        known = rows >= 0
        stored = offline.as_matrix(batch.column(FIELD), prepared.dim)[known]
        wanted = np.ascontiguousarray(prepared.vectors[rows[known]])
        same[rows[known]] = (stored.view(np.uint32) == wanted.view(np.uint32)).all(axis=1)
    return Difference(np.flatnonzero(~same), pa.concat_arrays(gone))


def check(prepared: Prepared, offline_root: Path, release: int, as_of: int) -> None:
    """Compare a dataset with `prepared`, row by row; raises PublishError F020 at a difference."""
    if not deltas(dataset_folder(offline_root, release, prepared.node)):
        offline.compare(prepared, offline_root, release, as_of)
        return
    found = difference(prepared, offline_root, release)
    if len(found.rows) or len(found.gone):
        raise offline.differs(prepared, offline_root, release, f"{len(found.rows)} rows and {len(found.gone)} others")


class Finder:
    """Row numbers of ids: `find(ids)` is int64 [n], -1 for those that are not there."""

    def __init__(self, keys: pa.Array) -> None:
        self._keys = keys
        self._whole = keys.to_numpy(zero_copy_only=False) if pa.types.is_int64(keys.type) else None
        if self._whole is not None:
            self._order = np.argsort(self._whole, kind="stable")
            self._sorted = self._whole[self._order]

    def __call__(self, ids: pa.Array) -> npt.NDArray[np.int64]:
        if self._whole is None:
            found = pc.fill_null(pc.index_in(ids, self._keys), -1)
            return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
        asked = ids.to_numpy(zero_copy_only=False)
        if not len(self._sorted):
            return np.full(len(asked), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sorted, asked), len(self._sorted) - 1)
        return np.where(self._sorted[at] == asked, self._order[at], -1).astype(np.int64)
