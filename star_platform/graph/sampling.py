"""Sampled neighbourhoods that never see the future.

A seed is a node at a moment. Its neighbourhood holds only edges strictly earlier than that moment (`<`: with `<=`, the
edge that a training example is made of would be its own evidence) and undated edges, and every node of the tree of a
seed is seen at the seed's moment. A look-back window also leaves out dated edges from before `moment - window`. Nodes
are relabelled once per hop, so that whatever is computed for a node at a moment is computed once (the sampler of
temporal graph networks, arXiv 2203.14883, with one tree per distinct moment).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import GraphError
from star_platform.graph import _sampling_kernels as kernels
from star_platform.graph._hops import (
    Contexts,
    Hop,
    Scratch,
    distinct_contexts,
    first_hop,
    next_hop_by_bitmap,
    next_hop_by_table,
)
from star_platform.graph.adjacency import UNDATED, Adjacency
from star_platform.signals.suggest import did_you_mean, known

Strategy = Literal["uniform", "latest", "weighted"]
_CODES = {"uniform": kernels.UNIFORM, "latest": kernels.LATEST, "weighted": kernels.WEIGHTED}
FanOut = int | Mapping[str, int]
"""Neighbours of an item at one hop; a mapping gives them by edge type (`EdgeType.relation`), 0 where left out."""
Layout = Literal["dense", "ragged"]


@dataclass(frozen=True)
class Block:
    """The sampled edges between the n items of one hop and the items of the next-deeper hop.

    Dense: every array is `[n, K]`, filled from the left, -1 where there is no neighbour; K is the fan-out (summed over
    the relations of the node type that receives most, when the budget is per relation). Ragged: every array is `[e]`
    and the edges of item i are `indptr[i]:indptr[i+1]`.
    """

    neighbours: NDArray[np.int32]
    """Position among the items of the next-deeper hop."""
    relations: NDArray[np.int16]
    """Index into `Adjacency.relation_names`."""
    ages: NDArray[np.int64]
    """The item's moment minus the edge's time, microseconds, always > 0; -1 for undated edges and padding."""
    weights: NDArray[np.float32] | None = None
    """Edge weights, 0 for padding; None where no edge type has weights."""
    indptr: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Sample:
    """The trees of a batch of seeds, relabelled per hop; hop 0 are the distinct seeds, hop L the deepest nodes.

    The items of every hop are sorted by node type, and those of hop h are contained in hop h + 1.
    """

    blocks: tuple[Block, ...]
    """`blocks[h]` joins hop h to hop h + 1; the seed side comes first."""
    nodes: NDArray[np.int32]
    """Global node id of each item of hop L, `[sizes[-1]]`."""
    times: NDArray[np.int64]
    """Moment at which each item of hop L is seen, microseconds."""
    sizes: tuple[int, ...]
    """Number of items of hop 0 ... L."""
    self_positions: tuple[NDArray[np.int32], ...]
    """`self_positions[h][i]` is the position of item i of hop h among the items of hop h + 1."""
    seed_positions: NDArray[np.int32]
    """Position of each given seed among the items of hop 0."""
    type_slices: tuple[NDArray[np.int64], ...]
    """Per hop, `[node types + 1]`: the items of node type t are `type_slices[h][t]:type_slices[h][t + 1]`."""


class NeighbourSampler:
    """Draws neighbourhoods without replacement; a node with no more than k valid neighbours keeps all of them.

    `uniform`: every subset of k is equally likely. `latest`: the last k in order of time, undated ones first of all.
    `weighted`: one after the other, with chances proportional to the weights of what is left; edges whose weight is
    not positive come last, when too few others are left, and are equally likely among themselves.

    One object may be used by many threads at once; kernels hold no GIL and scratch memory is reused. What is drawn
    depends only on (seed, step, hop, node, moment), so the same step gives the same sample whatever the order of the
    seeds, the thread or the machine, and a run resumes at any step.
    """

    def __init__(
        self,
        adjacency: Adjacency,
        fan_outs: Sequence[FanOut],
        strategy: Strategy = "uniform",
        seed: int = 0,
        layout: Layout = "dense",
        window: int | None = None,
    ) -> None:
        """`fan_outs`: neighbours per item, seed side first; of all relations or of each, as `adjacency.budget`.

        `window`: microseconds; only edges with `moment - window <= time < moment` are seen, and undated ones.

        Raises:
            ValueError: for a fan-out below 1 (below 0 in a mapping), or a window below 1.
            GraphError: G060 for an edge type in a fan-out that the graph does not have; G061 for weighted draws
                without weights; G062 for a fan-out by edge type on a joint adjacency.
        """
        if any(k < (0 if isinstance(hop, Mapping) else 1) for hop in fan_outs for k in _numbers(hop)):
            raise ValueError(f"fan-outs are at least 1, not {list(fan_outs)}")
        if window is not None and window < 1:
            raise ValueError(f"a window is at least a microsecond, not {window}")
        self.adjacency = adjacency
        self.fan_outs: tuple[FanOut, ...] = tuple(fan_outs)
        self.strategy: Strategy = strategy
        self.seed = seed
        self.layout: Layout = layout
        self.window = window
        self._limits = tuple(_limits(adjacency, hop) for hop in fan_outs)
        self._undated = np.empty(0, dtype=np.int32) if window is None else adjacency.undated
        self._cumulative = adjacency.cumulative if strategy == "weighted" else np.empty(0, dtype=np.float64)
        self._spare: deque[Scratch] = deque()
        types = {name: t for t, name in enumerate(adjacency.node_types)}
        self._source_types = np.array([types[name.src] for name in adjacency.relation_names], dtype=np.uint8)

    def sample(
        self,
        gids: NDArray[np.integer[Any]],
        times: NDArray[np.int64],
        step: int,
        exclude: NDArray[np.integer[Any]] | None = None,
    ) -> Sample:
        """The neighbourhoods of nodes `gids [b]` seen at `times [b]` (microseconds).

        `exclude [b]`: a global id per seed (-1: none). Edges between it and the seed, in both directions, are hidden
        everywhere in the tree of that seed, so an undated example cannot be its own evidence either.

        Raises:
            ValueError: when the arrays differ in length, or an id is not one of the graph's.
        """
        gids, times, partners = self._checked(gids, times, exclude)
        try:
            scratch = self._spare.pop()
        except IndexError:
            scratch = Scratch(self.adjacency)
        try:
            return self._sample(scratch, gids, times, step, partners)
        finally:
            self._spare.append(scratch)

    def _checked(
        self, gids: NDArray[Any], times: NDArray[Any], exclude: NDArray[Any] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32] | None]:
        gids, times = np.asarray(gids), np.asarray(times, dtype=np.int64)
        if gids.ndim != 1 or times.shape != gids.shape or (exclude is not None and exclude.shape != gids.shape):
            raise ValueError("gids, times and exclude are one-dimensional and equally long")
        if len(gids) and not (gids.min() >= 0 and gids.max() < self.adjacency.num_nodes):
            raise ValueError(f"seeds must lie in 0 ... {self.adjacency.num_nodes - 1}")
        partners = None if exclude is None else np.asarray(exclude).astype(np.int32)
        return gids.astype(np.int32), np.maximum(times, UNDATED + 1), partners

    def _sample(
        self,
        scratch: Scratch,
        gids: NDArray[np.int32],
        times: NDArray[np.int64],
        step: int,
        partners: NDArray[np.int32] | None,
    ) -> Sample:
        contexts = distinct_contexts(self.adjacency, gids, times, partners)
        shares = self.adjacency.shares_before(contexts.moments)
        hop, seed_positions = first_hop(self.adjacency, gids, contexts)
        blocks: list[Block] = []
        hops = [hop]
        self_positions: list[NDArray[np.int32]] = []
        for depth, limits in enumerate(self._limits):
            block, hop, here = self._expand(scratch, hop, contexts, shares, limits, _stream(self.seed, step, depth))
            blocks.append(block)
            hops.append(hop)
            self_positions.append(here)
        return Sample(
            blocks=tuple(blocks),
            nodes=hop.nodes,
            times=hop.moments(contexts),
            sizes=tuple(len(each.nodes) for each in hops),
            self_positions=tuple(self_positions),
            seed_positions=seed_positions,
            type_slices=tuple(each.slices for each in hops),
        )

    def _expand(
        self,
        scratch: Scratch,
        hop: Hop,
        contexts: Contexts,
        shares: NDArray[np.float64],
        limits: NDArray[np.int64],
        stream: np.uint64,
    ) -> tuple[Block, Hop, NDArray[np.int32]]:
        """One hop deeper: the edges, the next hop, and where the items of this hop are in it."""
        a = self.adjacency
        n = len(hop.nodes)
        most = int(limits.sum(axis=1).max(initial=0))
        tile = kernels.TILE * limits.shape[1]
        width = max(1, most) if self.layout == "dense" else 0
        lists = (a.slots, a.rows, a.offsets, limits, a.indptr)
        room = n * width if width else kernels.most_edges(hop.nodes, hop.slices, *lists)
        starts = np.zeros(0 if width else n + 1, dtype=np.int64)
        sources = np.empty(room, dtype=np.int32)
        relations = np.empty(room, dtype=np.int16)
        ages = np.empty(room, dtype=np.int64)
        weights = np.empty(0 if a.weights is None else room, dtype=np.float32)
        drawn = kernels.draw(
            hop.nodes,
            hop.contexts,
            hop.slices,
            contexts.moments,
            shares,
            np.int64(self.window or 0),
            contexts.pairs,
            *lists,
            self._undated,
            a.edges.reshape(-1),
            weights if a.weights is None else a.weights,
            self._cumulative,
            a.newest,
            _CODES[self.strategy],
            stream,
            width,
            scratch.array("ranges", 4 * tile, np.int64).reshape(4, tile),
            scratch.array("cuts", tile, np.int64),
            scratch.array("work", 3 * tile, np.uint64).reshape(3, tile),
            scratch.seen,
            scratch.visible,
            scratch.array("heap", int(limits.max(initial=0)), np.float64),
            scratch.array("picked", kernels.TILE * most, np.int64),
            scratch.array("ends", kernels.TILE, np.int64),
            starts,
            sources,
            relations,
            ages,
            weights,
        )
        if not width:
            sources, relations, ages, weights = (each[:drawn] for each in (sources, relations, ages, weights))
        if contexts.single and scratch.bitmap_pays(n + drawn):
            deeper, here = next_hop_by_bitmap(a, scratch, hop, sources)
        else:
            deeper, here = next_hop_by_table(
                a, scratch, hop, sources, relations, starts, width, drawn, self._source_types
            )
        shape = (n, width) if width else (drawn,)
        block = Block(
            neighbours=sources.reshape(shape),
            relations=relations.reshape(shape),
            ages=ages.reshape(shape),
            weights=None if a.weights is None else weights.reshape(shape),
            indptr=None if width else starts,
        )
        return block, deeper, here


def _numbers(hop: FanOut) -> Iterable[int]:
    return hop.values() if isinstance(hop, Mapping) else (hop,)


def _limits(adjacency: Adjacency, hop: FanOut) -> NDArray[np.int64]:
    """`[node types, most lists of a node]`: the fan-out of each list; lists that a type does not have get 0."""
    limits = np.zeros((len(adjacency.node_types), int(adjacency.slots.max(initial=1))), dtype=np.int64)
    if not isinstance(hop, Mapping):
        limits[np.arange(limits.shape[1]) < adjacency.slots[:, None]] = hop
        return limits
    names = {name.relation for name in adjacency.relation_names}
    for name in hop:
        if name not in names:
            hint = did_you_mean(name, names) or known("edge types", names)
            raise GraphError("G060", f"a fan-out is given for {name!r}, which is no edge type of the graph", hint=hint)
    if adjacency.budget != "per-relation":
        raise GraphError(
            "G062",
            "a fan-out by edge type needs a list of neighbours for each, and the budget is joint",
            hint="set `budget: per-relation`, or give one number",
        )
    for t, node in enumerate(adjacency.node_types):
        own = [hop.get(name.relation, 0) for name in adjacency.relation_names if name.dst == node]
        limits[t, : len(own)] = own
    return limits


def _stream(seed: int, step: int, depth: int) -> np.uint64:
    """Where the random numbers of one hop of one step begin."""
    name = f"{seed}/{step}/{depth}".encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little"))
