"""One file of cached vectors: written once, named by its content, checked before it is believed.

64 bytes     magic, number of rows n, dim d, BLAKE2b-256 of the rest
n x 16       keys, ascending (bytes)
n x 16       MD5 of the texts (for systems that compare texts by MD5; nothing here reads it)
n x 4        tokens, int32
n x d x 4    vectors, float32, unit norm
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
SUFFIX = ".vectors"
_MAGIC = b"STARTEX1"
_HEADER = struct.Struct("<8sQQ8x32s")
_BLOCK = 1 << 24

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rows:
    """Cached rows: keys uint8 `[n, 16]`, md5 uint8 `[n, 16]`, tokens int32 `[n]`, vectors float32 `[n, d]`."""

    keys: Bytes
    md5: Bytes
    tokens: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Rows:
        return Rows(self.keys[rows], self.md5[rows], self.tokens[rows], self.vectors[rows])


class Shard:
    """A shard file as memory maps; a file that another process removes meanwhile stays readable here."""

    def __init__(self, path: Path) -> None:
        """Map `path`; raises FileNotFoundError, or ValueError when its size or header is wrong."""
        self.path = path
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ValueError("the header is cut off")
            magic, n, dim, self._digest = _HEADER.unpack(header)
            sizes = [n * KEY_BYTES, n * KEY_BYTES, n * 4, n * dim * 4]
            if magic != _MAGIC or _HEADER.size + sum(sizes) != path.stat().st_size:
                raise ValueError("the header does not fit the file")
            self._body = np.memmap(file, np.uint8, mode="r", offset=_HEADER.size, shape=(sum(sizes),))
        keys, md5, tokens, vectors = np.split(self._body, np.cumsum(sizes)[:-1])
        self.rows = Rows(
            keys.reshape(n, KEY_BYTES),
            md5.reshape(n, KEY_BYTES),
            tokens.view(np.int32),
            vectors.view(np.float32).reshape(n, dim),
        )

    def __len__(self) -> int:
        return len(self.rows.tokens)

    @property
    def bytes(self) -> int:
        """Size of the content."""
        return len(self._body)

    @property
    def dim(self) -> int:
        return int(self.rows.vectors.shape[1])

    @cached_property
    def intact(self) -> bool:
        """Whether the content still has the digest that it was written with; reads the whole file once."""
        digest = hashlib.blake2b(digest_size=32)
        for start in range(0, len(self._body), _BLOCK):
            digest.update(self._body[start : start + _BLOCK].data)
        return bool(digest.digest() == self._digest)


def write_shard(folder: Path, rows: Rows) -> Path:
    """Write `rows`, sorted by key, so that the file is there whole or not at all, also after a power cut."""
    rows = rows.take(np.lexsort(rows.keys.T[::-1]))
    parts = [
        np.ascontiguousarray(rows.keys, np.uint8),
        np.ascontiguousarray(rows.md5, np.uint8),
        np.ascontiguousarray(rows.tokens, "<i4"),
        np.ascontiguousarray(rows.vectors, "<f4"),
    ]
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part.data)
    target = folder / f"{digest.hexdigest()[:32]}{SUFFIX}"
    scratch = folder / f".{secrets.token_hex(8)}.tmp"
    with scratch.open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, len(rows.tokens), rows.vectors.shape[1], digest.digest()))
        for part in parts:
            file.write(part.data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(target)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target
