"""A downstream ranker, trained once on the vectors of r1 and frozen, and what it makes of other vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from star_platform.compat.model import CompatMap, Vectors
from star_platform.compat.pairs import locate
from star_platform.demo.downstream import Impressions, pair_features
from star_platform.evaluation.auc import auc
from star_platform.evaluation.bootstrap import ClusterBootstrap, Interval, interval

Rows = NDArray[np.bool_]
Scores = NDArray[np.float64]
Served = Mapping[str, Vectors]
"""By node type: the vectors that the consumer is handed."""


def served(vectors: Served, maps: Mapping[str, CompatMap]) -> Served:
    """Through a map."""
    return {node: Vectors(of.ids, maps[node].apply(of.vectors)) for node, of in vectors.items()}


def cut_to(vectors: Served, dim: int) -> Served:
    """Without a map: the first `dim` columns, which is what fits into the consumer's arrays."""
    return {node: Vectors(of.ids, np.ascontiguousarray(of.vectors[:, :dim])) for node, of in vectors.items()}


class Ranker:
    """Will the member apply? Logistic regression on own columns and, unless `vectors` is None, both vectors."""

    def __init__(self, impressions: Impressions, rows: Rows, vectors: Served | None) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        self._model.fit(_features(impressions, vectors)[rows], impressions.applied[rows])

    def scores(self, impressions: Impressions, vectors: Served | None) -> Scores:
        """float64 [impressions]."""
        return np.asarray(self._model.decision_function(_features(impressions, vectors)))


def _features(impressions: Impressions, vectors: Served | None) -> Scores:
    if vectors is None:
        return impressions.own
    sides: list[Any] = []
    for node in ("member", "job"):
        places = locate(pa.array(impressions.ids[node]), vectors[node].ids, node)
        sides += [np.asarray(vectors[node].vectors, dtype=np.float64)[places], places >= 0]
    return np.hstack([impressions.own, pair_features(*sides)])


@dataclass
class Scene:
    """One set of rows, scored with several vectors; all figures on the same resamples of members."""

    labels: NDArray[Any]
    clusters: NDArray[Any]
    scores: dict[str, Scores] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._bootstrap = ClusterBootstrap(self.clusters)

    def auc(self, name: str, rows: Rows | None = None) -> Interval:
        return self._figure(rows, name)

    def difference(self, name: str, reference: str, rows: Rows | None = None) -> Interval:
        """AUC of `name` minus that of `reference`, paired."""
        return self._figure(rows, name, reference)

    def agreement(self, name: str, reference: str, rows: Rows) -> float:
        """Correlation of both scores: 1 where the consumer notices nothing."""
        return float(np.corrcoef(self.scores[name][rows], self.scores[reference][rows])[0, 1])

    def _figure(self, rows: Rows | None, name: str, reference: str | None = None) -> Interval:
        chosen = np.arange(len(self.labels)) if rows is None else np.flatnonzero(rows)
        labels = self.labels[chosen]

        def one(name: str) -> tuple[float | None, Scores]:
            scores = self.scores[name][chosen]
            return auc(labels, scores), self._bootstrap.auc(labels, scores, chosen)

        value, samples = one(name)
        if reference is not None and value is not None:
            base, base_samples = one(reference)
            value, samples = None if base is None else value - base, samples - base_samples
        return interval(value, samples)
