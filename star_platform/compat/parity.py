"""What a frozen consumer makes of mapped vectors, beside what it makes of the old ones, on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, norm

from star_platform.compat.cases import LabelledCases
from star_platform.compat.model import CompatMap, Float64Array, Vectors
from star_platform.compat.pairs import BLOCK, gather, locate
from star_platform.compat.scorers import FrozenScorer
from star_platform.compat.slices import Slicing
from star_platform.evaluation.auc import auc, delong
from star_platform.evaluation.bootstrap import ClusterBootstrap

MOST_WEIGHTS = 200_000_000
"""Resamples times clusters, at most: 400 MB."""
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Served:
    """One node type that the consumer reads."""

    map: CompatMap
    new: Vectors
    old: Vectors
    """What the consumer reads today."""
    slicings: Sequence[Slicing]
    """Of the rows of `new`."""


def measure(
    scorer: FrozenScorer, cases: LabelledCases, served: Mapping[str, Served], resamples: int, seed: int
) -> dict[str, Any]:
    """JSON figures of a consumer that reads the node types of `served`, which are those of `cases.keys`.

    Rows count where both releases know every entity. `new_entities` are rows where only the new release does: there is
    nothing to compare with, so their AUC stands alone. `gone` are rows where only the old one does: a reader of mapped
    vectors finds nothing there.

    Raises:
        CompatError: C031 when the scorer fails, C011 for keys of another kind than the ids.
    """
    new_rows = {node: locate(cases.keys[node], each.new.ids, node) for node, each in served.items()}
    old_rows = {node: locate(cases.keys[node], each.old.ids, node) for node, each in served.items()}
    in_new, in_old = _everywhere(new_rows, len(cases)), _everywhere(old_rows, len(cases))
    both = np.flatnonzero(in_new & in_old)
    labels = cases.labels[both]
    old = _score(scorer, cases, both, {node: (each.old, None) for node, each in served.items()}, old_rows)
    mapping = {node: (each.new, each.map) for node, each in served.items()}
    mapped = _score(scorer, cases, both, mapping, new_rows)
    compared = _Compared(labels, old, mapped, None if cases.clusters is None else cases.clusters[both], resamples, seed)
    only_new = np.flatnonzero(in_new & ~in_old)
    strangers = _score(scorer, cases, only_new, mapping, new_rows)
    return {
        "nodes": sorted(served),
        "rows": len(both),
        "positives": int((labels > 0).sum()),
        "negatives": int((labels <= 0).sum()),
        "clusters": compared.clusters,
        "gone": int((in_old & ~in_new).sum()),
        "auc": compared.difference(),
        "calibration": _calibration(labels, old, mapped),
        "ks": _shift(old, mapped),
        "slices": _slices(compared, served, {node: rows[both] for node, rows in new_rows.items()}),
        "new_entities": {
            "rows": len(only_new),
            "positives": int((cases.labels[only_new] > 0).sum()),
            "auc": auc(cases.labels[only_new], strangers),
            "observed_over_expected": _alone(cases.labels[only_new], strangers),
        },
    }


def _alone(labels: NDArray[np.int8], scores: Float64Array) -> float | None:
    """Observed / expected where there is nothing to compare with; None for scores that are no probabilities."""
    return float((labels > 0).sum() / scores.sum()) if len(scores) and _probabilities(scores) else None


def _everywhere(rows: Mapping[str, NDArray[np.int64]], count: int) -> NDArray[np.bool_]:
    """Rows of the cases all of whose entities were found."""
    found = np.ones(count, dtype=np.bool_)
    for places in rows.values():
        found &= places >= 0
    return found


def _score(
    scorer: FrozenScorer,
    cases: LabelledCases,
    chosen: NDArray[np.int64],
    vectors: Mapping[str, tuple[Vectors, CompatMap | None]],
    rows: Mapping[str, NDArray[np.int64]],
) -> Float64Array:
    """Scores `[len(chosen)]`; only a block of vectors is in memory at a time."""
    out = np.empty(len(chosen))
    for first in range(0, len(chosen), BLOCK):
        part = chosen[first : first + BLOCK]
        given = {}
        for node, (each, through) in vectors.items():
            found = gather(each.vectors, rows[node][part])
            given[node] = found if through is None else through.apply(found)
        columns = {name: values[part] for name, values in cases.columns.items()}
        out[first : first + len(part)] = scorer.score(given, columns)
    return out


def _calibration(labels: NDArray[np.int8], old: Float64Array, mapped: Float64Array) -> dict[str, float | None] | None:
    """Observed / expected positives before and after, and their ratio; None for scores that are no probabilities.

    The old scores decide what the consumer's scores are. Where mapped ones are no probabilities any more, `mapped` and
    `ratio` are None: the calibration is lost.
    """
    if not len(labels) or not _probabilities(old):
        return None
    observed = float((labels > 0).sum())
    kept = _probabilities(mapped)
    return {
        "old": observed / float(old.sum()),
        "mapped": observed / float(mapped.sum()) if kept else None,
        "ratio": float(old.sum() / mapped.sum()) if kept else None,
    }


def _probabilities(scores: Float64Array) -> bool:
    return bool(scores.min() >= 0.0 and scores.max() <= 1.0 and scores.sum() > 0.0)


def _shift(old: Float64Array, mapped: Float64Array) -> float | None:
    """Kolmogorov-Smirnov distance of the scores before and after."""
    return float(ks_2samp(old, mapped).statistic) if len(old) else None


class _Compared:
    """Two scores of the same rows: paired by DeLong, or on the same resamples of clusters where rows repeat them."""

    def __init__(
        self,
        labels: NDArray[np.int8],
        old: Float64Array,
        mapped: Float64Array,
        clusters: NDArray[np.int64] | None,
        resamples: int,
        seed: int,
    ) -> None:
        self.labels, self.old, self.mapped = labels, old, mapped
        self.clusters = None if clusters is None else len(np.unique(clusters))
        self._bootstrap = None
        if clusters is not None and self.clusters:
            count = int(np.clip(MOST_WEIGHTS // self.clusters, 100, resamples))
            self._bootstrap = ClusterBootstrap(clusters, count, seed)

    def difference(self, chosen: NDArray[np.int64] | None = None, tests: int = 1) -> dict[str, Any]:
        """AUC of both, mapped - old with its 95 % interval, and `high_corrected`: its upper end for one of `tests`."""
        rows = np.arange(len(self.labels)) if chosen is None else chosen
        labels, old, mapped = self.labels[rows], self.old[rows], self.mapped[rows]
        before, after = auc(labels, old), auc(labels, mapped)
        out: dict[str, Any] = {"old": before, "mapped": after, "difference": None, "low": None, "high": None}
        out["by"] = "delong" if self._bootstrap is None else "cluster bootstrap"
        out["high_corrected"] = None
        if before is None or after is None:
            return out
        out["difference"] = after - before
        sigma = self._sigma(rows, labels, old, mapped)
        if sigma is not None:
            half, wide = (float(norm.ppf(1 - (1 - LEVEL) / 2 / count)) * sigma for count in (1, tests))
            out |= {
                "low": after - before - half,
                "high": after - before + half,
                "high_corrected": after - before + wide,
            }
        return out

    def scores(self, chosen: NDArray[np.int64]) -> dict[str, Any]:
        """Calibration of some rows, and how far their scores shift."""
        labels, old, mapped = self.labels[chosen], self.old[chosen], self.mapped[chosen]
        return {"calibration": _calibration(labels, old, mapped), "ks": _shift(old, mapped)}

    def _sigma(
        self, rows: NDArray[np.int64], labels: NDArray[np.int8], old: Float64Array, mapped: Float64Array
    ) -> float | None:
        """Standard error of the difference; 0 for scores in the same order; None where it is undefined."""
        if self._bootstrap is not None:
            drawn = self._bootstrap.auc(labels, mapped, rows) - self._bootstrap.auc(labels, old, rows)
            drawn = drawn[np.isfinite(drawn)]
            return float(drawn.std(ddof=1)) if len(drawn) > len(self._bootstrap.weights) * 0.95 else None
        found = delong(labels, np.stack([mapped, old]))
        if found is None or not np.isfinite(found.covariance).all():
            return None
        c = found.covariance
        return float(np.sqrt(max(0.0, c[0, 0] + c[1, 1] - 2 * c[0, 1])))


def _slices(
    compared: _Compared, served: Mapping[str, Served], rows: Mapping[str, NDArray[np.int64]]
) -> list[dict[str, Any]]:
    """Paired difference, calibration and shift of scores in every part of every node type's entities with rows."""
    parts = [
        (node, each.kind, label, np.flatnonzero(chosen))
        for node in served
        for each in (slicing.at(rows[node]) for slicing in served[node].slicings)
        for label, chosen in each.parts()
    ]
    parts = [part for part in parts if len(part[3])]
    return [
        {"node": node, "kind": kind, "name": label, "rows": len(chosen)}
        | compared.difference(chosen, tests=max(1, len(parts)))
        | compared.scores(chosen)
        for node, kind, label, chosen in parts
    ]
