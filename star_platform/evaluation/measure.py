"""Scores of every method on the same cases, and the figures and intervals made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.evaluation.auc import auc, delong
from star_platform.evaluation.baselines import Method
from star_platform.evaluation.bootstrap import ClusterBootstrap, interval, stratified_auc
from star_platform.evaluation.cases import Cases
from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.ranking import recall_at, reciprocal_rank, rivals

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
MOST_EMBEDDED, MOST_COMPARED = 500_000, 4_000_000_000
"""Ranking: about how many candidates are embedded over all moments, and comparisons made, at most."""
FEWEST = 50
"""Positives and negatives (or ranked queries) that a group needs before a figure is given."""


@dataclass(frozen=True)
class Scores:
    """What one method makes of the cases."""

    pairs: NDArray[np.float32]
    """float32[rows of the cases]."""
    recall: Float64Array
    """float64[ranked queries]: chance to be among the first k."""
    reciprocal: Float64Array
    """float64[ranked queries]: expected 1 / rank."""


@dataclass(frozen=True)
class Ranked:
    """Which positives are ranked, and in which groups."""

    queries: Int64Array
    """Rows of the cases, in order of time."""
    groups: tuple[Int64Array, ...]
    """Positions among `queries`."""


def choose_ranked(cases: Cases, destinations: int, config: EvaluationConfig) -> Ranked:
    """All positives where that is affordable, else a part drawn evenly; cut into groups by time."""
    queries = np.flatnonzero(cases.labels > 0)
    most = max(FEWEST, MOST_COMPARED // max(1, destinations))
    if len(queries) > most:
        queries = np.random.default_rng(config.seed).choice(queries, size=most, replace=False)
    queries = queries[np.argsort(cases.times[queries], kind="stable")]
    buckets = int(np.clip(MOST_EMBEDDED // max(1, destinations), 1, config.moments))
    groups = np.array_split(np.arange(len(queries)), min(buckets, max(1, len(queries))))
    return Ranked(queries, tuple(group for group in groups if len(group)))


def score_cases(method: Method, cases: Cases, ranked: Ranked, created: Int64Array | None, k: int) -> Scores:
    """Score the pairs, and rank every chosen positive among all destinations alive at its moment."""
    pairs = method.score(cases.src, cases.dst, cases.times) if len(cases.src) else np.empty(0, dtype=np.float32)
    above = np.zeros(len(ranked.queries), dtype=np.int64)
    equal = np.zeros(len(ranked.queries), dtype=np.int64)
    for group in ranked.groups:
        rows = ranked.queries[group]
        times = cases.times[rows]
        scores = method.rank(cases.src[rows], times, int(times[0]))
        alive = None if created is None else (created, times)
        above[group], equal[group] = rivals(scores, cases.dst[rows], cases.excluded_of(rows), alive)
    return Scores(pairs, recall_at(k, above, equal), reciprocal_rank(above, equal))


class Comparison:
    """Figures of several methods on the same cases and the same resamples of members."""

    def __init__(
        self,
        cases: Cases,
        ranked: Ranked,
        scores: Mapping[str, Scores],
        strata: Int64Array,
        config: EvaluationConfig,
    ) -> None:
        """`strata`: int64[rows of the cases], within which `auc_matched` compares."""
        self.cases, self.ranked, self.scores, self.strata = cases, ranked, scores, strata
        self.bootstrap = ClusterBootstrap(cases.src, config.resamples, config.seed)

    def figures(self, chosen: NDArray[np.bool_] | None = None, against: str = "release") -> dict[str, Any]:
        """Counts, figures per method, and paired differences of `against` to all others.

        `chosen`: bool[rows of the cases], the part that counts; None: all.
        """
        rows = np.arange(len(self.cases.src)) if chosen is None else np.flatnonzero(chosen)
        ranked = np.arange(len(self.ranked.queries))
        if chosen is not None:
            ranked = ranked[chosen[self.ranked.queries]]
        labels = self.cases.labels[rows]
        positives = int((labels > 0).sum())
        counts = {
            "positives": positives,
            "negatives": len(rows) - positives,
            "members": len(np.unique(self.cases.src[rows])),
            "ranked": len(ranked),
        }
        if chosen is not None and min(positives, len(rows) - positives) < FEWEST:
            return {**counts, "insufficient": True}
        samples = {name: self._samples(name, rows, ranked) for name in self.scores}
        methods = {name: self._method(name, samples[name], rows, ranked) for name in self.scores}
        differences = {
            name: {
                figure: interval(
                    _minus(methods[against][figure]["value"], methods[name][figure]["value"]),
                    samples[against][figure] - samples[name][figure],
                ).as_json()
                for figure in samples[name]
            }
            for name in self.scores
            if name != against
        }
        return {**counts, "methods": methods, "differences": differences}

    def _samples(self, name: str, rows: Int64Array, ranked: Int64Array) -> dict[str, Float64Array]:
        scores, queries = self.scores[name], self.ranked.queries[ranked]
        return {
            "auc": self.bootstrap.auc(self.cases.labels[rows], scores.pairs[rows], rows),
            "auc_matched": self.bootstrap.auc(self.cases.labels[rows], scores.pairs[rows], rows, self.strata[rows]),
            "recall": self.bootstrap.mean(scores.recall[ranked], queries),
            "mrr": self.bootstrap.mean(scores.reciprocal[ranked], queries),
        }

    def _method(
        self, name: str, samples: Mapping[str, Float64Array], rows: Int64Array, ranked: Int64Array
    ) -> dict[str, Any]:
        scores, labels = self.scores[name], self.cases.labels[rows]
        values = {
            "auc": auc(labels, scores.pairs[rows]),
            "auc_matched": stratified_auc(labels, scores.pairs[rows], self.strata[rows]),
            "recall": _mean(scores.recall[ranked]),
            "mrr": _mean(scores.reciprocal[ranked]),
        }
        out: dict[str, Any] = {figure: interval(value, samples[figure]).as_json() for figure, value in values.items()}
        independent = delong(labels, scores.pairs[rows])
        bounds = None if independent is None else independent.interval()
        out["auc"]["delong"] = None if bounds is None else list(bounds)
        return out


def _mean(values: Float64Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
