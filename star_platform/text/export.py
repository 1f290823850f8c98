"""A feature's vectors as one Parquet file that any tool reads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.registry.artefacts import Artefact
from star_platform.text.normalise import normalise

_ROWS = 16_384


def write_parquet(texts: Artefact, vectors: Artefact, ids: pa.Array[Any], target: Path) -> int:
    """Write `key`, `valid_from`, `md5`, `vector`, a row for each row of the artefact `texts`; how many.

    `key` is the external id of the node (`ids`, by node index), `valid_from` the moment in UTC from which its text
    holds (null: no versions), `md5` that of the normalised text in hex, for systems that compare texts by it, `vector`
    float32 of unit norm. Both are null where there is no text: a missing vector is no vector of zeros. The file is
    there whole or not at all.
    """
    values = np.load(vectors.path / "values.npy", mmap_mode="r")
    present = np.load(vectors.path / "present.npy", mmap_mode="r")
    schema = pa.schema(
        {
            "key": ids.type,
            "valid_from": pa.timestamp("us", "UTC"),
            "md5": pa.string(),
            "vector": pa.list_(pa.float32(), values.shape[1]),
        }
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.tmp")
    first = 0
    with pq.ParquetFile(texts.path / "texts.parquet") as file, pq.ParquetWriter(scratch, schema) as writer:
        for batch in file.iter_batches(_ROWS):
            have = np.asarray(present[first : first + len(batch)])
            columns = [
                ids.take(batch.column("node")),
                batch.column("valid_from").cast(schema.field("valid_from").type),
                pa.array([_md5(text) for text in batch.column("text").to_pylist()], pa.string()),
                _vectors(np.asarray(values[first : first + len(batch)]), have),
            ]
            writer.write_table(pa.table(columns, schema))
            first += len(batch)
    scratch.replace(target)
    return first


def _md5(text: str | None) -> str | None:
    clean = normalise(text) if text else ""
    return hashlib.md5(clean.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest() if clean else None


def _vectors(values: np.ndarray[Any, Any], have: np.ndarray[Any, Any]) -> pa.Array[Any]:
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~have))
