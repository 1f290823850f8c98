"""`.npy` files written a piece at a time, so that an array never has to be whole in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.lib.format as npy_format
import numpy.typing as npt


class NpyWriter:
    """Appends rows to one C-ordered array; the file is valid after `close`, which fills in the number of rows."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, columns: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._dtype = np.dtype(dtype)
        self._tail = () if columns is None else (columns,)
        self.rows = 0
        self._header()
        self._start = self._file.tell()

    def _header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, *self._tail)}
        npy_format.write_array_header_1_0(self._file, header)  # pads for the longest possible row count

    def append(self, rows: npt.NDArray[Any]) -> None:
        rows = np.ascontiguousarray(rows, dtype=self._dtype)
        if rows.shape[1:] != self._tail:
            raise ValueError(f"rows of shape {rows.shape[1:]} into an array of {self._tail}")
        self._file.write(rows.data)
        self.rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        if self._file.tell() != self._start:
            raise ValueError("the .npy header changed its length")
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
