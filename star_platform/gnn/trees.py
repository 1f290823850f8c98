"""Sampled neighbourhoods as tensors: everything of a step that needs no weights, made on the prefetch thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import _attention_kernels as kernels
from star_platform.gnn.clock import Clock
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, InputSpec, TypeInputs
from star_platform.gnn.sequence import SequenceReader, SequenceTensors
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.derived import ppr_edges
from star_platform.graph.sampling import Block, FanOut, NeighbourSampler, Sample, Strategy
from star_platform.graph.storage import EdgeType, Graph


@dataclass(frozen=True)
class BlockTensors:
    """The sampled edges from the m items of a hop to the n items of the hop before it, in CSR form."""

    indptr: Tensor
    """int64[n + 1]."""
    neighbours: Tensor
    """int32[e]: item of the deeper hop."""
    relations: Tensor
    """int16[e]."""
    ages: Tensor
    """float32[e]: log1p of the hours between edge and item, 0 for undated edges and where the encoder sees no ages."""
    weights: Tensor | None
    """float32[e]: log1p of the edge weight."""
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
    sequence: SequenceTensors | None = None
    """The latest activities of each seed, for the temporal encoder."""

    @property
    def edges(self) -> tuple[int, ...]:
        """Sampled edges of each hop."""
        return tuple(len(block.neighbours) for block in self.blocks)


class TreeReader:
    """Samples seeds at moments and reads what the encoder needs about them."""

    def __init__(
        self,
        graph: Graph,
        config: TrainingConfig,
        specs: Mapping[str, Sequence[InputSpec]] | None = None,
        labels: Collection[str] = (),
        *,
        inner_text: bool = False,
    ) -> None:
        """`specs` of a trained model; where there are none, features named in `labels` (`node.name`) are left out.

        `inner_text`: see `InputReader`.
        """
        by_rank = config.strategy == "ppr"
        self.adjacency = ppr_edges(graph, config.budget) if by_rank else Adjacency.of(graph, config.budget)
        self._strategy: Strategy = "latest" if config.strategy == "ppr" else config.strategy
        self._config = config
        self.clock = Clock()
        self._target = config.target_in_attention
        self._ages = config.age_encoding and config.encoder != "mean"
        self.sampler = self._sampler(config.fan_outs)
        self.inputs = InputReader(graph, config, specs, inner_text=inner_text)
        if specs is None and labels:
            self.inputs.specs = {
                node: tuple(spec for spec in found if f"{node}.{spec.name}" not in labels)
                for node, found in self.inputs.specs.items()
            }
        self.sequence = SequenceReader(graph, self.inputs, config) if config.sequence.activities else None
        self._offsets = self.adjacency.offsets
        self._node_types = self.adjacency.node_types

    def _sampler(self, fan_outs: Sequence[FanOut]) -> NeighbourSampler:
        config = self._config
        window = None if config.strategy == "ppr" else config.window_us  # walks have respected it, snapshots are older
        return NeighbourSampler(self.adjacency, fan_outs, self._strategy, config.seed, "ragged", window)

    def set_fan_outs(self, fan_outs: Sequence[FanOut]) -> None:
        """Draw as many neighbours from now on; not while another thread reads."""
        self.sampler = self._sampler(fan_outs)

    @property
    def weighted(self) -> bool:
        return self.adjacency.weights is not None

    @property
    def activities(self) -> int:
        """Relations by which activities are numbered."""
        return 0 if self.sequence is None else len(self.sequence.adjacency.relation_names)

    @property
    def relations(self) -> tuple[EdgeType, ...]:
        """Names of the relations that blocks number."""
        return self.adjacency.relation_names

    def gids(self, node: str, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.adjacency.gids(node, indices)

    def read(
        self,
        gids: NDArray[np.int64],
        times: NDArray[np.int64],
        step: int,
        exclude: NDArray[np.int64] | None = None,
    ) -> Trees:
        """Trees of seeds `gids [b]` at `times [b]`; `step` chooses the draw.

        Between each seed and its partner `exclude [b]` (a global id, -1: none) no edge is seen, either way.
        """
        with self.clock.measured("sample"):
            sample = self.sampler.sample(gids, times, step, exclude)
            blocks = tuple(self.block(block, sample.self_positions[hop]) for hop, block in enumerate(sample.blocks))
        with self.clock.measured("gather"):
            inputs = self._inputs(sample)
            sequence = None if self.sequence is None else self.sequence.read(gids, times, step, exclude)
        return Trees(
            inputs=inputs,
            blocks=blocks,
            slices=tuple(tuple(int(bound) for bound in hop) for hop in sample.type_slices),
            seeds=torch.from_numpy(sample.seed_positions.astype(np.int64)),
            sequence=sequence,
        )

    def _inputs(self, sample: Sample) -> tuple[TypeInputs, ...]:
        inputs = []
        bounds = sample.type_slices[-1]
        for place, node in enumerate(self._node_types):
            here = slice(bounds[place], bounds[place + 1])
            nodes = sample.nodes[here].astype(np.int64) - self._offsets[place]
            inputs.append(self.inputs.read(node, nodes, sample.times[here]))
        return tuple(inputs)

    def block(self, block: Block, self_positions: NDArray[np.int32]) -> BlockTensors:
        """A sampled hop as tensors; with `target_in_attention` every item is its own neighbour too."""
        assert block.indptr is not None  # noqa: S101 - of a ragged sample
        weights = block.weights if self.weighted and block.weights is not None else np.empty(0, dtype=np.float32)
        ages = block.ages if self._ages else block.ages[:0]
        arrays = (block.indptr, block.neighbours, block.relations, ages, weights)
        own = self_positions if self._target else self_positions[:0]
        indptr, neighbours, relations, ages, logs = kernels.edge_terms(*arrays, own, len(self.relations))
        return BlockTensors(
            indptr=torch.from_numpy(indptr),
            neighbours=torch.from_numpy(neighbours),
            relations=torch.from_numpy(relations),
            ages=torch.from_numpy(ages),
            weights=torch.from_numpy(logs) if self.weighted else None,
            self_positions=torch.from_numpy(self_positions.astype(np.int64)),
        )
