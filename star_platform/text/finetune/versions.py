"""The texts of one feature as they were at a time: `texts.parquet` of the graph, read by row group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from star_platform.errors import TextError
from star_platform.text.finetune.actions import BoolArray, Int64Array

ALWAYS = int(np.iinfo(np.int64).min)
NONE = -1


@dataclass(frozen=True)
class TextVersions:
    """Versions of node i are the rows `indptr[i]:indptr[i + 1]`, `valid_from` ascending."""

    path: Path
    indptr: Int64Array
    """`[nodes + 1]`."""
    valid_from: Int64Array
    """`[rows]`, microseconds; `ALWAYS` where no time is known."""
    present: BoolArray
    """`[rows]`, False for an empty text: from then on the node has none."""

    @property
    def versioned(self) -> bool:
        return bool((self.valid_from != ALWAYS).any())

    @property
    def nodes(self) -> Int64Array:
        """Nodes with any text, ascending."""
        before = np.concatenate([[0], np.cumsum(self.present)])
        return np.flatnonzero(before[self.indptr[1:]] > before[self.indptr[:-1]])

    def rows_at(self, nodes: Int64Array, times: Int64Array) -> Int64Array:
        """int64 `[n]`: the row that held at each time, `NONE` without one. Never one that became valid later."""
        known = nodes < len(self.indptr) - 1
        inside = np.where(known, nodes, 0)
        first = self.indptr[inside]
        last = np.where(known, self.indptr[inside + 1], first)
        row = _last_not_after(self.valid_from, first, last, times)
        return np.where((row >= first) & known & self.present[np.maximum(row, 0)], row, NONE)

    def read(self, rows: Int64Array) -> Iterator[list[str]]:
        """Texts of `rows` (ascending, without repetition), as many at a time as a row group of the file has."""
        with pq.ParquetFile(self.path, memory_map=True) as file:
            begin = 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [begin, end])
                if high > low:
                    column = file.read_row_group(group, ["text"]).column("text")
                    yield column.take(pa.array(rows[low:high] - begin)).to_pylist()
                begin = end


def open_versions(path: Path) -> TextVersions:
    """The versions in a `texts.parquet` (node int32, valid_from int64 or null, text), sorted by node and time.

    Raises:
        TextError: T022 when the file cannot be read, or is not sorted.
    """
    try:
        table = pq.read_table(path, columns=["node", "valid_from"], memory_map=True)
        present = np.concatenate([np.zeros(0, np.bool_), *_presence(path)])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise TextError("T022", f"texts {path} cannot be read: {error}", hint="release again") from error
    node = table.column("node").to_numpy().astype(np.int64)
    valid_from = table.column("valid_from").fill_null(ALWAYS).to_numpy()
    step = np.diff(node)
    if (step < 0).any() or ((step == 0) & (np.diff(valid_from) < 0)).any():
        raise TextError("T022", f"texts {path} are not sorted by node and valid_from")
    indptr = np.searchsorted(node, np.arange((int(node[-1]) if len(node) else -1) + 2))
    return TextVersions(path, indptr.astype(np.int64), valid_from, present)


def _presence(path: Path) -> Iterator[npt.NDArray[np.bool_]]:
    with pq.ParquetFile(path, memory_map=True) as file:
        for batch in file.iter_batches(columns=["text"]):
            lengths = pc.utf8_length(pc.utf8_trim_whitespace(batch.column(0)))
            yield pc.greater(lengths, 0).fill_null(False).to_numpy(zero_copy_only=False)


def _last_not_after(valid_from: Int64Array, first: Int64Array, last: Int64Array, times: Int64Array) -> Int64Array:
    """For each k the last row in `[first, last)` with `valid_from <= time`, or `first - 1`; bisects all at once."""
    low, high = first.copy(), last.copy()
    while (open_ := low < high).any():
        middle = (low + high) >> 1
        holds = np.zeros(len(low), np.bool_)
        holds[open_] = valid_from[middle[open_]] <= times[open_]
        low = np.where(open_ & holds, middle + 1, low)
        high = np.where(open_ & ~holds, middle, high)
    return low - 1
