"""How near mapped vectors come to the old ones, on entities that no map was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.compat.model import CompatMap, Float32Array, Float64Array, unit_rows
from star_platform.compat.pairs import Pairs, gather

CANDIDATES, QUERIES = 20_000, 1_000
"""Entities among which neighbours are looked for, and entities whose neighbours are, at most."""
DEPTHS = (10, 50)
CROWD = 5
"""Neighbours at depth k are compared only among CROWD * k entities or more: among fewer, chance alone agrees."""
RBO_P = 0.9
"""Persistence of rank-biased overlap: the first 10 ranks carry 86 % of the weight."""


@dataclass(frozen=True, eq=False)
class Errors:
    """What a map makes of each held-out entity."""

    cosine: Float64Array
    """`[k]`: of mapped and old vector; 0 where one of them is all zeros, 1 where both are."""
    squared: Float64Array
    """`[k]`: |mapped - old|^2."""
    spread: Float64Array
    """`[k]`: |old - mean of the old vectors of all k|^2."""

    def figures(self, chosen: NDArray[Any] | None = None) -> dict[str, Any]:
        """`n`, `r2`, `cosine_mean`, `cosine_p5`, of a part (mask or positions) or of all; None where undefined.

        `r2` of a part is about the mean of all, so that a part of like entities is not judged by how like they are.
        """
        cosine, squared, spread = self.cosine, self.squared, self.spread
        if chosen is not None:
            cosine, squared, spread = cosine[chosen], squared[chosen], spread[chosen]
        if not len(cosine):
            return {"n": 0, "r2": None, "cosine_mean": None, "cosine_p5": None}
        total = float(spread.sum())
        return {
            "n": len(cosine),
            "r2": 1.0 - float(squared.sum()) / total if total > 0.0 else None,
            "cosine_mean": float(cosine.mean()),
            "cosine_p5": float(np.percentile(cosine, 5)),
        }


def errors(fitted: CompatMap, pairs: Pairs, centre: Float64Array) -> Errors:
    """Errors of a map on held-out pairs, in one pass; `centre [d_m]` is `mean_old(pairs)`."""
    out = Errors(np.empty(len(pairs)), np.empty(len(pairs)), np.empty(len(pairs)))
    for part, new, old in pairs.blocks():
        mapped, target = fitted.apply(new).astype(np.float64), old.astype(np.float64)
        lengths = np.linalg.norm(mapped, axis=1) * np.linalg.norm(target, axis=1)
        dots = np.einsum("ij,ij->i", mapped, target)
        cosine: Float64Array = np.asarray(~mapped.any(axis=1) & ~target.any(axis=1), dtype=np.float64)
        np.divide(dots, lengths, out=cosine, where=lengths > 0)
        out.cosine[part] = cosine
        out.squared[part] = np.square(mapped - target).sum(axis=1)
        out.spread[part] = np.square(target - centre).sum(axis=1)
    return out


def mean_old(pairs: Pairs) -> Float64Array:
    """Mean old vector `[d_m]`."""
    total = np.zeros(pairs.old.dim)
    for _, _, old in pairs.blocks():
        total += old.sum(axis=0, dtype=np.float64)
    return total / max(1, len(pairs))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How the nearest neighbours of some entities, by cosine, agree between mapped and old vectors."""

    queries: NDArray[np.int64]
    """`[q]`: positions among the held-out pairs."""
    candidates: int
    """Entities among which neighbours were looked for."""
    overlap: dict[int, Float64Array]
    """By depth k, `[q]`: share of the k nearest that both have."""
    rbo: Float64Array | None
    """`[q]`: rank-biased overlap (Webber, Moffat, Zobel, ACM TOIS 28 (2010) 20, equation 32), to the largest depth."""

    def figures(self, chosen: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """`queries`, `candidates`, `overlap_10`, `overlap_50`, `rbo`; without what too few entities say nothing of.

        `chosen`: mask over the held-out pairs.
        """
        rows = np.arange(len(self.queries)) if chosen is None else np.flatnonzero(chosen[self.queries])
        out: dict[str, Any] = {"queries": len(rows), "candidates": self.candidates}
        if len(rows):
            out |= {f"overlap_{depth}": float(values[rows].mean()) for depth, values in self.overlap.items()}
            if self.rbo is not None:
                out["rbo"] = float(self.rbo[rows].mean())
        return out


def neighbours(fitted: CompatMap, pairs: Pairs, seed: int = 0) -> Neighbours:
    """Neighbours of at most QUERIES entities among at most CANDIDATES, drawn evenly from held-out pairs."""
    rng = np.random.default_rng(seed)
    pool = np.arange(len(pairs))
    if len(pool) > CANDIDATES:
        pool = np.sort(rng.choice(len(pairs), CANDIDATES, replace=False))
    depths = [depth for depth in DEPTHS if len(pool) >= CROWD * depth]
    asked = np.arange(len(pool))
    if len(pool) > QUERIES:
        asked = np.sort(rng.choice(len(pool), QUERIES, replace=False))
    if not depths:
        return Neighbours(pool[asked], len(pool), {}, None)
    some = pairs.take(pool)
    mapped = unit_rows(fitted.apply(gather(some.new.vectors, some.rows)).copy())
    old = unit_rows(gather(some.old.vectors, some.old_rows).copy())
    overlap = {depth: np.empty(len(asked)) for depth in depths}
    rbo = np.empty(len(asked))
    for first in range(0, len(asked), 128):
        part = asked[first : first + 128]
        both = nearest(mapped, part, depths[-1]), nearest(old, part, depths[-1])
        agreed = agreement(*both)
        for depth in depths:
            overlap[depth][first : first + 128] = agreed[:, depth - 1] / depth
        rbo[first : first + 128] = rank_biased_overlap(agreed)
    return Neighbours(pool[asked], len(pool), overlap, rbo)


def nearest(vectors: Float32Array, queries: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """The `depth` rows nearest to each query row, nearest first, without itself; `vectors` have length 1.

    Cosines that agree to 1e-5 count as equal and the earlier row comes first: entities with one and the same vector
    must not look reordered because of rounding.
    """
    cosine = vectors[queries] @ vectors.T
    cosine[np.arange(len(queries)), queries] = -np.inf
    keys = np.where(np.isfinite(cosine), np.rint(cosine * 1e5), -2e5).astype(np.int64)
    keys = keys * len(vectors) - np.arange(len(vectors))
    top = np.argpartition(keys, -depth, axis=1)[:, -depth:]
    order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
    return np.asarray(np.take_along_axis(top, order, axis=1), dtype=np.int64)


def agreement(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of two rankings `[q, k]` each: `[q, k]`, how many items the first d places have in common, d = 1 .. k."""
    k = one.shape[1]
    place = np.arange(k)
    later = np.maximum(place[:, None], place[None, :])
    out = np.zeros((len(one), k), dtype=np.int64)
    query, i, j = np.nonzero(one[:, :, None] == other[:, None, :])
    np.add.at(out, (query, later[i, j]), 1)
    return np.asarray(out.cumsum(axis=1), dtype=np.int64)


def rank_biased_overlap(agreed: NDArray[np.int64], p: float = RBO_P) -> Float64Array:
    """Extrapolated rank-biased overlap `[q]` of rankings with `agreement` `[q, k]`; 1 for equal rankings."""
    depth = np.arange(1, agreed.shape[1] + 1)
    share = agreed / depth
    total: Float64Array = share[:, -1] * p ** depth[-1] + (1 - p) / p * (share * p**depth).sum(axis=1)
    return total


@dataclass(frozen=True, eq=False)
class Geometry:
    """Everything that held-out pairs say about one map."""

    errors: Errors
    neighbours: Neighbours

    def figures(self, chosen: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """JSON of both; `chosen` is a mask over the held-out pairs."""
        return {**self.errors.figures(chosen), **self.neighbours.figures(chosen)}

    def fidelity(self) -> dict[str, float]:
        """The figures that go with the map to its readers."""
        return {name: float(value) for name, value in self.figures().items() if value is not None}


def measure(fitted: CompatMap, held_out: Pairs, centre: Float64Array, seed: int = 0) -> Geometry:
    """Errors and neighbours of a map on held-out pairs."""
    return Geometry(errors(fitted, held_out, centre), neighbours(fitted, held_out, seed))
