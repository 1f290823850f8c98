"""Numba kernels that turn unordered edges into CSC: counting sort by range of destinations, radix sort inside, dedupe.

All kernels release the GIL. The order of edges is total up to equal rows (time, source, weight, labels), so the result
does not depend on the order in which rows arrive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.graph.kernels import kernel

NULL_TIME = int(np.iinfo(np.int64).min)
FOREVER = 1 << 62
"""Times beyond this many microseconds are no times: DuckDB's infinities, and NULL_TIME."""
NULL_KEY, OPTED_OUT, UNKNOWN = -3, -2, -1
"""What stands in place of a node index where there is none."""
REASONS = ("null_key", "null_timestamp", "opted_out", "unknown_src", "unknown_dst")
_BAD_LABEL, _BAD_WEIGHT, _NULL_WEIGHT = 5, 6, 7
COUNTS = (*REASONS, "bad_label", "bad_weight", "null_weight")
AGGREGATES = ("sum", "mean", "max", "min", "count", "last")
_DIGIT = 11
"""Bits sorted at a time: the counters stay in the first-level cache."""

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
        if s >= 0 and d >= 0 and (len(time) == 0 or -FOREVER < time[i] < FOREVER):
            offsets[(d >> shift) + 1] += 1
            continue
        slot[i] = -1
        if s == NULL_KEY or d == NULL_KEY:
            counts[0] += 1
        elif len(time) > 0 and not (-FOREVER < time[i] < FOREVER):
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
def radix(keys: Array, rows: Array, bits: int) -> None:
    """Sort `keys` (uint64[n], below 2^bits) in place and `rows` (int32[n]) with it; stable.

    LSD radix sort by 11 bits, skipping digits in which all keys agree.
    """
    n = len(keys)
    passes = (bits + _DIGIT - 1) // _DIGIT
    mask = np.uint64((1 << _DIGIT) - 1)
    counts = np.zeros((passes, 1 << _DIGIT), np.int64)
    for i in range(n):
        for p in range(passes):
            counts[p, np.int64((keys[i] >> np.uint64(p * _DIGIT)) & mask)] += 1
    a, ar, b, br = keys, rows, np.empty(n, np.uint64), np.empty(n, np.int32)
    for p in range(passes):
        shift, at = np.uint64(p * _DIGIT), counts[p]
        if n == 0 or at[np.int64((keys[0] >> shift) & mask)] == n:
            continue
        at[1:] = np.cumsum(at)[:-1]
        at[0] = 0
        for i in range(n):
            digit = np.int64((a[i] >> shift) & mask)
            to = at[digit]
            at[digit] = to + 1
            b[to], br[to] = a[i], ar[i]
        a, ar, b, br = b, br, a, ar
    if n > 0 and a is not keys:
        keys[:], rows[:] = a, ar


@kernel
def _width(value: int) -> int:
    """Bits that hold 0 .. value."""
    bits = 0
    while value >> bits > 0 and bits < 63:
        bits += 1
    return bits


@kernel
def _tick(time: Array, first: int) -> int:
    """The largest of second, millisecond, microsecond that all times are whole multiples of, counted from `first`."""
    tick = 1_000_000
    for i in range(len(time)):
        while (time[i] - first) % tick != 0:
            tick //= 1_000
    return tick


@kernel
def _order_one(column: Array, width: int, rows: Array, keys: Array) -> None:
    for i in range(len(rows)):
        keys[i] = np.uint64(column[rows[i]])
    radix(keys, rows, width)


@kernel
def _order(major: Array, middle: Array, minor: Array, widths: Array, rows: Array) -> None:
    """Sort `rows` stably by three columns of non-negative numbers; as few words of 64 bits as they fit into."""
    n = len(rows)
    keys = np.empty(n, np.uint64)
    low, mid, high = widths[2], widths[1], widths[0]
    if low + mid + high <= 64:
        for i in range(n):
            j = rows[i]
            key = (np.uint64(major[j]) << np.uint64(mid)) | np.uint64(middle[j]) if high else np.uint64(middle[j])
            keys[i] = (key << np.uint64(low)) | np.uint64(minor[j])
        radix(keys, rows, low + mid + high)
        return
    _order_one(minor, low, rows, keys)
    _order_one(middle, mid, rows, keys)
    _order_one(major, high, rows, keys)


@kernel
def _by_payload(weight: Array, labels: Array, rows: Array) -> None:
    """Order `rows` by weight (null first), then labels: what decides between rows of equal time and source."""
    n = len(rows)
    keys = np.empty(n, np.uint64)
    for k in range(labels.shape[0] - 1, -1, -1):
        for i in range(n):
            keys[i] = np.uint64(labels[k, rows[i]] + 1)
        radix(keys, rows, 2)
    if len(weight) > 0:
        sign, bits = np.uint64(1) << np.uint64(63), weight.view(np.uint64)
        for i in range(n):
            word = bits[rows[i]]  # as integers, doubles order once negative ones are inverted
            keys[i] = np.uint64(0) if np.isnan(weight[rows[i]]) else (~word if word & sign else word | sign)
        radix(keys, rows, 64)


@kernel
def order_rows(
    dst: Array, src: Array, time: Array, weight: Array, labels: Array, first: int, nodes: int, by_source: bool
) -> tuple[Array, Array]:
    """The order of rows in CSC for destinations `first .. first + nodes`.

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
        indptr int64[nodes + 1], and int32[n]: the input row at each place.
    """
    n = len(dst)
    indptr = np.zeros(nodes + 1, np.int64)
    local, when, source = np.empty(n, np.int32), np.zeros(n, np.int64), src
    most = 0
    for i in range(n):
        local[i] = dst[i] - first
        indptr[local[i] + 1] += 1
        most = max(most, src[i])
    for v in range(nodes):
        indptr[v + 1] += indptr[v]
    span = 0
    if len(time) > 0 and n > 0:
        low, high = time.min(), time.max()
        tick = _tick(time, low)
        span = (high - low) // tick
        for i in range(n):
            when[i] = (time[i] - low) // tick
    rows = np.arange(n).astype(np.int32)
    node_bits, time_bits, source_bits = _width(nodes), _width(span), _width(most)
    for attempt in range(2):
        if by_source:
            _order(local, source, when, np.array([node_bits, source_bits, time_bits]), rows)
        else:
            _order(local, when, source, np.array([node_bits, time_bits, source_bits]), rows)
        if attempt == 1 or (len(weight) == 0 and labels.shape[0] == 0):
            break
        tied = False
        for i in range(1, n):
            a, b = rows[i - 1], rows[i]
            tied |= local[a] == local[b] and when[a] == when[b] and src[a] == src[b]
        if not tied:
            break
        _by_payload(weight, labels, rows)
    return indptr, rows


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
        indptr, times (int64[0] for undated edges), sources, weights float64, labels int8[k, m] of the m edges that
        remain.
    """
    n = len(s)
    out_ptr = np.zeros_like(indptr)
    out_w = np.empty(n if how >= 0 else 0, np.float64)
    m, dated = 0, len(t) > 0
    for v in range(len(indptr) - 1):
        i, high = indptr[v], indptr[v + 1]
        while i < high:
            j = i + 1
            while j < high and s[j] == s[i] and (pair or not dated or t[j] == t[i]):
                j += 1
            if how >= 0:
                out_w[m] = _aggregate(weight, i, j, how)
            for k in range(labels.shape[0]):
                best = labels[k, i]
                for q in range(i + 1, j):
                    best = max(best, labels[k, q])
                labels[k, m] = best
            s[m] = s[i]
            if dated:
                t[m] = t[j - 1]
            m += 1
            i = j
        out_ptr[v + 1] = m
    return out_ptr, t[: m if dated else 0], s[:m], out_w[: m if how >= 0 else 0], labels[:, :m]


@kernel
def expand(indptr: Array, low: int, high: int, out: Array) -> None:
    """`out[e - low]` = destination of edge e, for edges `[low, high)`."""
    v = np.searchsorted(indptr, low, side="right") - 1
    for e in range(low, high):
        while indptr[v + 1] <= e:
            v += 1
        out[e - low] = v
