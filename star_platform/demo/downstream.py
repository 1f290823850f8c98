"""A downstream team's model: will this member apply to the job that was shown? With and without our vectors.

The team trains a logistic ranker on the first two weeks after the release and tests it on the two weeks that follow.
Its own columns are what such teams have anyway: how long the job is open, region, title, seniority, counts of past
applications. To these it adds, per pair, the elementwise product of both vectors and their cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from star_platform.evaluation.auc import auc
from star_platform.evaluation.bootstrap import ClusterBootstrap, Interval, interval
from star_platform.publishing.read import Fetched

Features = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OWN = ("days_open", "same_region", "same_title", "seniority_gap", "job_applications", "member_applications")
"""The team's own columns."""


@dataclass(frozen=True)
class Impressions:
    """Pairs in the order in which they were shown; `own` is float64 [n, len(OWN)], `applied` bool [n]."""

    ids: Mapping[str, npt.NDArray[Any]]
    """By node type, `member` and `job`: one id per pair."""
    own: Features
    applied: Bools

    @property
    def cut(self) -> int:
        """Pairs before are for training, the later ones for the test."""
        return len(self.applied) // 2

    def distinct(self, node: str) -> list[int | str]:
        """Every id of a node type once, sorted."""
        return list(np.unique(self.ids[node]).tolist())

    def rows(self, fetched: Fetched) -> tuple[Features, Bools]:
        """Of each pair: the vector, float64 [n, dim], and whether there is one, bool [n]; `fetched` of `distinct`."""
        positions = np.searchsorted(np.array(fetched.ids), self.ids[fetched.node])
        return fetched.vectors[positions].astype(np.float64), fetched.found[positions]


@dataclass(frozen=True)
class Ranked:
    """One ranker on the test pairs; `gain` is its AUC minus that of the ranker before it, paired."""

    name: str
    auc: Interval
    gain: Interval | None
    test_pairs: int
    test_members: int


def read_impressions(data: Path) -> Impressions:
    """The pairs of `impressions.parquet`, with counts of applications up to the release."""
    shown = _columns(data / "impressions.parquet")
    applies = _columns(data / "applies.parquet")
    order = np.argsort(shown["shown_at"], kind="stable")
    ids = {node: shown[f"{node}_id"][order] for node in ("member", "job")}
    columns = [shown[name][order].astype(np.float64) for name in OWN[:4]]
    columns += [np.log1p(_counts(applies[f"{node}_id"], ids[node])) for node in ("job", "member")]
    return Impressions(ids, np.column_stack(columns), shown["applied"][order].astype(np.bool_))


def _columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    table = pq.read_table(path)
    arrays = {name: table[name].to_numpy() for name in table.column_names}
    return {name: array.astype(np.str_) if array.dtype == object else array for name, array in arrays.items()}


def _counts(events: npt.NDArray[Any], ids: npt.NDArray[Any]) -> Features:
    """How often each of `ids` is in `events`."""
    known, counts = np.unique(events, return_counts=True)
    positions = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[positions] == ids, counts[positions], 0).astype(np.float64)


def compare(impressions: Impressions, vectors: Mapping[str, Sequence[Fetched]]) -> list[Ranked]:
    """The ranker on the team's own columns, then with the vectors of each release (members', jobs') beside them."""
    scores = {"own columns only": _fit(impressions, impressions.own)}
    for name, (members, jobs) in vectors.items():
        pairs = pair_features(*impressions.rows(members), *impressions.rows(jobs))
        scores[name] = _fit(impressions, np.hstack([impressions.own, pairs]))
    labels = impressions.applied[impressions.cut :]
    bootstrap = ClusterBootstrap(impressions.ids["member"][impressions.cut :])
    results: list[Ranked] = []
    before: tuple[float, Features] | None = None
    for name, scored in scores.items():
        value, resampled = auc(labels, scored), bootstrap.auc(labels, scored)
        gain = None
        if before is not None and value is not None:
            gain = interval(value - before[0], resampled - before[1])
        results.append(Ranked(name, interval(value, resampled), gain, len(labels), bootstrap.count))
        before = (value, resampled) if value is not None else None
    return results


def keep_frozen(
    impressions: Impressions, trained_on: Sequence[Fetched], served: Mapping[str, Sequence[Fetched]]
) -> list[Ranked]:
    """A ranker that is trained on the vectors `trained_on` (members', jobs') and never again, on what it is served.

    The first row is what it was trained on; `gain` of the others is the difference to that row.
    """
    ranker = _ranker()
    cut, own = impressions.cut, impressions.own
    old = np.hstack([own, pair_features(*impressions.rows(trained_on[0]), *impressions.rows(trained_on[1]))])
    ranker.fit(old[:cut], impressions.applied[:cut])
    labels = impressions.applied[cut:]
    bootstrap = ClusterBootstrap(impressions.ids["member"][cut:])
    results: list[Ranked] = []
    first: tuple[float, Features] | None = None
    for name, (members, jobs) in {"its own release": trained_on, **served}.items():
        rows = np.hstack([own, pair_features(*impressions.rows(members), *impressions.rows(jobs))])
        scores = np.asarray(ranker.decision_function(rows[cut:]))
        value, resampled = auc(labels, scores), bootstrap.auc(labels, scores)
        gain = None
        if first is not None and value is not None:
            gain = interval(value - first[0], resampled - first[1])
        results.append(Ranked(name, interval(value, resampled), gain, len(labels), bootstrap.count))
        first = (value, resampled) if first is None and value is not None else first
    return results


def pair_features(left: Features, left_found: Bools, right: Features, right_found: Bools) -> Features:
    """Products and cosine of both vectors, 0 where one is absent, and whether both are there: float64 [n, dim + 2]."""
    both = left_found & right_found
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products = left * right
    cosine = np.divide(products.sum(axis=1), norms, out=np.zeros(len(norms)), where=norms > 0)
    return np.column_stack([products, cosine, both]) * both[:, None]


def _ranker() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def _fit(impressions: Impressions, features: Features) -> Features:
    cut, ranker = impressions.cut, _ranker()
    ranker.fit(features[:cut], impressions.applied[:cut])
    return np.asarray(ranker.decision_function(features[cut:]))
