"""What a release must beat, as scores of the same pairs and rankings of the same candidates.

Every method sees exactly the same: edges, features and texts strictly before the moment of the example, and before the
moment of the candidates when it ranks. Popularity and text know no training; `no-graph` is the release's own encoder
and training, on node features alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from star_platform.evaluation.config import Baseline
from star_platform.evaluation.history import edges_before
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.mlp_init import features_only
from star_platform.gnn.scoring import FrozenScorer, Scorer
from star_platform.gnn.trainer import train
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.sampling import NeighbourSampler
from star_platform.graph.storage import EdgeArrays, EdgeType, FeatureArray, Graph
from star_platform.progress import SILENT, Progress
from star_platform.signals.model import Objective

Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
PIECE = 1024
"""Nodes whose neighbours' texts are in memory at once."""
PER_RELATION = 50
"""Neighbours of each relation whose texts make up a profile, the latest ones."""


class Method(Protocol):
    """Something that scores pairs of one objective."""

    def score(self, src: Int64Array, dst: Int64Array, times: Int64Array) -> Float32Array:
        """float32[n] for pairs, each at its own moment (microseconds)."""

    def rank(self, src: Int64Array, times: Int64Array, moment: int) -> Float32Array:
        """float32[q, destinations]: each query at its own moment, all candidates at `moment`."""


class ModelMethod:
    """A trained model, point in time."""

    def __init__(self, scorer: Scorer, objective: str) -> None:
        self._scorer, self._objective = scorer, objective

    def score(self, src: Int64Array, dst: Int64Array, times: Int64Array) -> Float32Array:
        return self._scorer.score(self._objective, src, dst, times)

    def rank(self, src: Int64Array, times: Int64Array, moment: int) -> Float32Array:
        assert moment == times.min()  # noqa: S101 - one bucket: its candidates are seen at its first query
        out: Float32Array | None = None
        for positions, scores in self._scorer.rank_blocks(self._objective, src, times, buckets=1):
            out = np.empty((len(src), scores.shape[1]), dtype=np.float32) if out is None else out
            out[positions] = scores
        return np.empty((0, 0), dtype=np.float32) if out is None else out


class FrozenMethod:
    """A trained model with every node as it was at one moment: what a reader of vectors published then has."""

    def __init__(self, scorer: FrozenScorer, objective: str) -> None:
        self._scorer, self._objective = scorer, objective

    def score(self, src: Int64Array, dst: Int64Array, times: Int64Array) -> Float32Array:  # noqa: ARG002
        return self._scorer.score(self._objective, src, dst)

    def rank(self, src: Int64Array, times: Int64Array, moment: int) -> Float32Array:  # noqa: ARG002
        return np.concatenate([scores for _, scores in self._scorer.rank_blocks(self._objective, src)])


class Popularity:
    """How often the destination was chosen before: edges of the objective's own type, positive ones if labelled."""

    def __init__(self, graph: Graph, edge: EdgeType, label: str | None) -> None:
        self._edges = graph.edges(edge)
        self._destinations = np.arange(graph.num_nodes(edge.dst), dtype=np.int64)
        if label is not None and label in self._edges.labels:
            self._edges = _positive_only(self._edges, label)

    def score(self, src: Int64Array, dst: Int64Array, times: Int64Array) -> Float32Array:  # noqa: ARG002
        return edges_before(self._edges, dst, times).astype(np.float32)

    def rank(self, src: Int64Array, times: Int64Array, moment: int) -> Float32Array:  # noqa: ARG002
        counts = self.score(src, self._destinations, np.full(len(self._destinations), moment))
        return np.broadcast_to(counts, (len(src), len(counts)))


def _positive_only(edges: EdgeArrays, label: str) -> EdgeArrays:
    keep = np.asarray(edges.labels[label]) > 0
    before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    times = None if edges.timestamps is None else np.asarray(edges.timestamps)[keep]
    return EdgeArrays(edges.type, before[edges.indptr], np.asarray(edges.indices)[keep], times, None, {})


class TextProfiles:
    """Mean text vectors of nodes and of what they were joined to, point in time; no weights are learned."""

    def __init__(self, graph: Graph) -> None:
        self._features: dict[str, list[FeatureArray]] = {
            node: [feature for feature in graph.features(node) if feature.kind == "text" and feature.dim > 0]
            for node in graph.node_types
        }
        self.dim = max((feature.dim for found in self._features.values() for feature in found), default=0)
        self._adjacency = Adjacency.of(graph, "per-relation")
        self._sampler = NeighbourSampler(self._adjacency, [PER_RELATION], "latest", layout="ragged")

    def own(self, node: str, nodes: Int64Array, times: Int64Array) -> Float32Array:
        """float32[n, dim]: the mean of a node's own text vectors, each of length 1; zero where it has none."""
        total = np.zeros((len(nodes), self.dim), dtype=np.float32)
        for feature in self._features[node]:
            rows = feature.rows(nodes, times)
            if feature.values is None or feature.dim != self.dim or not len(feature.values):
                continue
            vectors = np.asarray(feature.values[np.maximum(rows, 0)], dtype=np.float32)
            total += np.where((rows >= 0)[:, None], _unit(vectors), np.float32(0.0))
        return _unit(total)

    def content(self, node: str, nodes: Int64Array, times: Int64Array) -> Float32Array:
        """float32[n, dim] of length 1: a node's own text; its profile for a node type that has no text."""
        return self.own(node, nodes, times) if self._features[node] else self.profile(node, nodes, times)

    def profile(self, node: str, nodes: Int64Array, times: Int64Array) -> Float32Array:
        """float32[n, dim] of length 1: own text and that of all neighbours strictly before the moment, averaged."""
        out = np.empty((len(nodes), self.dim), dtype=np.float32)
        for first in range(0, len(nodes), PIECE):
            piece = slice(first, first + PIECE)
            out[piece] = self._profiles(node, nodes[piece], times[piece])
        return out

    def _profiles(self, node: str, nodes: Int64Array, times: Int64Array) -> Float32Array:
        adjacency = self._adjacency
        sample = self._sampler.sample(adjacency.gids(node, nodes), times, 0)
        block, bounds = sample.blocks[0], sample.type_slices[1]
        texts = np.zeros((sample.sizes[1], self.dim), dtype=np.float32)
        for place, other in enumerate(adjacency.node_types):
            here = slice(bounds[place], bounds[place + 1])
            indices = sample.nodes[here].astype(np.int64) - adjacency.offsets[place]
            texts[here] = self.own(other, indices, sample.times[here])
        ones = np.ones(len(block.neighbours), dtype=np.float32)
        joined = csr_array((ones, block.neighbours, block.indptr), shape=(sample.sizes[0], sample.sizes[1]))
        together = joined @ texts + texts[sample.self_positions[0]]
        return _unit(np.asarray(together, dtype=np.float32))[sample.seed_positions]


class TextCosine:
    """Cosine of what the source has and met before, as text, and the text of the destination."""

    def __init__(self, texts: TextProfiles, edge: EdgeType, destinations: int) -> None:
        self._texts, self._edge = texts, edge
        self._destinations = np.arange(destinations, dtype=np.int64)

    def score(self, src: Int64Array, dst: Int64Array, times: Int64Array) -> Float32Array:
        sources = self._texts.profile(self._edge.src, src, times)
        targets = self._texts.content(self._edge.dst, dst, times)
        scores: Float32Array = np.einsum("nd,nd->n", sources, targets)
        return scores

    def rank(self, src: Int64Array, times: Int64Array, moment: int) -> Float32Array:
        moments = np.full(len(self._destinations), moment, dtype=np.int64)
        targets = self._texts.content(self._edge.dst, self._destinations, moments)
        scores: Float32Array = self._texts.profile(self._edge.src, src, times) @ targets.T
        return scores


def _unit(vectors: Float32Array) -> Float32Array:
    """Rows of length 1; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Float32Array = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return units


def train_without_neighbours(
    graph: Graph,
    objectives: Mapping[str, Objective],
    config: TrainingConfig,
    baseline: Baseline,
    work_dir: Path,
    progress: Progress = SILENT,
) -> Scorer:
    """The release's own encoder, trained alike on the same examples, without neighbours.

    `no-graph` has no activity counts either: they are made of edges.
    """
    activity = config.activity and baseline == "no-neighbours"
    plain = features_only(config).model_copy(update={"max_epochs": config.max_epochs, "activity": activity})
    model_dir = work_dir / f"{baseline}-model"
    model_dir.mkdir(parents=True, exist_ok=True)
    train(graph, objectives, plain, work_dir / f"{baseline}-training", model_dir, progress)
    return Scorer(graph, model_dir)
