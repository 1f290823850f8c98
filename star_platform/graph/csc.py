"""Numba kernels that turn unordered edges into CSC: a counting sort by destination, a stable order inside each, dedupe.

All kernels release the GIL. The order of edges is total up to equal rows (time, source, weight, labels), so the result
does not depend on the order in which rows arrive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.graph.kernels import kernel

NULL_TIME = int(np.iinfo(np.int64).min)
NULL_KEY, OPTED_OUT, UNKNOWN = -3, -2, -1
"""What stands in place of a node index where there is none."""
REASONS = ("null_key", "null_timestamp", "opted_out", "unknown_src", "unknown_dst")
_BAD_LABEL, _BAD_WEIGHT, _NULL_WEIGHT = 5, 6, 7
COUNTS = (*REASONS, "bad_label", "bad_weight", "null_weight")
AGGREGATES = ("sum", "mean", "max", "min", "count", "last")
_SMALL = 24
"""Up to here insertion sort wins."""

Array = npt.NDArray[Any]


@kernel
def slots(src: Array, dst: Array, time: Array, shift: int, buckets: int, counts: Array) -> tuple[Array, Array]:
    """Where each row goes when rows are partitioned by `dst >> shift`.

    Args:
        src: int32[n] node index, or NULL_KEY, OPTED_OUT, UNKNOWN.
        dst: as `src`.
        time: int64[n], NULL_TIME for null; int64[0] for undated edges.
        shift: bits of `dst` inside a bucket.
        buckets: number of buckets.
        counts: int64[8], dropped rows are added to it by COUNTS.

    Returns:
        int32[n] slot of each row, -1 for a dropped one; int64[buckets + 1] first slot of each bucket.
    """
    n = len(src)
    slot = np.empty(n, np.int32)
    offsets = np.zeros(buckets + 1, np.int64)
    for i in range(n):
        s, d = src[i], dst[i]
        slot[i] = 0
        if s >= 0 and d >= 0 and (len(time) == 0 or time[i] != NULL_TIME):
            offsets[(d >> shift) + 1] += 1
            continue
        slot[i] = -1
        if s == NULL_KEY or d == NULL_KEY:
            counts[0] += 1
        elif len(time) > 0 and time[i] == NULL_TIME:
            counts[1] += 1
        elif s == OPTED_OUT or d == OPTED_OUT:
            counts[2] += 1
        elif s == UNKNOWN:
            counts[3] += 1
        else:
            counts[4] += 1
    for b in range(buckets):
        offsets[b + 1] += offsets[b]
    at = offsets[:-1].copy()
    for i in range(n):
        if slot[i] >= 0:
            b = dst[i] >> shift
            slot[i] = at[b]
            at[b] += 1
    return slot, offsets


@kernel
def scatter(slot: Array, column: Array, out: Array) -> None:
    """`out[slot[i]] = column[i]` for the rows that are kept."""
    for i in range(len(slot)):
        if slot[i] >= 0:
            out[slot[i]] = column[i]


@kernel
def check_weights(weight: Array, counts: Array) -> None:
    """Count infinite and null (NaN) weights; -0.0 becomes 0.0, so that equal weights have equal bytes."""
    for i in range(len(weight)):
        if np.isnan(weight[i]):
            counts[_NULL_WEIGHT] += 1
        elif np.isinf(weight[i]):
            counts[_BAD_WEIGHT] += 1
        else:
            weight[i] += 0.0


@kernel
def check_labels(label: Array, counts: Array) -> None:
    """Count labels that are none of 1, 0, -1."""
    for i in range(len(label)):
        if label[i] > 1:
            counts[_BAD_LABEL] += 1


@kernel
def _payload_before(weight: Array, labels: Array, a: int, b: int) -> bool:
    """Whether row a comes before row b, which has the same time and source: by weight (null first), then labels."""
    if len(weight) > 0:
        x = -np.inf if np.isnan(weight[a]) else weight[a]
        y = -np.inf if np.isnan(weight[b]) else weight[b]
        if x != y:
            return bool(x < y)
    for k in range(labels.shape[0]):
        if labels[k, a] != labels[k, b]:
            return bool(labels[k, a] < labels[k, b])
    return False


@kernel
def _before(t: Array, s: Array, r: Array, i: int, j: int, weight: Array, labels: Array, by_source: bool) -> bool:
    if by_source:
        if s[i] != s[j]:
            return bool(s[i] < s[j])
        if t[i] != t[j]:
            return bool(t[i] < t[j])
    else:
        if t[i] != t[j]:
            return bool(t[i] < t[j])
        if s[i] != s[j]:
            return bool(s[i] < s[j])
    return bool(_payload_before(weight, labels, r[i], r[j]))


@kernel
def _insertion(
    t: Array, s: Array, r: Array, low: int, high: int, weight: Array, labels: Array, by_source: bool
) -> None:
    for i in range(low + 1, high):
        ti, si, ri = t[i], s[i], r[i]
        j = i - 1
        while j >= low:
            if ti == t[j] and si == s[j]:
                less = _payload_before(weight, labels, ri, r[j])
            elif by_source:
                less = si < s[j] or (si == s[j] and ti < t[j])
            else:
                less = ti < t[j] or (ti == t[j] and si < s[j])
            if not less:
                break
            t[j + 1], s[j + 1], r[j + 1] = t[j], s[j], r[j]
            j -= 1
        t[j + 1], s[j + 1], r[j + 1] = ti, si, ri


@kernel
def _merge_sort(
    t: Array, s: Array, r: Array, low: int, high: int, weight: Array, labels: Array, by_source: bool
) -> None:
    """Bottom-up merge sort of one long segment."""
    n = high - low
    for start in range(low, high, _SMALL):
        _insertion(t, s, r, start, min(start + _SMALL, high), weight, labels, by_source)
    t2, s2, r2 = np.empty(n, t.dtype), np.empty(n, s.dtype), np.empty(n, r.dtype)
    width = _SMALL
    while width < n:
        t2[:], s2[:], r2[:] = t[low:high], s[low:high], r[low:high]
        for start in range(0, n, 2 * width):
            i, middle, end = start, min(start + width, n), min(start + 2 * width, n)
            j = middle
            for k in range(start, end):
                if i < middle and (j >= end or not _before(t2, s2, r2, j, i, weight, labels, by_source)):
                    t[low + k], s[low + k], r[low + k] = t2[i], s2[i], r2[i]
                    i += 1
                else:
                    t[low + k], s[low + k], r[low + k] = t2[j], s2[j], r2[j]
                    j += 1
        width *= 2


@kernel
def _sort_segments(indptr: Array, t: Array, s: Array, r: Array, weight: Array, labels: Array, by_source: bool) -> None:
    for v in range(len(indptr) - 1):
        low, high = indptr[v], indptr[v + 1]
        if high - low > _SMALL:
            _merge_sort(t, s, r, low, high, weight, labels, by_source)
        elif high - low > 1:
            _insertion(t, s, r, low, high, weight, labels, by_source)


@kernel
def order_rows(
    dst: Array, src: Array, time: Array, weight: Array, labels: Array, first: int, nodes: int, by_source: bool
) -> tuple[Array, Array, Array, Array]:
    """Rows in CSC order for destinations `first .. first + nodes`.

    Args:
        dst: int32[n].
        src: int32[n].
        time: int64[n], or int64[0] for undated edges.
        weight: float64[n] (NaN = null), or float64[0].
        labels: int8[k, n].
        first: the lowest destination.
        nodes: number of destinations.
        by_source: inside a destination order by (source, time) rather than (time, source).

    Returns:
        indptr int64[nodes + 1], times int64[n], sources int32[n], and int32[n]: the input row at each place.
    """
    n = len(dst)
    indptr = np.zeros(nodes + 1, np.int64)
    for i in range(n):
        indptr[dst[i] - first + 1] += 1
    for v in range(nodes):
        indptr[v + 1] += indptr[v]
    at = indptr[:-1].copy()
    t, s, r = np.zeros(n, np.int64), np.empty(n, np.int32), np.empty(n, np.int32)
    for i in range(n):
        p = at[dst[i] - first]
        at[dst[i] - first] += 1
        s[p], r[p] = src[i], i
        if len(time) > 0:
            t[p] = time[i]
    _sort_segments(indptr, t, s, r, weight, labels, by_source)
    return indptr, t, s, r


@kernel
def _aggregate(weight: Array, low: int, high: int, how: int) -> float:
    """Weights of one group of duplicates, in canonical order; nulls (NaN) are left out, and 0 where all are null."""
    total, valid, top, bottom, last = 0.0, 0, -np.inf, np.inf, 0.0
    if how == 4:
        return float(high - low)
    for i in range(low, high):
        if not np.isnan(weight[i]):
            total += weight[i]
            valid += 1
            top, bottom, last = max(top, weight[i]), min(bottom, weight[i]), weight[i]
    if valid == 0:
        return 0.0
    if how == 0:
        return total
    if how == 1:
        return total / valid
    if how == 2:
        return float(top)
    return float(bottom) if how == 3 else float(last)


@kernel
def merge_rows(
    indptr: Array, t: Array, s: Array, weight: Array, labels: Array, pair: bool, how: int
) -> tuple[Array, Array, Array, Array, Array]:
    """One edge per (source, destination, time), or per (source, destination) at its latest time.

    Takes rows as `order_rows` leaves them (`by_source` for `pair`), `weight` and `labels` already in that order.

    Returns:
        indptr, times, sources, weights float64, labels int8[k, m] of the m edges that remain, in the same order.
    """
    n = len(s)
    out_ptr = np.zeros_like(indptr)
    out_w = np.empty(n if how >= 0 else 0, np.float64)
    m = 0
    for v in range(len(indptr) - 1):
        i, high = indptr[v], indptr[v + 1]
        while i < high:
            j = i + 1
            while j < high and s[j] == s[i] and (pair or t[j] == t[i]):
                j += 1
            if how >= 0:
                out_w[m] = _aggregate(weight, i, j, how)
            for k in range(labels.shape[0]):
                best = labels[k, i]
                for q in range(i + 1, j):
                    best = max(best, labels[k, q])
                labels[k, m] = best
            s[m], t[m] = s[i], t[j - 1]
            m += 1
            i = j
        out_ptr[v + 1] = m
    return out_ptr, t[:m], s[:m], out_w[: m if how >= 0 else 0], labels[:, :m]


@kernel
def resort(indptr: Array, t: Array, s: Array, weight: Array, labels: Array) -> Array:
    """Order each destination's edges by (time, source) in place; returns int32[n], the previous place of each."""
    r = np.arange(len(s)).astype(np.int32)
    _sort_segments(indptr, t, s, r, weight, labels, False)
    return r


@kernel
def expand(indptr: Array, low: int, high: int, out: Array) -> None:
    """`out[e - low]` = destination of edge e, for edges `[low, high)`."""
    v = np.searchsorted(indptr, low, side="right") - 1
    for e in range(low, high):
        while indptr[v + 1] <= e:
            v += 1
        out[e - low] = v
