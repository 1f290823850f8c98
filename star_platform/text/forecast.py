"""What encoding will cost, told before it begins: how many texts and tokens, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from star_platform.registry.artefacts import Artefact
from star_platform.text.cache import TextCache, text_keys
from star_platform.text.encoder import TextEncoder
from star_platform.text.filling import WHOLE, Share, Texts
from star_platform.text.shards import Rows

_SAMPLE = 65
_SECONDS = 10.0


@dataclass(frozen=True)
class Forecast:
    """Of one feature's distinct texts: how many there are, are cached, and are to be encoded."""

    rows: int
    texts: int
    cached: int
    tokens: int
    """Of the texts to be encoded; those that were not sampled count as their mean."""
    seconds: float

    @property
    def to_encode(self) -> int:
        return self.texts - self.cached

    @property
    def skipped_share(self) -> float:
        """1 where there is nothing to do."""
        return self.cached / self.texts if self.texts else 1.0


def forecast(texts: Artefact, encoder: TextEncoder, cache: TextCache, share: Share = WHOLE) -> Forecast:
    """Look up a feature's texts, and encode a few of those that are missing to see how fast that goes.

    At most 65 texts, spread over all, for at most ten seconds or one batch; they are cached, so nothing is done twice.
    A run that stops early has seen the longest of them only, and tells too many hours rather than too few.
    """
    read = Texts.read(texts)
    keys, md5 = text_keys(encoder.fingerprint, read.distinct)
    mine = np.flatnonzero(share.of(keys))
    if not encoder.cacheable:
        words = sum(len(text.split()) for text in read.distinct)
        return Forecast(len(read.rows), len(read.distinct), 0, words, 0.0)
    space = cache.space(encoder.fingerprint, encoder.dim)
    missing = mine[space.find(keys[mine]) < 0]
    told = (len(read.rows), len(mine), len(mine) - len(missing))
    if not len(missing):
        return Forecast(*told, 0, 0.0)
    picks = missing[np.linspace(0, len(missing) - 1, min(_SAMPLE, len(missing))).astype(np.int64)]
    done, tokens, seconds = 0, 0, 0.0
    for at in (picks[:1], picks[1:]):  # the first loads the model, which is paid once
        begin = time.monotonic()
        for batch in encoder.batches([read.distinct[i] for i in at.tolist()]):
            rows = at[batch.positions]
            space.put(Rows(keys[rows], md5[rows], batch.tokens, batch.vectors))
            done, tokens = done + len(rows), tokens + int(batch.tokens.sum())
            seconds = time.monotonic() - begin
            if seconds > _SECONDS:
                break
    mean, rate = tokens / done, seconds / max(1, done - 1)
    return Forecast(*told, round(mean * len(missing)), rate * (len(missing) - done))
