"""Losses over the rows of a batch with their gradients in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn.ltgnn import _batch_kernels as kernels
from star_platform.gnn.ltgnn import _softmax_kernels as passes
from star_platform.gnn.ltgnn.interactions import Interactions
from star_platform.gnn.ltgnn.matrix import ALONE, Float32Array, Int64Array, Workers

BLOCK = 512
"""Examples whose logits are computed at a time."""
_LEAST_NORM = 1e-12


def bpr(vectors: Float32Array, users: Int64Array, items: Int64Array, others: Int64Array) -> tuple[float, Float32Array]:
    """Mean of softplus(u.j - u.i) and its gradient, as `vectors [r, dim]`; the others are rows of `vectors`, `[b]`."""
    gradients = np.zeros_like(vectors)
    return float(kernels.bpr(vectors, users, items, others, gradients)), gradients


@dataclass(frozen=True)
class Masked:
    """The candidates that do not count for a row: a chain of links per row."""

    first: NDArray[np.int32]
    """`[b]`: the first link of a row, -1 where all candidates count."""
    following: NDArray[np.int32]
    """`[k]`: the next link of the same row, -1 after the last."""
    columns: NDArray[np.int32]
    """`[k]`: which candidate."""

    @classmethod
    def nothing(cls, rows: int) -> Masked:
        """All candidates count."""
        return cls(np.full(rows, -1, np.int32), np.empty(0, np.int32), np.empty(0, np.int32))


class KnownItems:
    """Says which candidates of a step a row's user is known to have interacted with."""

    def __init__(self, known: Interactions) -> None:
        order = np.argsort(known.items, kind="stable")
        self._users = known.users[order].astype(np.int32)
        counts = np.bincount(known.items, minlength=known.num_items)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._slots = np.full(known.num_users, -1, dtype=np.int32)

    def among(self, users: Int64Array, candidates: Int64Array) -> Masked:
        """The `candidates [c]`, repeated or not, that `users [b]` know."""
        size = int(passes.count_known(self._starts, candidates))
        first, following, columns = (np.empty(n, dtype=np.int32) for n in (len(users), size, size))
        passes.link_known(self._starts, self._users, users, candidates, self._slots, first, following, columns)
        return Masked(first, following, columns)


def softmax(
    vectors: Float32Array,
    users: Int64Array,
    items: Int64Array,
    candidates: Int64Array,
    masked: Masked | None = None,
    *,
    temperature: float,
    cosine: bool,
    stands_for: float = 1.0,
    bf16: bool = False,
    workers: Workers = ALONE,
) -> tuple[float, Float32Array]:
    """Mean cross-entropy of each example's item among the shared candidates, and its gradient as `vectors [r, dim]`.

    Args:
        vectors: float32[r, dim], distinct rows of the batch.
        users: int64[b], row of each example's user.
        items: int64[b], of its item.
        candidates: int64[c], of the items that all examples of the batch are compared with.
        masked: which candidates do not count for an example; all count when None.
        temperature: what products are divided by.
        cosine: compare vectors of length 1.
        stands_for: items that each candidate counts for, `items / c` where candidates are a uniform draw: the loss then
            approaches that among all items (Jean et al. 2015, eq. 10), and goes on where an item is first among a
            thousand but not among all.
        bf16: multiply in bfloat16; sums, exponentials and the gradient's accumulation stay in float32.
        workers: threads that share the examples; torch's own should then be one.
    """
    shown, norms = _lengthened(vectors, cosine)
    kind = torch.bfloat16 if bf16 else torch.float32
    share, factor = np.float32(1.0 / len(users)), np.float32(1.0 / temperature)
    u, shared = _rounded(shown, users, factor, kind), _rounded(shown, candidates, np.float32(1.0), kind)
    own, pull, scale = (np.empty(len(users), dtype=np.float32) for _ in range(3))
    passes.own_logits(shown, users, items, factor, np.float32(math.log(stands_for)), own)
    hidden = Masked.nothing(len(users)) if masked is None else masked
    toward_u, by_block = torch.empty_like(u), {}

    def block(first: int) -> float:
        """A block of logits stays in the cache through all passes over it; the sum of its losses."""
        part = slice(first, min(first + BLOCK, len(users)))
        logits, scaled = u[part] @ shared.T, torch.empty_like(u[part])
        loss = passes.chances(
            _array(logits),
            own[part],
            hidden.first[part],
            hidden.following,
            hidden.columns,
            share,
            _array(u[part]),
            pull[part],
            scale[part],
            _array(scaled),
        )
        torch.mm(logits, shared, out=toward_u[part])
        by_block[first] = scaled.T @ logits
        return float(loss)

    loss = sum(workers.each(block, range(0, len(users), BLOCK)))
    toward_o = torch.zeros((vectors.shape[1], len(candidates)))
    for first in range(0, len(users), BLOCK):  # in order, so that bytes do not depend on the threads
        toward_o += by_block[first]
    gradients = np.zeros_like(vectors)
    passes.pass_back(shown, users, items, _array(toward_u), scale, pull, factor, gradients)
    kernels.scatter_add(toward_o.T.contiguous().numpy(), candidates, gradients)
    return loss / len(users), _unlengthened(gradients, shown, norms)


def _rounded(vectors: Float32Array, rows: Int64Array, factor: np.float32, kind: torch.dtype) -> Tensor:
    """`factor * vectors[rows]`, rounded once and not once a product."""
    out = torch.empty((len(rows), vectors.shape[1]), dtype=kind)
    passes.gather(vectors, rows, factor, _array(out))
    return out


def _array(tensor: Tensor) -> NDArray[Any]:
    """The memory of a tensor; bfloat16 as uint16."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _lengthened(vectors: Float32Array, cosine: bool) -> tuple[Float32Array, Float32Array | None]:
    """Vectors of length 1 and the length that each had, or as they are."""
    if not cosine:
        return vectors, None
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(_LEAST_NORM))
    return vectors / norms, norms


def _unlengthened(gradients: Float32Array, vectors: Float32Array, norms: Float32Array | None) -> Float32Array:
    """The gradient with respect to the vector before it was brought to length 1."""
    if norms is None:
        return gradients
    found: Float32Array = (gradients - vectors * (vectors * gradients).sum(axis=1, keepdims=True)) / norms
    return found
