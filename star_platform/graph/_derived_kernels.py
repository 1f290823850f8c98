"""The loops that put scored neighbours into the storage format."""

from __future__ import annotations

from typing import Any

from star_platform.graph.kernels import kernel


@kernel
def count_between(nodes: Any, first: Any, last: Any, counts: Any) -> None:
    """Add to `counts[v + 1]` the neighbours of row v with global ids in `first ... last - 1`."""
    for v in range(nodes.shape[0]):
        for j in range(nodes.shape[1]):
            if first <= nodes[v, j] < last:
                counts[v + 1] += 1


@kernel
def fill_between(
    nodes: Any, scores: Any, first: Any, last: Any, time: Any, fill: Any, indices: Any, times: Any, weights: Any
) -> None:
    """Append those neighbours at `fill[v]`, the worst first."""
    for v in range(nodes.shape[0]):
        at = fill[v]
        for j in range(nodes.shape[1] - 1, -1, -1):
            if first <= nodes[v, j] < last:
                indices[at] = nodes[v, j] - first
                times[at] = time
                weights[at] = scores[v, j]
                at += 1
        fill[v] = at


@kernel
def rank_ties(indptr: Any, edges: Any, weights: Any, longest: Any) -> None:
    """Sort edges of equal time within each list by weight, ascending and stably.

    They are a few sorted runs, one per relation: runs are merged from the left.
    """
    spare = edges[: min(longest, edges.shape[0])].copy()
    spare_weights = weights[: spare.shape[0]].copy()
    for v in range(indptr.size - 1):
        begin, end = indptr[v], indptr[v + 1]
        while begin < end:
            stop = begin + 1
            while stop < end and edges[stop, 0] == edges[begin, 0]:
                stop += 1
            low = begin  # edges[begin:low] is sorted
            while low < stop:
                high = low + 1
                while high < stop and weights[high - 1] <= weights[high]:
                    high += 1
                if low > begin and weights[low - 1] > weights[low]:
                    _merge(edges, weights, begin, low, high, spare, spare_weights)
                low = high
            begin = stop


@kernel
def _merge(edges: Any, weights: Any, begin: Any, middle: Any, end: Any, spare: Any, spare_weights: Any) -> None:
    """Merge two neighbouring sorted runs; the right one waits in `spare` while the left one moves up."""
    right = end - middle
    spare[:right] = edges[middle:end]
    spare_weights[:right] = weights[middle:end]
    i, j, at = middle - 1, right - 1, end - 1
    while j >= 0:
        if i >= begin and weights[i] > spare_weights[j]:
            edges[at] = edges[i]
            weights[at] = weights[i]
            i -= 1
        else:
            edges[at] = spare[j]
            weights[at] = spare_weights[j]
            j -= 1
        at -= 1
