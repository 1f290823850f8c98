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
    counts: Any, neighbours: Any, weights: Any, moving: Any, part: Any, scale: Any, out: Any, first: Any, last: Any
) -> None:
    """`out[b] += scale * sum over the drawn entries of weight * moving[neighbour]`, of one half of `moving`.

    Args:
        counts: int64[b].
        neighbours: int32[b, limit].
        weights: float32[b, limit].
        moving: float32[n, 2 x dim], or uint16 for bfloat16.
        part: 0 for its first `dim` columns, 1 for the others.
        scale: float32.
        out: float32[b, dim].
        first: first row handled.
        last: end of the rows handled.
    """
    dim = out.shape[1]
    for b in range(first, last):
        row = out[b]
        for j in range(counts[b]):
            if b + 1 < last and j < counts[b + 1]:
                prefetch(moving, neighbours[b + 1, j])
            weight = scale * weights[b, j]
            other = moving[neighbours[b, j], part * dim : (part + 1) * dim]
            for d in range(dim):
                row[d] += weight * get(other, d)


@kernel
def aggregate_both(
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
    """`aggregate` of the first half of `moving` into `one` and of the second into `two`, reading each row once."""
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
def mix(rows: Any, aggregates: Any, scale: Any, own: Any, own_scale: Any, out: Any, first: Any, last: Any) -> None:
    """`out[b] = scale * aggregates[rows[b]] + own_scale * own[b]`."""
    dim = own.shape[1]
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(aggregates, rows[b + _AHEAD])
        v = rows[b]
        for d in range(dim):
            out[b, d] = scale * aggregates[v, d] + own_scale * own[b, d]


@kernel
def mix_rows(
    rows: Any,
    aggregates: Any,
    scale: Any,
    table: Any,
    own_scale: Any,
    own: Any,
    out: Any,
    first: Any,
    last: Any,
) -> None:
    """`own[b] = table[rows[b]]`, and `mix`, in one visit."""
    dim = own.shape[1]
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(aggregates, rows[b + _AHEAD])
            prefetch(table, rows[b + _AHEAD])
        aggregate, source, copy, row = aggregates[rows[b]], table[rows[b]], own[b], out[b]
        for d in range(dim):
            copy[d] = source[d]
            row[d] = scale * aggregate[d] + own_scale * source[d]


@kernel
def store_difference(rows: Any, vectors: Any, snapshot: Any, moving: Any) -> None:
    """`moving[v, :dim] = vectors[b] - snapshot[v]`, v = rows[b]."""
    dim = vectors.shape[1]
    for b in range(len(rows)):
        if b + _AHEAD < len(rows):
            prefetch(snapshot, rows[b + _AHEAD])
            prefetch(moving, rows[b + _AHEAD])
        v = rows[b]
        for d in range(dim):
            put(moving[v], d, vectors[b, d] - snapshot[v, d])


@kernel
def store_gradient(rows: Any, gradients: Any, moving: Any) -> None:
    """`moving[v, dim:] = gradients[b]`, v = rows[b]."""
    dim = gradients.shape[1]
    for b in range(len(rows)):
        if b + _AHEAD < len(rows):
            prefetch(moving, rows[b + _AHEAD])
        row = moving[rows[b]]
        for d in range(dim):
            put(row, dim + d, gradients[b, d])


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
    """`received[b] += share * gradients[b]`, and both halves of `moving[v]`, v = rows[b], in one visit.

    That is `store_difference` of the vectors and `store_gradient` of what `received` is then.
    """
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
