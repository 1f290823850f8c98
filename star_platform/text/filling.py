"""The texts of an artefact, and a cache filled with their vectors, by one process or by several that share the work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.errors import TextError
from star_platform.progress import SILENT, Progress, Task
from star_platform.registry.artefacts import Artefact
from star_platform.text.cache import CacheSpace, TextCache, text_keys
from star_platform.text.encoder import EncodedBatch, TextEncoder
from star_platform.text.normalise import normalise
from star_platform.text.shards import Bytes, Rows

COMMIT_SECONDS = 5.0
"""A killed run loses at most this much encoding (and one batch)."""
ROWS = 65_536


@dataclass(frozen=True)
class Share:
    """Which texts are this process's: those whose key is `rank` modulo `ranks`, whatever else is cached by then.

    So a text has one rank, and the ranks need not talk to each other.
    """

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        """Raise TextError T013 unless `0 <= rank < ranks`."""
        if not 0 <= self.rank < self.ranks:
            raise TextError(
                "T013",
                f"rank {self.rank} of {self.ranks}: ranks count from 0 to {self.ranks - 1}",
                hint="give --rank and --ranks, or RANK and WORLD_SIZE as torchrun does",
            )

    def of(self, keys: Bytes) -> npt.NDArray[np.bool_]:
        """Bool `[n]` of keys uint8 `[n, 16]`."""
        words = np.ascontiguousarray(keys[:, :8]).view(np.uint64)[:, 0]
        found: npt.NDArray[np.bool_] = words % np.uint64(self.ranks) == self.rank
        return found


WHOLE = Share()


@dataclass(frozen=True)
class Texts:
    """Distinct normalised texts, none empty, and for each row of texts.parquet which one it holds (-1: none)."""

    distinct: list[str]
    rows: npt.NDArray[np.int64]

    @staticmethod
    def read(artefact: Artefact) -> Texts:
        ids: dict[str, int] = {}
        rows: list[npt.NDArray[np.int64]] = []
        with pq.ParquetFile(artefact.path / "texts.parquet") as file:
            for batch in file.iter_batches(ROWS, columns=["text"]):
                column = batch.column(0).cast(pa.large_string()).dictionary_encode()
                clean = [normalise(text) if text else "" for text in column.dictionary.to_pylist()]
                code = np.fromiter((ids.setdefault(text, len(ids)) if text else -1 for text in clean), np.int64)
                picked = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
                rows.append(np.append(code, np.int64(-1))[picked])
        return Texts(list(ids), np.concatenate(rows) if rows else np.zeros(0, np.int64))


def fill(
    space: CacheSpace,
    encoder: TextEncoder,
    texts: list[str],
    keys: Bytes,
    md5: Bytes,
    task: Task,
) -> npt.NDArray[np.int64]:
    """Encode what is not cached; int64 `[distinct]`, the slot of every text.

    Raises:
        TextError: of the encoder; T008 when the cache cannot be written, T009 when it loses what was written.
    """
    slots = space.find(keys)
    missing = np.flatnonzero(slots < 0)
    missing = missing[np.lexsort(keys[missing].T[::-1])]  # an order that depends on the texts alone
    task.advance(len(texts) - len(missing))
    task.note(cached=len(texts) - len(missing), to_encode=len(missing))
    if not len(missing):
        return slots
    began, done = time.monotonic(), 0
    for group in _groups(encoder.batches([texts[i] for i in missing.tolist()])):
        for batch in group:
            done += len(batch.positions)
        at = missing[np.concatenate([batch.positions for batch in group])]
        vectors = np.concatenate([batch.vectors for batch in group])
        space.put(Rows(keys[at], md5[at], np.concatenate([batch.tokens for batch in group]), vectors))
        task.advance(len(at))
        task.note(texts_per_s=round(done / max(time.monotonic() - began, 1e-9), 1))
    if space.damaged:
        task.note(damaged_shards=len(space.damaged))
    slots = space.find(keys)
    if (slots < 0).any():
        raise TextError(
            "T009",
            f"{int((slots < 0).sum())} vectors are not in the text cache right after they were written",
            hint=f"somebody removes files from {space.folder}, or the disk is failing; release again",
        )
    return slots


def _groups(batches: Iterable[EncodedBatch]) -> Iterator[list[EncodedBatch]]:
    """Whole batches, as many as take `COMMIT_SECONDS` to encode."""
    group: list[EncodedBatch] = []
    began = time.monotonic()
    for batch in batches:
        group.append(batch)
        if time.monotonic() - began >= COMMIT_SECONDS:
            yield group
            group, began = [], time.monotonic()
    if group:
        yield group


def fill_share(
    texts: Artefact, encoder: TextEncoder, cache: TextCache, share: Share, progress: Progress = SILENT
) -> int:
    """Encode what is missing of one process's share into the cache; how many distinct texts the share has.

    Raises:
        TextError: T013 for an encoder that is not cacheable, and what `fill` raises.
    """
    if not encoder.cacheable:
        raise TextError(
            "T013",
            "an encoder that is fitted to the texts of a release cannot share them out: all of them decide each vector",
            hint="run `star-platform text encode` without ranks",
        )
    distinct = Texts.read(texts).distinct
    keys, md5 = text_keys(encoder.fingerprint, distinct)
    mine = np.flatnonzero(share.of(keys))
    with progress.task(f"encode {texts.details.get('feature', 'texts')}", len(mine), "texts") as task:
        space = cache.space(encoder.fingerprint, encoder.dim)
        fill(space, encoder, [distinct[i] for i in mine.tolist()], keys[mine], md5[mine], task)
    return len(mine)
