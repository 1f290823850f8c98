"""The examples that a release is judged on: later than all of training, and the same for every method."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.history import first_meetings
from star_platform.gnn.existence import Existence
from star_platform.gnn.split import Examples, TimeSplit
from star_platform.graph.storage import EdgeType, Graph
from star_platform.signals.model import LinkPrediction

Int64Array = NDArray[np.int64]
ROUNDS = 30
"""Times that a negative which turns out to be a known pair is drawn again."""


@dataclass(frozen=True)
class Cases:
    """Pairs to score for AUC, and the positives among them to rank.

    The first `positives` rows are positive; `example` tells which positive a row belongs to (its own for labelled
    negatives, which belong to none).
    """

    edge: EdgeType
    src: Int64Array
    dst: Int64Array
    times: Int64Array
    labels: NDArray[np.int8]
    example: Int64Array
    drawn: bool
    """Whether negatives were drawn; otherwise they carry a label."""
    excluded: tuple[Int64Array, Int64Array]
    """Known pairs as a CSR by source: bounds int64[sources + 1] and destinations, never candidates of the ranking."""
    available: int
    """Test positives before `met_before` and the limit on their number."""
    met_before: int
    """Test positives left out because the pair had met before."""
    without_negative: int
    """Test positives for which no negative could be drawn: the source knows every destination alive."""

    @property
    def positives(self) -> int:
        return int((self.labels > 0).sum())

    def excluded_of(self, queries: Int64Array) -> tuple[Int64Array, Int64Array]:
        """(query, destination) of known pairs of the sources of `queries` (rows), but for the row's own destination."""
        bounds, destinations = self.excluded
        sources = self.src[queries]
        counts = bounds[sources + 1] - bounds[sources]
        query = np.repeat(np.arange(len(queries)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        column = destinations[np.repeat(bounds[sources], counts) + within]
        others = column != self.dst[queries][query]
        return query[others], column[others]


def build_cases(graph: Graph, name: str, objective: LinkPrediction, part: TimeSplit, config: EvaluationConfig) -> Cases:
    """The cases of the objective `name`.

    Negatives of objectives that draw their own, however they draw them in training, are drawn here uniformly from the
    destinations that existed at the positive's moment, and seen at that moment. Known pairs, of any time, are not.
    Where `created_at` is not declared, a destination exists from its first dated edge on.
    """
    width = graph.num_nodes(part.edge.dst)
    keys, first = first_meetings(graph, part.edge, None if config.new_pairs_only else [objective.edge])
    test, available = part.test, int((part.test.labels > 0).sum())
    if config.new_pairs_only:
        place = np.searchsorted(keys, test.src * width + test.dst)
        test = test.take(first[place] >= test.times)
    met_before = available - int((test.labels > 0).sum())
    rng = np.random.default_rng((config.seed, zlib.crc32(name.encode())))
    drawn = objective.negatives.kind not in ("labelled", "edge")
    positive = _at_most(test.take(test.labels > 0), config.max_examples, rng)
    bounds = np.searchsorted(keys, np.arange(graph.num_nodes(part.edge.src) + 1, dtype=np.int64) * width)
    excluded = (bounds.astype(np.int64), keys % width if width else keys)
    without = 0
    if drawn:
        created = Existence.of(graph, part.edge.dst, before=False).since
        destinations, allowed = draw_negatives(positive, config.negatives, keys, width, created, rng)
        without = int((~allowed.any(axis=1)).sum())
        example, _ = np.nonzero(allowed)
        negative = Examples(
            positive.src[example],
            destinations[allowed],
            positive.times[example],
            np.zeros(len(example), dtype=np.float32),
        )
    else:
        negative = _at_most(test.take(test.labels <= 0), config.max_examples * config.negatives, rng)
        example = len(positive) + np.arange(len(negative))
    return Cases(
        edge=part.edge,
        src=np.concatenate([positive.src, negative.src]),
        dst=np.concatenate([positive.dst, negative.dst]),
        times=np.concatenate([positive.times, negative.times]),
        labels=np.concatenate([np.ones(len(positive), np.int8), np.zeros(len(negative), np.int8)]),
        example=np.concatenate([np.arange(len(positive)), example]),
        drawn=drawn,
        excluded=excluded,
        available=available,
        met_before=met_before,
        without_negative=without,
    )


def draw_negatives(
    positive: Examples,
    count: int,
    known: Int64Array,
    width: int,
    created: Int64Array | None,
    rng: np.random.Generator,
) -> tuple[Int64Array, NDArray[np.bool_]]:
    """Uniform destinations alive at each positive's moment, int64[n, count], and which of them count.

    A draw that hits a known pair (`known`: ascending keys `src * width + dst`) is repeated, `ROUNDS` times at most.
    """
    n = len(positive)
    order = None if created is None else np.argsort(created, kind="stable")
    alive = np.full(n, width) if created is None else np.searchsorted(np.sort(created), positive.times, side="right")
    out = np.zeros((n, count), dtype=np.int64)
    missing = np.ones((n, count), dtype=bool) & (alive > 0)[:, None]
    good = np.zeros((n, count), dtype=bool)
    for _ in range(ROUNDS):
        rows, columns = np.nonzero(missing)
        if not len(rows):
            break
        picked = (rng.random(len(rows)) * alive[rows]).astype(np.int64)
        picked = picked if order is None else order[picked]
        out[rows, columns] = picked
        key = positive.src[rows] * width + picked
        place = np.minimum(np.searchsorted(known, key), max(0, len(known) - 1))
        fresh = known[place] != key if len(known) else np.ones(len(key), dtype=bool)
        good[rows[fresh], columns[fresh]] = True
        missing[rows[fresh], columns[fresh]] = False
    return out, good


def _at_most(examples: Examples, limit: int, rng: np.random.Generator) -> Examples:
    """At most `limit` examples, drawn evenly, in order of time."""
    if len(examples) <= limit:
        return examples
    return examples.take(np.sort(rng.choice(len(examples), size=limit, replace=False)))
