"""Which nodes something has happened to since a moment: what a refresh of their vectors looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from star_platform.graph.storage import EdgeType, Graph, Int64Array

Mask = NDArray[np.bool_]


def changed_since(graph: Graph, node: str, moment: int, edge_types: Sequence[EdgeType] | None = None) -> Mask:
    """bool[n]: who received an edge, or a version of a feature, dated `moment` (microseconds) or later.

    Edges count in the direction in which vectors take them in: both, but for edge types without a reverse. What has no
    date tells nothing. `edge_types`: those that count; all when None.
    """
    changed = np.zeros(graph.num_nodes(node), dtype=bool)
    for edge_type in graph.edge_types if edge_types is None else edge_types:
        if edge_type.dst == node:
            edges = graph.edges(edge_type)
            changed |= _newest_from(edges.indptr, edges.timestamps, moment)
    for feature in graph.features(node):
        if feature.indptr is not None:
            changed |= _newest_from(feature.indptr, feature.valid_from, moment)
    return changed


def beside(graph: Graph, node: str, changed: dict[str, Mask], edge_types: Sequence[EdgeType] | None = None) -> Mask:
    """bool[n]: nodes of a type with an edge from a node that is in `changed` (bool[n] by node type)."""
    found = np.zeros(graph.num_nodes(node), dtype=bool)
    for edge_type in graph.edge_types if edge_types is None else edge_types:
        if edge_type.dst != node or not changed[edge_type.src].any():
            continue
        edges = graph.edges(edge_type)
        count = np.zeros(edges.num_edges + 1, dtype=np.int64)
        np.cumsum(changed[edge_type.src][edges.indices], out=count[1:])
        found |= count[edges.indptr[1:]] > count[edges.indptr[:-1]]
    return found


def _newest_from(indptr: Int64Array, times: Int64Array | None, moment: int) -> Mask:
    """Whose list, sorted by time, ends at `moment` or later."""
    some = np.asarray(indptr[1:] > indptr[:-1])
    if times is None or not len(times):
        return np.zeros(len(some), dtype=bool)
    last = np.asarray(times[np.maximum(indptr[1:] - 1, 0)])
    return some & (last >= moment)
