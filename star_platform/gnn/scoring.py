"""Scores for evaluation: of pairs at a moment, and of one query against every candidate.

*Point in time*: both nodes of a pair are seen at the pair's own moment, with strictly earlier edges and features.
*Ranking*: a query is seen at its own moment; all candidates are embedded once per bucket of queries, at the moment of
the bucket's earliest query. No candidate is ever seen later than the query it is ranked for; it may be seen up to one
bucket earlier. *Frozen*: all nodes as they were at one moment, which is what a reader of published vectors has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from star_platform.gnn.decoder import Decoder, PairDecoder
from star_platform.gnn.inference import open_embedder
from star_platform.graph.storage import Graph

Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]


class Scorer:
    """Scores by the trained model in `model_dir`; node indices count within the types of the objective's edge."""

    def __init__(self, graph: Graph, model_dir: Path) -> None:
        self.embedder = open_embedder(graph, model_dir)
        self.model = self.embedder.model
        self.graph = graph

    def score(self, objective: str, src: Int64Array, dst: Int64Array, times: Int64Array) -> Float32Array:
        """Logits float32[n] of pairs, each at its own moment (microseconds).

        Raises:
            TrainingError: M010 for an objective that the model was not trained for.
        """
        decoder, edge = self.model.decoder(objective), self.model.spec.objectives[objective]
        sources = self.embedder.vectors(edge.src, src, times)
        targets = self.embedder.vectors(edge.dst, dst, times)
        return _pair_logits(decoder, sources, targets)

    def rank_blocks(
        self, objective: str, src: Int64Array, times: Int64Array, *, buckets: int = 16
    ) -> Iterator[tuple[Int64Array, Float32Array]]:
        """Scores of every query against every destination.

        Args:
            objective: name of the objective.
            src: int64[q], source node of each query.
            times: int64[q], its moment.
            buckets: queries are cut into this many groups of equal size by time; candidates are embedded per group.

        Yields:
            Positions of a group's queries int64[b] and their logits float32[b, destinations].
        """
        decoder, edge = self.model.decoder(objective), self.model.spec.objectives[objective]
        candidates = np.arange(self.graph.num_nodes(edge.dst), dtype=np.int64)
        order = np.argsort(times, kind="stable")
        for positions in np.array_split(order, min(buckets, max(1, len(order)))):
            if not len(positions):
                continue
            moment = np.full(len(candidates), times[positions[0]], dtype=np.int64)
            targets = self.embedder.vectors(edge.dst, candidates, moment)
            queries = self.embedder.vectors(edge.src, src[positions], times[positions])
            yield positions, _all_logits(decoder, queries, targets)

    def frozen(self, at: int) -> FrozenScorer:
        """Scores from vectors as they were at moment `at`, however late the pair."""
        return FrozenScorer(self, at)


class FrozenScorer:
    """As `Scorer`, with every node seen at one moment."""

    def __init__(self, scorer: Scorer, at: int) -> None:
        self._scorer, self._at = scorer, at
        self._vectors: dict[str, Float32Array] = {}

    def vectors(self, node: str) -> Float32Array:
        """float32[nodes, dim] at the frozen moment."""
        if node not in self._vectors:
            everyone = np.arange(self._scorer.graph.num_nodes(node), dtype=np.int64)
            moments = np.full(len(everyone), self._at, dtype=np.int64)
            self._vectors[node] = self._scorer.embedder.vectors(node, everyone, moments)
        return self._vectors[node]

    def score(self, objective: str, src: Int64Array, dst: Int64Array) -> Float32Array:
        """Logits float32[n] of pairs."""
        decoder, edge = self._scorer.model.decoder(objective), self._scorer.model.spec.objectives[objective]
        return _pair_logits(decoder, self.vectors(edge.src)[src], self.vectors(edge.dst)[dst])

    def rank_blocks(
        self, objective: str, src: Int64Array, *, block: int = 1024
    ) -> Iterator[tuple[Int64Array, Float32Array]]:
        """Positions of some queries int64[b] and their logits float32[b, destinations]."""
        decoder, edge = self._scorer.model.decoder(objective), self._scorer.model.spec.objectives[objective]
        for first in range(0, len(src), block):
            positions = np.arange(first, min(first + block, len(src)), dtype=np.int64)
            yield positions, _all_logits(decoder, self.vectors(edge.src)[src[positions]], self.vectors(edge.dst))


def _pair_logits(decoder: PairDecoder, src: Float32Array, dst: Float32Array) -> Float32Array:
    """float32[n] of `[n, dim]` and `[n, dim]`."""
    if isinstance(decoder, Decoder):
        return _of_products(decoder, np.einsum("nd,nd->n", src, dst))
    with torch.inference_mode():
        logits: Float32Array = decoder.pairs(torch.from_numpy(src), torch.from_numpy(dst)).numpy()
    return logits


def _all_logits(decoder: PairDecoder, src: Float32Array, dst: Float32Array) -> Float32Array:
    """float32[n, m] of `[n, dim]` and `[m, dim]`."""
    if isinstance(decoder, Decoder):
        return _of_products(decoder, src @ dst.T)
    with torch.inference_mode():
        logits: Float32Array = decoder.all_pairs(torch.from_numpy(src), torch.from_numpy(dst)).numpy()
    return logits


def _of_products(decoder: Decoder, products: Float32Array) -> Float32Array:
    with torch.inference_mode():
        logits: Float32Array = decoder(torch.from_numpy(products.astype(np.float32, copy=False))).numpy()
    return logits
