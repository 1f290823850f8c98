"""Gathering rows of dense features: scaled, then a missing flag, then zeros up to a width that suits the dtype.

In bfloat16 whoever reads a feature many times may have it scaled, rounded, flagged and padded once: half the bytes are
then read, and nothing is converted. Values are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import kernels
from star_platform.gnn.buffers import BufferPool, as_array, over_rows

Key = tuple[str, str]
"""Node type and feature."""
ALIGNED_COLUMNS = 32
"""Columns of bfloat16 rows are a multiple of this, the last of them 0: matrix units take so many at once."""
MOST_OF_MEMORY = 1 / 8
"""Share of the machine's memory that copies may take."""


class DenseRows:
    """Gathers into memory that goes round; thread-safe once `keep` is done."""

    def __init__(self, dtype: torch.dtype, threads: int, pool: BufferPool) -> None:
        """`dtype`: of what is gathered, float32 or bfloat16."""
        self._dtype, self._threads, self._pool = dtype, threads, pool
        self._copies: dict[Key, NDArray[np.uint16]] = {}

    def keep(self, features: Iterable[tuple[Key, NDArray[np.float32], float]]) -> None:
        """Have copies of `(key, values, scale)` of all features, if rows are gathered in bfloat16 and memory allows."""
        wanted = list(features)
        size = sum(2 * (len(values) + 1) * self._columns(values) for _, values, _ in wanted)
        if self._dtype == torch.bfloat16 and size <= MOST_OF_MEMORY * _memory():
            self._copies = {key: self._copy(values, scale) for key, values, scale in wanted}

    def gather(self, key: Key, values: NDArray[np.float32], rows: NDArray[np.int64], scale: float) -> Tensor:
        """Rows `[n]` of a feature's values `[m, dim]`, with -1 for a missing one: `[n, more than dim]`.

        Of a copy, where none is missing: `[n, dim]` or more, for no flag is set.
        """
        copy, factor = self._copies.get(key), np.float32(scale)
        flags = 1 if copy is None or rows.min(initial=0) < 0 else 0
        out = self._pool.take(len(rows), self._columns(values, flags), self._dtype)
        target = as_array(out)

        def work(first: int, last: int) -> None:
            if copy is None:
                kernels.gather_rows(first, last, values, rows, factor, target)
            else:
                kernels.take_rows(first, last, copy, rows, target)

        over_rows(work, len(rows), self._threads)
        return out

    def _copy(self, values: NDArray[np.float32], scale: float) -> NDArray[np.uint16]:
        """Every row as it is gathered, and a missing one after the last."""
        out = np.empty((len(values) + 1, self._columns(values)), dtype=np.uint16)
        given = values, np.append(np.arange(len(values)), -1), np.float32(scale), out
        over_rows(lambda first, last: kernels.gather_rows(first, last, *given), len(out), self._threads)
        return out

    def _columns(self, values: NDArray[np.float32], flags: int = 1) -> int:
        columns = int(values.shape[1]) + flags
        return columns if self._dtype != torch.bfloat16 else -(-columns // ALIGNED_COLUMNS) * ALIGNED_COLUMNS


def _memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
