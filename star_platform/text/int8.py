"""Linear maps in 8-bit integers, for CPUs whose vector units multiply those several times faster than floats.

Weights are quantised once, with a scale per output; activations at every call, with a scale per *token* (as in
ZeroQuant, Yao et al. 2022, arXiv 2206.01861, section 3.1). A scale per tensor, which the usual dynamic quantisation
has, would let one text of a batch change the vectors of all others. Products are summed in int32, which is exact: a
token's result is the same in every batch, on every CPU and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from star_platform.errors import TextError

_STEPS = np.float32(255.0)
_SMALLEST = np.float32(1e-30)


class Int8Linear(nn.Module):
    """`x W^T + b` with W int8; x float32 `[..., in]`, the result float32 `[..., out]`."""

    def __init__(
        self, weight: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool = False
    ) -> None:
        """Of int8 `[out, in]`, float32 `[out]` and float32 `[out]`; with `gelu`, that follows in the same pass."""
        super().__init__()
        self._gelu = gelu
        self.out_features, self.in_features = weight.shape
        self.scales, self.bias = scales, bias
        self._weight = weight
        self._sums = (weight.to(torch.int64).sum(1).to(torch.float32) * scales).numpy()
        self._bias = (torch.zeros(self.out_features) if bias is None else bias).numpy()
        self._packed = torch.ops.onednn.qlinear_prepack(weight, None)
        self._zeros = torch.zeros(self.out_features, dtype=torch.int32)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The map with its weights rounded to 127 levels on either side of zero, by output."""
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=float(_SMALLEST)) / 127.0
        levels = (weight / scales[:, None]).round().to(torch.int8)
        return cls(levels, scales, None if linear.bias is None else linear.bias.detach().float())

    @classmethod
    def side_by_side(cls, maps: Sequence[Int8Linear]) -> Int8Linear:
        """One map with the outputs of all, which read the same input; quantised by output, so nothing changes."""
        biases = [each.bias for each in maps if each.bias is not None]
        return cls(
            torch.cat([each._weight for each in maps]),
            torch.cat([each.scales for each in maps]),
            torch.cat(biases) if len(biases) == len(maps) else None,
        )

    def with_gelu(self) -> Int8Linear:
        """The map with GELU behind it, up to 3e-5: the pass over the output that rescales it does both."""
        return Int8Linear(self._weight, self.scales, self.bias, gelu=True)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rows = states.reshape(-1, self.in_features).contiguous()
        levels, steps, low = quantise_rows(rows.numpy())
        out: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            torch.from_numpy(levels), 1.0, 0, self._packed, self.scales, self._zeros, None, 1.0, 0,
            torch.float32, "none", [], "",
        )  # fmt: skip
        finish = _rescale_rows_gelu if self._gelu else _rescale_rows
        finish(out.numpy(), steps, low, self._sums, self._bias)
        return out.view(*states.shape[:-1], self.out_features)


def quantise(model: nn.Module) -> nn.Module:
    """The model with every linear map in int8; embeddings, norms and attention stay float32.

    Raises:
        TextError: T012 where this CPU or torch build has no exact int8 product.
    """
    check_kernel()
    for name, child in list(model.named_children()):
        if isinstance(child, nn.Linear):
            setattr(model, name, Int8Linear.of(child))
        else:
            quantise(child)
    return model


def check_kernel() -> None:
    """Raise TextError T012 unless the integer product of this CPU is exact at its largest sums."""
    rows = torch.full((64, 256), 255.0)
    rows[:, 0] = 0.0  # so that 255 is the highest level, and steps are 1
    signs = torch.ones(64, 256)
    signs[::2] = -1.0
    linear = nn.Linear(256, 64, bias=False)
    linear.weight.data = 127.0 * signs
    try:
        exact = torch.equal(Int8Linear.of(linear)(rows), rows @ linear.weight.detach().T)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise _no_kernel(error) from error
    if not exact:  # old CPUs add pairs of products in 16 bits, and overflow
        raise _no_kernel("its sums overflow")


def _no_kernel(why: object) -> TextError:
    return TextError(
        "T012",
        f"this machine has no exact product of 8-bit integers: {why}",
        hint="write `precision: float32` below `text:`",
    )


def quantise_rows(
    rows: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """uint8 levels `[t, n]`, float32 steps and lows `[t]`, such that `levels * step + low` is close to each row.

    Levels go from the smallest to the largest number of a row: what comes out of GELU has next to nothing below zero.
    """
    low, high = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    _ranges(rows.view(np.int32), low.view(np.int32), high.view(np.int32))
    steps = np.maximum((high - low) / _STEPS, _SMALLEST)
    levels = np.empty(rows.shape, np.uint8)
    _round_rows(rows, low, np.float32(1.0) / steps, levels)
    return levels, steps, low


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _ranges(bits: Any, low: Any, high: Any) -> None:
    """Smallest and largest of each row of floats, as bits: as integers of the same order, so that it vectorises."""
    for i in range(bits.shape[0]):
        least, most = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
        for j in range(bits.shape[1]):
            value = np.int32(bits[i, j] ^ ((bits[i, j] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            least = value if value < least else least
            most = value if value > most else most
        low[i] = np.int32(least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        high[i] = np.int32(most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _round_rows(rows: Any, low: Any, factors: Any, levels: Any) -> None:
    for i in range(rows.shape[0]):
        least, factor = low[i], factors[i]
        for j in range(rows.shape[1]):
            level = np.int32(np.rint(np.float32((rows[i, j] - least) * factor)))
            levels[i, j] = np.uint8(min(max(level, np.int32(0)), np.int32(255)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rescale_rows(out: Any, steps: Any, low: Any, sums: Any, bias: Any) -> None:
    """`out * steps[:, None] + low[:, None] * sums + bias`, in place: the second term is what the lowest level adds."""
    for i in range(out.shape[0]):
        step, least = steps[i], low[i]
        for j in range(out.shape[1]):
            out[i, j] = out[i, j] * step + (least * sums[j] + bias[j])


_EDGE, _HALF = np.float32(4.5), np.float32(0.5)
"""Beyond the edge the normal distribution function is 0 or 1, up to 3e-6."""
_C0, _C1, _C2 = np.float32(0.39892176), np.float32(-0.06641195), np.float32(0.009884154)
_C3, _C4, _C5 = np.float32(-0.0011396962), np.float32(0.00010108663), np.float32(-6.732202e-06)
_C6, _C7, _C8, _C9 = (
    np.float32(3.216897e-07),
    np.float32(-1.0286723e-08),
    np.float32(1.9531407e-10),
    np.float32(-1.6542202e-12),
)
"""(Phi(x) - 1/2) / x as a polynomial of x^2 up to the edge, a weighted least-squares fit at Chebyshev nodes."""


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rescale_rows_gelu(out: Any, steps: Any, low: Any, sums: Any, bias: Any) -> None:
    """As `_rescale_rows`, then `x Phi(x)`: libraries have no error function that vectorises here."""
    for i in range(out.shape[0]):
        step, least = steps[i], low[i]
        for j in range(out.shape[1]):
            x = np.float32(out[i, j] * step + (least * sums[j] + bias[j]))
            near = min(max(x, -_EDGE), _EDGE)
            s = near * near
            p = _C9 * s + _C8
            p = p * s + _C7
            p = p * s + _C6
            p = p * s + _C5
            p = p * s + _C4
            p = p * s + _C3
            p = p * s + _C2
            p = p * s + _C1
            p = p * s + _C0
            out[i, j] = x * (_HALF + near * p)
