"""Compiled loops over the memory of Z and G: what a batch reads of its neighbours, and what it leaves behind."""

from __future__ import annotations

from typing import Any

from star_platform.gnn._rows import get, put
from star_platform.gnn.ltgnn._prefetch import prefetch, prefetch_far
from star_platform.graph.kernels import kernel

_AHEAD = 8
"""Rows between asking for one and reading it."""
_FAR = 6
"""Rows between asking for the neighbours of one, into the second cache, and reading them."""


@kernel
def aggregate(
    counts: Any,
    neighbours: Any,
    weights: Any,
    moving: Any,
    scale: Any,
    one: Any,
    two: Any,
    first: Any,
    last: Any,
) -> None:
    """Adds `scale * sum over the drawn entries of weight * moving[neighbour]` to `one` and `two`, half of it each.

    Args:
        counts: int64[b].
        neighbours: int32[b, limit].
        weights: float32[b, limit].
        moving: float32[n, 2 x dim], or uint16 for bfloat16; each row is read once.
        scale: float32.
        one: float32[b, dim], of the first `dim` columns.
        two: float32[b, dim], of the others.
        first: first row handled.
        last: end of the rows handled.
    """
    dim = one.shape[1]
    for b in range(first, last):
        row, other_row = one[b], two[b]
        if b + _FAR < last:
            for j in range(counts[b + _FAR]):
                prefetch_far(moving, neighbours[b + _FAR, j])
        for j in range(counts[b]):
            if b + 1 < last and j < counts[b + 1]:
                prefetch(moving, neighbours[b + 1, j])
            weight = scale * weights[b, j]
            near = moving[neighbours[b, j]]
            for d in range(dim):
                row[d] += weight * get(near, d)
            far = near[dim:]
            for d in range(dim):
                other_row[d] += weight * get(far, d)


@kernel
def mix(
    rows: Any,
    aggregates: Any,
    scale: Any,
    table: Any,
    places: Any,
    own_scale: Any,
    own: Any,
    out: Any,
    first: Any,
    last: Any,
) -> None:
    """`own[b] = table[places[b]]` and `out[b] = scale * aggregates[rows[b]] + own_scale * own[b]`, in one visit."""
    dim = own.shape[1]
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(aggregates, rows[b + _AHEAD])
            prefetch(table, places[b + _AHEAD])
        aggregate, source, copy, row = aggregates[rows[b]], table[places[b]], own[b], out[b]
        for d in range(dim):
            copy[d] = source[d]
            row[d] = scale * aggregate[d] + own_scale * source[d]


@kernel
def settle(
    rows: Any,
    vectors: Any,
    gradients: Any,
    share: Any,
    received: Any,
    snapshot: Any,
    moving: Any,
    first: Any,
    last: Any,
) -> None:
    """`received[b] += share * gradients[b]`, `moving[v] = vectors[b] - snapshot[v], received[b]`, v = rows[b]."""
    dim = vectors.shape[1]
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(snapshot, rows[b + _AHEAD])
            prefetch(moving, rows[b + _AHEAD])
        still, row = snapshot[rows[b]], moving[rows[b]]
        z, gradient, found = vectors[b], gradients[b], received[b]
        for d in range(dim):
            found[d] += share * gradient[d]
        for d in range(dim):
            put(row, d, z[d] - still[d])
        for d in range(dim):
            put(row, dim + d, found[d])


@kernel
def add_drift(moving: Any, snapshot: Any) -> None:
    """`snapshot[v] += moving[v, :dim]`."""
    dim = snapshot.shape[1]
    for v in range(len(snapshot)):
        row, other = snapshot[v], moving[v]
        for d in range(dim):
            row[d] += get(other, d)
