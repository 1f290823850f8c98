"""Sums over pairs of vectors that suffice to fit every linear map: one pass, O(d^2) memory, any order of blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.compat.model import Float64Array
from star_platform.compat.pairs import Pairs
from star_platform.errors import CompatError


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums of new vectors z and old ones y, float64. `one + other` are the sums over both sets of pairs."""

    rows: int
    """Pairs, each counted once."""
    n: float
    """Sum of their weights."""
    z: Float64Array
    """`[d_n]`: sum of z."""
    y: Float64Array
    """`[d_m]`: sum of y."""
    zz: Float64Array
    """`[d_n, d_n]`: sum of z' z."""
    zy: Float64Array
    """`[d_n, d_m]`: sum of z' y."""
    yy: float
    """Sum of |y|^2."""

    @classmethod
    def none(cls, d_n: int, d_m: int) -> Moments:
        """The sums over no pair."""
        return cls(0, 0.0, np.zeros(d_n), np.zeros(d_m), np.zeros((d_n, d_n)), np.zeros((d_n, d_m)), 0.0)

    @classmethod
    def of(cls, z: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None = None) -> Moments:
        """The sums over one block: `z [b, d_n]`, `y [b, d_m]`, `weights [b]` (1 each when None).

        Raises:
            CompatError: C012 when the rows do not match, or a number is not finite.
        """
        a, b = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or (weights is not None and len(weights) != len(a)):
            raise CompatError("C012", f"vectors {list(a.shape)} and {list(b.shape)} are not row by row of one entity")
        w = None if weights is None else np.asarray(weights, dtype=np.float64)
        wa, wb = (a, b) if w is None else (a * w[:, None], b * w[:, None])
        found = cls(
            rows=len(a),
            n=float(len(a) if w is None else w.sum()),
            z=wa.sum(axis=0),
            y=wb.sum(axis=0),
            zz=wa.T @ a,
            zy=wa.T @ b,
            yy=float(np.einsum("ij,ij->", wb, b)),
        )
        if not (np.isfinite(found.yy) and np.isfinite(found.zz.trace())):
            raise CompatError("C012", "a vector holds numbers that are not finite", hint="train the release again")
        return found

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.rows + other.rows,
            self.n + other.n,
            self.z + other.z,
            self.y + other.y,
            self.zz + other.zz,
            self.zy + other.zy,
            self.yy + other.yy,
        )

    def centred(self) -> tuple[Float64Array, Float64Array]:
        """Z'Z and Z'Y about the means."""
        n = max(self.n, np.finfo(np.float64).tiny)
        return self.zz - np.outer(self.z, self.z) / n, self.zy - np.outer(self.z, self.y) / n

    def means(self) -> tuple[Float64Array, Float64Array]:
        """Mean z and mean y."""
        n = max(self.n, np.finfo(np.float64).tiny)
        return self.z / n, self.y / n


def moments(pairs: Pairs, weigh: Callable[[slice], NDArray[Any]] | None = None) -> Moments:
    """The sums over all pairs in one pass; `weigh` gives the weights of a stretch of positions."""
    total = Moments.none(pairs.new.dim, pairs.old.dim)
    for part, z, y in pairs.blocks():
        total = total + Moments.of(z, y, None if weigh is None else weigh(part))
    return total
