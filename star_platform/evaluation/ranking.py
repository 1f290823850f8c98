"""Recall@k and MRR of one relevant candidate per example, with ties paid what they are worth on average.

Were ties broken by position, or in favour of the relevant candidate, a model that scores everything alike would look
good. Here it gets what random order gets: k / candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
ROWS = 256
"""Queries compared at once, so that the comparison stays in cache."""


def rivals(
    scores: NDArray[np.float32],
    relevant: Int64Array,
    excluded: tuple[Int64Array, Int64Array],
    alive: tuple[Int64Array, Int64Array] | None = None,
) -> tuple[Int64Array, Int64Array]:
    """How many candidates score above the relevant one of each query, and how many the same.

    Args:
        scores: float32[q, candidates].
        relevant: int64[q], column of each query's relevant candidate, which always counts as alive.
        excluded: (query, column) of candidates that do not compete; never the relevant one.
        alive: int64[candidates] since when each exists and int64[q] the moment of each query; None: all exist.

    Returns:
        int64[q] above, int64[q] equal (the relevant one not counted).
    """
    q = len(relevant)
    above, equal = np.zeros(q, dtype=np.int64), np.zeros(q, dtype=np.int64)
    own = scores[np.arange(q), relevant]
    for first in range(0, q, ROWS):
        rows = slice(first, min(first + ROWS, q))
        part, mine = scores[rows], own[rows, None]
        higher, same = part > mine, part == mine
        if alive is not None:
            exists = alive[0][None, :] <= alive[1][rows, None]
            exists[np.arange(len(part)), relevant[rows]] = True
            higher &= exists
            same &= exists
        above[rows], equal[rows] = higher.sum(axis=1), same.sum(axis=1) - 1
    query, column = excluded
    counted = np.ones(len(query), dtype=bool) if alive is None else alive[0][column] <= alive[1][query]
    value = scores[query, column]
    np.subtract.at(above, query, (counted & (value > own[query])).astype(np.int64))
    np.subtract.at(equal, query, (counted & (value == own[query])).astype(np.int64))
    return above, equal


def recall_at(k: int, above: Int64Array, equal: Int64Array) -> Float64Array:
    """Chance that the relevant candidate is among the first k, ties in random order: float64[q]."""
    return np.clip((k - above) / (equal + 1.0), 0.0, 1.0)


def reciprocal_rank(above: Int64Array, equal: Int64Array) -> Float64Array:
    """Expected 1 / rank, ties in random order: (H(above + equal + 1) - H(above)) / (equal + 1), float64[q]."""
    harmonic: Float64Array = (digamma(above + equal + 2.0) - digamma(above + 1.0)) / (equal + 1.0)
    return harmonic
