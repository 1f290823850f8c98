"""The `text` stage: rendered texts to an artefact of vectors, each distinct text encoded once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.errors import TextError
from star_platform.progress import SILENT, Progress, Task
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.text.batching import padding_share
from star_platform.text.cache import CacheSpace, TextCache, text_keys
from star_platform.text.encoder import EncodedBatch, TextEncoder
from star_platform.text.normalise import normalise
from star_platform.text.shards import Rows

_COMMIT_SECONDS = 5.0
"""A killed run loses at most this much encoding (and one batch)."""
_ROWS = 65_536


def fit_encoder(encoder: TextEncoder, texts: Iterable[Artefact]) -> TextEncoder:
    """The encoder for a release that holds these `texts` artefacts (all of them: one release, one space)."""
    if encoder.ready:
        return encoder  # frozen weights: nothing to fit, so nothing to read
    corpus: set[str] = set()
    for artefact in texts:
        corpus.update(_Texts.read(artefact).distinct)
    return encoder.fitted(sorted(corpus))


def encode_texts(
    texts: Artefact,
    encoder: TextEncoder,
    cache: TextCache,
    store: ArtefactStore,
    fingerprint: str,
    progress: Progress = SILENT,
) -> Artefact:
    """Vectors of an artefact of kind `texts`, as an artefact of kind `text`; found again if it is already there.

    Writes `values.npy` float32 `[m, dim]`, one row per row of `texts.parquet`, and `present.npy` bool `[m]`: False (and
    a row of zeros) where the text is absent, empty, or unknown to the encoder. Nothing in the artefact tells what was
    cached before: a run that was killed and resumed leaves the same bytes.

    Raises:
        TextError: of the encoder, or T008 when the cache cannot be written.
    """
    found = store.find("text", fingerprint)
    if found is not None:
        return found
    read = _Texts.read(texts)
    if not encoder.ready:  # a space of its own, which its fingerprint says; `fit_encoder` makes one for all features
        encoder = encoder.fitted(read.distinct)
    # What is not worth keeping across releases is still kept until this artefact is done, so that a kill costs little.
    home = cache if encoder.cacheable else TextCache(store.work_dir("text", fingerprint))
    space = home.space(encoder.fingerprint, encoder.dim)
    keys, md5 = text_keys(encoder.fingerprint, read.distinct)
    with progress.task(f"encode {texts.details.get('feature', 'texts')}", len(read.distinct), "texts") as task:
        slots = _fill(space, encoder, read.distinct, keys, md5, task)
    with store.create("text", fingerprint) as draft:
        present = _write_values(space, slots, read.rows, encoder.dim, draft.path / "values.npy")
        np.save(draft.path / "present.npy", present)
        draft.details.update(_details(encoder, space, slots, read, present))
    space.compact()
    return store.open("text", fingerprint)


@dataclass(frozen=True)
class _Texts:
    """Distinct normalised texts, none empty, and for each row of texts.parquet which one it holds (-1: none)."""

    distinct: list[str]
    rows: npt.NDArray[np.int64]

    @staticmethod
    def read(artefact: Artefact) -> _Texts:
        ids: dict[str, int] = {}
        rows: list[npt.NDArray[np.int64]] = []
        with pq.ParquetFile(artefact.path / "texts.parquet") as file:
            for batch in file.iter_batches(_ROWS, columns=["text"]):
                column = batch.column(0).cast(pa.large_string()).dictionary_encode()
                clean = [normalise(text) if text else "" for text in column.dictionary.to_pylist()]
                code = np.fromiter((ids.setdefault(text, len(ids)) if text else -1 for text in clean), np.int64)
                picked = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
                rows.append(np.append(code, np.int64(-1))[picked])
        return _Texts(list(ids), np.concatenate(rows) if rows else np.zeros(0, np.int64))


def _fill(
    space: CacheSpace,
    encoder: TextEncoder,
    texts: list[str],
    keys: npt.NDArray[np.uint8],
    md5: npt.NDArray[np.uint8],
    task: Task,
) -> npt.NDArray[np.int64]:
    """Encode what is not cached; int64 `[distinct]`, the slot of every text."""
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
    """Whole batches, as many as take `_COMMIT_SECONDS` to encode."""
    group: list[EncodedBatch] = []
    began = time.monotonic()
    for batch in batches:
        group.append(batch)
        if time.monotonic() - began >= _COMMIT_SECONDS:
            yield group
            group, began = [], time.monotonic()
    if group:
        yield group


def _write_values(
    space: CacheSpace, slots: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], dim: int, path: Any
) -> npt.NDArray[np.bool_]:
    """Write the vectors block by block; bool `[m]`, which rows have one."""
    present = np.zeros(len(rows), bool)
    if not len(rows):  # an empty file cannot be mapped
        np.save(path, np.zeros((0, dim), np.float32))
        return present
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), dim))
    for first in range(0, len(rows), _ROWS):
        block = rows[first : first + _ROWS]
        have = np.flatnonzero(block >= 0)
        vectors = np.empty((len(have), dim), np.float32)
        space.read(slots[block[have]], vectors)
        values[first + have] = vectors
        present[first + have] = vectors.any(axis=1)
    values.flush()
    return present


def _details(
    encoder: TextEncoder,
    space: CacheSpace,
    slots: npt.NDArray[np.int64],
    read: _Texts,
    present: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """What the manifest says; only facts that a second run would find again."""
    tokens = space.read(slots, None)
    details: dict[str, Any] = {
        "encoder": encoder.describe(),
        "encoder_kind": encoder.kind,
        "dim": encoder.dim,
        "rows": len(read.rows),
        "distinct": len(read.distinct),
        "missing": int((~present).sum()),
        "tokens": int(tokens.sum(dtype=np.int64)),
    }
    limit = getattr(encoder, "max_tokens", None)
    if limit is not None:
        details["padding_share"] = round(padding_share(tokens, limit), 4)
        details["at_token_limit"] = int((tokens >= limit).sum())
    return details
