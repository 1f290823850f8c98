"""All relations of a graph in one array of incoming edges, sorted by time: what the sampler reads.

Edge types lie apart on disk, so that each can be reused; drawing one budget of neighbours over all relations of a
destination, or bounding them all by a moment, wants them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from star_platform.errors import GraphError
from star_platform.graph import _adjacency_kernels as kernels

if TYPE_CHECKING:
    from star_platform.graph.storage import EdgeArrays, EdgeType, Graph

Budget = Literal["joint", "per-relation"]
UNDATED: int = int(np.iinfo(np.int64).min)
"""Time of an edge without one: earlier than every moment, so always valid."""
_SOME, _PARTS = 65_536, 1024
"""Edges whose times stand for all, and into how many parts they are split."""
_BUILT: WeakKeyDictionary[Graph, dict[Budget, Adjacency]] = WeakKeyDictionary()
"""Kept as long as the graph is: training, embedding and evaluation read the same edges."""


@dataclass(frozen=True)
class Adjacency:
    """Incoming edges of every node.

    A *global id* is `offsets[node type] + index`, node types sorted by name. `joint`: one list per node, sorted by
    time, ties by relation, then source. `per-relation`: one per (node, relation into its type), each sorted by time.
    """

    node_types: tuple[str, ...]
    offsets: NDArray[np.int64]
    """`[node types + 1]`; the last is the number of nodes."""
    relation_names: tuple[EdgeType, ...]
    """Sorted."""
    budget: Budget
    slots: NDArray[np.int64]
    """Lists per node of each type: 1 for `joint`, else the relations into the type."""
    rows: NDArray[np.int64]
    """`[node types + 1]`: node v of type t owns `slots[t]` lists, from `rows[t] + (v - offsets[t]) * slots[t]` on."""
    indptr: NDArray[np.int64]
    """`[lists + 1]`."""
    edges: NDArray[np.int64]
    """`[edges, 2]`: time (`UNDATED` where there is none), and relation << 32 | global id of the source.

    Together, so that an edge drawn at random costs one cache line."""
    weights: NDArray[np.float32] | None
    """`[edges]`, 1 for edge types without weights; None when no edge type has them."""
    newest: int
    """The latest time of any edge; `UNDATED` when none has one."""
    longest: int
    """Edges of the longest list."""
    mirrored: bool
    """Every edge type has its reverse, so one direction answers for both."""

    @classmethod
    def of(cls, graph: Graph, budget: Budget = "joint") -> Adjacency:
        """Built once per graph and budget, in memory: about a second per 30 M edges, 16 bytes an edge, 20 with weights.

        Raises:
            GraphError: G050 when ids do not fit: 2^31 nodes or more, or 2^15 edge types or more.
        """
        built = _BUILT.setdefault(graph, {})
        if budget not in built:
            counts = {name: graph.num_nodes(name) for name in graph.node_types}
            built[budget] = cls.from_edges(counts, (graph.edges(name) for name in graph.edge_types), budget)
        return built[budget]

    @classmethod
    def from_edges(
        cls, num_nodes: Mapping[str, int], edges: Iterable[EdgeArrays], budget: Budget = "joint"
    ) -> Adjacency:
        """From node counts by type and edge types, in any order."""
        given = sorted(edges, key=lambda each: each.type)
        node_types = tuple(sorted(num_nodes))
        offsets = np.zeros(len(node_types) + 1, dtype=np.int64)
        np.cumsum([num_nodes[name] for name in node_types], out=offsets[1:])
        _check_size(int(offsets[-1]), len(given))
        into = {name: [r for r, each in enumerate(given) if each.type.dst == name] for name in node_types}
        joint = budget == "joint"
        slots = np.array([1 if joint else len(into[name]) for name in node_types], dtype=np.int64)
        rows = np.zeros(len(node_types) + 1, dtype=np.int64)
        np.cumsum(np.diff(offsets) * slots, out=rows[1:])

        indptr = np.zeros(int(rows[-1]) + 1, dtype=np.int64)
        places = []
        for r, each in enumerate(given):
            t = node_types.index(each.type.dst)
            first = int(rows[t]) + (0 if joint else into[each.type.dst].index(r))
            places.append((first, int(slots[t])))
            indptr[1 + first : 1 + int(rows[t + 1]) : int(slots[t])] += np.diff(each.indptr)
        np.cumsum(indptr, out=indptr)

        array = np.empty((int(indptr[-1]), 2), dtype=np.int64)
        weighted = any(each.weights is not None for each in given)
        weights = np.empty(len(array) if weighted else 0, dtype=np.float32)
        fill = indptr[:-1].copy()
        for r, (each, (first, stride)) in enumerate(zip(given, places, strict=True)):
            source_offset = int(offsets[node_types.index(each.type.src)])
            times = np.empty(0, dtype=np.int64) if each.timestamps is None else each.timestamps
            own = np.empty(0, dtype=np.float32) if each.weights is None else each.weights
            kernels.place(each.indptr, each.indices, times, own, r, source_offset, first, stride, fill, array, weights)
        longest = int(np.diff(indptr).max(initial=0))
        if joint:
            kernels.sort_lists(indptr, array, weights, longest)
        names = tuple(each.type for each in given)
        return cls(
            node_types=node_types,
            offsets=offsets,
            relation_names=names,
            budget=budget,
            slots=slots,
            rows=rows,
            indptr=indptr,
            edges=array,
            weights=weights if weighted else None,
            newest=max((_newest(each) for each in given), default=UNDATED),
            longest=longest,
            mirrored=all(_has_mirror(name, names) for name in names),
        )

    @property
    def num_nodes(self) -> int:
        return int(self.offsets[-1])

    @property
    def times(self) -> NDArray[np.int64]:
        return self.edges[:, 0]

    @property
    def sources(self) -> NDArray[np.int32]:
        """Global id of the source of each edge (allocates)."""
        return (self.edges[:, 1] & 0xFFFFFFFF).astype(np.int32)

    @property
    def relations(self) -> NDArray[np.int16]:
        """Index into `relation_names` of each edge (allocates)."""
        return (self.edges[:, 1] >> 32).astype(np.int16)

    @cached_property
    def undated(self) -> NDArray[np.int32]:
        """`[lists]`: undated edges that each list begins with; kept once asked for, as windows do."""
        counts = np.empty(len(self.indptr) - 1, dtype=np.int32)
        kernels.leading(self.indptr, self.edges, counts)
        return counts

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """`[edges]`: sums of the positive weights along each list; kept once asked for, as weighted draws do.

        Raises:
            GraphError: G061 when no edge type has weights.
        """
        if self.weights is None:
            raise GraphError(
                "G061",
                "no edge type of the graph has weights to draw neighbours by",
                hint="declare `weight` on an edge, or choose another strategy than weighted",
            )
        sums = np.empty(len(self.edges), dtype=np.float64)
        kernels.prefix_sums(self.indptr, self.weights, sums)
        return sums

    @cached_property
    def timeline(self) -> NDArray[np.int64]:
        """Times that part the dated edges into about as many each, ascending; empty when no edge has one."""
        some = self.times[:: max(1, len(self.edges) // _SOME)]
        dated = np.sort(some[some > UNDATED])
        return dated[:: max(1, len(dated) // _PARTS)]

    def shares_before(self, moments: NDArray[np.int64]) -> NDArray[np.float64]:
        """About which share of all dated edges is before each moment, `[n]`."""
        found: NDArray[np.float64] = np.searchsorted(self.timeline, moments) / max(1, len(self.timeline))
        return found

    def gids(self, node_type: str, indices: ArrayLike) -> NDArray[np.int64]:
        """Global ids of rows `indices` of a node type."""
        gids: NDArray[np.int64] = np.asarray(indices, dtype=np.int64) + self.offsets[self.node_types.index(node_type)]
        return gids


def _newest(edges: EdgeArrays) -> int:
    return UNDATED if edges.timestamps is None else int(edges.timestamps.max(initial=UNDATED))


def _has_mirror(name: EdgeType, names: tuple[EdgeType, ...]) -> bool:
    return name.reversed in names or any(other.reversed == name for other in names)


def _check_size(nodes: int, relations: int) -> None:
    if nodes >= 2**31 or relations >= 2**15:
        raise GraphError(
            "G050",
            f"{nodes:,} nodes and {relations} edge types do not fit the sampler's 32-bit ids",
            hint="sample a graph of fewer than 2,147,483,648 nodes and 32,768 edge types",
        )
