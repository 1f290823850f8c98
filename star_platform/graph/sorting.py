"""Sorts edges of any number in bounded memory: partition by destination range, then sort one range at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.graph import csc
from star_platform.graph.engine import Engine
from star_platform.graph.npy import NpyWriter
from star_platform.graph.spool import Columns, Spool

_BUCKET_BITS = 8
_GROUP_ROWS = 1 << 18
"""Rows sorted at a time: their arrays stay in the processor's cache."""
Batch = Columns
"""dst, src, then the layout's other columns; all of one length."""


@dataclass(frozen=True)
class Layout:
    """Which arrays the edges of a type have besides source and destination."""

    dated: bool
    weighted: bool
    labels: tuple[str, ...]

    @property
    def dtypes(self) -> tuple[npt.DTypeLike, ...]:
        """Columns of the spool: dst, src, then time, weight and labels where there are any."""
        return (
            np.int32,
            np.int32,
            *((np.int64,) if self.dated else ()),
            *((np.float64,) if self.weighted else ()),
            *(np.int8 for _ in self.labels),
        )

    def split(self, columns: Columns) -> tuple[Any, Any, Any, Any, Any]:
        """dst, src, time, weight and labels[k, n] as the kernels want them, empty where absent."""
        dst, src, *rest = columns
        time = rest.pop(0) if self.dated else np.empty(0, np.int64)
        weight = rest.pop(0) if self.weighted else np.empty(0, np.float64)
        labels = np.stack(rest) if rest else np.empty((0, len(dst)), np.int8)
        return dst, src, time, weight, labels

    @staticmethod
    def no_payload(rows: int) -> tuple[Any, Any]:
        """Weight and labels of rows that have neither."""
        return np.empty(0, np.float64), np.empty((0, rows), np.int8)


@dataclass(frozen=True)
class Merge:
    """How repeated edges combine; `how` is an index into AGGREGATES, -1 for edges without weights."""

    dedupe: str
    how: int


@dataclass(frozen=True)
class Written:
    """`rows` that had both nodes, `edges` that they became, and the newest time among them."""

    rows: int
    edges: int
    newest: int | None


class Sorter:
    """Writes one direction of one edge type.

    Memory: a quarter of the engine's limit for waiting rows (the rest waits on disk), and the rows of some destination
    ranges while they are sorted; at least those of the one node with the most edges.
    """

    def __init__(self, engine: Engine, layout: Layout, merge: Merge) -> None:
        self._engine = engine
        self._layout = layout
        self._merge = merge

    def write(
        self, batches: Iterator[Batch], nodes: int, folder: Path, counts: Any, advance: Callable[[int], None]
    ) -> Written:
        """Sort the edges of all batches into `folder`; dropped rows are added to `counts` (int64, by csc.COUNTS)."""
        shift = max(0, int(nodes - 1).bit_length() - _BUCKET_BITS)
        buckets = (max(nodes - 1, 0) >> shift) + 1
        with Spool(self._layout.dtypes, buckets, self._engine.memory_bytes // 4, self._engine.temp_dir) as spool:
            for batch in batches:
                spool.append(*self._partition(batch, shift, buckets, counts))
                advance(len(batch[0]))
            return self._sorted(spool, nodes, shift, folder)

    def _partition(self, batch: Batch, shift: int, buckets: int, counts: Any) -> tuple[Any, Columns]:
        dst, src, time, weight, labels = self._layout.split(batch)
        slot, offsets = csc.slots(src, dst, time, shift, buckets, counts)
        columns = []
        for column, dtype in zip(batch, self._layout.dtypes, strict=True):
            target = np.empty(int(offsets[-1]), dtype)
            csc.scatter(slot, column, target)
            columns.append(target)
        _, _, _, weight, labels = self._layout.split(tuple(columns))
        csc.check_weights(weight, counts)
        csc.check_labels(labels.reshape(-1), counts)
        return offsets, tuple(columns)

    def _sorted(self, spool: Spool, nodes: int, shift: int, folder: Path) -> Written:
        edges, newest = 0, csc.NULL_TIME
        weighted = self._merge.how >= 0
        with ExitStack() as stack:

            def writer(name: str, dtype: npt.DTypeLike) -> NpyWriter:
                return stack.enter_context(NpyWriter(folder / f"{name}.npy", dtype))

            indptr, indices = writer("indptr", np.int64), writer("indices", np.int32)
            timestamps = writer("timestamps", np.int64) if self._layout.dated else None
            weights = writer("weights", np.float32) if weighted else None
            labels = [writer(f"label.{label}", np.int8) for label in self._layout.labels]
            indptr.append(np.zeros(1, np.int64))
            for group in self._groups(spool, nodes, shift):
                pointers, time, source, weight, label = group
                indptr.append(pointers[1:] + edges)
                indices.append(source)
                if timestamps is not None:
                    timestamps.append(time)
                    newest = max(newest, int(time.max(initial=csc.NULL_TIME)))
                if weights is not None:
                    weights.append(weight)
                for file, values in zip(labels, label, strict=True):
                    file.append(values)
                edges += len(source)
        return Written(int(spool.sizes.sum()), edges, None if newest == csc.NULL_TIME else newest)

    def _groups(self, spool: Spool, nodes: int, shift: int) -> Iterator[tuple[Any, Any, Any, Any, Any]]:
        """Sorted groups in order; some are sorted ahead, on as many threads as the engine has."""
        if nodes == 0:
            return
        ahead: deque[Future[tuple[Any, Any, Any, Any, Any]]] = deque()
        with ThreadPoolExecutor(self._engine.threads) as pool:
            for first, last in spool.groups(_GROUP_ROWS):
                low, high = first << shift, min(last << shift, nodes)
                ahead.append(pool.submit(self._sort, spool, first, last, low, high - low))
                if len(ahead) > self._engine.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _sort(self, spool: Spool, first: int, last: int, low: int, nodes: int) -> tuple[Any, Any, Any, Any, Any]:
        """One group: pointers, times, sources, weights float64 and labels[k, m]."""
        dst, src, time, weight, labels = self._layout.split(spool.read(first, last))
        how, pair = self._merge.how, self._merge.dedupe == "pair"
        indptr, rows = csc.order_rows(dst, src, time, weight, labels, low, nodes, pair)
        s, t, weight, labels = _taken(rows, src, time, weight, labels)
        if self._merge.dedupe == "none":
            if how == csc.AGGREGATES.index("count"):
                weight = np.ones(len(s), np.float64)
            return indptr, t, s, np.nan_to_num(weight, copy=False), labels
        indptr, t, s, weight, labels = csc.merge_rows(indptr, t, s, weight, labels, pair, how)
        if pair and self._layout.dated:  # merged by source; now by time
            dst = np.repeat(np.arange(nodes, dtype=np.int32), np.diff(indptr))
            _, rows = csc.order_rows(dst, s, t, *self._layout.no_payload(len(s)), 0, nodes, False)
            s, t, weight, labels = _taken(rows, s, t, weight, labels)
        return indptr, t, s, weight, labels


def _taken(rows: Any, src: Any, time: Any, weight: Any, labels: Any) -> tuple[Any, Any, Any, Any]:
    """Columns in the order of `rows`; empty ones stay empty."""
    return src[rows], time[rows] if len(time) else time, weight[rows] if len(weight) else weight, labels[:, rows]
