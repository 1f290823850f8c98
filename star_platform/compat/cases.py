"""The labelled examples of a consumer: what its model is asked, and what turned out to be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from star_platform.errors import CompatError


@dataclass(frozen=True, eq=False)
class LabelledCases:
    """Rows that a frozen consumer scores."""

    labels: NDArray[np.int8]
    """`[rows]`: 1 or 0."""
    keys: Mapping[str, pa.Array[Any]]
    """By node type `[rows]`: whose vector the row needs; may be null."""
    columns: Mapping[str, NDArray[Any]]
    """`[rows]` each: what else the scorer reads."""
    clusters: NDArray[np.int64] | None
    """`[rows]`: rows with one number belong together; None: every row stands for itself."""

    def __len__(self) -> int:
        return len(self.labels)


def read_cases(spec: Mapping[str, Any], root: Path) -> LabelledCases:
    """Read `{path, label, keys: {node: column}, columns: [...], cluster: column | None}`; the file is Parquet.

    `path` is relative to `root`. Without `cluster` the first key's entities are the clusters, if they repeat.

    Raises:
        CompatError: C032 when the file cannot be read or a column is missing, C033 for labels other than 0 and 1.
    """
    keys: Mapping[str, str] = spec["keys"]
    names = list(spec.get("columns") or ())
    wanted = dict.fromkeys([spec["label"], *keys.values(), *names, *filter(None, [spec.get("cluster")])])
    path = root / spec["path"]
    try:
        schema = pq.read_schema(path)
        missing = [name for name in wanted if name not in schema.names]
        table = None if missing else pq.read_table(path, columns=list(wanted))
    except (OSError, pa.ArrowException) as error:
        raise CompatError("C032", f"the labelled set {path} cannot be read: {error}", hint="write Parquet") from error
    if table is None:
        raise CompatError(
            "C032", f"{path} has no column {', '.join(missing)}", hint=f"it has {', '.join(schema.names)}"
        )
    first = next(iter(keys.values()))
    cluster = _key(table.column(spec.get("cluster") or first))
    return LabelledCases(
        labels=_labels(table.column(spec["label"]), path),
        keys={node: _key(table.column(column)) for node, column in keys.items()},
        columns={name: table.column(name).to_numpy() for name in names},
        clusters=_clusters(cluster),
    )


def _labels(column: pa.ChunkedArray[Any], path: Path) -> NDArray[np.int8]:
    values = np.asarray(column.to_numpy(), dtype=np.float64) if _numeric(column.type) else np.full(1, np.nan)
    if not np.isin(values, (0.0, 1.0)).all():
        raise CompatError("C033", f"labels of {path} are not all 0 or 1", hint="true/false or 1/0, none missing")
    return values.astype(np.int8)


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _key(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks()


def _clusters(column: pa.Array[Any]) -> NDArray[np.int64] | None:
    """Codes of the values; a row without one is a cluster of its own."""
    encoded = pc.dictionary_encode(column)
    codes = np.array(pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False), np.int64)
    alone = codes < 0
    codes[alone] = len(encoded.dictionary) + np.arange(int(alone.sum()))
    return codes if len(np.unique(codes)) < len(codes) else None
