"""Matrix products in bfloat16 under weights in float32.

Operands are rounded to bfloat16 (8 bits of mantissa); the sums of a product are float32 and rounded once, at its end.
Weights, their gradients, the optimiser and every loss stay in float32, so that small updates are not lost (Micikevicius
et al. 2018, with bfloat16's range in place of loss scaling).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.gnn.buffers import fresh
from star_platform.gnn.norm import norm_rows
from star_platform.gnn.products import weight_gradient

Precision = Literal["float32", "bf16"]


def dtype_of(precision: Precision) -> torch.dtype:
    """Of hidden states and of what products take."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def matmul(x: Tensor, weight: Tensor, precision: Precision) -> Tensor:
    """`x @ weight` in the dtype of `precision`.

    Args:
        x: `[..., k]`, float32 or bfloat16; converted where it is the other one.
        weight: float32 `[k, d]`; its gradient is float32.
        precision: of the operands and of the result.
    """
    if precision == "float32":
        product: Tensor = x.float() @ weight
        return product
    rounded: Tensor = _Bf16Matmul.apply(x.bfloat16(), weight)  # type: ignore[no-untyped-call]
    return rounded


def layer_norm(x: Tensor, norm: nn.LayerNorm, slope: float = 1.0) -> Tensor:
    """LeakyReLU of `norm(x)` in the dtype of x `[..., d]`, with statistics in float32; slope 1 leaves it out."""
    if x.device.type == "cpu":
        return norm_rows(x, norm.weight, norm.bias, norm.eps, slope)
    normed = functional.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return functional.leaky_relu(normed, slope).to(x.dtype)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight` of x `[..., k]`."""
    rows = x.flatten(0, -2)  # not reshape(-1, k): there may be no rows, or no columns
    out = fresh((len(rows), weight.shape[1]), x)
    return torch.mm(rows, weight, out=out).view(*x.shape[:-1], weight.shape[1])


class _Bf16Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight.bfloat16())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0]
        dx = _product(grad, weight.bfloat16().T) if ctx.needs_input_grad[0] else None
        dw = None
        if ctx.needs_input_grad[1]:
            dw = weight_gradient(x.flatten(0, -2), grad.flatten(0, -2))
        return dx, dw
