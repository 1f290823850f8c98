"""Vectors of nodes at a moment: every node for publishing, or chosen ones for judging."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.gnn import runtime
from star_platform.gnn.inductive import InductiveGraph, InductiveReader
from star_platform.gnn.inner_texts import as_read
from star_platform.gnn.layerwise import Layerwise
from star_platform.gnn.model_io import Model, encoder_of, load_model, space_fingerprint
from star_platform.gnn.trees import TreeReader, Trees
from star_platform.graph.derived import declared_edge_types
from star_platform.graph.storage import Graph
from star_platform.progress import SILENT, Progress, Task

BATCH = 4096
COPY_ROWS = 65_536
EMBED_STEP = 1 << 41
"""Sampling step of inference: one draw per node and moment, whoever asks."""
Part = tuple[slice, NDArray[np.float32]]
"""Vectors `[rows, dim]`, and the rows that they are."""


def embed(
    graph: Graph,
    model_dir: Path,
    out_dir: Path,
    progress: Progress = SILENT,
    *,
    at: int | None = None,
    work_dir: Path | None = None,
) -> dict[str, Any]:
    """Write `<node type>.npy`, float32 `[nodes, dim]`, row i for node i, of every node type.

    Every node is seen at moment `at` (microseconds; just after the graph's newest moment when None): with neighbours
    sampled at the training fan-out, or with `inference: layer-wise` with all of them. Equal inputs give equal bytes.
    `work_dir` is scratch that outlives a crash, where layer-wise inference goes on; without it, it starts again.

    Returns:
        `space` (fingerprint of the embedding space), `dim`, `dtype`, `at`, and per node type `count`, `coverage` (share
        of nodes with at least one neighbour at `at`) and the L2 `norm` of its vectors.

    Raises:
        TrainingError: M008, M009 as `load_model`.
    """
    runtime.keep_freed_memory()
    embedder = open_embedder(graph, model_dir)
    moment = graph.as_of + 1 if at is None else at
    config = embedder.model.config
    if config.inference == "layer-wise" and config.encoder != "ltgnn":
        with _scratch(work_dir, out_dir) as work:
            every = embedder.layerwise(moment, None, space_fingerprint(model_dir), work, progress)
            details = {
                node: _stored(out_dir, graph, node, moment, config.dim, _pieces(rows))
                for node, rows in embedder.by_type(every)
            }
            del every  # the file behind it goes with the folder
    else:
        total = sum(graph.num_nodes(node) for node in graph.node_types)
        with progress.task("embed", total=total, unit="nodes") as task:
            details = {
                node: _stored(out_dir, graph, node, moment, config.dim, embedder.everyone(node, moment, task))
                for node in graph.node_types
            }
    return {
        "space": space_fingerprint(model_dir),
        "dim": config.dim,
        "dtype": "float32",
        "at": moment,
        "nodes": details,
    }


def embed_some(
    graph: Graph,
    model: Model,
    identity: str,
    node: str,
    indices: NDArray[np.int64],
    moment: int,
    work_dir: Path,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """float32 `[n, dim]`: vectors of nodes `indices [n]` of one type at a moment, as `embed` would make them.

    `identity` is that of the model's space; `work_dir` scratch that layer-wise inference uses.
    """
    runtime.keep_freed_memory()
    embedder = Embedder(graph, model)
    if model.config.inference == "layer-wise":
        gids = embedder.reader.gids(node, indices)
        wanted = np.unique(gids)
        every = embedder.layerwise(moment, wanted, identity, work_dir, progress)
        return np.asarray(every[gids])
    out = np.empty((len(indices), model.config.dim), dtype=np.float32)
    with progress.task(f"embed {node}", total=len(indices), unit="nodes") as task:
        for rows, vectors in embedder.batches(node, indices, np.full(len(indices), moment, dtype=np.int64)):
            out[rows] = vectors
            task.advance(len(vectors))
    return out


def open_embedder(graph: Graph, model_dir: Path) -> Embedder:
    """The trained model in `model_dir` over its graph, of whatever encoder; raises TrainingError M008, M009."""
    if encoder_of(model_dir) == "ltgnn":
        from star_platform.gnn.ltgnn import hetero, serving

        return serving.LtgnnEmbedder(graph, hetero.load(model_dir, graph))
    return Embedder(as_read(graph, model_dir), load_model(model_dir, graph))


class Embedder:
    """A trained model over the graph that it was trained on, or over another one as `inductive` shows it."""

    def __init__(self, graph: Graph, model: Model) -> None:
        self.graph, self.model = graph, model
        self.device = runtime.device_of(model.config.device)
        # a copy, so that whoever scores with the decoders of `model` finds them where they are
        self.runner = model if self.device.type == "cpu" else copy.deepcopy(model).to(self.device)
        self.reader = TreeReader(graph, model.config, model.spec.inputs)
        if isinstance(graph, InductiveGraph):
            self.reader.inputs = InductiveReader(graph, model.config, model.spec.inputs)
            if self.reader.sequence is not None:
                self.reader.sequence.inputs = self.reader.inputs

    def batches(
        self, node: str, indices: NDArray[np.int64], times: NDArray[np.int64], size: int = BATCH
    ) -> Iterator[Part]:
        """Vectors of nodes `indices [n]` of one type, each at its own moment: slices of n and float32 `[rows, dim]`."""
        gids = self.reader.gids(node, indices)

        def make(rows: slice) -> tuple[slice, Trees]:
            return rows, self.reader.read(gids[rows], times[rows], EMBED_STEP)

        pieces = [slice(first, min(first + size, len(gids))) for first in range(0, len(gids), size)]
        with runtime.torch_threads(self.model.config.threads), torch.inference_mode():
            for rows, trees in runtime.ahead(make, pieces):
                yield rows, self.runner(runtime.moved(trees, self.device)).cpu().numpy()

    def everyone(self, node: str, moment: int, task: Task) -> Iterator[Part]:
        """`batches` of every node of one type at one moment."""
        count = self.graph.num_nodes(node)
        indices, times = np.arange(count, dtype=np.int64), np.full(count, moment, dtype=np.int64)
        for rows, vectors in self.batches(node, indices, times):
            yield rows, vectors
            task.advance(len(vectors))

    def layerwise(
        self, moment: int, gids: NDArray[np.int64] | None, identity: str, work: Path, progress: Progress = SILENT
    ) -> NDArray[np.float32]:
        """float32 `[all nodes, dim]` by global id, mapped from `work`: the vectors of `gids` (ascending), or of all."""
        nodes = np.arange(self.reader.adjacency.num_nodes, dtype=np.int64) if gids is None else gids
        with runtime.torch_threads(self.model.config.threads), torch.inference_mode():
            work_on = Layerwise(self.runner, self.reader, moment, work)
            return work_on.run(nodes, f"{identity}:{self.graph.content_hash}", progress)

    def by_type(self, rows: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The rows of each node type, of rows by global id."""
        found = self.reader.adjacency
        for node, first, last in zip(found.node_types, found.offsets[:-1], found.offsets[1:], strict=True):
            yield node, rows[first:last]

    def vectors(self, node: str, indices: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 `[n, dim]`; each distinct (node, moment) is computed once."""
        keys = np.stack([indices, times], axis=1)
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        out = np.empty((len(distinct), self.model.config.dim), dtype=np.float32)
        for rows, part in self.batches(node, distinct[:, 0].copy(), distinct[:, 1].copy()):
            out[rows] = part
        return out[inverse.reshape(-1)]


@contextmanager
def _scratch(work_dir: Path | None, out_dir: Path) -> Iterator[Path]:
    """`work_dir`; without one a folder in `out_dir` that is gone afterwards."""
    if work_dir is not None:
        yield work_dir
        return
    with TemporaryDirectory(prefix=".layers-", dir=out_dir) as folder:
        yield Path(folder)


def _stored(out_dir: Path, graph: Graph, node: str, moment: int, dim: int, parts: Iterable[Part]) -> dict[str, Any]:
    """Write the vectors of one node type; what is said of them."""
    count = graph.num_nodes(node)
    out = np.lib.format.open_memmap(out_dir / f"{node}.npy", mode="w+", dtype=np.float32, shape=(count, dim))
    for rows, vectors in parts:
        out[rows] = vectors
    out.flush()
    covered = float(_covered(graph, node, moment).mean()) if count else 0.0
    return {"count": count, "coverage": covered, "norm": _norms(out)}


def _pieces(vectors: NDArray[np.float32]) -> Iterator[Part]:
    """All rows, some at a time."""
    for first in range(0, len(vectors), COPY_ROWS):
        yield slice(first, first + COPY_ROWS), vectors[first : first + COPY_ROWS]


def _covered(graph: Graph, node: str, moment: int) -> NDArray[np.bool_]:
    """bool[n]: whether a node receives a declared edge that is undated or earlier than `moment`."""
    covered = np.zeros(graph.num_nodes(node), dtype=bool)
    for edge_type in declared_edge_types(graph):
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
