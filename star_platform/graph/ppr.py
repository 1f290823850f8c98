"""Personalised PageRank of every node, by forward push: the neighbours that short walks from it keep coming back to.

A walk starts at the seed, steps to a neighbour chosen at random with chance `1 - alpha`, and starts again with chance
`alpha`; the score of a node is the share of steps that end there. Forward push (Andersen, Chung, Lang: Local graph
partitioning using PageRank vectors, 2006; used so by PPRGo, arXiv 2007.01570) computes all scores above a threshold
while it looks at no more than `1 / (alpha * epsilon)` edges per seed, however large the graph is.

Scores hold what was known at one moment: edges strictly earlier, undated ones always, between nodes that existed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import GraphError
from star_platform.graph import _ppr_kernels as kernels
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.guard import did_you_mean
from star_platform.graph.storage import ALWAYS, EdgeArrays, EdgeType
from star_platform.progress import Task

CHUNK = 256
"""Seeds that a thread takes at a time."""


@dataclass(frozen=True)
class PprSpec:
    """How scores are computed; `gnn.config.PprConfig` says the same to users."""

    alpha: float = 0.5
    """Chance that a walk starts again, above 0 and below 1."""
    epsilon: float = 1e-4
    """Residual per neighbour below which nothing is pushed on."""
    top_k: int = 50
    """Neighbours kept per seed."""
    channels: tuple[tuple[str, ...], ...] = ()
    """Relations that walks may take, a list per channel (a reverse belongs to its forward); empty: one of all."""

    window: int | None = None
    """Walks take edges up to so many microseconds older than their moment; undated ones always. None: of any age."""

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0 or not 0.0 < self.epsilon < 1.0 or self.top_k < 1:
            raise ValueError(f"alpha and epsilon lie between 0 and 1 and top_k is at least 1, not {self}")


@dataclass(frozen=True)
class WalkGraph:
    """The edges of one moment, by global id of the node that a walker leaves: repeated edges count repeatedly."""

    indptr: NDArray[np.int64]
    """`[nodes + 1]`."""
    neighbours: NDArray[np.int32]

    @property
    def num_nodes(self) -> int:
        return len(self.indptr) - 1


@dataclass(frozen=True)
class Neighbours:
    """The k best-scored nodes of each of n seeds, best first."""

    nodes: NDArray[np.int32]
    """`[n, k]`, global ids; -1 where a seed has fewer."""
    scores: NDArray[np.float32]
    """`[n, k]`, falling along a row; 0 where there is no node."""
    self_scores: NDArray[np.float32]
    """`[n]`: of the seed itself, which is not among its neighbours."""


# --- edges to walk ----------------------------------------------------------------------------------------------------


def channel_edges(edge_types: Sequence[EdgeType], channel: Iterable[str] | None) -> list[EdgeType]:
    """Declared directions of the relations of a channel, sorted; None: all of them.

    Raises:
        GraphError: G065 for a relation that is not there.
    """
    reverses = {name.reversed for name in edge_types}
    forward = {name.relation: name for name in edge_types if name not in reverses}
    owner = {name.relation: name for name in forward.values()}
    owner |= {name.reversed.relation: name for name in forward.values()}
    if channel is None:
        return sorted(forward.values())
    chosen: set[EdgeType] = set()
    for relation in channel:
        if relation not in owner:
            suggestion = did_you_mean(relation, sorted(forward))
            raise GraphError("G065", f"a channel names the edge type {relation!r}, which is not there", hint=suggestion)
        chosen.add(owner[relation])
    return sorted(chosen)


def walkable(
    num_nodes: Mapping[str, int], edges: Mapping[EdgeType, EdgeArrays], channel: Sequence[EdgeType]
) -> Adjacency:
    """All edges of a channel in both directions, in lists by time; global ids as everywhere (`graph.adjacency`)."""
    found = []
    for name in channel:
        there = replace(edges[name], weights=None, labels={})
        back = edges.get(name.reversed)
        found += [
            there,
            transposed(there, num_nodes[name.src]) if back is None else replace(back, weights=None, labels={}),
        ]
    return Adjacency.from_edges(num_nodes, found)


def transposed(edges: EdgeArrays, num_src: int) -> EdgeArrays:
    """The same edges by their source: what a compiled reverse would be, without weights and labels."""
    times = edges.timestamps
    dst = edges.destinations()
    order = np.lexsort((dst, edges.indices) if times is None else (dst, times, edges.indices))
    indptr = np.zeros(num_src + 1, dtype=np.int64)
    np.cumsum(np.bincount(edges.indices, minlength=num_src), out=indptr[1:])
    return EdgeArrays(edges.type.reversed, indptr, dst[order], None if times is None else times[order], None, {})


class WalkEdges:
    """The edges of a channel over all time; `at` gives those of a moment."""

    def __init__(self, adjacency: Adjacency, born: NDArray[np.int64] | None = None) -> None:
        """`born [nodes]`: when each node came to be, microseconds; None: they were always there."""
        self._indptr = adjacency.indptr
        self._times = np.ascontiguousarray(adjacency.times)
        self._neighbours = adjacency.sources
        self._born = np.full(adjacency.num_nodes, ALWAYS, dtype=np.int64) if born is None else born

    def at(self, moment: int, window: int | None = None) -> WalkGraph:
        """Edges strictly earlier than `moment` and not before `moment - window`, between nodes that existed then."""
        since = np.int64(ALWAYS if window is None else moment - window)
        indptr = np.zeros(len(self._indptr), dtype=np.int64)
        neighbours = np.empty(len(self._neighbours), dtype=np.int32)
        used = kernels.at_moment(
            self._indptr, self._times, self._neighbours, self._born, since, np.int64(moment), indptr, neighbours
        )
        return WalkGraph(indptr, neighbours[:used])


# --- scores -----------------------------------------------------------------------------------------------------------


class _Scratch:
    """Memory of one thread: 28 bytes a node, cleared after each seed only where the seed reached."""

    def __init__(self, walk: WalkGraph, spec: PprSpec) -> None:
        n = walk.num_nodes
        self.state = np.empty((n, 2), dtype=np.float64)
        self.state[:, 0] = kernels.UNREACHED
        self.state[:, 1] = spec.alpha * spec.epsilon * np.maximum(np.diff(walk.indptr), 1)
        self.mass = np.zeros(n, dtype=np.float64)
        # residuals sum to at most alpha, and each that waits is at least alpha * epsilon
        self.queue = np.empty(min(n, int(1.0 / spec.epsilon)) + 16, dtype=np.int32)
        self.reached = np.empty(n, dtype=np.int32)
        self.pushed = np.empty(n, dtype=np.int32)
        self.best_scores = np.empty(spec.top_k, dtype=np.float64)
        self.best_nodes = np.empty(spec.top_k, dtype=np.int32)


def scores(walk: WalkGraph, seed: int, spec: PprSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores p and residuals r of one seed, float64 `[nodes]` each: `sum(p) + sum(r) / alpha = 1`."""
    own = _Scratch(walk, spec)
    kernels.push(
        walk.indptr,
        walk.neighbours,
        np.int32(seed),
        spec.alpha,
        own.state,
        own.mass,
        own.queue,
        own.reached,
        own.pushed,
    )
    return own.mass, np.maximum(own.state[:, 0], 0.0)


def top_neighbours(
    walk: WalkGraph, seeds: NDArray[np.int32], spec: PprSpec, threads: int | None = None, task: Task | None = None
) -> Neighbours:
    """The neighbours of each seed; the same whatever the number of threads (None: all cores)."""
    n = len(seeds)
    found = Neighbours(
        np.empty((n, spec.top_k), dtype=np.int32),
        np.empty((n, spec.top_k), dtype=np.float32),
        np.empty(n, dtype=np.float32),
    )
    seeds = np.ascontiguousarray(seeds, dtype=np.int32)
    spare: deque[_Scratch] = deque()

    def run(part: slice) -> int:
        try:
            own = spare.pop()
        except IndexError:
            own = _Scratch(walk, spec)
        kernels.push_all(
            walk.indptr,
            walk.neighbours,
            seeds[part],
            spec.alpha,
            own.state,
            own.mass,
            own.queue,
            own.reached,
            own.pushed,
            own.best_scores,
            own.best_nodes,
            found.nodes[part],
            found.scores[part],
            found.self_scores[part],
        )
        spare.append(own)
        return len(seeds[part])

    parts = [slice(first, first + CHUNK) for first in range(0, n, CHUNK)]
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        for done in pool.map(run, parts):
            if task is not None:
                task.advance(done)
    return found
