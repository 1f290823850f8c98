"""The encoder without weights: TF-IDF over hashed words and letter n-grams, then a truncated SVD of the corpus.

It is not a language model and every manifest says so. Its space depends on the texts it was fitted on: vectors of two
releases must not be mixed, which is why its fingerprint covers the corpus and nothing of it is cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError
from star_platform.planning.canonical import digest
from star_platform.text.encoder import EncodedBatch, EncoderKind
from star_platform.text.normalise import NORMALISER_VERSION

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

VERSION = 1
"""Raised with every change of the features or the decomposition."""
_BUCKETS = 1 << 18
_FIT_TEXTS = 100_000
_BATCH = 4096
_OVERSAMPLES = 16
_ITERATIONS = 5
_SEED = 20250710
_TINY = 1e-6
_WORD = r"(?u)\b\w+\b"


@dataclass(frozen=True)
class _Basis:
    """`idf` float32 `[buckets]` and `axes` float32 `[used buckets, dim]`, rows by `used` int64."""

    corpus: str
    idf: npt.NDArray[np.float32]
    used: npt.NDArray[np.int64]
    axes: npt.NDArray[np.float32]


class TfidfSvdEncoder:
    """Latent semantic analysis (Deerwester et al. 1990) on hashed features; needs `fitted` before it encodes."""

    def __init__(self, dim: int, basis: _Basis | None = None) -> None:
        self._dim = dim
        self._basis = basis

    @property
    def kind(self) -> EncoderKind:
        return "tfidf_svd"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def cacheable(self) -> bool:
        return False

    @property
    def ready(self) -> bool:
        return self._basis is not None

    @property
    def fingerprint(self) -> str:
        """Of the settings; once fitted, of the corpus too."""
        return digest(
            {
                "kind": self.kind,
                "version": VERSION,
                "dim": self.dim,
                "normaliser": NORMALISER_VERSION,
                "corpus": self._basis.corpus if self._basis else None,
            }
        )

    def describe(self) -> dict[str, Any]:
        return {
            "encoder_kind": self.kind,
            "encoder": "tfidf-svd",
            "note": "no language model: hashed TF-IDF and a truncated SVD, fitted on the texts of this release",
            "dim": self.dim,
            "fingerprint": self.fingerprint,
        }

    def for_feature(self, feature: str) -> TfidfSvdEncoder:  # noqa: ARG002 - no prompt, no limit: all texts alike
        return self

    def fitted(self, corpus: Sequence[str]) -> TfidfSvdEncoder:
        """Fit on normalised texts; their order and repetitions do not matter.

        Of more than 100,000 distinct texts a fixed pseudo-random choice is used.
        """
        texts = sorted({text for text in corpus if text})
        hashes = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        name = hashlib.blake2b(b"".join(hashes), digest_size=16).hexdigest()
        if len(texts) > _FIT_TEXTS:
            chosen = sorted(range(len(texts)), key=hashes.__getitem__)[:_FIT_TEXTS]
            texts = [texts[i] for i in sorted(chosen)]
        return TfidfSvdEncoder(self.dim, _fit(texts, self.dim, name))

    def tokens(self, texts: Sequence[str]) -> None:  # noqa: ARG002 - it never runs inside the GNN
        return None

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        if self._basis is None:
            raise TextError("T007", "tfidf-svd was asked to encode before it was fitted on the release's texts")
        for first in range(0, len(texts), _BATCH):
            chunk = texts[first : first + _BATCH]
            vectors = (_weighted(_count(chunk), self._basis.idf)[:, self._basis.used] @ self._basis.axes).astype(
                np.float32
            )
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            known = norms > _TINY  # rows of TF-IDF have norm 1, so less than this is rounding, not meaning
            unit = np.where(known, vectors / np.where(known, norms, 1.0), 0.0).astype(np.float32)
            tokens = np.fromiter((len(text.split()) for text in chunk), np.int32, len(chunk))
            yield EncodedBatch(np.arange(first, first + len(chunk)), unit, tokens)


def _fit(texts: list[str], dim: int, corpus: str) -> _Basis:
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not texts:
        nothing = np.zeros(0, np.int64)
        return _Basis(corpus, np.zeros(_BUCKETS, np.float32), nothing, np.zeros((0, dim), np.float32))
    counts = _count(texts)
    seen = np.bincount(counts.indices, minlength=_BUCKETS)
    idf = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float32)
    used = np.flatnonzero(seen).astype(np.int64)
    axes = np.zeros((len(used), dim), np.float32)
    rank = min(dim, len(texts), len(used))
    matrix = _weighted(counts, idf)[:, used].astype(np.float64)
    with threadpool_limits(1):  # the order of sums, and so the last bits, depend on the number of threads
        _, sizes, right = randomized_svd(
            matrix, rank, n_oversamples=_OVERSAMPLES, n_iter=_ITERATIONS, random_state=_SEED
        )
    kept = sizes > _TINY * sizes[0]  # the rest is rounding noise of a corpus of lower rank
    axes[:, : int(kept.sum())] = right[kept].T
    return _Basis(corpus, idf, used, axes)


def _count(texts: Sequence[str]) -> csr_matrix:
    """float32 `[n, buckets]`: counts of hashed words, word pairs, and letter 3- to 5-grams inside words."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    shared = {"n_features": _BUCKETS // 2, "alternate_sign": False, "norm": None, "dtype": np.float32}
    words = HashingVectorizer(ngram_range=(1, 2), token_pattern=_WORD, **shared)
    letters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **shared)
    return hstack([words.transform(texts), letters.transform(texts)], format="csr")


def _weighted(counts: csr_matrix, idf: npt.NDArray[np.float32]) -> csr_matrix:
    """Rows of unit norm: (1 + log count) x idf."""
    from sklearn.preprocessing import normalize

    out = counts.copy()
    out.data = (1 + np.log(out.data)) * idf[out.indices]
    return normalize(out, copy=False)
