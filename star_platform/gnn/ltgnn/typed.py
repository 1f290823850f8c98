"""The typed edges of a graph as one propagation graph per moment.

Every edge leads both ways. An edge type and its reverse are one *group* with one learned weight, so that the adjacency
is symmetric. The node itself counts with weight 1, beside which the groups' weights are learned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_platform.gnn.ltgnn import _typed_kernels as kernels
from star_platform.gnn.ltgnn.matrix import Csr, Float32Array, Int64Array, Propagation
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.derived import declared_edge_types
from star_platform.graph.storage import EdgeArrays, EdgeType, Graph

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moment:
    """What a moment sees: every edge strictly before it, and undated ones."""

    starts: Int64Array
    """`[n + 1]`."""
    indices: NDArray[np.int32]
    """`[m]`: for each node its neighbours, and itself last."""
    groups: NDArray[np.int16]
    """`[m]`: -1 for the node itself."""
    raw: Float32Array
    """`[m]`: weight of the edge itself, before that of its group."""

    def weighted(self, strengths: Float64Array) -> tuple[Propagation, Float32Array]:
        """The normalised adjacency for these weights of the groups, and the groups' shares `[n, groups]` in degrees."""
        nodes = len(self.starts) - 1
        degree = np.empty(nodes, dtype=np.float64)
        shares = np.empty((nodes, len(strengths)), dtype=np.float32)
        kernels.degrees(self.starts, self.groups, self.raw, strengths, degree, shares)
        values = np.empty(len(self.indices), dtype=np.float32)
        kernels.normalise(self.starts, self.indices, self.groups, self.raw, strengths, degree, values)
        matrix = Csr(self.starts, self.indices, values)
        return Propagation(matrix, matrix), shares


class TypedEdges:
    """All edges that vectors are propagated over."""

    def __init__(self, num_nodes: Mapping[str, int], edges: Sequence[EdgeArrays]) -> None:
        """`edges` of one direction or of both: what lacks its reverse gets it."""
        names = {each.type for each in edges}
        groups = sorted({_group(each.type, names) for each in edges})
        lonely = [each for each in edges if not _mirrored(each.type, names)]
        self.adjacency = Adjacency.from_edges(num_nodes, [*edges, *(_reversed(each) for each in lonely)])
        names |= {each.type.reversed for each in lonely}
        self.groups: tuple[EdgeType, ...] = tuple(groups)
        self._group_of = np.array(
            [groups.index(_group(name, names)) for name in self.adjacency.relation_names], dtype=np.int16
        )

    @classmethod
    def of(cls, graph: Graph, supervised: Collection[EdgeType] = ()) -> TypedEdges:
        """The declared edges of a graph, but for undated ones that join the two node types of a supervised edge.

        An undated edge has no moment before which it was unknown: were one between the nodes of an example, the example
        would see it.
        """
        joined = [{edge.src, edge.dst} for edge in supervised]
        kept = []
        for name in declared_edge_types(graph):
            edges = graph.edges(name)
            if edges.timestamps is not None or {name.src, name.dst} not in joined:
                kept.append(edges)
        return cls({node: graph.num_nodes(node) for node in graph.node_types}, kept)

    def at(self, moment: int) -> Moment:
        """What `moment` (microseconds) sees; one pass over all edges."""
        found = self.adjacency
        starts = np.empty(found.num_nodes + 1, dtype=np.int64)
        kernels.count_before(found.indptr, found.edges, moment, starts)
        size = int(starts[-1])
        indices, groups, raw = np.empty(size, np.int32), np.empty(size, np.int16), np.empty(size, np.float32)
        weights = np.empty(0, np.float32) if found.weights is None else found.weights
        kernels.copy_before(found.indptr, found.edges, weights, self._group_of, starts, indices, groups, raw)
        return Moment(starts, indices, groups, raw)

    def walks(self, nodes: Int64Array, moment: int, steps: int, key: int) -> Int64Array:
        """Where random walks of `steps` from `nodes [b]` come by before a moment, int64 `[b, steps]`."""
        out = np.empty((len(nodes), steps), dtype=np.int64)
        kernels.walk(self.adjacency.indptr, self.adjacency.edges, nodes, moment, np.uint64(key), out)
        return out


def edge_groups(graph: Graph, supervised: Collection[EdgeType] = ()) -> tuple[EdgeType, ...]:
    """The groups of `TypedEdges.of`, without reading edges."""
    joined = [{edge.src, edge.dst} for edge in supervised]
    names = {
        name
        for name in declared_edge_types(graph)
        if graph.edges(name).timestamps is not None or {name.src, name.dst} not in joined
    }
    return tuple(sorted({_group(name, names) for name in names}))


def _mirrored(name: EdgeType, names: Collection[EdgeType]) -> bool:
    return name.reversed in names or any(other.reversed == name for other in names)


def _group(name: EdgeType, names: Collection[EdgeType]) -> EdgeType:
    """The declared direction."""
    return next((other for other in names if other.reversed == name), name)


def _reversed(edges: EdgeArrays) -> EdgeArrays:
    """The same edges from destination to source, sorted as a graph stores them."""
    src, dst = np.asarray(edges.indices), edges.destinations()
    times = edges.timestamps
    order = np.lexsort((dst, src) if times is None else (dst, times, src))
    num_src = int(src.max(initial=-1)) + 1
    counts = np.bincount(src, minlength=num_src)
    return EdgeArrays(
        type=edges.type.reversed,
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=dst[order].astype(np.int32),
        timestamps=None if times is None else np.asarray(times)[order],
        weights=None if edges.weights is None else np.asarray(edges.weights)[order],
        labels={},
    )
