"""Sampled neighbourhoods as tensors: everything of a step that needs no weights, made on the prefetch thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import kernels
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, InputSpec, TypeInputs
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.sampling import Block, NeighbourSampler, Sample
from star_platform.graph.storage import Graph


@dataclass(frozen=True)
class BlockTensors:
    """The sampled edges from the m items of a hop to the n items of the hop before it, K slots each."""

    pair_sources: Tensor
    """int64[P]: item of each distinct (relation, source) pair, sorted by relation."""
    pair_slices: tuple[int, ...]
    """R + 1 bounds: the pairs of each relation."""
    index: Tensor
    """int64[n, K]: pair of each slot, P where there is no neighbour."""
    relations: Tensor
    """int64[n, K], 0 where there is no neighbour."""
    ages: Tensor
    """float32[n, K]: log1p of the hours between edge and item, 0 for undated edges."""
    weights: Tensor | None
    """float32[n, K]: log1p of the edge weight."""
    self_positions: Tensor
    """int64[n]: each item's own position among the m."""


@dataclass(frozen=True)
class Trees:
    """The neighbourhoods of a batch of seeds."""

    inputs: tuple[TypeInputs, ...]
    """By node type, for the items of the deepest hop."""
    blocks: tuple[BlockTensors, ...]
    """Seed side first."""
    slices: tuple[tuple[int, ...], ...]
    """By hop: bounds of the node types among the items."""
    seeds: Tensor
    """int64[b]: place of each seed among the items of hop 0."""


class TreeReader:
    """Samples seeds at moments and reads what the encoder needs about them."""

    def __init__(
        self, graph: Graph, config: TrainingConfig, specs: Mapping[str, Sequence[InputSpec]] | None = None
    ) -> None:
        self.adjacency = Adjacency.of(graph, config.budget)
        self.sampler = NeighbourSampler(self.adjacency, config.fan_outs, config.strategy, config.seed)
        self.inputs = InputReader(graph, config, specs)
        self._offsets = self.adjacency.offsets
        self._node_types = self.adjacency.node_types

    @property
    def weighted(self) -> bool:
        return self.adjacency.weights is not None

    def gids(self, node: str, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.adjacency.gids(node, indices)

    def read(self, gids: NDArray[np.int64], times: NDArray[np.int64], step: int) -> Trees:
        """Trees of seeds `gids [b]` at `times [b]`; `step` chooses the draw."""
        sample = self.sampler.sample(gids, times, step)
        inputs = []
        bounds = sample.type_slices[-1]
        for place, node in enumerate(self._node_types):
            here = slice(bounds[place], bounds[place + 1])
            nodes = sample.nodes[here].astype(np.int64) - self._offsets[place]
            inputs.append(self.inputs.read(node, nodes, sample.times[here]))
        return Trees(
            inputs=tuple(inputs),
            blocks=tuple(self._block(sample, hop) for hop in range(len(sample.blocks))),
            slices=tuple(tuple(int(bound) for bound in hop) for hop in sample.type_slices),
            seeds=torch.from_numpy(sample.seed_positions.astype(np.int64)),
        )

    def _block(self, sample: Sample, hop: int) -> BlockTensors:
        block = _trimmed(sample.blocks[hop])
        sources, slices, index = kernels.unique_pairs(
            block.neighbours, block.relations, len(self.adjacency.relation_names), sample.sizes[hop + 1]
        )
        ages = np.log1p(np.maximum(block.ages, 0) / 3.6e9).astype(np.float32)
        weights = block.weights if self.weighted else None
        return BlockTensors(
            pair_sources=torch.from_numpy(sources),
            pair_slices=tuple(int(bound) for bound in slices),
            index=torch.from_numpy(index),
            relations=torch.from_numpy(np.maximum(block.relations, 0).astype(np.int64)),
            ages=torch.from_numpy(ages),
            weights=None if weights is None else torch.from_numpy(np.log1p(np.maximum(weights, 0)).astype(np.float32)),
            self_positions=torch.from_numpy(sample.self_positions[hop].astype(np.int64)),
        )


def _trimmed(block: Block) -> Block:
    """Without the columns on the right that no item fills."""
    filled = (block.neighbours >= 0).any(axis=0)
    width = int(np.flatnonzero(filled)[-1]) + 1 if filled.any() else 1
    return Block(
        neighbours=block.neighbours[:, :width],
        relations=block.relations[:, :width],
        ages=block.ages[:, :width],
        weights=None if block.weights is None else block.weights[:, :width],
    )
