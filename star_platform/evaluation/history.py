"""What was there strictly before a moment: counts of edges, point in time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.graph.derived import declared_edge_types
from star_platform.graph.kernels import kernel
from star_platform.graph.storage import EdgeArrays, EdgeType, Graph

Int64Array = NDArray[np.int64]


def edges_before(edges: EdgeArrays, destinations: Int64Array, times: Int64Array) -> Int64Array:
    """int64[n]: edges into each destination strictly before its moment; all of them for an undated edge type."""
    out = np.empty(len(destinations), dtype=np.int64)
    times_of = np.empty(0, dtype=np.int64) if edges.timestamps is None else edges.timestamps
    _count(edges.indptr, times_of, np.asarray(destinations), np.asarray(times), out)
    return out


def interactions_before(graph: Graph, node: str, nodes: Int64Array, times: Int64Array) -> Int64Array:
    """int64[n]: interactions of every type that each node received strictly before its moment.

    Attribute edges say what a node is, dated or not, so they do not make it less new.
    """
    total = np.zeros(len(nodes), dtype=np.int64)
    for edge_type in graph.edge_types:
        if edge_type.dst == node and graph.edge_kind(edge_type) == "interaction":
            total += edges_before(graph.edges(edge_type), nodes, times)
    return total


def first_meetings(graph: Graph, edge: EdgeType, only: Iterable[str] | None = None) -> tuple[Int64Array, Int64Array]:
    """Pairs that any edge type joins, in either direction, and when first.

    Args:
        graph: the compiled graph.
        edge: gives the two node types.
        only: names of the edge types that count; None: all.

    Returns:
        Distinct keys `src * nodes(dst) + dst` ascending, and the time of the earliest edge (INT64_MIN: undated).
    """
    wanted = None if only is None else set(only)
    keys, times = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    width = graph.num_nodes(edge.dst)
    declared = declared_edge_types(graph)  # a derived edge is no meeting
    mirrors = {edge_type.reversed for edge_type in declared}
    for edge_type in declared:
        if edge_type in mirrors or (wanted is not None and edge_type.relation not in wanted):
            continue
        if graph.edge_kind(edge_type) not in ("interaction", "attribute"):
            continue  # computed from the others: who is near has not met
        if {edge_type.src, edge_type.dst} != {edge.src, edge.dst}:
            continue
        arrays = graph.edges(edge_type)
        ends = np.asarray(arrays.indices, dtype=np.int64), arrays.destinations().astype(np.int64)
        when = arrays.timestamps if arrays.timestamps is not None else np.full(len(ends[0]), np.iinfo(np.int64).min)
        if (edge_type.src, edge_type.dst) == (edge.src, edge.dst):
            keys.append(ends[0] * width + ends[1])
            times.append(np.asarray(when))
        if (edge_type.dst, edge_type.src) == (edge.src, edge.dst):
            keys.append(ends[1] * width + ends[0])
            times.append(np.asarray(when))
    all_keys, all_times = np.concatenate(keys), np.concatenate(times)
    order = np.lexsort((all_times, all_keys))
    distinct, first = np.unique(all_keys[order], return_index=True)
    return distinct, all_times[order][first]


@kernel
def _count(indptr: Any, timestamps: Any, nodes: Any, times: Any, out: Any) -> None:
    for i in range(nodes.size):
        low, high = indptr[nodes[i]], indptr[nodes[i] + 1]
        begin = low
        if timestamps.size == 0:
            low = high
        while low < high:
            middle = (low + high) >> 1
            if timestamps[middle] < times[i]:
                low = middle + 1
            else:
                high = middle
        out[i] = low - begin
