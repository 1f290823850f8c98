"""Numba's missing words for the matrix units of x86 processors (AMX): tiles of 16 rows of 64 bytes.

A tile of bfloat16 `a [16, 32]` times a tile of pairs `b [16, 16, 2]` is added to a tile of float32 `[16, 16]`
(TDPBF16PS, Intel 64 Software Developer's Manual, volume 2). Both operands are handed over as uint32, two bfloat16 each.
"""

# ruff: noqa: ARG001 - arguments of intrinsics are types, and only their names are looked at
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

ROWS = 32
"""Rows of the operands that one step multiplies: 16 pairs."""
_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_LINE = 64
"""Bytes of a tile's row."""


def palette() -> NDArray[np.uint8]:
    """The configuration of eight full tiles, uint8 `[64]`."""
    found = np.zeros(64, dtype=np.uint8)
    found[0] = 1
    found[16:32:2] = _LINE
    found[48:56] = 16
    return found


def _call(builder: Any, name: str, arguments: list[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [each.type for each in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Where item `at` of a flat array is."""
    return builder.bitcast(
        builder.gep(context.make_array(kind)(context, builder, array).data, [at]), _BYTE.as_pointer()
    )


@intrinsic  # type: ignore[untyped-decorator]
def configure(_context: Any, settings: Any) -> Any:
    """Tiles are as `palette` says on this thread, until `release`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = _place(context, builder, signature.args[0], arguments[0], ir.Constant(_LONG, 0))
        _call(builder, "ldtilecfg", [start])
        return context.get_dummy_value()

    return types.void(settings), generate


@intrinsic  # type: ignore[untyped-decorator]
def release(_context: Any) -> Any:
    """Tiles are free again."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        _call(builder, "tilerelease", [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_products(
    _context: Any, left: Any, i: Any, height: Any, right: Any, j: Any, width: Any, steps: Any, out: Any
) -> Any:
    """Products of 32 columns of the left and of the right operand, from i and j on, as 2 x 2 tiles.

    They are added to `out[i:i + 32, j:j + 32]`.

    Args:
        left: uint32 `[steps, height, 16]`, flat: of each step the columns, each of 16 pairs of rows.
        i: multiple of 32.
        height: columns of the left operand.
        right: uint32 `[16 steps, width]`, flat: pairs of rows.
        j: multiple of 32.
        width: columns of the right operand.
        steps: of `ROWS` rows.
        out: float32 `[height, width]`, flat.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, i, height, right, j, width, steps, out = arguments
        of_left, of_right, of_out = signature.args[0], signature.args[3], signature.args[7]
        line, wide, half = (ir.Constant(_LONG, number) for number in (_LINE, 16, 16))
        stride = builder.mul(width, ir.Constant(_LONG, 4))

        def load(tile: int, kind: Any, array: Any, at: Any, pitch: Any) -> None:
            _call(builder, "tileloadd64", [ir.Constant(_BYTE, tile), _place(context, builder, kind, array, at), pitch])

        corners = []
        for row in (i, builder.add(i, half)):
            start = builder.add(builder.mul(row, width), j)
            corners += [start, builder.add(start, half)]
        for tile, at in enumerate(corners):
            load(tile, of_out, out, at, stride)
        with cgutils.for_range(builder, steps, intp=_LONG) as loop:
            column = builder.add(builder.mul(loop.index, height), i)
            pair = builder.add(builder.mul(builder.mul(loop.index, wide), width), j)
            for tile, at in ((4, column), (5, builder.add(column, half))):
                load(tile, of_left, left, builder.mul(at, wide), line)
            for tile, at in ((6, pair), (7, builder.add(pair, half))):
                load(tile, of_right, right, at, stride)
            for tile, (one, other) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
                _call(builder, "tdpbf16ps", [ir.Constant(_BYTE, each) for each in (tile, one, other)])
        for tile, at in enumerate(corners):
            place = _place(context, builder, of_out, out, at)
            _call(builder, "tilestored64", [ir.Constant(_BYTE, tile), place, stride])
        return context.get_dummy_value()

    long = types.int64
    return types.void(left, long, long, right, long, long, long, out), generate
