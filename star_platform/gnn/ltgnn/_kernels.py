"""Compiled loops of LTGNN. Each call handles the rows from `first` to `last`, so that threads may share the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.gnn.ltgnn._prefetch import prefetch
from star_platform.graph.kernels import kernel

_AHEAD = 8
"""Rows between asking for one and reading it."""
_LAG = 4
"""Rows between choosing entries and reading them."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@kernel
def mixed(x: Any) -> Any:
    """uint64 -> uint64: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = np.uint64(x) + GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@kernel
def below(state: Any, bound: Any) -> Any:
    """An integer in [0, bound) from the upper 32 bits of `state`; `bound` < 2^31."""
    return np.int64(((state >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@kernel
def multiply(
    indptr: Any,
    indices: Any,
    values: Any,
    vectors: Any,
    scale: Any,
    base: Any,
    base_scale: Any,
    out: Any,
    first: Any,
    last: Any,
) -> None:
    """`out[v] = scale * sum_u A[v, u] vectors[u] + base_scale * base[v]`."""
    dim = vectors.shape[1]
    for v in range(first, last):
        row = out[v]
        for d in range(dim):
            row[d] = base_scale * base[v, d]
        for e in range(indptr[v], indptr[v + 1]):
            if e + _AHEAD < len(indices):
                prefetch(vectors, indices[e + _AHEAD])
            weight = scale * values[e]
            other = vectors[indices[e]]
            for d in range(dim):
                row[d] += weight * other[d]


@kernel
def draw(
    indptr: Any,
    indices: Any,
    values: Any,
    rows: Any,
    limit: Any,
    key: Any,
    places: Any,
    neighbours: Any,
    weights: Any,
    counts: Any,
    first: Any,
    last: Any,
) -> None:
    """Up to `limit` entries of each row of a CSR matrix without replacement, uniformly (Floyd 1987).

    The draw depends on `key` and the row alone: not on the batch, the order or the threads.

    Args:
        indptr: int64[n + 1].
        indices: int32[nnz].
        values: float32[nnz].
        rows: int64[b], which rows.
        limit: entries at most.
        key: uint64, the step.
        places: int64[b, limit], out: places among the matrix's entries, undefined beyond the count.
        neighbours: int32[b, limit], out: columns of the entries.
        weights: float32[b, limit], out: values of the entries, times entries of the row over entries drawn.
        counts: int64[b], out: entries drawn.
        first: first row handled.
        last: end of the rows handled.
    """
    for b in range(first, last + _LAG):
        if b + 2 * _AHEAD < last:
            prefetch(indptr, rows[b + 2 * _AHEAD])
        if b + _AHEAD < last:
            start = indptr[rows[b + _AHEAD]]
            prefetch(indices, start)
            prefetch(values, start)
        if b < last:
            v = rows[b]
            start = indptr[v]
            degree = indptr[v + 1] - start
            counts[b] = min(degree, limit)
            chosen = places[b]
            if degree <= limit:
                for j in range(degree):
                    chosen[j] = start + j
            else:
                state = mixed(key ^ (np.uint64(v) * GOLDEN))
                for j in range(limit):
                    state = mixed(state)
                    top = degree - limit + j
                    place = start + below(state, top + 1)
                    taken = False
                    for i in range(j):
                        taken |= chosen[i] == place
                    if taken:
                        place = start + top
                    chosen[j] = place
                    prefetch(indices, place)
                    prefetch(values, place)
        c = b - _LAG
        if c >= first:
            v, chosen = rows[c], places[c]
            boost = np.float32((indptr[v + 1] - indptr[v]) / max(1, counts[c]))
            for j in range(counts[c]):
                neighbours[c, j] = indices[chosen[j]]
                weights[c, j] = boost * values[chosen[j]]


@kernel
def adam_rows(
    table: Any,
    first_moment: Any,
    second_moment: Any,
    rows: Any,
    gradients: Any,
    step_size: Any,
    root_correction: Any,
    beta_1: Any,
    beta_2: Any,
    epsilon: Any,
    first: Any,
    last: Any,
) -> None:
    """One step of Adam on the rows of a batch, distinct; moments of other rows rest, as in torch's SparseAdam.

    `step_size` is lr / (1 - beta_1^t), `root_correction` 1 / sqrt(1 - beta_2^t).
    """
    dim = table.shape[1]
    one = np.float32(1.0)
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(table, rows[b + _AHEAD])
            prefetch(first_moment, rows[b + _AHEAD])
            prefetch(second_moment, rows[b + _AHEAD])
        weight, m, s, gradient = table[rows[b]], first_moment[rows[b]], second_moment[rows[b]], gradients[b]
        for d in range(dim):
            g = gradient[d]
            m[d] = beta_1 * m[d] + (one - beta_1) * g
            s[d] = beta_2 * s[d] + (one - beta_2) * g * g
            # `/` would look for a zero, which keeps the loop from being compiled to vectors
            weight[d] -= np.divide(step_size * m[d], np.sqrt(s[d]) * root_correction + epsilon)
