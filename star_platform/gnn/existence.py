"""Since when nodes exist: what has been created, or met, before a moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from star_platform.gnn import _negative_kernels as kernels
from star_platform.graph.storage import ALWAYS, EdgeArrays, EdgeType, Graph

Int64Array = NDArray[np.int64]
NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Existence:
    """Since when the nodes of a type exist, int64[n] microseconds: a node exists at moment t when `since <= t`."""

    since: Int64Array
    declared: bool
    """Whether a `created_at` was declared; otherwise nodes exist once they have been seen."""

    @classmethod
    def of(cls, graph: Graph, node: str, *, before: bool = True) -> Existence:
        """By `created_at`; where it is not declared, by the first dated edge of each node, whatever its type.

        A node without any dated edge was always there. `before`: undeclared nodes exist at moments strictly after
        their first edge, so that every node that exists has some history; else from that edge on.
        """
        created = graph.created_at(node)
        if created is not None:
            return cls(np.asarray(created), declared=True)
        first = np.full(graph.num_nodes(node), NEVER, dtype=np.int64)
        for edge_type in graph.edge_types:
            if node in (edge_type.src, edge_type.dst) and graph.edge_kind(edge_type) in ("interaction", "attribute"):
                _see(graph, edge_type, node, first)
        return cls(np.where(first == NEVER, ALWAYS, first + before), declared=False)

    @cached_property
    def order(self) -> Int64Array:
        """Nodes by when they came to exist."""
        return np.argsort(self.since, kind="stable").astype(np.int64)

    @cached_property
    def _ascending(self) -> Int64Array:
        return self.since[self.order]

    def count(self, moments: Int64Array) -> Int64Array:
        """How many nodes exist at each moment."""
        return np.searchsorted(self._ascending, moments, side="right").astype(np.int64)

    def holds(self, nodes: Int64Array, moments: Int64Array) -> NDArray[np.bool_]:
        """Which of the nodes exist, each at its moment."""
        found: NDArray[np.bool_] = self.since[nodes] <= moments
        return found

    def draw(self, moments: Int64Array, rng: np.random.Generator) -> tuple[Int64Array, NDArray[np.bool_]]:
        """A node for each moment, evenly among those that exist then; False where there is none."""
        existing = self.count(moments)
        return self.order[(rng.random(len(moments)) * existing).astype(np.int64)], existing > 0


def _see(graph: Graph, edge_type: EdgeType, node: str, first: Int64Array) -> None:
    """Move `first` back to the earliest edge of this type at each node of type `node`."""
    edges = graph.edges(edge_type)
    if edges.timestamps is None or not edges.num_edges:
        return
    if edge_type.dst == node:  # the earliest edge of a node is the first of its list
        some = np.flatnonzero(np.diff(edges.indptr))
        first[some] = np.minimum(first[some], edges.timestamps[edges.indptr[some]])
    if edge_type.src == node:
        kernels.first_times(edges.indices, edges.timestamps, first)


def first_meetings(edges: EdgeArrays, existence: Existence, last: int) -> Int64Array:
    """Keys `src * nodes(dst) + dst` of edges up to moment `last` whose destination did not exist yet.

    They are no examples where nodes exist once they have been met, but their pairs are known all the same.
    """
    if existence.declared or edges.timestamps is None:
        return np.empty(0, dtype=np.int64)
    dst = edges.destinations()
    first = np.flatnonzero((edges.timestamps < existence.since[dst]) & (edges.timestamps <= last))
    keys: Int64Array = edges.indices[first].astype(np.int64) * len(existence.since) + dst[first]
    return keys
