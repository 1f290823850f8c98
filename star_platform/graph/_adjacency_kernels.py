"""The loops that put the edges of all relations together."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel


@kernel
def place(
    indptr: Any,
    indices: Any,
    times: Any,
    own_weights: Any,
    relation: Any,
    source_offset: Any,
    first: Any,
    stride: Any,
    fill: Any,
    edges: Any,
    weights: Any,
) -> None:
    """Append one relation to the list `first + v * stride` of every destination v; `fill` is where each list ends."""
    undated = np.iinfo(np.int64).min
    code = np.int64(relation) << 32
    for v in range(indptr.size - 1):
        at = fill[first + v * stride]
        for e in range(indptr[v], indptr[v + 1]):
            edges[at, 0] = times[e] if times.size else undated
            edges[at, 1] = code | (np.int64(indices[e]) + source_offset)
            if weights.size:
                weights[at] = own_weights[e] if own_weights.size else np.float32(1.0)
            at += 1
        fill[first + v * stride] = at


@kernel
def sort_lists(indptr: Any, edges: Any, weights: Any, longest: Any) -> None:
    """Sort every list by time, stably. Each is a few sorted runs, one per relation: runs are merged from the left."""
    spare = np.empty((longest, 2), dtype=np.int64)
    spare_weights = np.empty(longest if weights.size else 0, dtype=np.float32)
    for v in range(indptr.size - 1):
        begin, end = indptr[v], indptr[v + 1]
        low = begin  # edges[begin:low] is sorted
        while low < end:
            high = low + 1
            while high < end and edges[high - 1, 0] <= edges[high, 0]:
                high += 1
            if low > begin and edges[low - 1, 0] > edges[low, 0]:
                _merge(edges, weights, begin, low, high, spare, spare_weights)
            low = high


@kernel
def _merge(edges: Any, weights: Any, begin: Any, middle: Any, end: Any, spare: Any, spare_weights: Any) -> None:
    """Merge two neighbouring sorted runs; the right one waits in `spare` while the left one moves up."""
    right = end - middle
    spare[:right] = edges[middle:end]
    if weights.size:
        spare_weights[:right] = weights[middle:end]
    i, j, at = middle - 1, right - 1, end - 1
    while j >= 0:
        if i >= begin and edges[i, 0] > spare[j, 0]:
            edges[at] = edges[i]
            if weights.size:
                weights[at] = weights[i]
            i -= 1
        else:
            edges[at] = spare[j]
            if weights.size:
                weights[at] = spare_weights[j]
            j -= 1
        at -= 1


@kernel
def leading(indptr: Any, edges: Any, out: Any) -> None:
    """How many undated edges every list begins with."""
    undated = np.iinfo(np.int64).min
    for v in range(out.size):
        p = indptr[v]
        while p < indptr[v + 1] and edges[p, 0] == undated:
            p += 1
        out[v] = p - indptr[v]


@kernel
def prefix_sums(indptr: Any, weights: Any, out: Any) -> None:
    """Sum of the positive weights of a list up to and with each edge; every list begins anew."""
    for v in range(indptr.size - 1):
        total = 0.0
        for p in range(indptr[v], indptr[v + 1]):
            weight = np.float64(weights[p])
            if weight > 0.0:
                total += weight
            out[p] = total
