"""Compiled loops over typed edges: what a moment sees, its weights, and their gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.gnn.ltgnn._kernels import below, mixed
from star_platform.gnn.ltgnn._prefetch import prefetch
from star_platform.graph.kernels import fast_kernel, kernel


@kernel
def before(indptr: Any, edges: Any, v: Any, moment: Any) -> Any:
    """Edges of node v strictly before `moment`; its list is sorted by time."""
    low, high = indptr[v], indptr[v + 1]
    while low < high:
        middle = (low + high) >> 1
        if edges[middle, 0] < moment:
            low = middle + 1
        else:
            high = middle
    return low - indptr[v]


@kernel
def walk(indptr: Any, edges: Any, nodes: Any, moment: Any, key: Any, out: Any) -> None:
    """Random walks over what is strictly before `moment`, int64 `out [b, steps]`; at a dead end they stay."""
    for i in range(len(nodes)):
        v = nodes[i]
        state = mixed(key ^ mixed(np.uint64(i)))
        for step in range(out.shape[1]):
            count = before(indptr, edges, v, moment)
            if count > 0:
                state = mixed(state)
                v = edges[indptr[v] + below(state, count), 1] & 0xFFFFFFFF
            out[i, step] = v


@kernel
def count_before(indptr: Any, edges: Any, moment: Any, out: Any) -> None:
    """`out[v + 1]`: edges of node v strictly before `moment`, and one for the node itself; `out` is then summed up.

    Args:
        indptr: int64[n + 1], lists sorted by time.
        edges: int64[e, 2], time and relation << 32 | source.
        moment: microseconds.
        out: int64[n + 1], out: where each node's entries begin.
    """
    out[0] = 0
    for v in range(len(indptr) - 1):
        out[v + 1] = out[v] + 1 + before(indptr, edges, v, moment)


@kernel
def copy_before(
    indptr: Any, edges: Any, weights: Any, group_of: Any, starts: Any, indices: Any, groups: Any, raw: Any
) -> None:
    """The entries that `count_before` counted: sources, groups and weights; the node itself last, of group -1.

    `weights` float32[e] or empty: an edge weighs log2(1 + weight), 1 for weight 1 and where there are none.
    """
    for v in range(len(indptr) - 1):
        at = starts[v]
        e = indptr[v]
        while at < starts[v + 1] - 1:
            indices[at] = np.int32(edges[e, 1] & 0xFFFFFFFF)
            groups[at] = group_of[edges[e, 1] >> 32]
            raw[at] = np.float32(np.log2(1.0 + max(weights[e], 0.0))) if len(weights) else np.float32(1.0)
            at += 1
            e += 1
        indices[at], groups[at], raw[at] = v, -1, np.float32(1.0)


@kernel
def degrees(starts: Any, groups: Any, raw: Any, strengths: Any, out: Any, shares: Any) -> None:
    """Weighted degree of every node and the share of each group in it.

    Args:
        starts: int64[n + 1].
        groups: int16[m], -1 for the node itself.
        raw: float32[m].
        strengths: float64[g], weight of each group.
        out: float64[n], out.
        shares: float32[n, g], out.
    """
    sums = np.empty(len(strengths), dtype=np.float64)
    for v in range(len(starts) - 1):
        sums[:] = 0.0
        total = 0.0
        for e in range(starts[v], starts[v + 1]):
            if groups[e] < 0:
                total += raw[e]
            else:
                sums[groups[e]] += raw[e] * strengths[groups[e]]
        for g in range(len(sums)):
            total += sums[g]
        out[v] = total
        for g in range(len(sums)):
            shares[v, g] = sums[g] / total


@kernel
def normalise(starts: Any, indices: Any, groups: Any, raw: Any, strengths: Any, degree: Any, values: Any) -> None:
    """`values[e] = strength * raw / sqrt(degree of both ends)`."""
    for v in range(len(starts) - 1):
        for e in range(starts[v], starts[v + 1]):
            strength = 1.0 if groups[e] < 0 else strengths[groups[e]]
            values[e] = strength * raw[e] / np.sqrt(degree[v] * degree[indices[e]])


@fast_kernel
def strength_gradient(
    rows: Any,
    counts: Any,
    places: Any,
    neighbours: Any,
    weights: Any,
    groups: Any,
    shares: Any,
    gradients: Any,
    snapshot: Any,
    moving: Any,
    out: Any,
) -> None:
    """Adds dL / d log strength of each group, over the drawn entries of a batch, to `out` float64[g].

    With G = dL/dE the implicit function theorem gives dL = (1 - a) / a sum_vu G_v . Z_u dA~_vu, without the factor
    here, and A~_vu = s_r w_vu / sqrt(d_v d_u) gives dA~_vu / d log s_g = A~_vu ([r = g] - (share_vg + share_ug) / 2).

    Args:
        rows: int64[b].
        counts: int64[b], entries drawn.
        places: int64[b, k], of the entries.
        neighbours: int32[b, k].
        weights: float32[b, k], A~ times entries over entries drawn.
        groups: int16[m].
        shares: float32[n, g].
        gradients: float32[b, dim], G of the rows.
        snapshot: float32[n, dim].
        moving: float32[n, 2 dim]; Z_mem is the snapshot and its first half.
        out: float64[g].
    """
    dim = gradients.shape[1]
    for b in range(len(rows)):
        own = gradients[b]
        for j in range(counts[b]):
            u = neighbours[b, j]
            if b + 1 < len(rows) and j < counts[b + 1]:
                prefetch(snapshot, neighbours[b + 1, j])
                prefetch(moving, neighbours[b + 1, j])
            still, drift = snapshot[u], moving[u]
            product = np.float32(0.0)
            for d in range(dim):
                product += own[d] * (still[d] + drift[d])
            term = np.float64(product) * weights[b, j]
            group = groups[places[b, j]]
            if group >= 0:
                out[group] += term
            for g in range(len(out)):
                out[g] -= 0.5 * term * (shares[rows[b], g] + shares[u, g])
