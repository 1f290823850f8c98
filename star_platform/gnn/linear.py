"""Projections of rows sorted by node type, each type with weights of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from star_platform.gnn._rows import get
from star_platform.gnn.buffers import PIECES, as_array, fresh, in_pieces
from star_platform.gnn.products import weight_gradient
from star_platform.graph.kernels import fast_kernel


def alike(count: int, width: int, out: int) -> Tensor:
    """`[count, width, out]` identities, repeated or cut to shape, with a little noise: the start of every projection.

    So nodes of all types and messages of all relations share one space from the first step, and two nodes that
    have something in common, a text or a neighbour, begin with a positive dot product.
    """
    copies = -(-max(width, out) // min(width, out))
    eye = torch.eye(min(width, out))
    start = eye.repeat(1, copies)[:, :out] if out >= width else eye.repeat(copies, 1)[:width] / copies
    noisy: Tensor = start.repeat(count, 1, 1) + torch.randn(count, width, out) * (0.1 * width**-0.5)
    return noisy


class TypedLinear(nn.Module):
    """The weights of a bias-free projection per node type."""

    def __init__(self, num_types: int, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(alike(num_types, width, out))


def project(
    rows: Sequence[Tensor], linears: Sequence[TypedLinear], slices: Sequence[int], bias: Tensor | None = None
) -> Tensor:
    """`[n, out]`: the sum over all `rows [n, width]` of their projections, in their dtype.

    Args:
        rows: one matrix for each of `linears`.
        linears: the weights.
        slices: rows of type t are `slices[t]:slices[t + 1]`.
        bias: `[num_types, out]`.
    """
    found: Tensor = _Projected.apply(  # type: ignore[no-untyped-call]
        tuple(slices), bias, *rows, *(linear.weight for linear in linears)
    )
    return found


class _Projected(torch.autograd.Function):
    """Every product is written where it belongs, in both directions: nothing is put together afterwards."""

    @staticmethod
    def forward(ctx: Any, slices: tuple[int, ...], bias: Tensor | None, *given: Tensor) -> Tensor:
        rows, weights = given[: len(given) // 2], given[len(given) // 2 :]
        rounded = [weight.to(rows[0].dtype) for weight in weights]
        shifts = None if bias is None else bias.to(rows[0].dtype)
        out = fresh((len(rows[0]), weights[0].shape[2]), rows[0])
        for t, (first, last) in enumerate(pairwise(slices)):
            if first == last:
                continue
            part = out[first:last]
            if shifts is None:
                torch.mm(rows[0][first:last], rounded[0][t], out=part)
            else:
                torch.addmm(shifts[t], rows[0][first:last], rounded[0][t], out=part)
            for each, weight in zip(rows[1:], rounded[1:], strict=True):
                part.addmm_(each[first:last], weight[t])
        ctx.save_for_backward(*rows, *weights)
        ctx.slices, ctx.biased = slices, bias is not None
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given, grad = ctx.saved_tensors, grads[0].contiguous()
        rows, weights = given[: len(given) // 2], given[len(given) // 2 :]
        backwards = [weight.to(grad.dtype).transpose(1, 2).contiguous() for weight in weights]
        of_rows = [fresh(each.shape, each) for each in rows]
        of_weights = [torch.zeros_like(weight) for weight in weights]
        of_bias = torch.zeros(len(ctx.slices) - 1, grad.shape[1], device=grad.device) if ctx.biased else None
        for t, (first, last) in enumerate(pairwise(ctx.slices)):
            if first == last:
                continue
            part = grad[first:last]
            if of_bias is not None:
                of_bias[t] = _column_sums(part)
            for place, each in enumerate(rows):
                torch.mm(part, backwards[place][t], out=of_rows[place][first:last])
                of_weights[place][t] = weight_gradient(each[first:last], part)
        return None, of_bias, *of_rows, *of_weights


def _column_sums(rows: Tensor) -> Tensor:
    """float32 `[d]` of rows `[n, d]`: torch would make a float32 copy of bfloat16 first."""
    if rows.device.type != "cpu":
        return rows.sum(0, dtype=torch.float32)
    parts = torch.zeros(PIECES, rows.shape[1])
    in_pieces(len(rows), lambda first, last, piece: _add_up(first, last, as_array(rows), as_array(parts[piece])))
    return parts.sum(0)


@fast_kernel
def _add_up(first: Any, last: Any, rows: Any, out: Any) -> None:
    width = rows.shape[1]
    total = np.zeros(width, np.float32)
    for i in range(first, last):
        row = rows[i]
        for j in range(width):
            total[j] += get(row, j)
    for j in range(width):
        out[j] += total[j]
