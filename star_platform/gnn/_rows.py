"""Numba's missing words: bfloat16 rows, prefetching of rows that are met at random, and stores past the caches."""

# ruff: noqa: ARG001 - arguments of intrinsics are types, and only their names are looked at
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from star_platform.graph.kernels import fast_kernel


@intrinsic  # type: ignore[untyped-decorator]
def _float_of_bits(_context: Any, bits: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of_float(_context: Any, value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_context: Any, array: Any, i: Any, j: Any) -> Any:
    """Ask for the cache line of `array[i, j]`; a row that is met at random is then there when its turn comes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        found = context.make_array(kind)(context, builder, arguments[0])
        item = cgutils.get_item_pointer(context, builder, kind, found, arguments[1:], False, False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        hints = [ir.Constant(word, hint) for hint in (0, 3, 1)]  # to read, keep close, data
        builder.call(function, [builder.bitcast(item, byte), *hints])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def copy_line(_context: Any, source: Any, u: Any, out: Any, v: Any, j: Any) -> Any:
    """`out[v, j:j + 32] = source[u, j:j + 32]` of uint16, past the caches: nothing is read of what is overwritten.

    `out[v, j]` begins a cache line. Another thread sees it once a lock has changed hands, which empties such stores.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, word = ir.VectorType(ir.IntType(32), 16), ir.IntType(32)

        def place(array: int, row: int) -> Any:
            kind = signature.args[array]
            found = context.make_array(kind)(context, builder, arguments[array])
            item = cgutils.get_item_pointer(context, builder, kind, found, [arguments[row], arguments[4]], False, False)
            return builder.bitcast(item, line.as_pointer())

        store = builder.store(builder.load(place(0, 1), align=2), place(2, 3), align=64)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(word, 1)]))
        return context.get_dummy_value()

    return types.void(source, types.intp, out, types.intp, types.intp), generate


@fast_kernel
def expect(rows: Any, u: Any, begin: Any, end: Any) -> None:
    """Prefetch columns `begin .. end` of row u."""
    step = 64 // rows.itemsize
    for j in range(begin, end, step):
        _prefetch(rows, u, j)


def get(row: Any, j: Any) -> Any:
    """`row[j]` as float32."""
    return row[j]


def put(row: Any, j: Any, value: Any) -> None:
    """`row[j] = value`, rounded to nearest even where the row is bfloat16."""
    row[j] = value


@overload(get, inline="always")  # type: ignore[untyped-decorator]
def _get(row: Any, j: Any) -> Any:
    if row.dtype == types.uint16:

        def widened(row: Any, j: Any) -> Any:
            return _float_of_bits(np.uint32(np.uint32(row[j]) << np.uint32(16)))

        return widened

    def plain(row: Any, j: Any) -> Any:
        return row[j]

    return plain


@overload(put, inline="always")  # type: ignore[untyped-decorator]
def _put(row: Any, j: Any, value: Any) -> Any:
    if row.dtype == types.uint16:

        def rounded(row: Any, j: Any, value: Any) -> None:
            bits = _bits_of_float(np.float32(value))
            row[j] = np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return rounded

    def plain(row: Any, j: Any, value: Any) -> None:
        row[j] = value

    return plain
