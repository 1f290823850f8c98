"""The `text` stage: rendered texts to an artefact of vectors, each distinct text encoded once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.progress import SILENT, Progress
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.text.batching import padding_share
from star_platform.text.cache import CacheSpace, TextCache, text_keys
from star_platform.text.encoder import TextEncoder
from star_platform.text.filling import ROWS, Texts, fill
from star_platform.text.tokenising import Tokens


def fit_encoder(encoder: TextEncoder, texts: Iterable[Artefact]) -> TextEncoder:
    """The encoder for a release that holds these `texts` artefacts (all of them: one release, one space)."""
    if encoder.ready:
        return encoder  # frozen weights: nothing to fit, so nothing to read
    corpus: set[str] = set()
    for artefact in texts:
        corpus.update(Texts.read(artefact).distinct)
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
    a row of zeros) where the text is absent, empty, or unknown to the encoder. Of an encoder that runs
    inside the GNN `tokens.npy` int32 `[m, longest]` too: token ids, -1 after the last one.

    Nothing in the artefact tells what was cached before: a run that was killed and resumed leaves the same bytes.

    Raises:
        TextError: of the encoder, or T008 when the cache cannot be written.
    """
    found = store.find("text", fingerprint)
    if found is not None:
        return found
    read = Texts.read(texts)
    if not encoder.ready:  # a space of its own, which its fingerprint says; `fit_encoder` makes one for all features
        encoder = encoder.fitted(read.distinct)
    # What is not worth keeping across releases is still kept until this artefact is done, so that a kill costs little.
    home = cache if encoder.cacheable else TextCache(store.work_dir("text", fingerprint))
    space = home.space(encoder.fingerprint, encoder.dim)
    keys, md5 = text_keys(encoder.fingerprint, read.distinct)
    with progress.task(f"encode {texts.details.get('feature', 'texts')}", len(read.distinct), "texts") as task:
        slots = fill(space, encoder, read.distinct, keys, md5, task)
    with store.create("text", fingerprint) as draft:
        present = _write_values(space, slots, read.rows, encoder.dim, draft.path / "values.npy")
        np.save(draft.path / "present.npy", present)
        tokens = encoder.tokens(read.distinct)
        if tokens is not None:
            np.save(draft.path / "tokens.npy", _token_rows(tokens, read))
            draft.details["tokens_kept"] = True
        draft.details.update(_details(encoder, space, slots, read, present))
    space.compact()
    return store.open("text", fingerprint)


def _write_values(
    space: CacheSpace, slots: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], dim: int, path: Any
) -> npt.NDArray[np.bool_]:
    """Write the vectors block by block; bool `[m]`, which rows have one."""
    present = np.zeros(len(rows), bool)
    if not len(rows):  # an empty file cannot be mapped
        np.save(path, np.zeros((0, dim), np.float32))
        return present
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), dim))
    for first in range(0, len(rows), ROWS):
        block = rows[first : first + ROWS]
        have = np.flatnonzero(block >= 0)
        vectors = np.empty((len(have), dim), np.float32)
        space.read(slots[block[have]], vectors)
        values[first + have] = vectors
        present[first + have] = vectors.any(axis=1)
    values.flush()
    return present


def _token_rows(tokens: Tokens, read: Texts) -> npt.NDArray[np.int32]:
    """int32 `[m, longest]` of the rows of a `texts` artefact, of the tokens of its distinct texts."""
    ids, offsets = tokens
    lengths = np.diff(offsets)
    distinct = np.full((len(lengths) + 1, int(lengths.max(initial=0))), -1, np.int32)  # the last: no text
    distinct[:-1][np.arange(distinct.shape[1]) < lengths[:, None]] = ids
    return distinct[read.rows]


def _details(
    encoder: TextEncoder,
    space: CacheSpace,
    slots: npt.NDArray[np.int64],
    read: Texts,
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
