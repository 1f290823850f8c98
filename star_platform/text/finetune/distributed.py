"""Several processes that take the same steps: each encodes its share of a batch, all compute the loss on all of it.

The loss needs every vector of the batch, and is cheap beside the encoder; so vectors are gathered, every process
computes the same loss, and each propagates its own share back. Gradients of the encoder are then summed, not averaged,
and those of the head are equal everywhere already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor


class Group(Protocol):
    """The processes of a run."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""


class Alone:
    """One process."""

    rank = 0
    size = 1

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Nothing to add."""


class TorchGroup:
    """The default group of `torch.distributed`, once it is initialised (gloo on CPUs)."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)


ALONE: Group = Alone()
