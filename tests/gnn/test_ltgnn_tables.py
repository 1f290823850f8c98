"""Memory in huge pages is memory as any other."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from star_platform.gnn.ltgnn import tables


@pytest.mark.parametrize("rows", [0, 3, 40_000])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_new_tables_are_zero_writable_and_outlive_their_views(rows: int, dtype: type) -> None:
    table = tables.zeros((rows, 32), dtype)
    assert table.shape == (rows, 32)
    assert table.dtype == dtype
    assert table.flags.c_contiguous
    assert not table.any()
    part = table[rows // 2 :]
    part += 1
    assert int(table.sum()) == part.size
    del table
    gc.collect()
    assert (part == 1).all()


def test_a_large_table_begins_at_a_huge_page() -> None:
    assert tables.zeros((40_000, 32)).ctypes.data % (2 << 20) == 0


def test_a_copy_is_contiguous_and_converted() -> None:
    source = np.arange(60_000 * 32, dtype=np.int64).reshape(32, 60_000).T
    found = tables.copied(source, np.int32)
    assert found.dtype == np.int32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, source)
    found[0] = -1
    assert source[0, 0] == 0
