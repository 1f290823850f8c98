"""Rows on their way to be sorted: partitioned by key range, in memory while they fit, then in an unlinked file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Columns = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class _Run:
    """Rows that arrived together, ordered by bucket; `offsets[b]:offsets[b + 1]` are those of bucket b."""

    offsets: npt.NDArray[np.int64]
    columns: Columns = ()
    places: tuple[int, ...] = field(default=())
    """Where each column starts in the file, when it is there."""


class Spool:
    """Collects runs of partitioned rows and gives them back by ranges of buckets.

    Args:
        dtypes: of the columns.
        buckets: how many key ranges the rows are partitioned into.
        memory: bytes of rows to hold before further runs go to the file.
        folder: where the file is; it has no name, so nothing is left behind by a killed process.
    """

    def __init__(self, dtypes: tuple[npt.DTypeLike, ...], buckets: int, memory: int, folder: Path) -> None:
        self._dtypes = tuple(np.dtype(dtype) for dtype in dtypes)
        self.row_bytes = sum(dtype.itemsize for dtype in self._dtypes)
        self._memory = memory
        self._folder = folder
        self._runs: list[_Run] = []
        self._held = 0
        self._file: int | None = None
        self._end = 0
        self.sizes = np.zeros(buckets, np.int64)
        """Rows of each bucket so far."""

    def append(self, offsets: npt.NDArray[np.int64], columns: Columns) -> None:
        """Take a run; its arrays now belong to the spool."""
        size = int(offsets[-1]) * self.row_bytes
        if self._held + size <= self._memory:
            self._runs.append(_Run(offsets, columns))
            self._held += size
        else:
            self._runs.append(_Run(offsets, (), tuple(self._write(column) for column in columns)))
        self.sizes += np.diff(offsets)

    def groups(self, rows: int) -> Iterator[tuple[int, int]]:
        """Consecutive bucket ranges `[first, last)` of at most `rows` rows, or of one bucket that has more."""
        first, held = 0, 0
        for bucket, size in enumerate(self.sizes.tolist()):
            if bucket > first and held + size > rows:
                yield first, bucket
                first, held = bucket, 0
            held += size
        yield first, len(self.sizes)

    def read(self, first: int, last: int) -> Columns:
        """The rows of buckets `[first, last)`, in the order of the runs; safe from several threads at once."""
        total = int(self.sizes[first:last].sum())
        out = tuple(np.empty(total, dtype) for dtype in self._dtypes)
        at = 0
        for run in self._runs:
            low, high = int(run.offsets[first]), int(run.offsets[last])
            if low == high:
                continue
            for index, target in enumerate(out):
                piece = target[at : at + high - low]
                if run.columns:
                    piece[:] = run.columns[index][low:high]
                else:
                    self._read(piece, run.places[index] + low * piece.itemsize)
            at += high - low
        return out

    def _write(self, column: npt.NDArray[Any]) -> int:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder) as file:
                self._file = os.dup(file.fileno())
        place, data = self._end, np.ascontiguousarray(column).data.cast("B")
        while len(data):
            written = os.pwrite(self._file, data, self._end)
            self._end += written
            data = data[written:]
        return place

    def _read(self, target: npt.NDArray[Any], place: int) -> None:
        assert self._file is not None  # noqa: S101 - a run without columns is in the file
        data = target.data.cast("B")
        while len(data):
            read = os.preadv(self._file, [data], place)
            if read == 0:
                raise OSError("the scratch file is shorter than what was written to it")
            place += read
            data = data[read:]

    def close(self) -> None:
        self._runs.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
