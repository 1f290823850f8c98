"""Vectors of an LTGNN model: every node at a moment, seen by the latest snapshot that is not after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.gnn import runtime
from star_platform.gnn.inference import BATCH, Embedder, Part
from star_platform.gnn.ltgnn.hetero import LtgnnModel, reader_of
from star_platform.gnn.ltgnn.windows import snapshot_of
from star_platform.graph.storage import Graph


class LtgnnEmbedder(Embedder):
    """`Embedder` for `encoder: ltgnn`.

    A moment is served from one of at most 16 snapshots, never from one after it: propagation over the whole graph costs
    as much for one node as for all, so that a graph per moment is out of reach. The snapshots of a model are fixed when
    it is trained: the start of validation and of test, the end, and moments spread between them are among them.
    """

    def __init__(self, graph: Graph, model: LtgnnModel) -> None:
        """Raises TrainingError M009 for a model of other edge types."""
        self.graph, self.model = graph, model
        self.device = runtime.device_of(model.config.device)
        model.field_encoder.to(self.device)  # decoders stay where those who score look for them
        self.reader = self._nodes = reader_of(graph, model)
        self.runner, self._field_encoder = model, model.field_encoder

    def batches(
        self, node: str, indices: NDArray[np.int64], times: NDArray[np.int64], size: int = BATCH
    ) -> Iterator[Part]:
        """Vectors of nodes `indices [n]` of one type, each at its own moment: slices of n and float32 `[rows, dim]`."""
        gids = self.reader.gids(node, indices)
        snapshots = snapshot_of(self._nodes.moments, times)
        found = np.empty((len(gids), self.model.config.dim), dtype=np.float32)
        with runtime.torch_threads(self.model.config.threads), torch.inference_mode():
            for snapshot in np.unique(snapshots):
                here = np.flatnonzero(snapshots == snapshot)
                found[here] = self._field_encoder.everyone(int(snapshot))[gids[here]]
        for first in range(0, len(gids), size):
            rows = slice(first, min(first + size, len(gids)))
            yield rows, found[rows]
