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

_LEVELS = np.float32(127.0)
_SMALLEST = np.float32(1e-30)


class Int8Linear(nn.Module):
    """`x W^T + b` with W int8; x float32 `[..., in]`, the result float32 `[..., out]`."""

    scales: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Of int8 `[out, in]`, float32 `[out]` and float32 `[out]`."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)
        self._weight = weight
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

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rows = states.reshape(-1, self.in_features).contiguous()
        levels, scales = quantise_rows(rows.numpy())
        out: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            torch.from_numpy(levels), 1.0, 0, self._packed, self.scales, self._zeros, None, 1.0, 0,
            torch.float32, "none", [], "",
        )  # fmt: skip
        _rescale_rows(out.numpy(), scales, self._bias)
        return out.view(*states.shape[:-1], self.out_features)

    @property
    def _bias(self) -> npt.NDArray[np.float32]:
        found = torch.zeros(self.out_features) if self.bias is None else self.bias
        return found.numpy()


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
    extreme = torch.full((64, 256), -127.0)
    extreme[::2] = 127.0
    linear = nn.Linear(256, 64, bias=False)
    linear.weight.data = extreme.clone()
    try:
        found: Any = Int8Linear.of(linear)(extreme)
        exact = torch.equal(found, extreme @ extreme.T)
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
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 levels `[t, n]` and float32 scales `[t]` such that `levels * scales[:, None]` is close to `rows`."""
    levels, largest = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
    _largest(rows.view(np.int32), largest.view(np.int32))
    np.maximum(largest, _SMALLEST, out=largest)
    _round_rows(rows, _LEVELS / largest, levels)
    return levels, largest / _LEVELS


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _largest(bits: Any, largest: Any) -> None:
    """The largest absolute value of each row, all as bits: ordered like the floats, and a maximum that vectorises."""
    for i in range(bits.shape[0]):
        found = np.int32(0)
        for j in range(bits.shape[1]):
            value = np.int32(bits[i, j] & np.int32(0x7FFFFFFF))
            found = value if value > found else found
        largest[i] = found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _round_rows(rows: Any, factors: Any, levels: Any) -> None:
    for i in range(rows.shape[0]):
        factor = factors[i]
        for j in range(rows.shape[1]):
            levels[i, j] = np.int8(np.int32(np.rint(np.float32(rows[i, j] * factor))))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rescale_rows(out: Any, scales: Any, bias: Any) -> None:
    """`out * scales[:, None] + bias`, in place."""
    for i in range(out.shape[0]):
        scale = scales[i]
        for j in range(out.shape[1]):
            out[i, j] = out[i, j] * scale + bias[j]
