"""Learned vectors of ids: tables of millions of rows of which a step touches a few, and hashed ids.

*Hashed ids* (QR trick, Shi et al. 2020; as LiRank uses it, arXiv 2402.06859): the 64-bit hash of an
external id is cut into two 32-bit numbers, each names a row of a table, and the two rows are added (their product
would vanish near 0). Two ids share both rows with a chance of 1 / buckets^2. There are no unknown ids: whatever comes
has rows, and equal external ids have the same ones in every release.

*Row-wise Adam*: the gradient of a step is held for the distinct rows that it read, `[u, dim]`; no gradient, moment or
weight of another row is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from star_platform.errors import TrainingError
from star_platform.gnn import kernels
from star_platform.gnn.buffers import over_rows
from star_platform.gnn.gathering import expand, sum_rows, unique

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def hashed_rows(ids: pa.Array[Any], buckets: int) -> NDArray[np.int64]:
    """int64[n, 2]: rows of each external id in a table of `2 * buckets` rows, the first half and the second."""
    content, ends = text_bytes(ids)
    return np.asarray(kernels.hash_rows(content, ends, buckets))


def text_bytes(ids: pa.Array[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The ids as UTF-8, end to end, and int64[n + 1] where each begins."""
    text = ids.cast(pa.large_string())
    _, ends, data = text.buffers()
    first = text.offset
    offsets = np.frombuffer(memoryview(ends or b""), dtype=np.int64)[first : first + len(text) + 1]
    return np.frombuffer(memoryview(data or b""), dtype=np.uint8), offsets


@dataclass(frozen=True)
class _Reading:
    """Rows that a forward pass has read, and the leaf of its graph in which their gradient arrives."""

    rows: Tensor
    leaf: Tensor


class IdTable(nn.Module):
    """A table `[rows, dim]`; a `sparse` one is moved by `RowAdam` and not by a dense optimiser."""

    def __init__(self, rows: int, dim: int, *, spread: float = 1.0, sparse: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, dim) * spread, requires_grad=not sparse)
        self.sparse = sparse
        self._readings: list[_Reading] = []

    def forward(self, rows: Tensor) -> Tensor:
        """`[n, dim]` of int64 `[n]`."""
        if not self.sparse or not torch.is_grad_enabled() or not self.training:
            return functional.embedding(rows, self.weight)
        distinct, inverse = unique(rows)
        leaf = self.weight.detach().index_select(0, distinct).requires_grad_()
        self._readings.append(_Reading(distinct, leaf))
        return expand(leaf, inverse)

    @property
    def leaves(self) -> list[Tensor]:
        """The leaves since the last `clear`, whose `grad` is that of their rows: for the norm of all gradients."""
        return [reading.leaf for reading in self._readings]

    def clear(self) -> None:
        """Forget what was read."""
        self._readings = []

    def gradient(self) -> tuple[Tensor, Tensor] | None:
        """Distinct rows int64 `[u]` and their gradient float32 `[u, dim]` since `clear`; None where there is none."""
        read = [(reading.rows, reading.leaf.grad) for reading in self._readings if reading.leaf.grad is not None]
        if not read:
            return None
        rows, grads = torch.cat([rows for rows, _ in read]), torch.cat([grad for _, grad in read if grad is not None])
        if len(read) == 1:
            return rows, grads
        distinct, places = unique(rows)
        if grads.device.type == "cpu":
            return distinct, sum_rows(grads, places, len(distinct))
        return distinct, grads.new_zeros(len(distinct), grads.shape[1]).index_add(0, places, grads)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], dict[str, IdTable]]:
    """What a dense optimiser moves, in the order of `model.parameters()`, and the sparse tables by name."""
    tables = {name: module for name, module in model.named_modules() if isinstance(module, IdTable) and module.sparse}
    apart = {id(table.weight) for table in tables.values()}
    return [parameter for parameter in model.parameters() if id(parameter) not in apart], tables


@dataclass
class Moments:
    """State of the rows of one table. All of it is what a row had when it was last touched."""

    means: Tensor
    """float32 `[rows, 2, dim]`: running means of gradients and of their squares; one row is one stretch of memory."""
    mass: Tensor
    """float32 `[rows, 2]`: sum of the weights in each of the two means, by which they are divided."""
    last: Tensor
    """int64 `[rows]`: step of the last touch, 0 before the first."""

    @classmethod
    def of(cls, weight: Tensor) -> Moments:
        """Of a table that was never touched."""
        rows, dim = weight.shape
        return cls(
            means=torch.zeros(rows, 2, dim, device=weight.device),
            mass=torch.zeros(rows, 2, device=weight.device),
            last=torch.zeros(rows, dtype=torch.int64, device=weight.device),
        )


class RowAdam:
    """AdamW (Loshchilov, Hutter 2019) on the rows that were read since `zero_grad`.

    A row that was not read for some steps has its means decayed for them, and its weight by the weight decay, when it
    is read again: `m <- b1^gap m + (1 - b1) g`. The bias is corrected by the weight that its own gradients have in the
    mean, which is `1 - b1^t` for a row that is read in every step, and then this is AdamW. So the first step of a row
    has the length lr however late it comes; with a correction by the common t it would be 3 times as long.
    """

    def __init__(self, tables: Mapping[str, IdTable], lr: float, weight_decay: float) -> None:
        self.tables = {name: tables[name] for name in sorted(tables)}
        self.lr, self.weight_decay = lr, weight_decay
        self.steps = 0
        self._moments = {name: Moments.of(table.weight) for name, table in self.tables.items()}

    @property
    def leaves(self) -> list[Tensor]:
        """All tensors that hold a gradient: give them to `clip_grad_norm_` with the dense parameters."""
        return [leaf for table in self.tables.values() for leaf in table.leaves]

    def zero_grad(self) -> None:
        """Forget what was read; call it before the first batch of a step."""
        for table in self.tables.values():
            table.clear()

    @torch.no_grad()
    def step(self) -> None:
        """Move the rows that were read; all other rows stay as they are, bit for bit."""
        self.steps += 1
        for name, table in self.tables.items():
            found = table.gradient()
            if found is not None:
                move = _move if table.weight.device.type == "cpu" else move_by_index
                move(table.weight, *found, self._moments[name], self.steps, self.lr, self.weight_decay)
            table.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """Flat; the tensors are those in use and not copies."""
        found = {"steps": torch.tensor(self.steps)}
        for name, moments in self._moments.items():
            found |= {f"{name}.{part}": tensor for part, tensor in vars(moments).items()}
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises TrainingError M025 when `state` is that of other tables."""
        own = self.state_dict()
        if {name: tensor.shape for name, tensor in own.items()} != {name: t.shape for name, t in state.items()}:
            raise TrainingError(
                "M025",
                "the optimiser state of the id tables does not fit them",
                hint="remove the checkpoint: it is only scratch",
            )
        self.steps = int(state["steps"])
        for name, tensor in own.items():
            if name != "steps":
                tensor.copy_(state[name])


def _move(
    weight: Tensor, rows: Tensor, grads: Tensor, state: Moments, step: int, lr: float, weight_decay: float
) -> None:
    """`move_by_index` in one pass over the rows; each is done by one thread."""
    given = [tensor.detach().numpy() for tensor in (weight, rows, grads.contiguous())]
    held = [tensor.numpy() for tensor in (state.means, state.mass, state.last)]
    over_rows(
        lambda a, b: kernels.adam_rows(a, b, *given, *held, step, lr, weight_decay, *BETAS, EPSILON),
        len(rows),
        torch.get_num_threads(),
    )


def move_by_index(
    weight: Tensor, rows: Tensor, grads: Tensor, state: Moments, step: int, lr: float, weight_decay: float
) -> None:
    """One step of the distinct rows int64 `[u]` with gradient `[u, dim]`, in torch operations on any device."""
    gap = (step - state.last[rows]).unsqueeze(1).float()
    decays = [beta**gap for beta in BETAS]
    first = decays[0] * state.means[rows, 0] + (1 - BETAS[0]) * grads
    second = decays[1] * state.means[rows, 1] + (1 - BETAS[1]) * grads.square()
    mass = torch.cat(decays, 1) * state.mass[rows] + torch.tensor([1 - beta for beta in BETAS], device=weight.device)
    moved = (first / mass[:, :1]) / ((second / mass[:, 1:]).sqrt() + EPSILON)
    shrunk = weight[rows] * (1 - lr * weight_decay) ** torch.where(state.last[rows].unsqueeze(1) > 0, gap, 1.0)
    weight.data[rows] = shrunk - lr * moved
    state.means[rows], state.mass[rows] = torch.stack([first, second], dim=1), mass
    state.last[rows] = step
