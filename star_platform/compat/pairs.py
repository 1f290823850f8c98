"""Which entities two releases have in common, by id and never by row, and their vectors in blocks.

Ids of 100 M rows take 8 bytes each here and the vectors stay on disk: a block at a time is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from star_platform.compat.model import Float32Array, Vectors
from star_platform.errors import CompatError
from star_platform.graph._choice_kernels import mix
from star_platform.graph.kernels import kernel

Int64Array = NDArray[np.int64]
BLOCK = 16_384
"""Rows read at a time: 26 MB as float64 at 200 dimensions."""
_FNV_BASIS, _FNV_PRIME = np.uint64(14695981039346656037), np.uint64(1099511628211)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The entities of one type that two releases share, in the order of the newer one."""

    new: Vectors
    old: Vectors
    rows: Int64Array
    """`[k]` ascending: their rows in `new`."""
    old_rows: Int64Array
    """`[k]`: their rows in `old`."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[Any]) -> Pairs:
        """A part of them: a mask `[k]` or ascending positions."""
        return Pairs(self.new, self.old, self.rows[chosen], self.old_rows[chosen])

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[slice, Float32Array, Float32Array]]:
        """Positions, and the vectors of both releases at these: float32 `[b, d_n]` and `[b, d_m]`."""
        for first in range(0, len(self.rows), size):
            part = slice(first, min(first + size, len(self.rows)))
            yield part, gather(self.new.vectors, self.rows[part]), gather(self.old.vectors, self.old_rows[part])


def gather(vectors: Float32Array, rows: Int64Array) -> Float32Array:
    """Some rows; a stretch of consecutive rows is read as one."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (len(rows) == 1 or bool((np.diff(rows) == 1).all())):
        return np.asarray(vectors[rows[0] : rows[-1] + 1], dtype=np.float32)
    return np.asarray(vectors[rows], dtype=np.float32)


def pair(new: Vectors, old: Vectors, node: str) -> Pairs:
    """Inner join of two releases on id.

    Raises:
        CompatError: C010 when an id stands twice, C011 when one release has numbers for ids and the other has text.
    """
    places = find(new.ids, old.ids, node)
    rows = np.flatnonzero(places >= 0)
    return Pairs(new, old, rows, places[rows])


def find(ids: pa.Array[Any], among: pa.Array[Any], node: str) -> Int64Array:
    """Where each of `ids` stands in `among`: int64 `[len(ids)]`, -1 where it does not. Both hold an id once at most.

    Raises:
        CompatError: C010, C011 as `pair`.
    """
    if len(ids) == 0 or len(among) == 0:
        return np.full(len(ids), -1, dtype=np.int64)
    wanted, known = _plain(ids, node), _plain(among, node)
    if isinstance(wanted, np.ndarray) and isinstance(known, np.ndarray):
        return _find_numbers(wanted, known, node)
    if isinstance(wanted, pa.Array) and isinstance(known, pa.Array):
        for each in (wanted, known):
            if pc.count_distinct(each).as_py() < len(each):
                raise _twice(node)
        found = pc.index_in(wanted, value_set=known)
        return np.asarray(pc.fill_null(found.cast(pa.int64()), -1).to_numpy(zero_copy_only=False), dtype=np.int64)
    raise CompatError(
        "C011",
        f"ids of {node!r} are {ids.type} in one release and {among.type} in the other",
        hint="keep the type of a key across releases, or rename the node type",
    )


def locate(keys: pa.Array[Any], among: pa.Array[Any], node: str) -> Int64Array:
    """As `find`, for keys that may repeat or be null, such as those of a labelled set."""
    distinct = pc.unique(keys).drop_null()
    if pa.types.is_integer(keys.type) and not pa.types.is_integer(among.type):
        distinct, keys = distinct.cast(pa.large_string()), keys.cast(pa.large_string())
    places = find(distinct, among, node)
    back = pc.index_in(keys, value_set=distinct, skip_nulls=True)
    known = pc.is_valid(back).to_numpy(zero_copy_only=False)
    out = np.full(len(keys), -1, dtype=np.int64)
    out[known] = places[back.drop_null().to_numpy(zero_copy_only=False)]
    return out


def hold_out(ids: pa.Array[Any], rows: Int64Array, share: float, seed: int) -> NDArray[np.bool_]:
    """Whether each entity is held out, `[len(rows)]`; a hash of its id alone decides, so that rows may move."""
    chosen = np.empty(len(rows), dtype=np.bool_)
    limit = np.uint64(min(share, 1.0 - 2.0**-53) * 2.0**64)
    for first in range(0, len(rows), 1 << 20):
        part = rows[first : first + (1 << 20)]
        text = ids.take(pa.array(part)).cast(pa.large_string())
        _, ends, data = text.buffers()
        offsets = np.frombuffer(memoryview(ends or b""), dtype=np.int64)[text.offset : text.offset + len(text) + 1]
        content = np.frombuffer(memoryview(data or b""), dtype=np.uint8)
        chosen[first : first + len(part)] = _hashes(content, offsets, np.uint64(seed)) < limit
    return chosen


def _plain(ids: pa.Array[Any], node: str) -> NDArray[np.int64] | pa.Array[Any]:
    """Numbers as int64, anything else as text."""
    if ids.null_count:
        raise CompatError("C010", f"{ids.null_count} rows of {node!r} have no id", hint="release again")
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy(zero_copy_only=False), dtype=np.int64)
    return ids.cast(pa.large_string())


def _find_numbers(wanted: Int64Array, known: Int64Array, node: str) -> Int64Array:
    order = None if _ascending(known) else np.argsort(known, kind="stable")
    ordered = known if order is None else known[order]
    for each in (ordered, wanted if _ascending(wanted) else np.sort(wanted)):
        if bool((each[1:] == each[:-1]).any()):
            raise _twice(node)
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    hit = ordered[places] == wanted
    if order is not None:
        places = order[places]
    places[~hit] = -1
    return places


def _ascending(values: Int64Array) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def _twice(node: str) -> CompatError:
    return CompatError("C010", f"an id of {node!r} stands twice in one release", hint="release again")


@kernel
def _hashes(text: Any, ends: Any, seed: Any) -> Any:
    """uint64 `[n]`: FNV-1a of each id's text, mixed with the seed by SplitMix64."""
    out = np.empty(len(ends) - 1, dtype=np.uint64)
    for i in range(len(out)):
        state = _FNV_BASIS
        for j in range(ends[i], ends[i + 1]):
            state = (state ^ np.uint64(text[j])) * _FNV_PRIME
        out[i] = mix(state + (seed + np.uint64(1)) * _GOLDEN)
    return out
