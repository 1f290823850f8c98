"""Rows of a matrix for many readers each, with a gradient that costs one pass and is the same for any threads."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from star_platform.gnn import kernels
from star_platform.gnn.buffers import as_array, at_once

_COLUMNS = 32
"""Fewest columns that a thread takes: two cache lines."""


def expand(rows: Tensor, inverse: Tensor) -> Tensor:
    """`rows[inverse]`: `[n, d]` of rows `[u, d]`, float32 or bfloat16, and inverse int64 `[n]`.

    The gradient is summed in float32, by ranges of columns and in the order of the n rows.
    """
    if rows.device.type != "cpu":
        return functional.embedding(inverse, rows)
    found: Tensor = _Expanded.apply(rows, inverse)  # type: ignore[no-untyped-call]
    return found


def unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct values int64 `[u]` of `values [n]`, none negative, and the place int64 `[n]` of each among them.

    In order of first appearance on the CPU, sorted elsewhere.
    """
    if values.device.type != "cpu":
        distinct, inverse = torch.unique(values, return_inverse=True)
        return distinct, inverse
    found, places = kernels.unique_rows(values.numpy())
    return torch.from_numpy(found), torch.from_numpy(places)


class _Expanded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.distinct = len(rows)
        return rows.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (inverse,), grad = ctx.saved_tensors, grads[0].contiguous()
        return sum_rows(grad, inverse, ctx.distinct).to(grad.dtype), None


def sum_rows(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """float32 `[count, d]`: sums of the rows `[n, d]` that have the same place int64 `[n]`, on the CPU."""
    width, total = rows.shape[1], torch.zeros(count, rows.shape[1])
    threads = min(torch.get_num_threads(), max(1, width // _COLUMNS))
    cuts = np.linspace(0, width, threads + 1).astype(np.int64).tolist()
    given = (as_array(rows), places.numpy(), total.numpy())
    at_once([partial(kernels.add_rows, a, b, *given) for a, b in pairwise(cuts)], threads)
    return total
