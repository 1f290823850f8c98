"""Linear maps in closed form from `Moments`: `y ~ z @ weights + bias`.

Ridge and its reduced rank after A. J. Izenman, J. Multivariate Analysis 5 (1975) 248; orthogonal Procrustes after P. H.
Schönemann, Psychometrika 31 (1966) 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from star_platform.compat.model import Float64Array
from star_platform.compat.moments import Moments
from star_platform.errors import CompatError


class Linear(NamedTuple):
    """`weights [d_n, d_m]` and `bias [d_m]`, float64."""

    weights: Float64Array
    bias: Float64Array


def relative_penalty(moments: Moments, ridge: float, *, bias: bool = True) -> float:
    """`ridge` times the mean diagonal of Z'Z, so that one setting means the same at any scale of vectors."""
    zz = moments.centred()[0] if bias else moments.zz
    return float(ridge * np.trace(zz) / max(1, len(zz)))


def ridge(moments: Moments, penalty: float = 0.0, *, bias: bool = True) -> Linear:
    """(Z'Z + penalty I)^-1 Z'Y, about the means when `bias`; the solution of least norm where that is singular.

    Raises:
        CompatError: C013 without any pair.
    """
    _some(moments)
    zz, zy = moments.centred() if bias else (moments.zz, moments.zy)
    system = zz + penalty * np.eye(len(zz))
    try:
        weights = scipy.linalg.cho_solve(scipy.linalg.cho_factor(system, lower=True), zy)
        if not np.isfinite(weights).all() or _ill(system):
            weights = scipy.linalg.lstsq(system, zy)[0]
    except scipy.linalg.LinAlgError:
        weights = scipy.linalg.lstsq(system, zy)[0]
    return _with_bias(moments, np.asarray(weights), bias)


def procrustes(moments: Moments, *, scale: bool = False) -> Linear:
    """The W with orthonormal columns or rows nearest to taking z to y: U V' of the SVD of Z'Y; reflections allowed.

    With unequal dimensions this is what padding the smaller side with zeros gives. With `scale`, W is stretched by
    tr(S) / |Z|^2. There is no bias: a shift would change dot products.

    Raises:
        CompatError: C013 without any pair.
    """
    _some(moments)
    u, s, vt = np.linalg.svd(moments.zy, full_matrices=False)
    weights = u @ vt
    if scale:
        # Columns that are cut off by a narrower target do not count: the least-squares factor is for W as it is.
        size = float(np.einsum("ij,ij->", weights, moments.zz @ weights))
        weights = weights * (float(s.sum()) / size if size > 0 else 1.0)
    return Linear(weights, np.zeros(weights.shape[1]))


def low_rank(moments: Moments, rank: int, penalty: float = 0.0, *, bias: bool = True) -> Linear:
    """The ridge map cut to `rank`: onto the directions in which its own images vary most.

    Raises:
        CompatError: C013 without any pair.
    """
    weights = ridge(moments, penalty, bias=bias).weights
    zz = moments.centred()[0] if bias else moments.zz
    _, directions = np.linalg.eigh(weights.T @ zz @ weights)
    top = directions[:, ::-1][:, :rank]
    return _with_bias(moments, weights @ top @ top.T, bias)


def r2(moments: Moments, linear: Linear) -> float | None:
    """1 - SSE / SST of a map on the pairs of `moments`; None where the old vectors do not vary."""
    w, b = linear
    sse = (
        moments.yy
        - 2 * float(np.einsum("ij,ij->", w, moments.zy))
        + float(np.einsum("ij,ij->", w, moments.zz @ w))
        - 2 * float(b @ moments.y)
        + 2 * float(b @ (moments.z @ w))
        + moments.n * float(b @ b)
    )
    sst = moments.yy - float(moments.y @ moments.y) / moments.n if moments.n > 0 else 0.0
    return 1.0 - sse / sst if sst > 1e-12 * max(moments.yy, 1e-300) else None


def _with_bias(moments: Moments, weights: Float64Array, bias: bool) -> Linear:
    mean_z, mean_y = moments.means()
    return Linear(weights, mean_y - mean_z @ weights if bias else np.zeros(weights.shape[1]))


def _ill(system: Float64Array) -> bool:
    """Whether a Cholesky solution of this system has too few correct digits to be kept."""
    values = np.linalg.eigvalsh(system)
    return bool(values[0] <= 1e-12 * values[-1])


def _some(moments: Moments) -> None:
    if moments.rows == 0:
        raise CompatError("C013", "a map cannot be fitted without a single entity that both releases have")
