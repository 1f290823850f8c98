"""Vectors of the distinct texts of a batch: from the cache, or encoded, each once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError
from star_platform.text.cache import CacheSpace, TextCache, text_keys
from star_platform.text.encoder import EncodedBatch, TextEncoder
from star_platform.text.nearline.model import TextSignal
from star_platform.text.shards import Rows

Vector = npt.NDArray[np.float32]
_COMPACT_EVERY = 32


@dataclass
class Vectors:
    """What `Encoders.vectors` found, by feature and text.

    found: float32 [dim], or None where the encoder knows nothing about the text. failed: why a text has no vector.
    encoded, cached: distinct texts.
    """

    found: dict[tuple[str, str], Vector | None] = field(default_factory=dict)
    failed: dict[tuple[str, str], TextError] = field(default_factory=dict)
    encoded: int = 0
    cached: int = 0


class Encoders:
    """The encoders of all features over one cache; features whose encoders are the same share their texts."""

    def __init__(self, signals: Mapping[str, TextSignal], cache: TextCache) -> None:
        self._signals, self._cache = signals, cache
        self._spaces: dict[str, CacheSpace] = {}
        self._puts = 0

    def vectors(self, wanted: Iterable[tuple[str, str]]) -> Vectors:
        """Vectors of (feature, normalised text) pairs.

        Raises:
            TextError: T008 when the cache cannot be written; what is wrong with one text is in `failed`.
        """
        by_encoder: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for feature, text in dict.fromkeys(wanted):
            by_encoder[self._signals[feature].encoder.fingerprint][text].append(feature)
        result = Vectors()
        for features_of in by_encoder.values():
            encoder = self._signals[next(iter(features_of.values()))[0]].encoder
            found = self._encode(encoder, sorted(features_of), result)
            for text, value in found.items():
                for feature in features_of[text]:
                    if isinstance(value, TextError):
                        result.failed[feature, text] = value
                    else:
                        result.found[feature, text] = value
        return result

    def _encode(self, encoder: TextEncoder, texts: list[str], counts: Vectors) -> dict[str, Vector | TextError | None]:
        if not encoder.cacheable:
            return _fresh(encoder, texts, counts)[0]
        space = self._space(encoder)
        keys, md5 = text_keys(encoder.fingerprint, texts)
        slots = space.find(keys)
        known = np.flatnonzero(slots >= 0)
        vectors = np.empty((len(known), encoder.dim), np.float32)
        if len(known):
            space.read(slots[known], vectors)
        counts.cached += len(known)
        found: dict[str, Vector | TextError | None] = {
            texts[i]: _or_none(vector) for i, vector in zip(known.tolist(), vectors, strict=True)
        }
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            fresh, rows = _fresh(encoder, [texts[i] for i in missing.tolist()], counts)
            found |= fresh
            for batch in rows:
                at = missing[batch.positions]
                self._keep(space, Rows(keys[at], md5[at], batch.tokens, batch.vectors))
        return found

    def _keep(self, space: CacheSpace, rows: Rows) -> None:
        space.put(rows)
        self._puts += 1
        if self._puts % _COMPACT_EVERY == 0:
            space.compact()

    def _space(self, encoder: TextEncoder) -> CacheSpace:
        space = self._spaces.get(encoder.fingerprint)
        if space is None:
            space = self._spaces[encoder.fingerprint] = self._cache.space(encoder.fingerprint, encoder.dim)
        return space


def _fresh(
    encoder: TextEncoder, texts: list[str], counts: Vectors
) -> tuple[dict[str, Vector | TextError | None], list[EncodedBatch]]:
    """Encode; if one text of them makes the encoder fail, all one by one, so that it stands alone."""
    try:
        batches = list(encoder.batches(texts))
    except TextError as error:
        if len(texts) == 1:
            return {texts[0]: error}, []
        alone = [_fresh(encoder, [text], counts) for text in texts]
        rows = [
            EncodedBatch(np.array([i]), batch.vectors, batch.tokens)
            for i, (_, one) in enumerate(alone)
            for batch in one
        ]
        return {text: value for found, _ in alone for text, value in found.items()}, rows
    counts.encoded += len(texts)
    found: dict[str, Vector | TextError | None] = {}
    for batch in batches:
        for position, vector in zip(batch.positions.tolist(), batch.vectors, strict=True):
            found[texts[position]] = _or_none(vector)
    return found, batches


def _or_none(vector: Vector) -> Vector | None:
    return vector if vector.any() else None
