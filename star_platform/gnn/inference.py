"""Vectors of nodes at a moment: every node for publishing, or chosen ones for judging."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.gnn import runtime
from star_platform.gnn.model_io import Model, load_model, space_fingerprint
from star_platform.gnn.trees import TreeReader, Trees
from star_platform.graph.storage import Graph
from star_platform.progress import SILENT, Progress

BATCH = 4096
EMBED_STEP = 1 << 41
"""Sampling step of inference: one draw per node and moment, whoever asks."""


def embed(
    graph: Graph, model_dir: Path, out_dir: Path, progress: Progress = SILENT, *, at: int | None = None
) -> dict[str, Any]:
    """Write `<node type>.npy`, float32 `[nodes, dim]`, row i for node i, of every node type.

    Every node is seen at moment `at` (microseconds; just after the graph's newest moment when None) with neighbours
    sampled at the training fan-out. Equal inputs give equal bytes.

    Returns:
        `space` (fingerprint of the embedding space), `dim`, `dtype`, `at`, and per node type `count`, `coverage` (share
        of nodes with at least one neighbour at `at`) and the L2 `norm` of its vectors.

    Raises:
        TrainingError: M008, M009 as `load_model`.
    """
    runtime.keep_freed_memory()
    embedder = Embedder(graph, load_model(model_dir, graph))
    moment = graph.as_of + 1 if at is None else at
    config = embedder.model.config
    details: dict[str, Any] = {}
    total = sum(graph.num_nodes(node) for node in graph.node_types)
    with progress.task("embed", total=total, unit="nodes") as task:
        for node in graph.node_types:
            count = graph.num_nodes(node)
            out = np.lib.format.open_memmap(
                out_dir / f"{node}.npy", mode="w+", dtype=np.float32, shape=(count, config.dim)
            )
            indices, times = np.arange(count, dtype=np.int64), np.full(count, moment, dtype=np.int64)
            for rows, vectors in embedder.batches(node, indices, times):
                out[rows] = vectors
                task.advance(len(vectors))
            out.flush()
            details[node] = {
                "count": count,
                "coverage": float(_covered(graph, node, moment).mean()) if count else 0.0,
                "norm": _norms(out),
            }
    return {
        "space": space_fingerprint(model_dir),
        "dim": config.dim,
        "dtype": "float32",
        "at": moment,
        "nodes": details,
    }


class Embedder:
    """A trained model over a graph."""

    def __init__(self, graph: Graph, model: Model) -> None:
        self.graph, self.model = graph, model
        self.reader = TreeReader(graph, model.config, model.spec.inputs)

    def batches(
        self, node: str, indices: NDArray[np.int64], times: NDArray[np.int64], size: int = BATCH
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Vectors of nodes `indices [n]` of one type, each at its own moment: slices of n and float32 `[rows, dim]`."""
        gids = self.reader.gids(node, indices)

        def make(rows: slice) -> tuple[slice, Trees]:
            return rows, self.reader.read(gids[rows], times[rows], EMBED_STEP)

        pieces = [slice(first, min(first + size, len(gids))) for first in range(0, len(gids), size)]
        with runtime.torch_threads(self.model.config.threads), torch.inference_mode():
            for rows, trees in runtime.ahead(make, pieces):
                yield rows, self.model.encoder(trees)[trees.seeds].numpy()

    def vectors(self, node: str, indices: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 `[n, dim]`; each distinct (node, moment) is computed once."""
        keys = np.stack([indices, times], axis=1)
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        out = np.empty((len(distinct), self.model.config.dim), dtype=np.float32)
        for rows, part in self.batches(node, distinct[:, 0].copy(), distinct[:, 1].copy()):
            out[rows] = part
        return out[inverse.reshape(-1)]


def _covered(graph: Graph, node: str, moment: int) -> NDArray[np.bool_]:
    """bool[n]: whether a node receives an edge that is undated or earlier than `moment`."""
    covered = np.zeros(graph.num_nodes(node), dtype=bool)
    for edge_type in graph.edge_types:
        if edge_type.dst != node:
            continue
        edges = graph.edges(edge_type)
        some = edges.indptr[1:] > edges.indptr[:-1]
        if edges.timestamps is not None and len(edges.timestamps):
            first = np.asarray(edges.timestamps[np.minimum(edges.indptr[:-1], len(edges.timestamps) - 1)])
            some = some & (first < moment)
        covered |= some
    return covered


def _norms(vectors: NDArray[np.float32]) -> dict[str, float]:
    if not len(vectors):
        return {"mean": 0.0, "min": 0.0, "max": 0.0}
    norms = np.concatenate([np.linalg.norm(vectors[i : i + 65_536], axis=1) for i in range(0, len(vectors), 65_536)])
    return {"mean": float(norms.mean(dtype=np.float64)), "min": float(norms.min()), "max": float(norms.max())}
