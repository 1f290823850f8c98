"""Which edges an item may see: those before its moment, and not from before its window.

Every comparison of times in the sampler is here. tests/graph/test_sampling_strict.py turns each into its neighbour
(`<` into `<=`) and shows that the property tests notice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel

_ONE, _ZERO = np.uint64(1), np.uint64(0)
_EARLIEST = np.int64(np.iinfo(np.int64).min + 1)
"""Before every dated edge and after every undated one."""


@kernel
def valid_ranges(
    nodes: Any,
    contexts: Any,
    begin: Any,
    end: Any,
    moments: Any,
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
) -> None:
    """Where the lists of a tile of items begin, and which of their edges are valid at the item's moment.

    Of list m these are `heads[m]` edges from `lows[m]` on and, `gaps[m]` later, the rest of `counts[m]`. Without a
    window there is no gap, and `heads` and `gaps` are left alone. With one, undated edges come first, and the gap are
    the dated ones that are too old. `limits[r] == 0`: nothing is wanted of list r.
    `bounds`, and `at` and `left` of uint64: scratch. `edges`: flat, time and code of each edge in turn.
    """
    lists = 0
    longest = np.int64(0)
    bounded = False
    for i in range(begin, end):
        first = row + (np.int64(nodes[i]) - offset) * slots
        for r in range(slots):
            low = indptr[first + r]
            n = indptr[first + r + 1] - low if limits[r] > 0 else np.int64(0)
            lows[lists], counts[lists] = low, n
            if window > 0:
                heads[lists] = min(np.int64(undated[first + r]), n)
            longest = max(longest, n)
            lists += 1
        bounds[i - begin] = moments[contexts[i] if contexts.size else 0]
        bounded = bounded or bounds[i - begin] <= newest
    bounds = bounds[: end - begin]
    if bounded:
        for m in range(lists):
            at[m], left[m] = np.uint64(lows[m]), np.uint64(counts[m])
        _bisect(slots, longest, edges, bounds, at, left)
        for m in range(lists):
            counts[m] = np.int64(at[m]) - lows[m]
    if window > 0:
        for m in range(lists):
            at[m], left[m] = np.uint64(lows[m] + heads[m]), np.uint64(counts[m] - heads[m])
        for i in range(end - begin):
            bounds[i] = bounds[i] - window if bounds[i] >= _EARLIEST + window else _EARLIEST
        _bisect(slots, longest, edges, bounds, at, left)
        for m in range(lists):
            gaps[m] = np.int64(at[m]) - lows[m] - heads[m]
            counts[m] -= gaps[m]


@kernel
def _bisect(slots: Any, longest: Any, edges: Any, bounds: Any, at: Any, left: Any) -> None:
    """Move `at[m]` to the first edge of list m that is not before its item's bound.

    Invariant: the answer of each list lies in [at, at + left], where `left` is halved for all lists alike, without a
    jump: their reads of memory overlap instead of waiting for each other.
    """
    while longest > 0:
        m = _ZERO
        for i in range(bounds.size):
            for _ in range(slots):
                n = left[m]
                if n > _ZERO:
                    half = (n + _ONE) >> _ONE
                    early = np.uint64(edges[(at[m] + half - _ONE) << _ONE] < bounds[i])
                    at[m] += half * early
                    left[m] = half - _ONE + early * (n - half - half + _ONE)
                m += _ONE
        longest >>= 1
