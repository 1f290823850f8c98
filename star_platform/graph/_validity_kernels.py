"""Which edges an item may see: those before its moment, and not from before its window.

Every comparison of times in the sampler is here. tests/graph/test_sampling_strict.py turns each into its neighbour
(`<` into `<=`) and shows that the property tests notice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel

_ONE, _ZERO = np.uint64(1), np.uint64(0)
_NEAR = np.uint64(8)
"""Edges beyond the place where a search begins that are looked at next."""
_EARLIEST = np.int64(np.iinfo(np.int64).min + 1)
"""Before every dated edge and after every undated one."""


@kernel
def valid_ranges(
    nodes: Any,
    contexts: Any,
    begin: Any,
    end: Any,
    moments: Any,
    shares: Any,
    window: Any,
    slots: Any,
    row: Any,
    offset: Any,
    limits: Any,
    indptr: Any,
    undated: Any,
    edges: Any,
    newest: Any,
    lows: Any,
    counts: Any,
    heads: Any,
    gaps: Any,
    bounds: Any,
    at: Any,
    left: Any,
    marks: Any,
) -> None:
    """Where the lists of a tile of items begin, and which of their edges are valid at the item's moment.

    Of list m these are `heads[m]` edges from `lows[m]` on and, `gaps[m]` later, the rest of `counts[m]`. Without a
    window there is no gap, and `heads` and `gaps` are left alone. With one, undated edges come first, and the gap are
    the dated ones that are too old. `limits[r] == 0`: nothing is wanted of list r.
    `shares`: of all dated edges, how many are before each moment; where the search in a list begins.
    `bounds`, and `at`, `left` and `marks` of uint64: scratch. `edges`: flat, time and code of each edge in turn.
    """
    lists = 0
    bounded = False
    for i in range(begin, end):
        first = row + (np.int64(nodes[i]) - offset) * slots
        context = contexts[i] if contexts.size else 0
        bound, share = moments[context], shares[context]
        bounded = bounded or bound <= newest
        for r in range(slots):
            low = indptr[first + r]
            n = indptr[first + r + 1] - low if limits[r] > 0 else np.int64(0)
            lows[lists], counts[lists], bounds[lists] = low, n, bound
            marks[lists] = np.uint64(share * n)
            if window > 0:
                heads[lists] = min(np.int64(undated[first + r]), n)
            lists += 1
    bounds = bounds[:lists]
    if bounded:
        for m in range(lists):
            at[m], left[m] = np.uint64(lows[m]), np.uint64(counts[m])
        _approach(edges, bounds, at, left, marks)
        _bisect(edges, bounds, at, left, marks)
        for m in range(lists):
            counts[m] = np.int64(at[m]) - lows[m]
    if window > 0:
        for m in range(lists):
            at[m], left[m] = np.uint64(lows[m] + heads[m]), np.uint64(counts[m] - heads[m])
            bounds[m] = bounds[m] - window if bounds[m] >= _EARLIEST + window else _EARLIEST
        _bisect(edges, bounds, at, left, marks)
        for m in range(lists):
            gaps[m] = np.int64(at[m]) - lows[m] - heads[m]
            counts[m] -= gaps[m]


@kernel
def _approach(edges: Any, bounds: Any, at: Any, left: Any, marks: Any) -> None:
    """Narrow what `_bisect` will search, starting at the place `marks[m]` of list m and going outwards from there.

    Edges of most lists are spread over time like those of the graph: the answer is near, mostly in the same cache line.
    """
    for m in range(bounds.size):
        if left[m] > _ZERO:
            place = min(marks[m], left[m] - _ONE)
            marks[m] = _look(edges, bounds, at, left, m, place)
    for m in range(bounds.size):
        if left[m] > _NEAR:  # the answer is behind the place looked at, or before it
            _look(edges, bounds, at, left, m, _NEAR - _ONE if marks[m] else left[m] - _NEAR)


@kernel
def _look(edges: Any, bounds: Any, at: Any, left: Any, m: Any, place: Any) -> Any:
    """Halve [at, at + left], where the answer of list m lies, by the edge at a place in it; 1 if that is early."""
    early = np.uint64(edges[(at[m] + place) << _ONE] < bounds[m])
    at[m] += (place + _ONE) * early
    left[m] = place + early * (left[m] - place - place - _ONE)
    return early


@kernel
def _bisect(edges: Any, bounds: Any, at: Any, left: Any, live: Any) -> None:
    """Move `at[m]` to the first edge of list m that is not before its bound.

    Invariant: the answer of each list lies in [at, at + left]. One look per list and round, without a jump: their
    reads of memory overlap instead of waiting for each other. `live` are the lists that are not done.
    """
    many = _ZERO
    for m in range(bounds.size):
        live[many] = np.uint64(m)
        many += np.uint64(left[m] > _ZERO)
    while many > _ZERO:
        still = _ZERO
        for x in range(many):
            m = live[x]
            _look(edges, bounds, at, left, m, (left[m] - _ONE) >> _ONE)
            live[still] = m
            still += np.uint64(left[m] > _ZERO)
        many = still
