"""Loops over items and edges, compiled; none holds the GIL, so that a prefetch thread runs beside the training step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.gnn._rows import copy_line, expect, get, put
from star_platform.graph.kernels import fast_kernel, kernel

AHEAD = 4
"""Rows that memory is asked for before their turn."""


@kernel
def unique_rows(nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of `nodes` (none negative) in order of first appearance, and the place of each among them.

    By an open-addressing table: the cost does not depend on the size of the graph. Ascending ones need none.
    """
    n = len(nodes)
    ascending = 1
    while ascending < n and nodes[ascending - 1] < nodes[ascending]:
        ascending += 1
    if ascending >= n:
        return nodes.copy(), np.arange(n)
    size = 16
    while size < 2 * n:
        size *= 2
    table = np.full(size, -1, dtype=np.int32)
    distinct = np.empty(n, dtype=np.int64)
    inverse = np.empty(n, dtype=np.int64)
    count = 0
    for i in range(n):
        slot = (np.uint64(nodes[i]) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & np.uint64(size - 1)
        while table[slot] >= 0 and distinct[table[slot]] != nodes[i]:
            slot = (slot + np.uint64(1)) & np.uint64(size - 1)
        if table[slot] < 0:
            table[slot] = count
            distinct[count] = nodes[i]
            count += 1
        inverse[i] = table[slot]
    return distinct[:count].copy(), inverse


@fast_kernel
def gather_rows(
    first: int, last: int, values: NDArray[Any], rows: NDArray[np.int64], scale: np.float32, out: NDArray[Any]
) -> None:
    """For i in `first .. last`: `out[i] = (scale * values[rows[i]], 0 ...)`; for a missing row, -1, `(0 ..., 1, 0 ..)`.

    Args:
        first: first row of `out`.
        last: the row after the last.
        values: float32 `[m, dim]`.
        rows: int64 `[n]`.
        scale: float32, so that nothing is computed in float64.
        out: `[n, columns]`, more columns than dim: float32, or uint16 for bfloat16, rounded to nearest even.
    """
    dim, columns = values.shape[1], out.shape[1]
    for i in range(first, last):
        ahead = i + AHEAD
        if ahead < last and rows[ahead] >= 0:
            expect(values, rows[ahead], 0, dim)
        row, target = rows[i], out[i]
        if row < 0:
            for j in range(columns):
                put(target, j, np.float32(0.0))
            put(target, dim, np.float32(1.0))
        else:
            source = values[row]
            for j in range(dim):
                put(target, j, scale * source[j])
            for j in range(dim, columns):
                put(target, j, np.float32(0.0))


@fast_kernel
def take_rows(first: int, last: int, table: NDArray[np.uint16], rows: NDArray[np.int64], out: NDArray[Any]) -> None:
    """`out[i] = table[rows[i], : columns of out]` for i in `first .. last`; -1 means the last row, as in Python.

    Columns are a multiple of 32, and `out` begins a cache line. The processor reads whole rows ahead by itself.
    """
    for i in range(first, last):
        row = rows[i] if rows[i] >= 0 else len(table) - 1
        for j in range(0, out.shape[1], 32):
            copy_line(table, row, out, i, j)


@fast_kernel
def add_rows(begin: int, end: int, grad: NDArray[Any], inverse: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """`out[inverse[i], begin:end] += grad[i, begin:end]` for all i, in order; grad float32, or bfloat16 as uint16."""
    for i in range(len(inverse)):
        source, target = grad[i], out[inverse[i]]
        for j in range(begin, end):
            target[j] += get(source, j)


@kernel
def activity(
    indptr: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    nodes: NDArray[np.int64],
    times: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """What node i has received before `times[i]`: `out[i]` = (log1p count, 1 if any, log1p hours since the last).

    `timestamps` of length 0 means that the relation has no times: then only the first two are set.
    """
    dated = len(timestamps) > 0
    for i in range(len(nodes)):
        low, high = indptr[nodes[i]], indptr[nodes[i] + 1]
        first = low
        if dated:
            while low < high:
                middle = (low + high) >> 1
                if timestamps[middle] < times[i]:
                    low = middle + 1
                else:
                    high = middle
        else:
            low = high
        count = low - first
        out[i, 0] = np.log1p(float(count))
        out[i, 1] = 1.0 if count > 0 else 0.0
        out[i, 2] = np.log1p((times[i] - timestamps[low - 1]) / 3.6e9) if dated and count > 0 else 0.0


@kernel
def known_pairs(
    keys: NDArray[np.int64], src: NDArray[np.int64], dst: NDArray[np.int64], num_dst: int
) -> NDArray[np.bool_]:
    """bool[len(src), len(dst)]: whether `src[i] * num_dst + dst[j]` is in the sorted `keys`."""
    found = np.zeros((len(src), len(dst)), dtype=np.bool_)
    for i in range(len(src)):
        low = np.searchsorted(keys, src[i] * num_dst)
        high = np.searchsorted(keys, (src[i] + 1) * num_dst)
        if low < high:
            for j in range(len(dst)):
                key = src[i] * num_dst + dst[j]
                place = low + np.searchsorted(keys[low:high], key)
                found[i, j] = place < high and keys[place] == key
    return found


@kernel
def hash_codes(text: NDArray[np.uint8], ends: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """float32[n, width] of +1 and -1: a fixed random code per id, from FNV-1a and splitmix64 of its bytes."""
    n = len(ends) - 1
    codes = np.empty((n, width), dtype=np.float32)
    for i in range(n):
        state = np.uint64(14695981039346656037)
        for j in range(ends[i], ends[i + 1]):
            state = (state ^ np.uint64(text[j])) * np.uint64(1099511628211)
        bits = np.uint64(0)
        for j in range(width):
            if j % 64 == 0:
                state += np.uint64(0x9E3779B97F4A7C15)
                bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                bits = bits ^ (bits >> np.uint64(31))
            codes[i, j] = 1.0 if (bits >> np.uint64(j % 64)) & np.uint64(1) else -1.0
    return codes


@kernel
def hash_rows(text: NDArray[np.uint8], ends: NDArray[np.int64], buckets: int) -> NDArray[np.int64]:
    """int64[n, 2]: the lower half of a 64-bit hash modulo `buckets`, and `buckets` + the upper half modulo `buckets`.

    The hash is FNV-1a of the bytes, mixed by splitmix64's finaliser, so that all bits depend on all bytes.
    """
    n = len(ends) - 1
    rows = np.empty((n, 2), dtype=np.int64)
    for i in range(n):
        state = np.uint64(14695981039346656037)
        for j in range(ends[i], ends[i + 1]):
            state = (state ^ np.uint64(text[j])) * np.uint64(1099511628211)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
        rows[i, 0] = np.int64(state & np.uint64(0xFFFFFFFF)) % buckets
        rows[i, 1] = buckets + np.int64(state >> np.uint64(32)) % buckets
    return rows


@fast_kernel
def adam_rows(
    begin: int,
    end: int,
    weight: NDArray[np.float32],
    rows: NDArray[np.int64],
    grads: NDArray[np.float32],
    means: NDArray[np.float32],
    mass: NDArray[np.float32],
    last: NDArray[np.int64],
    step: int,
    lr: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """One step of `ids.RowAdam` for `rows[begin:end]`, which are distinct; see there for the arrays."""
    dim = weight.shape[1]
    flat = means.reshape(len(means), 2 * dim)
    keep1, keep2, small = np.float32(1.0 - beta1), np.float32(1.0 - beta2), np.float32(epsilon)
    log1, log2, log_shrink = np.log(beta1), np.log(beta2), np.log1p(-lr * weight_decay)
    for i in range(begin, end):
        ahead = i + AHEAD
        if ahead < end:
            expect(weight, rows[ahead], 0, dim)
            expect(flat, rows[ahead], 0, 2 * dim)
        row = rows[i]
        gap = step - last[row]
        decay1, decay2 = np.float32(np.exp(gap * log1)), np.float32(np.exp(gap * log2))
        mass[row, 0] = decay1 * mass[row, 0] + keep1
        mass[row, 1] = decay2 * mass[row, 1] + keep2
        shrink = np.float32(np.exp((gap if last[row] > 0 else 1) * log_shrink))
        length = np.float32(lr / mass[row, 0])
        scale = np.float32(1.0 / mass[row, 1])
        w, m, v, g = weight[row], means[row, 0], means[row, 1], grads[i]
        for j in range(dim):
            m[j] = decay1 * m[j] + keep1 * g[j]
            v[j] = decay2 * v[j] + keep2 * g[j] * g[j]
            w[j] = shrink * w[j] - length * m[j] / (np.sqrt(scale * v[j]) + small)
        last[row] = step
