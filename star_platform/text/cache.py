"""Vectors by content: a text is encoded once per encoder, whatever release or entity it belongs to.

The key of a text is a 16-byte BLAKE2b over the encoder's fingerprint (weights, tokenizer, pooling, prompt, limits,
normaliser) and the normalised text, so another model never answers for this one. Rows live in append-only shards below
`<root>/<encoder fingerprint>/`; any number of processes may read and write them at once, and a kill leaves whole shards
or nothing. A damaged shard is set aside and its texts are encoded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError
from star_platform.text.shards import KEY_BYTES, SUFFIX, Bytes, Rows, Shard, write_shard

_COMPACT_ABOVE = 24
_SMALL_SHARD = 1 << 23
_STALE_SECONDS = 3600.0


def text_keys(fingerprint: str, texts: Sequence[str]) -> tuple[Bytes, Bytes]:
    """Cache keys and MD5s, each uint8 `[n, 16]`, of normalised texts."""
    base = hashlib.blake2b(fingerprint.encode(), digest_size=KEY_BYTES)
    keys, md5 = bytearray(), bytearray()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        one = base.copy()
        one.update(data)
        keys += one.digest()
        md5 += hashlib.md5(data, usedforsecurity=False).digest()
    shape = (len(texts), KEY_BYTES)
    return np.frombuffer(keys, np.uint8).reshape(shape), np.frombuffer(md5, np.uint8).reshape(shape)


class TextCache:
    """The cached vectors of all encoders below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def beside(self, root: Path) -> TextCache:
        """An empty cache below `root`, for a rebuild that must not look at what is known."""
        return TextCache(root / self.root.name)

    def space(self, fingerprint: str, dim: int) -> CacheSpace:
        """The part that belongs to one encoder."""
        return CacheSpace(self.root / fingerprint, dim)


class CacheSpace:
    """Cached vectors of one encoder. `find` gives slots; slots hold until the next `put`, `find` or `compact`."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self.damaged: list[str] = []
        """What was set aside, one line each."""
        folder.mkdir(parents=True, exist_ok=True)
        self._shards: dict[str, Shard] = {}
        self._index: _Index | None = None

    def __len__(self) -> int:
        self._refresh()
        return sum(map(len, self._shards.values()))

    def find(self, keys: Bytes) -> npt.NDArray[np.int64]:
        """int64 `[n]`: slot of each key, -1 where it is not cached (or its shard is damaged)."""
        while True:
            index = self._refresh()
            slots = index.find(keys)
            used = np.unique(index.shard_of(slots[slots >= 0]))
            broken = [index.shards[i] for i in used.tolist() if not index.shards[i].intact]
            if not broken:
                return slots
            for shard in broken:
                self._set_aside(shard.path, "its content does not match its digest")

    def read(self, slots: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32] | None) -> npt.NDArray[np.int32]:
        """Token counts int32 `[k]` of slots that `find` gave; fills `vectors` float32 `[k, dim]` when given."""
        index = self._index
        if index is None:
            raise ValueError("read needs slots of a find")
        tokens = np.empty(len(slots), np.int32)
        order = np.argsort(slots, kind="stable")
        bounds = np.searchsorted(slots[order], index.starts)
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            mine = order[bounds[i] : bounds[i + 1]]
            rows = slots[mine] - index.starts[i]
            tokens[mine] = index.shards[i].rows.tokens[rows]
            if vectors is not None:
                vectors[mine] = index.shards[i].rows.vectors[rows]
        return tokens

    def put(self, rows: Rows) -> None:
        """Add rows as one shard.

        Raises:
            TextError: T008 when the folder cannot be written.
        """
        if not len(rows.tokens):
            return
        try:
            write_shard(self.folder, rows)
        except OSError as error:
            raise TextError(
                "T008", f"the text cache cannot be written: {error}", hint=f"check space and rights of {self.folder}"
            ) from error
        self._index = None

    def compact(self) -> None:
        """Merge many small shards into one; skipped while another process does it."""
        self._refresh()
        small = [shard for shard in self._shards.values() if shard.bytes < _SMALL_SHARD]
        if len(small) <= _COMPACT_ABOVE:
            return
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            self._merge([shard for shard in small if shard.path.exists() and shard.intact])
            for scratch in self.folder.glob(".*.tmp"):
                if time.time() - scratch.stat().st_mtime > _STALE_SECONDS:
                    scratch.unlink(missing_ok=True)
        self._index = None

    def _merge(self, shards: list[Shard]) -> None:
        rows = Rows(
            np.concatenate([shard.rows.keys for shard in shards]),
            np.concatenate([shard.rows.md5 for shard in shards]),
            np.concatenate([shard.rows.tokens for shard in shards]),
            np.concatenate([shard.rows.vectors for shard in shards]),
        )
        merged = write_shard(self.folder, rows.take(_Index(shards).first_rows()))
        for shard in shards:
            if shard.path != merged:
                shard.path.unlink(missing_ok=True)

    def _refresh(self) -> _Index:
        """The index over the shards that are there now."""
        names = sorted(path.name for path in self.folder.glob(f"*{SUFFIX}"))
        if self._index is not None and names == list(self._shards):
            return self._index
        shards: dict[str, Shard] = {}
        for name in names:
            shard = self._shards.get(name) or self._open(self.folder / name)
            if shard is not None:
                shards[name] = shard
        self._shards = shards
        self._index = _Index(list(shards.values()))
        return self._index

    def _open(self, path: Path) -> Shard | None:
        try:
            shard = Shard(path)
        except FileNotFoundError:  # compacted by another process: what it held is in a newer shard
            return None
        except (OSError, ValueError) as error:
            self._set_aside(path, str(error))
            return None
        if shard.dim != self.dim:
            self._set_aside(path, f"it holds vectors of {shard.dim} numbers, not {self.dim}")
            return None
        return shard

    def _set_aside(self, path: Path, why: str) -> None:
        self.damaged.append(f"{path.name}: {why}")
        self._shards.pop(path.name, None)
        self._index = None
        with suppress(FileNotFoundError):  # another process was faster
            path.rename(path.with_suffix(".damaged"))


class _Index:
    """All keys of some shards, sorted; a slot is a row of the shards put one after another."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        self.starts = np.cumsum([0, *map(len, shards)])
        keys = [shard.rows.keys for shard in shards] or [np.zeros((0, KEY_BYTES), np.uint8)]
        high, low = _halves(np.concatenate(keys))
        self._slots = np.lexsort((low, high))  # stable: of equal keys the first shard's comes first
        self._high, self._low = high[self._slots], low[self._slots]

    def shard_of(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.searchsorted(self.starts, slots, side="right") - 1

    def find(self, keys: Bytes) -> npt.NDArray[np.int64]:
        high, low = _halves(keys)
        at = np.searchsorted(self._high, high)
        slots = np.full(len(keys), -1, np.int64)
        open_ = np.flatnonzero(at < len(self._high))
        while len(open_):  # runs once; again only where two keys share their first 8 bytes
            open_ = open_[self._high[at[open_]] == high[open_]]
            equal = self._low[at[open_]] == low[open_]
            slots[open_[equal]] = self._slots[at[open_[equal]]]
            open_ = open_[~equal]
            at[open_] += 1
            open_ = open_[at[open_] < len(self._high)]
        return slots

    def first_rows(self) -> npt.NDArray[np.int64]:
        """Slots without repeated keys."""
        fresh = np.ones(len(self._high), bool)
        fresh[1:] = (self._high[1:] != self._high[:-1]) | (self._low[1:] != self._low[:-1])
        return self._slots[fresh]


def _halves(keys: Bytes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    words = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]
