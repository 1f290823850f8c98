"""Loops over the complete neighbourhoods of a range of nodes at one moment, compiled; none holds the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel


@kernel
def _first_from(edges: Any, begin: Any, end: Any, time: Any) -> Any:
    """The first edge in `[begin, end)` that is not earlier than `time`."""
    low, high = begin, end
    while low < high:
        middle = (low + high) >> 1
        if edges[middle, 0] < time:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _valid(edges: Any, begin: Any, end: Any, since: Any, moment: Any, newest_only: Any, wanted: Any) -> Any:
    """The valid edges of a list sorted by time: `[begin, undated)` and `[first, last)`.

    Valid are undated edges and those with `since <= time < moment`; with `newest_only` of the dated ones only those
    that are as new as the newest. `wanted` bool[relations] says which lists of one relation count; all, if it is empty.
    """
    if wanted.size and begin < end and not wanted[edges[begin, 1] >> 32]:
        return begin, begin, begin
    always = np.iinfo(np.int64).min
    undated = _first_from(edges, begin, end, always + 1)
    first = _first_from(edges, undated, end, since)
    last = _first_from(edges, first, end, moment)
    if newest_only and last > first:
        first = _first_from(edges, first, last, edges[last - 1, 0])
    return undated, first, last


@kernel
def degrees(
    nodes: Any,
    offsets: Any,
    rows: Any,
    slots: Any,
    indptr: Any,
    edges: Any,
    since: Any,
    moment: Any,
    newest_only: Any,
    wanted: Any,
    out: Any,
) -> None:
    """Valid edges into each of `nodes`, global ids in ascending order, as int64 into `out`."""
    t = 0
    for i in range(nodes.size):
        while nodes[i] >= offsets[t + 1]:
            t += 1
        first_list = rows[t] + (nodes[i] - offsets[t]) * slots[t]
        total = 0
        for each in range(first_list, first_list + slots[t]):
            begin, end = indptr[each], indptr[each + 1]
            undated, first, last = _valid(edges, begin, end, since, moment, newest_only, wanted)
            total += undated - begin + last - first
        out[i] = total


@kernel
def gather(
    nodes: Any,
    offsets: Any,
    rows: Any,
    slots: Any,
    indptr: Any,
    edges: Any,
    since: Any,
    moment: Any,
    newest_only: Any,
    wanted: Any,
    own_weights: Any,
    sources: Any,
    relations: Any,
    ages: Any,
    weights: Any,
) -> None:
    """Every valid edge into `nodes`, list after list. Ages are in microseconds, -1 for undated edges."""
    always = np.iinfo(np.int64).min
    t, at = 0, 0
    for i in range(nodes.size):
        node = nodes[i]
        while node >= offsets[t + 1]:
            t += 1
        first_list = rows[t] + (node - offsets[t]) * slots[t]
        for each in range(first_list, first_list + slots[t]):
            begin, end = indptr[each], indptr[each + 1]
            undated, first, last = _valid(edges, begin, end, since, moment, newest_only, wanted)
            for part in range(2):
                low, high = (begin, undated) if part == 0 else (first, last)
                for e in range(low, high):
                    sources[at] = edges[e, 1] & 0xFFFFFFFF
                    relations[at] = edges[e, 1] >> 32
                    ages[at] = -1 if edges[e, 0] == always else moment - edges[e, 0]
                    if own_weights.size:
                        weights[at] = own_weights[e]
                    at += 1


@kernel
def mark_sources(
    nodes: Any,
    offsets: Any,
    rows: Any,
    slots: Any,
    indptr: Any,
    edges: Any,
    since: Any,
    moment: Any,
    newest_only: Any,
    wanted: Any,
    marks: Any,
) -> None:
    """Set `marks` (bool of all nodes) at `nodes` and at the source of every valid edge into them."""
    t = 0
    for i in range(nodes.size):
        node = nodes[i]
        while node >= offsets[t + 1]:
            t += 1
        marks[node] = True
        first_list = rows[t] + (node - offsets[t]) * slots[t]
        for each in range(first_list, first_list + slots[t]):
            begin, end = indptr[each], indptr[each + 1]
            undated, first, last = _valid(edges, begin, end, since, moment, newest_only, wanted)
            for e in range(begin, undated):
                marks[edges[e, 1] & 0xFFFFFFFF] = True
            for e in range(first, last):
                marks[edges[e, 1] & 0xFFFFFFFF] = True
