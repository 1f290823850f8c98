"""Loops of drawing negatives, compiled; none holds the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.graph.kernels import kernel

POWER = 0.75
"""Exponent of the degree; of word2vec (Mikolov et al. 2013, section 2.2)."""
ATTEMPTS = 500
MANY = 64
"""Known destinations per negative from which looking up the negatives is cheaper than a walk over what is known."""
_STEP, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@kernel
def _mixed(z: Any) -> Any:
    """The finaliser of SplitMix64: a bijection of 64 bits."""
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@kernel
def _before(times: Any, low: Any, high: Any, moment: Any) -> Any:
    """First place in ascending `times[low:high]` that is not strictly before `moment`."""
    while low < high:
        middle = (low + high) >> 1
        if times[middle] < moment:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def first_times(indices: NDArray[Any], times: NDArray[np.int64], first: NDArray[np.int64]) -> None:
    """`first[indices[i]] = min(first[indices[i]], times[i])`."""
    for i in range(len(indices)):
        if times[i] < first[indices[i]]:
            first[indices[i]] = times[i]


@kernel
def degrees_before(
    indptr: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    nodes: NDArray[np.int64],
    moments: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """`out[i]`: edges into `nodes[i]` strictly before `moments[i]`; timestamps ascend within a node."""
    for i in range(len(nodes)):
        low = indptr[nodes[i]]
        out[i] = _before(timestamps, low, indptr[nodes[i] + 1], moments[i]) - low


@kernel
def draw_by_degree(
    order: NDArray[np.int64],
    since: NDArray[np.int64],
    alive: NDArray[np.int64],
    event_nodes: NDArray[Any],
    events: NDArray[np.int64],
    indptr: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    moments: NDArray[np.int64],
    seed: np.uint64,
    nodes: NDArray[np.int64],
    degrees: NDArray[np.int64],
) -> None:
    """Nodes with chance proportional to `(1 + degree) ** POWER` among those that exist, both at the draw's moment.

    One of the nodes that exist, or the node of one of the events so far, taken evenly, is a draw with chance
    proportional to 1 + degree; keeping it with chance `(1 + degree) ** (POWER - 1)` leaves the wanted one. So nothing
    is summed over nodes, at any moment.

    Args:
        order: nodes by when they came to exist.
        since: when each did.
        alive: int64[k], how many exist at each moment.
        event_nodes: node of each event, in order of time.
        events: int64[k], how many events lie strictly before each moment.
        indptr: bounds of the events of each node.
        timestamps: their times, ascending within a node.
        moments: int64[k].
        seed: of the draw.
        nodes: out, int64[k]; -1 where none exists.
        degrees: out, int64[k].
    """
    state = seed
    for j in range(len(moments)):
        nodes[j], degrees[j] = -1, 0
        total = alive[j] + events[j]
        if alive[j] == 0:
            continue
        for _ in range(ATTEMPTS):
            state += _STEP
            place = np.int64(np.float64(_mixed(state) >> _S11) * 2.0**-53 * total)
            state += _STEP
            chance = np.float64(_mixed(state) >> _S11) * 2.0**-53
            node = order[place] if place < alive[j] else np.int64(event_nodes[place - alive[j]])
            if since[node] > moments[j]:
                continue
            low = indptr[node]
            degree = _before(timestamps, low, indptr[node + 1], moments[j]) - low
            if chance < (1.0 + degree) ** (POWER - 1.0):
                nodes[j], degrees[j] = node, degree
                break


@kernel
def weight_over_time(
    order: NDArray[np.int64],
    since: NDArray[np.int64],
    event_nodes: NDArray[Any],
    event_times: NDArray[np.int64],
    stride: int,
    times: NDArray[np.int64],
    totals: NDArray[np.float64],
) -> None:
    """`totals[i]`: the sum of `(1 + degree) ** POWER` over existing nodes from `times[i]` on.

    Changes are that a node comes to exist (`order`, by `since`) and events of nodes, which count from just after their
    time on; both in order of time. Every `stride`-th change is written down.
    """
    degree = np.zeros(len(since), dtype=np.int64)
    exists = np.zeros(len(since), dtype=np.bool_)
    now, born, happened = 0.0, 0, 0
    for i in range(len(order) + len(event_nodes)):
        birth = happened == len(event_nodes) or (born < len(order) and since[order[born]] <= event_times[happened])
        if birth:
            node = order[born]
            at = since[node]
            born += 1
            exists[node] = True
            now += (1.0 + degree[node]) ** POWER
        else:
            node = np.int64(event_nodes[happened])
            at = event_times[happened] + 1
            happened += 1
            if exists[node]:
                now += (2.0 + degree[node]) ** POWER - (1.0 + degree[node]) ** POWER
            degree[node] += 1
        if i % stride == 0:
            times[i // stride], totals[i // stride] = at, now


@kernel
def allow(
    moments: NDArray[np.int64],
    exist: NDArray[np.bool_],
    times: NDArray[np.int64],
    out: NDArray[np.bool_],
) -> None:
    """`out[i, j]`: negative j exists, and `moments[j] <= times[i]`."""
    for i in range(len(times)):
        for j in range(len(moments)):
            out[i, j] = exist[j] and moments[j] <= times[i]


@kernel
def forbid(
    keys: NDArray[np.int64],
    starts: NDArray[np.int64],
    src: NDArray[np.int64],
    ascending: NDArray[np.int64],
    order: NDArray[np.int64],
    num_dst: int,
    out: NDArray[np.bool_],
) -> None:
    """`out[i, j] = False` where `src[i] * num_dst + negative[j]` is among the ascending `keys`.

    Those of source v are `keys[starts[v]:starts[v + 1]]`. `ascending` are the negatives in order, `order` their places.
    Each of what a source knows is looked for in a bitmap of the negatives; where it knows very many, the negatives are
    looked up among them.
    """
    m = len(ascending)
    bits = np.zeros((num_dst >> 6) + 1, dtype=np.uint64)
    for j in range(m):
        bits[ascending[j] >> 6] |= np.uint64(1) << np.uint64(ascending[j] & 63)
    for i in range(len(src)):
        first, last = starts[src[i]], starts[src[i] + 1]
        if last - first <= MANY * m:
            for k in range(first, last):
                node = keys[k] - src[i] * num_dst
                if not (bits[node >> 6] >> np.uint64(node & 63)) & np.uint64(1):
                    continue
                place = np.searchsorted(ascending, node)
                while place < m and ascending[place] == node:
                    out[i, order[place]] = False
                    place += 1
        else:
            for j in range(m):
                key = src[i] * num_dst + ascending[j]
                place = first + np.searchsorted(keys[first:last], key)
                if place < last and keys[place] == key:
                    out[i, order[j]] = False


@kernel
def hash_ids(text: NDArray[np.uint8], ends: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """`out[i]` in [0, 1): FNV-1a, then the finaliser of SplitMix64, of the bytes `text[ends[i]:ends[i + 1]]`."""
    for i in range(len(out)):
        state = np.uint64(14695981039346656037)
        for j in range(ends[i], ends[i + 1]):
            state = (state ^ np.uint64(text[j])) * np.uint64(1099511628211)
        out[i] = np.float64(_mixed(state) >> _S11) * 2.0**-53
