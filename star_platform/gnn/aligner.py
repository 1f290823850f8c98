"""The alignment term of a training step: which nodes, which targets, and the matrices that are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from star_platform.gnn.alignment import Alignment, AlignTarget, check
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.trees import TreeReader, Trees
from star_platform.graph.storage import Graph

ALIGN_STEP = 3 << 40
"""Sampling step numbers from here on belong to alignment."""
SCALE_ROWS = 65_536
"""At most this many targets, evenly spaced, give the scale of a term."""


@dataclass(frozen=True)
class AlignBatch:
    """The nodes of one step, sorted by type."""

    trees: Trees
    targets: tuple[Tensor, ...]
    """By node type: float32 [n, d_old]."""


class Aligner(nn.Module):
    """The matrices B, learned, one per node type, and what they are learned from."""

    def __init__(self, alignment: Alignment, reader: TreeReader, config: TrainingConfig) -> None:
        """B starts as the identity, cut to its shape; torch's random state is left alone."""
        super().__init__()
        self.alignment = alignment
        self._reader, self._seed = reader, config.seed
        self.names = sorted(node for node, target in alignment.nodes.items() if len(target.rows))
        self._targets = [alignment.nodes[name] for name in self.names]
        self._share = max(1, alignment.batch // max(1, len(self.names)))
        self.maps = nn.ParameterList(torch.eye(config.dim, target.vectors.shape[1]) for target in self._targets)
        guard = alignment.mode == "multi"
        self._earlier = [
            [torch.from_numpy(np.array(map_, dtype=np.float32)) for map_ in target.earlier] if guard else []
            for target in self._targets
        ]
        self._scales = [_scales(*pair) for pair in zip(self._targets, self._earlier, strict=True)]

    @staticmethod
    def of(
        alignment: Alignment | None, graph: Graph, reader: TreeReader, validation_start: int, config: TrainingConfig
    ) -> Aligner | None:
        """None where nothing is to be aligned; raises TrainingError M011 for an alignment that cannot be."""
        if alignment is None or alignment.weight == 0:
            return None
        check(alignment, graph, validation_start)
        return Aligner(alignment, reader, config)

    def make(self, step: int) -> AlignBatch:
        """Draw, sample and read the nodes of a step; equal steps give equal batches. Runs on the prefetch thread."""
        rng = np.random.default_rng((self._seed, step, 2))
        drawn = [rng.integers(len(target.rows), size=self._share) for target in self._targets]
        parts = zip(self.names, self._targets, drawn, strict=True)
        gids = np.concatenate([self._reader.gids(name, target.rows[rows]) for name, target, rows in parts])
        times = np.full(len(gids), self.alignment.moment, dtype=np.int64)
        targets = (target.vectors[target.old_rows[rows]] for target, rows in zip(self._targets, drawn, strict=True))
        return AlignBatch(
            self._reader.read(gids, times, ALIGN_STEP + step),
            tuple(torch.from_numpy(np.asarray(found, dtype=np.float32)) for found in targets),
        )

    def loss(self, encoder: nn.Module, batch: AlignBatch) -> Tensor:
        """L of a batch, before its weight. Nodes are seen as they are published: without dropout."""
        training = encoder.training
        vectors = nn.functional.embedding(batch.trees.seeds, encoder.eval()(batch.trees))
        encoder.train(training)
        by_type = vectors.view(len(self.names), self._share, -1)
        parts = zip(by_type, batch.targets, self.maps, self._earlier, self._scales, strict=True)
        return torch.stack([alignment_loss(y - z @ b, earlier, scales) for z, y, b, earlier, scales in parts]).mean()

    def details(self) -> dict[str, Any]:
        """Facts for the manifest."""
        plan = self.alignment
        return {
            "release": plan.release,
            "space": plan.space,
            "mode": plan.mode,
            "weight": plan.weight,
            "moment": plan.moment,
            "nodes": {name: len(target.rows) for name, target in zip(self.names, self._targets, strict=True)},
        }


def alignment_loss(delta: Tensor, earlier: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """L of one node type from delta `[n, d_old]`, the frozen maps `[d_old, d_older]` and the scale of each term."""
    terms = [delta, *(delta @ map_ for map_ in earlier)]
    shares = [term.square().mean() / scale for term, scale in zip(terms, scales, strict=True)]
    return torch.stack(shares).mean()


def _scales(target: AlignTarget, earlier: Sequence[Tensor]) -> list[float]:
    """Mean square of the targets of each term; 1 where they are all 0."""
    chosen = np.unique(np.linspace(0, len(target.old_rows) - 1, SCALE_ROWS).astype(np.int64))
    vectors = torch.from_numpy(np.asarray(target.vectors[np.sort(target.old_rows[chosen])], dtype=np.float32)).double()
    squares = [float(part.square().mean()) for part in (vectors, *(vectors @ map_.double() for map_ in earlier))]
    return [square if square > 0 else 1.0 for square in squares]
