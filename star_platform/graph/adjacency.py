"""All relations of a graph in one array of incoming edges, sorted by time: what the sampler reads.

Edge types lie apart on disk, so that each can be reused; drawing one budget of neighbours over all relations of a
destination, or bounding them all by a moment, wants them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from star_platform.graph.storage import EdgeArrays, EdgeType, Graph

Budget = Literal["joint", "per-relation"]
UNDATED: int = np.iinfo(np.int64).min
"""Time of an edge without one: earlier than every moment, so always valid."""


@dataclass(frozen=True)
class Adjacency:
    """Incoming edges of every node.

    A *global id* is `offsets[node type] + index`, node types sorted by name. `joint`: one list per node, sorted by time.
    `per-relation`: one list per (node, relation into its type), each sorted by time.
    """

    node_types: tuple[str, ...]
    offsets: NDArray[np.int64]
    """`[node types + 1]`; the last is the number of nodes."""
    relation_names: tuple[EdgeType, ...]
    budget: Budget
    slots: NDArray[np.int64]
    """Lists per node of each type: 1 for `joint`, else the relations into the type."""
    rows: NDArray[np.int64]
    """`[node types + 1]`: first list of each type; node v of type t has lists `rows[t] + (v - offsets[t]) * slots[t]` on."""
    indptr: NDArray[np.int64]
    """`[lists + 1]`."""
    edges: NDArray[np.int64]
    """`[edges, 2]`: time (`UNDATED` where there is none), and relation << 32 | global id of the source. One cache line."""
    weights: NDArray[np.float32] | None
    """`[edges]`, 1 for edge types without weights; None when no edge type has them."""
    newest: int
    """The latest time of any edge."""

    @classmethod
    def of(cls, graph: Graph, budget: Budget = "joint") -> Adjacency:
        """Built in memory, 16 bytes an edge (20 with weights)."""
        raise NotImplementedError

    @classmethod
    def from_edges(cls, num_nodes: dict[str, int], edges: Iterable[EdgeArrays], budget: Budget = "joint") -> Adjacency:
        """From node counts and edge types; the order in which edge types are given does not matter."""
        raise NotImplementedError

    @property
    def times(self) -> NDArray[np.int64]:
        return self.edges[:, 0]

    @property
    def sources(self) -> NDArray[np.int32]:
        """Global id of the source of each edge."""
        return (self.edges[:, 1] & 0xFFFFFFFF).astype(np.int32)

    @property
    def relations(self) -> NDArray[np.int16]:
        """Index into `relation_names` of each edge."""
        return (self.edges[:, 1] >> 32).astype(np.int16)

    @property
    def num_nodes(self) -> int:
        return int(self.offsets[-1])

    def gids(self, node_type: str, indices: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
        """Global ids of rows `indices` of a node type."""
        return np.asarray(indices, dtype=np.int64) + self.offsets[self.node_types.index(node_type)]
