"""Where the vector of an entity lies in an online store and what its bytes are, computed once per version.

Everything is derived from Feast's own functions and probed against them (F002), never written down here: a key is a
constant prefix and the id, a value is a constant prefix and the little-endian floats (`wire.value_prefix`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_platform.errors import PublishError
from star_platform.publishing.model import KeyType, join_key, node_of_view, view_name
from star_platform.publishing.wire import entity_keys, value_prefix

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.repo_config import RepoConfig

Bytes = npt.NDArray[np.uint8]
Ids: TypeAlias = Sequence[int] | Sequence[str] | npt.NDArray[Any] | pa.Array

DIM_TAG, SPACE_TAG = "star_dim", "star_space"
_PROBES: dict[KeyType, tuple[list[int] | list[str], ...]] = {
    "int64": ([0, 1, -1, 2**62, -(2**63)],),
    "string": (["", "a", "job/17", "é" * 40, "x" * 300],),
}


@dataclass(frozen=True)
class Layout:
    """One version of one node type in one Feast project.

    storage: the versioned name of the view, such as `member_embedding_v3`.
    key_prefix: bytes of Feast's entity key before the id (an int64, or the length and UTF-8 of a string).
    value_prefix: bytes of Feast's `Value` before the floats.
    """

    project: str
    node: str
    release: int
    storage: str
    key_type: KeyType
    dim: int
    key_prefix: bytes
    value_prefix: bytes

    @property
    def table(self) -> str:
        """Name of the SQL table."""
        return f"{self.project}_{self.storage}"

    @property
    def value_bytes(self) -> int:
        """Length of every stored value."""
        return len(self.value_prefix) + 4 * self.dim


def layout_of(config: RepoConfig, view: FeatureView | Layout) -> Layout:
    """The layout of a pinned view (`objects.detached_view`, or a registered one with its tags)."""
    if isinstance(view, Layout):
        return view
    number = view.projection.version_tag or view.current_version_number
    column = view.entity_columns[0]
    key_type: KeyType = "string" if str(column.dtype) == "String" else "int64"
    return make_layout(config.project, node_of_view(view.name), int(number), key_type, int(view.tags[DIM_TAG]))


@cache
def make_layout(project: str, node: str, release: int, key_type: KeyType, dim: int) -> Layout:
    """Raises PublishError F002 when Feast's bytes are not what this module assumes."""
    column = join_key(node)
    prefix = _key_prefix(column, key_type)
    return Layout(project, node, release, f"{view_name(node)}_v{release}", key_type, dim, prefix, value_prefix(dim))


def as_keys(layout: Layout, ids: Ids) -> pa.Array:
    """`ids` as int64 or string [n], none of them null; raises PublishError F031 when they are of another type."""
    try:
        keys = _to_keys(layout, ids)
        if keys.null_count:
            raise ValueError(f"{keys.null_count} of them are null")  # noqa: TRY301
    except (TypeError, ValueError, OverflowError) as error:
        kind = "whole numbers" if layout.key_type == "int64" else "text"
        raise PublishError(
            "F031", f"ids of {layout.node} are {kind}: {error}", hint="ask with the ids of the source tables"
        ) from error
    return keys


def _to_keys(layout: Layout, ids: Ids) -> pa.Array:
    if isinstance(ids, pa.Array):
        fits = pa.types.is_int64(ids.type) if layout.key_type == "int64" else pa.types.is_string(ids.type)
        if fits:
            return ids
    if layout.key_type == "string":
        return pa.array(list(ids), pa.string())
    whole: npt.NDArray[Any] = np.asarray(ids)
    if not len(whole):
        return pa.array([], pa.int64())
    if whole.dtype.kind == "O":  # a column of a data frame, perhaps of digits
        whole = np.asarray([int(item) if isinstance(item, str) else index(item) for item in ids], dtype=np.int64)
    if whole.dtype.kind == "u" and int(whole.max()) >= 2**63:
        raise OverflowError(f"{whole.max()} has more than 64 bits with sign")
    if whole.dtype.kind not in "iu":
        raise TypeError(f"{whole.dtype} is not a whole number")
    return pa.array(whole.astype(np.int64, copy=False))


def key_blocks(layout: Layout, keys: pa.Array) -> Iterator[tuple[npt.NDArray[np.int64] | None, Bytes]]:
    """Feast's key of every row as uint8 [k, width], in groups of one width with the rows they belong to.

    None stands for all rows in order. No Python runs per row: ids of one length form one rectangle.
    """
    prefix = np.frombuffer(layout.key_prefix, np.uint8)
    if layout.key_type == "int64":
        tail = np.ascontiguousarray(keys.to_numpy(zero_copy_only=False), dtype="<i8").view(np.uint8).reshape(-1, 8)
        yield None, _beside(prefix, tail)
        return
    offsets = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset : keys.offset + len(keys) + 1].astype(np.int64)
    text = np.frombuffer(keys.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        tail = text[offsets[rows, None] + np.arange(length)]
        head = np.concatenate([prefix, np.frombuffer(struct.pack("<I", length), np.uint8)])
        yield rows, _beside(head, tail)


def key_list(layout: Layout, keys: pa.Array) -> list[bytes]:
    """Feast's key of every row."""
    result: list[bytes] = [b""] * len(keys)
    for rows, block in key_blocks(layout, keys):
        items = rows_as_bytes(block)
        if rows is None:
            return items
        for row, item in zip(rows.tolist(), items, strict=True):
            result[row] = item
    return result


def value_block(layout: Layout, vectors: npt.NDArray[np.float32]) -> Bytes:
    """Feast's value of every row of float32 [n, dim], as uint8 [n, width]."""
    floats = np.ascontiguousarray(vectors, dtype="<f4").view(np.uint8).reshape(len(vectors), 4 * layout.dim)
    return _beside(np.frombuffer(layout.value_prefix, np.uint8), floats)


def rows_as_bytes(block: Bytes) -> list[bytes]:
    """One `bytes` per row of uint8 [n, width]."""
    result: list[bytes] = np.ascontiguousarray(block).view(f"V{block.shape[1]}").ravel().tolist()
    return result


def from_values(layout: Layout, blobs: Sequence[bytes | None]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Vectors float32 [n, dim] (zeros where None) and found bool [n]; raises PublishError F033 for foreign bytes."""
    found = np.array([blob is not None for blob in blobs], dtype=np.bool_)
    present = [blob for blob in blobs if blob is not None]
    if set(map(len, present)) - {layout.value_bytes}:
        raise wrong_value(layout)
    block = np.frombuffer(b"".join(present), np.uint8).reshape(len(present), layout.value_bytes)
    vectors = floats_of(layout, block)
    if found.all():
        return vectors, found
    result = np.zeros((len(blobs), layout.dim), dtype=np.float32)
    result[found] = vectors
    return result, found


def floats_of(layout: Layout, block: Bytes) -> npt.NDArray[np.float32]:
    """The vectors in stored values uint8 [n, value_bytes]; raises PublishError F033 when a prefix is another."""
    head = len(layout.value_prefix)
    if not (block[:, :head] == np.frombuffer(layout.value_prefix, np.uint8)).all():
        raise wrong_value(layout)
    return block[:, head:].copy().view("<f4")  # a view of one row would be neither aligned nor writable


def wrong_value(layout: Layout) -> PublishError:
    """What is raised where a stored value is not a vector of the version."""
    return PublishError(
        "F033",
        f"a stored vector of {layout.node} in r{layout.release} does not have {layout.dim} float32 values",
        hint="publish the release again",
    )


def _beside(head: Bytes, tail: Bytes) -> Bytes:
    result = np.empty((len(tail), len(head) + tail.shape[1]), np.uint8)
    result[:, : len(head)] = head
    result[:, len(head) :] = tail
    return result


@cache
def _key_prefix(column: str, key_type: KeyType) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key

    (probes,) = _PROBES[key_type]
    written = [serialize_entity_key(key, 3) for key in entity_keys(column, probes)]
    tails = [_tail(probe) for probe in probes]
    prefix: bytes = written[0][: len(written[0]) - len(tails[0])]
    if any(whole != prefix + tail for whole, tail in zip(written, tails, strict=True)):
        raise PublishError(
            "F002",
            f"Feast writes keys of type {key_type} in a layout that this platform does not know",
            hint="pin Feast to a version that CHANGELOG.md names as tested",
        )
    return prefix


def _tail(probe: int | str) -> bytes:
    if isinstance(probe, int):
        return struct.pack("<q", probe)
    text = probe.encode()
    return struct.pack("<I", len(text)) + text
