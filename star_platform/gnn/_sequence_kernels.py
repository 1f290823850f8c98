"""The latest activities of nodes, read backwards from a moment over time-sorted lists of edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.graph.kernels import kernel

_NEVER = np.iinfo(np.int64).min


@kernel
def before(edges: NDArray[np.int64], low: int, high: int, moment: int) -> int:
    """The first of the edges `low .. high`, sorted by time, that is not strictly earlier than `moment`."""
    while low < high:
        middle = (low + high) >> 1
        if edges[middle, 0] < moment:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def latest(
    first: int,
    last: int,
    gids: NDArray[np.int64],
    times: NDArray[np.int64],
    exclude: NDArray[np.int64],
    window: int,
    offsets: NDArray[np.int64],
    slots: NDArray[np.int64],
    lists: NDArray[np.int64],
    indptr: NDArray[np.int64],
    edges: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    nodes: NDArray[np.int64],
    relations: NDArray[np.int64],
    ages: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> None:
    """For seeds `first .. last` their latest edges of wanted relations strictly before their moment, oldest first.

    A node's lists (one, or one per relation) are merged from their ends; edges of the same time stand by relation, then
    source, as in a joint list. Columns from `counts[i]` on keep what they hold.

    Args:
        first: first seed.
        last: the seed after the last.
        gids: int64[b] global ids.
        times: int64[b] moments, microseconds.
        exclude: int64[b] global id of a node no edge with which counts, -1 for none; or empty.
        window: microseconds before the moment that an edge may lie; 0 for any.
        offsets: of an `Adjacency`.
        slots: of it.
        lists: its `rows`.
        indptr: of it.
        edges: of it.
        wanted: bool[relations].
        nodes: int64[b, N], out: global id of the other node.
        relations: int64[b, N], out.
        ages: float32[b, N], out: log1p of hours before the moment.
        counts: int64[b], out.
    """
    most = nodes.shape[1]
    lows, ends = np.empty(slots.max(), dtype=np.int64), np.empty(slots.max(), dtype=np.int64)
    picked = np.empty(most, dtype=np.int64)
    for i in range(first, last):
        kind = np.searchsorted(offsets, gids[i], side="right") - 1
        width = slots[kind]
        base = lists[kind] + (gids[i] - offsets[kind]) * width
        for k in range(width):
            lows[k] = indptr[base + k]
            ends[k] = before(edges, indptr[base + k], indptr[base + k + 1], times[i])
        oldest = times[i] - window if window > 0 else _NEVER + 1  # undated edges are no activities
        partner = exclude[i] if exclude.size else np.int64(-1)
        count = 0
        while count < most:
            best = np.int64(-1)
            for k in range(width):
                while ends[k] > lows[k]:
                    code = edges[ends[k] - 1, 1]
                    if wanted[code >> 32] and (code & 0xFFFFFFFF) != partner:
                        break
                    ends[k] -= 1
                if ends[k] > lows[k]:
                    e = ends[k] - 1
                    if best < 0:
                        best = np.int64(k)
                    else:
                        rival = ends[best] - 1
                        if edges[e, 0] > edges[rival, 0] or (
                            edges[e, 0] == edges[rival, 0] and edges[e, 1] > edges[rival, 1]
                        ):
                            best = np.int64(k)
            if best < 0 or edges[ends[best] - 1, 0] < oldest:
                break
            ends[best] -= 1
            picked[count] = ends[best]
            count += 1
        counts[i] = count
        for j in range(count):
            e = picked[count - 1 - j]
            nodes[i, j] = edges[e, 1] & 0xFFFFFFFF
            relations[i, j] = edges[e, 1] >> 32
            ages[i, j] = np.log1p((times[i] - edges[e, 0]) / 3.6e9)


@kernel
def later(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    candidates: NDArray[np.int64],
    counts: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> None:
    """`targets[q]` = candidates of the activities after `columns[q]` of sequence `rows[q]`; the rest keeps its -1."""
    for q in range(len(rows)):
        end = min(columns[q] + 1 + targets.shape[1], counts[rows[q]])
        for j in range(columns[q] + 1, end):
            targets[q, j - columns[q] - 1] = candidates[rows[q], j]


def empty(seeds: int, most: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What `latest` fills: nodes -1, relations 0, ages 0, counts 0."""
    return (
        np.full((seeds, most), -1, dtype=np.int64),
        np.zeros((seeds, most), dtype=np.int64),
        np.zeros((seeds, most), dtype=np.float32),
        np.zeros(seeds, dtype=np.int64),
    )
