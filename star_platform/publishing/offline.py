"""The offline half: one Parquet dataset per release and node type, in shards of consecutive rows.

    <offline_root>/r<N>/<node>/part-00000.parquet    <node>_id, embedding list<float>, event_timestamp
    <offline_root>/r<N>/<node>.json                  checksum, dim, shards; its presence means "complete"

Equal vectors give equal files: no clock and no machine is in them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.errors import PublishError
from star_platform.progress import Progress
from star_platform.publishing.model import FIELD, dataset_folder, join_key
from star_platform.publishing.prepare import Prepared

Rows = npt.NDArray[np.int64]
_GROUP_ROWS = 16_384
_TIMESTAMP = pa.timestamp("us", tz="UTC")


def export(
    prepared: Prepared, offline_root: Path, release: int, as_of: int, shard_rows: int, progress: Progress
) -> Path:
    """Write the dataset, or go on where an earlier try stopped; the folder.

    A shard appears under its name in one rename. Shards of other vectors, left by a try that failed, are removed.
    """
    folder = dataset_folder(offline_root, release, prepared.node)
    marker, draft = _marker(folder), _marker(folder).with_suffix(".partial")
    identity = _identity(prepared, as_of)
    if _read(marker).get("identity") == identity:
        return folder
    if _read(draft).get("identity") != identity:
        marker.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(draft, {"identity": identity})
    shards = prepared.shards(shard_rows)
    with progress.task(f"offline {prepared.node}", total=prepared.rows, unit="rows") as task:
        for number, rows in enumerate(shards):
            path = folder / f"part-{number:05d}.parquet"
            if not path.exists():
                _write_shard(prepared, rows, as_of, path)
            task.advance(len(rows))
    names = [f"part-{number:05d}.parquet" for number in range(len(shards))]
    _write_json(
        marker,
        {
            "identity": identity,
            "shards": [{"file": name, "rows": len(rows)} for name, rows in zip(names, shards, strict=True)],
        },
    )
    draft.unlink(missing_ok=True)
    return folder


def compare(prepared: Prepared, offline_root: Path, release: int, as_of: int) -> None:
    """Compare every row of the dataset with `prepared`, bit for bit.

    Raises:
        PublishError: F020 at the first difference; the dataset then counts as unfinished, and `export` writes it anew.
    """
    folder = dataset_folder(offline_root, release, prepared.node)
    at = 0
    for path in sorted(folder.glob("part-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(_GROUP_ROWS):
            expected = prepared.keys.slice(at, batch.num_rows)
            vectors = as_matrix(batch.column(FIELD), prepared.dim)
            same = (
                batch.column(join_key(prepared.node)).equals(expected)
                and vectors.tobytes() == np.ascontiguousarray(prepared.vectors[at : at + batch.num_rows]).tobytes()
                and bool(np.all(batch.column("event_timestamp").cast(pa.int64()).to_numpy() == as_of))
            )
            if not same:
                raise differs(prepared, offline_root, release, f"rows {at} to {at + batch.num_rows - 1} of {path}")
            at += batch.num_rows
    if at != prepared.rows:
        raise differs(prepared, offline_root, release, f"{at} rows in {folder}, {prepared.rows} published")


def add_delta(prepared: Prepared, offline_root: Path, release: int, as_of: int, rows: Rows, gone: pa.Array) -> None:
    """Publish into a dataset that is there: `rows` of `prepared`, and nothing for the ids in `gone`.

    From then on the dataset stands for `prepared`: `export` leaves it as it is. A try that was killed is written over.
    """
    folder = dataset_folder(offline_root, release, prepared.node)
    known = _read(_marker(folder))
    number = len(known.get("deltas", [])) + 1
    path = folder / f"delta-{number:05d}.parquet"
    schema = _schema(prepared)
    draft = path.with_suffix(".tmp")
    with pq.ParquetWriter(draft, schema, compression="zstd", use_dictionary=False) as writer:
        for at in range(0, len(rows), _GROUP_ROWS):
            part = rows[at : at + _GROUP_ROWS]
            writer.write_batch(_batch(schema, prepared.keys.take(pa.array(part)), prepared.vectors[part], as_of))
        if len(gone):
            empty = pa.nulls(len(gone), schema.field(FIELD).type)
            times = pa.array(np.full(len(gone), as_of, dtype=np.int64)).cast(_TIMESTAMP)
            writer.write_batch(pa.RecordBatch.from_arrays([gone, empty, times], schema=schema))
    _fsync(draft)
    draft.rename(path)
    entry = {"file": path.name, "rows": len(rows), "gone": len(gone), "as_of": as_of}
    identity = _identity(prepared, as_of)
    _write_json(_marker(folder), {**known, "identity": identity, "deltas": [*known.get("deltas", []), entry]})


def forget_unlisted(offline_root: Path, release: int, node: str) -> None:
    """Delete what a call of `add_delta` left that was killed before the dataset named it."""
    folder = dataset_folder(offline_root, release, node)
    listed = {entry["file"] for entry in _read(_marker(folder)).get("deltas", [])}
    for path in folder.glob("delta-*.parquet"):
        if path.name not in listed:
            path.unlink()


def is_of(prepared: Prepared, offline_root: Path, release: int, as_of: int) -> bool:
    """Whether the dataset, whole or not, is one of these vectors."""
    marker = _marker(dataset_folder(offline_root, release, prepared.node))
    found = (_read(path).get("identity") for path in (marker, marker.with_suffix(".partial")))
    return _identity(prepared, as_of) in found


def _identity(prepared: Prepared, as_of: int) -> dict[str, Any]:
    return {"checksum": prepared.checksum, "as_of": as_of, "rows": prepared.rows, "dim": prepared.dim}


def newest(offline_root: Path, release: int, node: str) -> int | None:
    """Event time of the newest rows of a dataset, None where there is no whole dataset."""
    identity = _read(_marker(dataset_folder(offline_root, release, node))).get("identity")
    return int(identity["as_of"]) if identity else None


def checksum(offline_root: Path, release: int, node: str) -> str | None:
    """Checksum of the vectors that a dataset stands for, None where there is no whole dataset."""
    identity = _read(_marker(dataset_folder(offline_root, release, node))).get("identity")
    return str(identity["checksum"]) if identity else None


def remove(offline_root: Path, release: int, node: str) -> None:
    """Delete a dataset; what stays when this is interrupted is deleted by the next call."""
    folder = dataset_folder(offline_root, release, node)
    shutil.rmtree(folder, ignore_errors=True)
    for path in folder.parent.glob(f"{node}.*"):  # what stands beside it: marker, draft, ids of mapped vectors
        path.unlink()


def as_matrix(column: Any, dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A list column without nulls as float32 [n, dim]; raises PublishError F033 when a list has another length."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat = array.flatten().to_numpy(zero_copy_only=False)
    if array.null_count or len(flat) != dim * len(array):
        raise PublishError(
            "F033", f"vectors read from Feast do not all have {dim} values", hint="publish the release again"
        )
    return np.ascontiguousarray(flat, dtype=np.float32).reshape(len(array), dim)


def differs(prepared: Prepared, offline_root: Path, release: int, what: str) -> PublishError:
    """What is raised where a dataset holds something else; it counts as unfinished from here on."""
    _marker(dataset_folder(offline_root, release, prepared.node)).unlink(missing_ok=True)
    return PublishError(
        "F020",
        f"the offline vectors of {prepared.node} in r{release} differ from the artefact: {what}",
        hint="run `star-platform release --resume`: it writes them again",
    )


def _write_shard(prepared: Prepared, rows: range, as_of: int, path: Path) -> None:
    draft = path.with_suffix(".tmp")
    schema = _schema(prepared)
    with pq.ParquetWriter(draft, schema, compression="zstd", use_dictionary=False) as writer:
        for batch in _batches(prepared, rows, as_of, schema):
            writer.write_batch(batch, row_group_size=_GROUP_ROWS)
    _fsync(draft)
    draft.rename(path)


def _batches(prepared: Prepared, rows: range, as_of: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for at in range(rows.start, rows.stop, _GROUP_ROWS):
        count = min(_GROUP_ROWS, rows.stop - at)
        yield _batch(schema, prepared.keys.slice(at, count), prepared.vectors[at : at + count], as_of)


def _schema(prepared: Prepared) -> pa.Schema:
    return pa.schema(
        [
            pa.field(join_key(prepared.node), prepared.keys.type),
            pa.field(FIELD, pa.list_(pa.float32())),
            pa.field("event_timestamp", _TIMESTAMP),
        ]
    )


def _batch(schema: pa.Schema, keys: pa.Array, vectors: npt.NDArray[np.float32], as_of: int) -> pa.RecordBatch:
    flat = np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1)
    offsets = np.arange(0, len(flat) + 1, vectors.shape[1], dtype=np.int32)
    columns = [
        keys,
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat)),
        pa.array(np.full(len(keys), as_of, dtype=np.int64)).cast(_TIMESTAMP),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _marker(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _fsync(draft)
    draft.rename(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
