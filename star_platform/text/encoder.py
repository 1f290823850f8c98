"""The one interface of every text encoder, and how a configured one is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError
from star_platform.text.config import MINILM, TFIDF_SVD, TextConfig
from star_platform.text.tokenising import Tokens

EncoderKind = Literal["encoder", "llm", "tfidf_svd"]


@dataclass(frozen=True)
class EncodedBatch:
    """Vectors of some of the texts that were asked for.

    `positions` int64 `[b]` into those texts; `vectors` float32 `[b, dim]`, unit norm (all zero: the encoder knows
    nothing about the text, it counts as missing); `tokens` int32 `[b]`, prompt and special tokens included.
    """

    positions: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int32]


class TextEncoder(Protocol):
    """Turns texts into unit vectors; a text's vector depends on that text alone, never on its companions."""

    @property
    def fingerprint(self) -> str:
        """Over everything that changes a vector: weights, tokenizer, pooling, prompt, limits, normaliser."""

    @property
    def kind(self) -> EncoderKind: ...

    @property
    def dim(self) -> int: ...

    @property
    def cacheable(self) -> bool:
        """Whether one text's vector is worth keeping for later releases."""

    @property
    def ready(self) -> bool:
        """Whether it can encode, or must be `fitted` first."""

    def describe(self) -> dict[str, Any]:
        """What every manifest says about it: kind, name (`encoder`), weights hash, pooling, limits."""

    def for_feature(self, feature: str) -> TextEncoder:
        """The encoder of one feature's texts, with its prompt and limit; weights are shared with this one."""

    def fitted(self, corpus: Sequence[str]) -> TextEncoder:
        """The encoder for a release with these texts; a frozen encoder returns itself."""

    def tokens(self, texts: Sequence[str]) -> Tokens | None:
        """The tokens of texts where the encoder runs inside the GNN (`text.mode`), which reads them; else None."""

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        """Encode normalised, non-empty texts, longest first; the order depends on the texts, not on the cache."""


def open_encoder(config: TextConfig, root: Path) -> TextEncoder:
    """The encoder that star.yaml names; relative folders count from `root`.

    Light: reads and hashes files, but imports no torch until the first batch.

    Raises:
        DependencyMissing: D010 when the package of `minilm` is not installed.
        TextError: T001 to T004, T010 when the files of model or adapter are absent, changed, unreachable or unusable.
    """
    if config.encoder == TFIDF_SVD:
        from star_platform.text.tfidf_svd import TfidfSvdEncoder

        return TfidfSvdEncoder(config.dim)
    from star_platform.text.huggingface import HuggingFaceEncoder
    from star_platform.text.models import locate

    return HuggingFaceEncoder(config, locate(config, root))


def encode(encoder: TextEncoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 `[n, dim]` in the order of `texts`, each of unit norm.

    Raises:
        TextError: T005 for an empty text: it has no vector.
    """
    from star_platform.text.normalise import normalise

    clean = [normalise(text) for text in texts]
    if not all(clean):
        raise TextError(
            "T005",
            f"text {clean.index('')} of {len(clean)} is empty",
            hint="leave empty texts out: they are missing, not zero",
        )
    out = np.zeros((len(clean), encoder.dim), np.float32)
    for batch in encoder.batches(clean):
        out[batch.positions] = batch.vectors
    return out


__all__ = ["MINILM", "TFIDF_SVD", "EncodedBatch", "EncoderKind", "TextEncoder", "encode", "open_encoder"]
