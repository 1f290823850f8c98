"""Feast's Redis records as batches of commands: one hash per entity, two fields per version.

Imports neither Feast nor its protobufs, so that the processes of a bulk publish start at once; names and timestamps
come from Feast's own functions (`records_of` in the store's module).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_platform.publishing.layout import Bytes, Layout, floats_of, key_blocks, value_block
from star_platform.publishing.resp import commands

BATCH_ROWS = 2_000


@dataclass(frozen=True)
class Records:
    """One version in Redis.

    time_field, value_field: names of its two fields in the hash of an entity.
    """

    layout: Layout
    time_field: bytes
    value_field: bytes

    def keys(self, keys: pa.Array) -> Iterator[tuple[npt.NDArray[np.int64] | None, Bytes]]:
        """Redis keys of a batch in groups of one width, with their rows: Feast's key and the project's name."""
        project = np.frombuffer(self.layout.project.encode(), np.uint8)
        for rows, block in key_blocks(self.layout, keys):
            whole = np.empty((len(block), block.shape[1] + len(project)), np.uint8)
            whole[:, : block.shape[1]] = block
            whole[:, block.shape[1] :] = project
            yield rows, whole

    def hset(self, keys: pa.Array, vectors: npt.NDArray[np.float32], stamp: bytes) -> Iterator[Bytes]:
        """Commands that write keys [n] and float32 [n, dim], `BATCH_ROWS` at a time; each answers an integer."""
        for at in range(0, len(keys), BATCH_ROWS):
            block = vectors[at : at + BATCH_ROWS]
            for rows, names in self.keys(keys.slice(at, BATCH_ROWS)):
                data = value_block(self.layout, block if rows is None else block[rows])
                yield commands(b"HSET", names, self.time_field, stamp, self.value_field, data)

    def hdel(self, keys: pa.Array) -> Iterator[Bytes]:
        """Commands that remove the version from `keys`; each answers how many of its two fields were there."""
        return self._each(keys, b"HDEL", (self.time_field, self.value_field))

    def hstrlen(self, keys: pa.Array) -> Iterator[Bytes]:
        """Commands that answer how long each stored vector is, 0 where there is none."""
        return self._each(keys, b"HSTRLEN", (self.value_field,))

    def hget(self, keys: pa.Array) -> tuple[Bytes, npt.NDArray[np.int64] | None]:
        """Commands that answer the stored vectors, as one flat buffer, and the row of each (None: in order)."""
        parts, order = [], []
        for rows, names in self.keys(keys):
            block = commands(b"HGET", names, self.value_field)
            if rows is None:
                return block.reshape(-1), None
            parts.append(block.reshape(-1))
            order.append(rows)
        if not parts:
            return np.empty(0, np.uint8), None
        return np.concatenate(parts), np.concatenate(order)

    def vectors(
        self, block: Bytes, found: npt.NDArray[np.bool_], order: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The answers to `hget` in the order of its keys: float32 [n, dim] (zeros where absent), found bool [n]."""
        floats = floats_of(self.layout, block)
        if order is None and found.all():
            return floats, found
        rows = np.arange(len(found)) if order is None else order
        vectors = np.zeros((len(found), self.layout.dim), dtype=np.float32)
        vectors[rows[found]] = floats
        there = np.zeros(len(found), dtype=np.bool_)
        there[rows] = found
        return vectors, there

    def _each(self, keys: pa.Array, command: bytes, fields: tuple[bytes, ...]) -> Iterator[Bytes]:
        for at in range(0, len(keys), BATCH_ROWS):
            for _, names in self.keys(keys.slice(at, BATCH_ROWS)):
                yield commands(command, names, *fields)


def count_of(replies: bytes) -> int:
    """The sum of integer replies."""
    return sum(map(int, replies.replace(b":", b"").split()))
