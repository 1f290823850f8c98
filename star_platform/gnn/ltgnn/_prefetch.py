"""Ask the processor for a row before it is needed.

Rows of a large table that are read in no order come from main memory one by one; asked for some rows ahead they come
together. Measured: 250 ns a row of 64 float32 out of 200 MB, 105 ns when asked for 8 rows ahead. The first cache waits
for sixteen lines at a time and no more; what is asked for into the second cache, further ahead, does not hold it up.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LINE = 64
_FIRST, _SECOND = 3, 2  # LLVM's words for caches


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_typing: Any, array: Any, place: Any) -> Any:
    """Fetch the cache lines of `array[place]`, a row of a two-dimensional C-ordered array or one entry of another."""
    return types.void(array, place), _generator(_FIRST)


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_far(_typing: Any, array: Any, place: Any) -> Any:
    """`prefetch` into the second cache."""
    return types.void(array, place), _generator(_SECOND)


def _generator(cache: int) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0])
        strides = cgutils.unpack_tuple(builder, data.strides)
        word = strides[0].type
        index = builder.sext(arguments[1], word) if arguments[1].type.width < word.width else arguments[1]
        byte = ir.IntType(8).as_pointer()
        first = builder.gep(builder.bitcast(data.data, byte), [builder.mul(index, strides[0])])
        number = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0i8"
        )

        def fetch(offset: Any) -> None:
            builder.call(function, [builder.gep(first, [offset]), number(0), number(cache), number(1)])

        if kind.ndim == 1:
            fetch(word(0))
        else:
            lines = builder.udiv(builder.add(strides[0], word(_LINE - 1)), word(_LINE))
            with cgutils.for_range(builder, lines) as loop:
                fetch(builder.mul(loop.index, word(_LINE)))
        return context.get_dummy_value()

    return generate
