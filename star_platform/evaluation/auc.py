"""Area under the ROC curve, and how sure of it one may be when examples are independent (DeLong).

E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988) 837; by midranks after X. Sun, W. Xu, IEEE Signal
Processing Letters 21 (2014) 1389. Rows of one member are not independent: the headline interval is that of `bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class DeLong:
    """AUC of k scores of the same examples."""

    auc: Float64Array
    """`[k]`."""
    covariance: Float64Array
    """`[k, k]`; NaN with a single positive or a single negative."""

    def interval(self, score: int = 0, level: float = 0.95) -> tuple[float, float] | None:
        """Normal interval, cut to [0, 1]; None where the variance is zero (a perfect score) or undefined."""
        variance = float(self.covariance[score, score])
        if not variance > 0.0:
            return None
        half = float(norm.ppf(0.5 + level / 2)) * variance**0.5
        value = float(self.auc[score])
        return max(0.0, value - half), min(1.0, value + half)

    def difference(self, one: int = 0, other: int = 1, level: float = 0.95) -> Difference:
        """Of two scores of the same examples: `one` minus `other`."""
        value = float(self.auc[one] - self.auc[other])
        c = self.covariance
        variance = float(c[one, one] + c[other, other] - 2 * c[one, other])
        if not variance > 1e-18:  # identical up to ties and rounding
            return Difference(value, None, 0.0, 1.0) if value == 0.0 else Difference(value, None, None, None)
        z = value / variance**0.5
        half = float(norm.ppf(0.5 + level / 2)) * variance**0.5
        return Difference(value, (value - half, value + half), z, float(2 * norm.sf(abs(z))))


@dataclass(frozen=True)
class Difference:
    """A paired difference; None where it cannot be judged."""

    value: float
    interval: tuple[float, float] | None
    z: float | None
    p: float | None


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Chance that a positive scores above a negative, ties counted half; None where a class is missing."""
    positive = np.asarray(labels) > 0
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return None
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[positive].mean() - (m + 1) / 2) / n)


def delong(labels: ArrayLike, scores: ArrayLike) -> DeLong | None:
    """AUC and covariance of one or more scores of the same examples.

    Args:
        labels: `[n]`, positive where > 0.
        scores: `[n]` or `[k, n]`.

    Returns:
        None where a class is missing.
    """
    positive = np.asarray(labels) > 0
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return None
    among_all = rankdata(table, axis=1)
    v10 = (among_all[:, positive] - rankdata(table[:, positive], axis=1)) / n
    v01 = 1.0 - (among_all[:, ~positive] - rankdata(table[:, ~positive], axis=1)) / m
    return DeLong(v10.mean(axis=1), _covariance(v10) / m + _covariance(v01) / n)


def _covariance(values: Float64Array) -> Float64Array:
    if values.shape[1] < 2:
        return np.full((len(values), len(values)), np.nan)
    centred = values - values.mean(axis=1, keepdims=True)
    product: Float64Array = centred @ centred.T / (values.shape[1] - 1)
    return product
