"""Complete neighbourhoods at one moment, as blocks: what sampling with a fan-out beyond every degree would give."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.gnn import _layerwise_kernels as kernels
from star_platform.graph.adjacency import UNDATED, Adjacency
from star_platform.graph.sampling import Block

CHUNK_NODES = 1 << 14
CHUNK_EDGES = 1 << 18
"""A chunk ends before it has more edges than this; a node with more of them is a chunk of its own."""


class Neighbourhoods:
    """Reads from an adjacency every edge that is undated or in `[moment - window, moment)`; one thread at a time.

    newest_only: of dated edges only the newest of each list. Scored neighbours are dated by the snapshot that they
    were computed at, and a node's neighbours are those of the newest snapshot.
    """

    def __init__(
        self, adjacency: Adjacency, moment: int, window: int | None = None, *, newest_only: bool = False
    ) -> None:
        self.adjacency = adjacency
        self._since = UNDATED + 1 if window is None else moment - window
        self._wanted = np.empty(0, dtype=np.bool_)
        self._moment, self._newest_only = moment, newest_only

    def of_relations(self, names: Collection[str]) -> Neighbourhoods:
        """The same by edges of some relations alone, of an adjacency with lists per relation."""
        found = copy.copy(self)
        found._wanted = np.array([name.relation in names for name in self.adjacency.relation_names], dtype=np.bool_)
        return found

    def degrees(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[n]: edges into each of `nodes` (global ids, ascending)."""
        out = np.empty(len(nodes), dtype=np.int64)
        kernels.degrees(*self._given(nodes, out))
        return out

    def with_sources(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """`nodes` (ascending) and everything with an edge into them, ascending."""
        marks = np.zeros(self.adjacency.num_nodes, dtype=np.bool_)
        kernels.mark_sources(*self._given(nodes, marks))
        return np.flatnonzero(marks)

    def chunks(self, nodes: NDArray[np.int64]) -> list[slice]:
        """`nodes` (ascending) cut into slices of at most `CHUNK_NODES` nodes and `CHUNK_EDGES` edges, or one node."""
        ends = np.cumsum(self.degrees(nodes))
        cuts, first, before = [], 0, 0
        while first < len(nodes):
            last = int(np.searchsorted(ends, before + CHUNK_EDGES, side="right"))
            last = max(first + 1, min(last, first + CHUNK_NODES, len(nodes)))
            cuts.append(slice(first, last))
            first, before = last, int(ends[last - 1])
        return cuts

    def block(self, nodes: NDArray[np.int64]) -> Block:
        """Every edge into `nodes` (global ids, ascending), ragged; `neighbours` are global ids."""
        adjacency, degrees = self.adjacency, self.degrees(nodes)
        indptr = np.zeros(len(nodes) + 1, dtype=np.int64)
        np.cumsum(degrees, out=indptr[1:])
        count = int(indptr[-1])
        weighted = adjacency.weights is not None
        own_weights = adjacency.weights if adjacency.weights is not None else np.empty(0, dtype=np.float32)
        sources, relations = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int16)
        ages, weights = np.empty(count, dtype=np.int64), np.empty(count if weighted else 0, dtype=np.float32)
        kernels.gather(*self._given(nodes, own_weights, sources, relations, ages, weights))
        return Block(sources, relations, ages, weights if weighted else None, indptr)

    @property
    def _valid(self) -> tuple[Any, ...]:
        return self._since, self._moment, self._newest_only, self._wanted

    def _given(self, nodes: NDArray[np.int64], *more: NDArray[Any]) -> tuple[Any, ...]:
        """What every kernel is called with, and `more` after it."""
        lists = self.adjacency.offsets, self.adjacency.rows, self.adjacency.slots, self.adjacency.indptr
        return nodes, *lists, self.adjacency.edges, *self._valid, *more
