"""Sampled neighbourhoods that never see the future.

A seed is a node at a moment. Its neighbourhood holds only edges strictly earlier than that moment (`<`: with `<=`, the
edge that a training example is made of would be its own evidence) and undated edges, and every node of the tree of a
seed is seen at the seed's moment. Nodes are relabelled once per hop, so that whatever is computed for a node at a
moment is computed once (the sampler of temporal graph networks, arXiv 2203.14883, with one tree per distinct moment).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from star_platform.graph.adjacency import Adjacency

Strategy = Literal["uniform", "latest"]
Layout = Literal["dense", "ragged"]


@dataclass(frozen=True)
class Block:
    """The sampled edges between the n items of one hop and the items of the next-deeper hop.

    Dense: every array is `[n, K]`, filled from the left, -1 where there is no neighbour; K is the fan-out (times the
    most relations that any node type receives, when the budget is per relation). Ragged: every array is `[e]` and the
    edges of item i are `indptr[i]:indptr[i+1]`.
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

    One object may be used by many threads at once; kernels hold no GIL and scratch memory is reused. What is drawn
    depends only on (seed, step, hop, node, moment), so the same step gives the same sample whatever the order of the
    seeds, the thread or the machine, and a run resumes at any step.
    """

    def __init__(
        self,
        adjacency: Adjacency,
        fan_outs: Sequence[int],
        strategy: Strategy = "uniform",
        seed: int = 0,
        layout: Layout = "dense",
    ) -> None:
        """`fan_outs`: neighbours per item, seed side first; per destination, or per relation as `adjacency.budget` says."""
        self.adjacency = adjacency
        self.fan_outs = tuple(int(k) for k in fan_outs)
        self.strategy: Strategy = strategy
        self.seed = seed
        self.layout: Layout = layout

    def sample(
        self, gids: NDArray[Any], times: NDArray[np.int64], step: int, exclude: NDArray[Any] | None = None
    ) -> Sample:
        """The neighbourhoods of nodes `gids [b]` seen at `times [b]` (microseconds).

        `exclude [b]`: a global id per seed (-1: none); the edges between it and the seed, in both directions, are
        hidden everywhere in the tree of that seed.
        """
        raise NotImplementedError
