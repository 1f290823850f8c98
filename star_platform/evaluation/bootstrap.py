"""Intervals when rows belong to members: members are drawn again, with all their rows.

A member who appears in many rows says the same thing many times; an interval that counts rows is too narrow. All
figures of one `ClusterBootstrap` are taken on the same resamples, so that differences between methods are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star_platform.graph.kernels import kernel

Float64Array = NDArray[np.float64]
MOST_UNDEFINED = 0.05
"""An interval is not given when more than this share of the resamples leaves a figure undefined."""


@dataclass(frozen=True)
class Interval:
    """A figure and the interval that holds it; `low` and `high` are None where they are undefined."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def above_zero(self) -> bool:
        return self.low is not None and self.low > 0.0

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


class ClusterBootstrap:
    """Resamples of the distinct clusters of `n` rows, drawn once."""

    def __init__(self, clusters: ArrayLike, resamples: int = 1000, seed: int = 0) -> None:
        """`clusters [n]`: the member that each row belongs to, any integers."""
        distinct, codes = np.unique(np.asarray(clusters), return_inverse=True)
        self.codes: NDArray[np.int32] = codes.reshape(-1).astype(np.int32)
        self.count = len(distinct)
        rng = np.random.default_rng(seed)
        self.weights = np.zeros((resamples, self.count), dtype=np.uint16)
        for row in self.weights:
            row[:] = np.bincount(rng.integers(self.count, size=self.count), minlength=self.count) if self.count else 0

    def mean(self, values: ArrayLike, rows: NDArray[Any] | None = None) -> Float64Array:
        """Mean of `values` over the chosen rows, per resample; NaN where a resample has none of them.

        `values` belongs to the chosen rows: `[len(rows)]`.
        """
        codes = self.codes if rows is None else self.codes[rows]
        counts = np.bincount(codes, minlength=self.count).astype(np.float64)
        sums = np.bincount(codes, weights=np.asarray(values, dtype=np.float64), minlength=self.count)
        out = np.empty(len(self.weights))
        for first in range(0, len(out), 128):
            part = self.weights[first : first + 128].astype(np.float64)
            size = part @ counts
            out[first : first + 128] = np.divide(part @ sums, size, out=np.full(len(size), np.nan), where=size > 0)
        return out

    def auc(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        rows: NDArray[Any] | None = None,
        strata: NDArray[Any] | None = None,
    ) -> Float64Array:
        """AUC over the chosen rows, per resample; NaN where a resample lacks a class.

        `strata` (of the chosen rows): only pairs of one stratum are compared, as in `stratified_auc`.
        """
        codes = self.codes if rows is None else self.codes[rows]
        return _weighted_auc(labels, scores, codes, self.weights, strata)


def stratified_auc(labels: ArrayLike, scores: ArrayLike, strata: ArrayLike) -> float | None:
    """Chance that a positive scores above a negative of the same stratum, ties half; None without such pairs."""
    codes = np.zeros(np.shape(labels), dtype=np.int32)
    value = float(_weighted_auc(labels, scores, codes, np.ones((1, 1), dtype=np.uint16), np.asarray(strata))[0])
    return value if np.isfinite(value) else None


def _weighted_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    codes: NDArray[np.int32],
    weights: NDArray[np.uint16],
    strata: NDArray[Any] | None,
) -> Float64Array:
    values = np.asarray(scores, dtype=np.float64)
    groups = np.zeros(len(values), dtype=np.int64) if strata is None else strata
    order = np.lexsort((values, groups))
    ascending, grouped = values[order], groups[order]
    last_of_stratum = np.ones(len(order), dtype=np.bool_)
    last_of_stratum[:-1] = grouped[1:] != grouped[:-1]
    last_of_tie = last_of_stratum.copy()
    last_of_tie[:-1] |= ascending[1:] != ascending[:-1]
    out = np.empty(len(weights))
    positive = (np.asarray(labels) > 0)[order]
    _resampled_auc(codes[order], positive, last_of_tie, last_of_stratum, weights, out)
    return out


def interval(value: float | None, resampled: Float64Array, level: float = 0.95) -> Interval:
    """The percentile interval of a figure."""
    defined = resampled[np.isfinite(resampled)]
    if value is None or len(defined) < (1 - MOST_UNDEFINED) * len(resampled) or not len(defined):
        return Interval(value, None, None)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


@kernel
def _resampled_auc(codes: Any, positive: Any, last_of_tie: Any, last_of_stratum: Any, weights: Any, out: Any) -> None:
    """Rows by stratum, then ascending by score; a weighted count of the pairs in which the positive is above."""
    for b in range(weights.shape[0]):
        below, tied_positive, tied_negative, won, all_positive, pairs = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(codes.size):
            weight = np.float64(weights[b, codes[i]])
            if positive[i]:
                tied_positive += weight
            else:
                tied_negative += weight
            if last_of_tie[i]:
                won += tied_positive * (below + 0.5 * tied_negative)
                below += tied_negative
                all_positive += tied_positive
                tied_positive, tied_negative = 0.0, 0.0
            if last_of_stratum[i]:
                pairs += all_positive * below
                all_positive, below = 0.0, 0.0
        out[b] = won / pairs if pairs > 0 else np.nan
