"""Layer norm and LeakyReLU in one pass over the rows each way, of float32 or bfloat16, with sums in float32.

    h = (x - mean) / sqrt(var + eps)        y = w h + b        (Ba, Kiros, Hinton 2016)
    dx = (w g - <w g> - h <w g h>) / sqrt(var + eps)           <.> the mean over a row, g the gradient of y

The input encoders have a row for each sampled node, so the norm moves as much memory as their product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn._rows import get, put
from star_platform.gnn.buffers import PIECES, as_array, fresh, in_pieces
from star_platform.graph.kernels import fast_kernel


def norm_rows(x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float = 1.0) -> Tensor:
    """`[..., d]` of x `[..., d]` on the CPU, in its dtype; weight and bias float32 `[d]`.

    `slope`: of the LeakyReLU that follows, at values below 0; 1 for none.
    """
    found: Tensor = _Norm.apply(x, weight, bias, eps, slope)  # type: ignore[no-untyped-call]
    return found


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
        x = x.contiguous()
        rows = x.view(-1, x.shape[-1])
        out = fresh(rows.shape, rows)
        given = (as_array(rows), as_array(weight), as_array(bias), np.float32(eps), np.float32(slope))
        in_pieces(len(rows), lambda a, b, _: _forward(a, b, *given, as_array(out)))
        ctx.save_for_backward(x, weight, bias)
        ctx.eps, ctx.slope = eps, slope
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        width = x.shape[-1]
        grad, dx = grads[0].contiguous(), fresh((x.numel() // width, width), x)
        parts = torch.zeros(PIECES, 2, width)
        given = [as_array(each.view(-1, width)) for each in (x, grad, dx)]
        held = (as_array(weight), as_array(bias), np.float32(ctx.eps), np.float32(ctx.slope))
        in_pieces(len(given[0]), lambda a, b, piece: _backward(a, b, *given, *held, as_array(parts[piece])))
        total = parts.sum(0)
        return dx.view(x.shape), total[0], total[1], None, None


@fast_kernel
def _moments(source: NDArray[Any], row: NDArray[np.float32], eps: np.float32) -> tuple[np.float32, np.float32]:
    """The row in float32 into `row`; its mean and 1 / sqrt(variance + eps)."""
    width = len(row)
    total = np.float32(0.0)
    for j in range(width):
        row[j] = get(source, j)
        total += row[j]
    mean = np.float32(total / np.float32(width))
    spread = np.float32(0.0)
    for j in range(width):
        spread += (row[j] - mean) * (row[j] - mean)
    return mean, np.float32(1.0) / np.sqrt(np.float32(spread / np.float32(width)) + eps)


@fast_kernel
def _forward(
    first: int,
    last: int,
    x: NDArray[Any],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    eps: np.float32,
    slope: np.float32,
    out: NDArray[Any],
) -> None:
    """Rows `first .. last` of `out`."""
    width = x.shape[1]
    row = np.empty(width, dtype=np.float32)
    for i in range(first, last):
        mean, scale = _moments(x[i], row, eps)
        target = out[i]
        for j in range(width):
            value = (row[j] - mean) * scale * weight[j] + bias[j]
            put(target, j, value if value > 0 else slope * value)


@fast_kernel
def _backward(
    first: int,
    last: int,
    x: NDArray[Any],
    grad: NDArray[Any],
    dx: NDArray[Any],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    eps: np.float32,
    slope: np.float32,
    sums: NDArray[np.float32],
) -> None:
    """Rows `first .. last` of `dx`; into `sums [2, d]` their part of the gradients of weight and bias."""
    width = x.shape[1]
    row, pull = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    by_weight, by_bias = sums[0], sums[1]
    share = np.float32(1.0) / np.float32(width)
    for i in range(first, last):  # short loops over few arrays each: the compiler has to prove them apart
        mean, scale = _moments(x[i], row, eps)
        source, target = grad[i], dx[i]
        for j in range(width):
            row[j] = (row[j] - mean) * scale
            pull[j] = get(source, j)
        for j in range(width):
            pull[j] *= np.float32(1.0) if row[j] * weight[j] + bias[j] > 0 else slope
        for j in range(width):
            by_weight[j] += pull[j] * row[j]
        one, two = np.float32(0.0), np.float32(0.0)
        for j in range(width):
            by_bias[j] += pull[j]
        for j in range(width):
            pull[j] *= weight[j]
            one += pull[j]
            two += pull[j] * row[j]
        one, two = np.float32(one * share), np.float32(two * share)
        for j in range(width):
            put(target, j, scale * (pull[j] - one - row[j] * two))
