"""Supervised pairs of nodes, whose edges do not exist in the trees of their examples."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel


@kernel
def partner_of(pairs: Any, context: Any, node: Any) -> Any:
    """The other end of the context's hidden pair, if `node` is one end; otherwise -1."""
    if pairs.size == 0:
        return np.int64(-1)
    if pairs[context, 0] == node:
        return np.int64(pairs[context, 1])
    if pairs[context, 1] == node:
        return np.int64(pairs[context, 0])
    return np.int64(-1)


@kernel
def without(edges: Any, low: Any, n: Any, head: Any, gap: Any, partner: Any, visible: Any) -> Any:
    """Valid positions whose source is not `partner` into `visible`, and behind them where the list's valid edges end.

    Valid are `head` edges from `low` on and, `gap` later, the rest of the n. Returns how many are visible.
    """
    left = 0
    for j in range(n):
        p = low + j + (gap if j >= head else 0)
        if (edges[2 * p + 1] & 0xFFFFFFFF) != partner:
            visible[left] = p
            left += 1
    visible[left] = low + gap + n
    return left


@kernel
def _has_edge(
    source: Any,
    node: Any,
    moment: Any,
    offsets: Any,
    slots: Any,
    rows: Any,
    indptr: Any,
    edges: Any,
) -> Any:
    """Whether `node` has an edge from `source` that is valid at `moment`."""
    t = 0
    while node >= offsets[t + 1]:
        t += 1
    row = rows[t] + (node - offsets[t]) * slots[t]
    for p in range(indptr[row], indptr[row + slots[t]]):
        if (edges[2 * p + 1] & 0xFFFFFFFF) == source and edges[2 * p] < moment:
            return True
    return False


@kernel
def _degree(node: Any, offsets: Any, slots: Any, rows: Any, indptr: Any) -> Any:
    t = 0
    while node >= offsets[t + 1]:
        t += 1
    row = rows[t] + (node - offsets[t]) * slots[t]
    return indptr[row + slots[t]] - indptr[row]


@kernel
def joined(
    nodes: Any,
    partners: Any,
    times: Any,
    mirrored: Any,
    offsets: Any,
    slots: Any,
    rows: Any,
    indptr: Any,
    edges: Any,
    out: Any,
) -> Any:
    """Which pairs have an edge, in either direction, that is valid at their moment; returns whether any has."""
    some = False
    for i in range(nodes.size):
        out[i] = False
        a, b = np.int64(nodes[i]), np.int64(partners[i])
        if b < 0:
            continue
        if mirrored and _degree(b, offsets, slots, rows, indptr) < _degree(a, offsets, slots, rows, indptr):
            a, b = b, a
        out[i] = _has_edge(b, a, times[i], offsets, slots, rows, indptr, edges)
        if not mirrored and not out[i]:
            out[i] = _has_edge(a, b, times[i], offsets, slots, rows, indptr, edges)
        some = some or out[i]
    return some
