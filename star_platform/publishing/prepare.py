"""Looks at every vector once before anything is written: shape, ids, finite values, norms, checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from star_platform.errors import PublishError
from star_platform.publishing.model import KeyType, NodeVectors

_BLOCK_BYTES = 32 * 2**20
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Prepared:
    """Checked vectors with ids of the one type that Feast is given.

    keys: int64 or string [n], unique, not null, in the order of `vectors` (float32 [n, dim]).
    """

    node: str
    keys: pa.Array
    vectors: npt.NDArray[np.float32]
    key_type: KeyType
    norm: tuple[float, float]
    checksum: str

    @property
    def rows(self) -> int:
        return len(self.keys)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def shards(self, rows: int) -> list[range]:
        """The rows of each shard of at most `rows`; at least one shard, perhaps empty."""
        return [range(at, min(at + rows, self.rows)) for at in range(0, max(self.rows, 1), rows)]


def prepare(source: NodeVectors) -> Prepared:
    """Check and measure `source` in bounded memory.

    Raises:
        PublishError: F010 wrong shape or dtype, F011 null or duplicate ids, F012 ids that Feast cannot hold,
            F013 values that are not finite.
    """
    vectors = source.vectors
    if vectors.ndim != 2 or vectors.dtype != np.float32 or vectors.shape[1] < 1 or len(vectors) != len(source.ids):
        raise PublishError(
            "F010",
            f"vectors of {source.node} are {vectors.dtype} {list(vectors.shape)} for {len(source.ids)} ids;"
            " float32 [ids, dim] is published",
            hint="release again: the embed stage rebuilds them",
        )
    keys = _keys(source)
    hasher = hashlib.sha256(f"{vectors.shape[1]}:{keys.type}".encode())
    low, high = np.inf, 0.0
    for rows in _blocks(len(keys), int(vectors.shape[1])):
        block = np.ascontiguousarray(vectors[rows.start : rows.stop], dtype="<f4")
        if not np.isfinite(block).all():
            bad = rows.start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise PublishError(
                "F013",
                f"row {bad} of {source.node} holds NaN or infinity",
                hint="training diverged; lower the learning rate and release again",
            )
        norms = np.linalg.norm(block, axis=1)
        low, high = min(low, float(norms.min())), max(high, float(norms.max()))
        hasher.update(_key_bytes(keys.slice(rows.start, len(rows))))
        hasher.update(block.tobytes())
    key_type: KeyType = "int64" if pa.types.is_int64(keys.type) else "string"
    return Prepared(source.node, keys, vectors, key_type, (low if len(keys) else 0.0, high), hasher.hexdigest())


def _keys(source: NodeVectors) -> pa.Array:
    """Ids as int64, or as string where they are not whole numbers."""
    ids = source.ids.combine_chunks() if isinstance(source.ids, pa.ChunkedArray) else source.ids
    target = pa.int64() if pa.types.is_integer(ids.type) else pa.string()
    try:
        keys = pc.cast(ids, target)
    except pa.ArrowException as error:
        raise PublishError(
            "F012",
            f"ids of {source.node} are {ids.type}, which Feast can hold neither as Int64 nor as String",
            hint="cast the key to a string in the branch's source",
        ) from error
    ascending = len(keys) < 2 or pc.all(pc.less(keys.slice(0, len(keys) - 1), keys.slice(1))).as_py()
    if keys.null_count or (not ascending and pc.count_distinct(keys).as_py() != len(keys)):
        raise PublishError(
            "F011",
            f"ids of {source.node} are not unique or hold nulls",
            hint="each entity has one vector; compile the graph again",
        )
    return keys


def _key_bytes(keys: pa.Array) -> bytes:
    if pa.types.is_int64(keys.type):
        return keys.to_numpy(zero_copy_only=False).astype("<i8").tobytes()  # type: ignore[no-any-return]
    lengths = pc.binary_length(keys).to_numpy(zero_copy_only=False).astype("<i4")
    return lengths.tobytes() + "".join(keys.to_pylist()).encode()  # type: ignore[no-any-return]


def _blocks(rows: int, dim: int) -> Iterator[range]:
    step = max(1, _BLOCK_BYTES // (4 * dim))
    for at in range(0, rows, step):
        yield range(at, min(at + step, rows))
