"""Losses over the rows of a batch with their gradients in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn.ltgnn import _batch_kernels as kernels
from star_platform.gnn.ltgnn.interactions import Interactions
from star_platform.gnn.ltgnn.matrix import ALONE, Float32Array, Int64Array, Workers

MASKED = np.float32(-1e9)
BLOCK = 256
"""Examples whose logits are computed at a time."""
_LEAST_NORM = 1e-12


def bpr(vectors: Float32Array, users: Int64Array, items: Int64Array, others: Int64Array) -> tuple[float, Float32Array]:
    """Mean of softplus(u.j - u.i) and its gradient, as `vectors [r, dim]`; the others are rows of `vectors`, `[b]`."""
    gradients = np.zeros_like(vectors)
    return float(kernels.bpr(vectors, users, items, others, gradients)), gradients


class KnownItems:
    """Masks the candidates of a step that a row's user is known to have interacted with."""

    def __init__(self, known: Interactions) -> None:
        self._known = known
        self._slots = np.full(known.num_items, -1, dtype=np.int32)
        self._chain = np.empty(0, dtype=np.int32)

    @contextmanager
    def candidates(self, candidates: Int64Array) -> Iterator[None]:
        """While these items `[c]`, repeated or not, are the columns that `mask` sees."""
        self._chain = np.empty(len(candidates), dtype=np.int32)
        kernels.link_slots(candidates, self._slots, self._chain)
        try:
            yield
        finally:
            self._slots[candidates] = -1

    def mask(self, users: Int64Array, logits: Float32Array) -> None:
        """Sets `logits [b, c]` of users `[b]` to `MASKED` where they are known pairs."""
        kernels.mask_known(self._known.indptr, self._known.items, users, self._slots, self._chain, logits, MASKED)


def softmax(
    vectors: Float32Array,
    users: Int64Array,
    items: Int64Array,
    candidates: Int64Array,
    allowed: NDArray[np.bool_] | None = None,
    *,
    temperature: float,
    cosine: bool,
    stands_for: float = 1.0,
    bf16: bool = False,
    mask: KnownItems | None = None,
    ids: tuple[Int64Array, Int64Array] | None = None,
    workers: Workers = ALONE,
) -> tuple[float, Float32Array]:
    """Mean cross-entropy of each example's item among the shared candidates, and its gradient as `vectors [r, dim]`.

    Args:
        vectors: float32[r, dim], distinct rows of the batch.
        users: int64[b], row of each example's user.
        items: int64[b], of its item.
        candidates: int64[c], of the items that all examples of the batch are compared with.
        allowed: bool[b, c], False where a candidate does not count for an example.
        temperature: what products are divided by.
        cosine: compare vectors of length 1.
        stands_for: items that each candidate counts for, `items / c` where candidates are a uniform draw: the loss then
            approaches that among all items (Jean et al. 2015, eq. 10), and goes on where an item is first among a
            thousand but not among all.
        bf16: multiply in bfloat16; sums, exponentials and the gradient's accumulation stay in float32.
        mask: leaves out known pairs, given the `ids` of users `[b]` and candidates `[c]`.
        ids: see `mask`.
        workers: threads that share the examples; torch's own should then be one.
    """
    table = torch.from_numpy(vectors)
    u, norm_u = _lengthened(table[torch.from_numpy(users)], cosine)
    i, norm_i = _lengthened(table[torch.from_numpy(items)], cosine)
    o, norm_o = _lengthened(table[torch.from_numpy(candidates)], cosine)
    own = (u * i).sum(dim=1) / temperature - math.log(stands_for)
    pull, toward_u, by_block = torch.empty_like(own), torch.empty_like(u), {}
    share = 1.0 / (len(users) * temperature)
    shared = o.bfloat16() if bf16 else o  # rounded once, not once a product

    def block(first: int) -> float:
        """A block of logits stays in the cache through all passes over it; the sum of its losses."""
        part = slice(first, min(first + BLOCK, len(users)))
        logits = _product(u[part] / temperature, shared.T, bf16)
        if mask is not None and ids is not None:
            mask.mask(ids[0][part], logits.numpy())
        if allowed is not None:
            logits.masked_fill_(torch.from_numpy(~allowed[part]), float(MASKED))
        top = torch.maximum(logits.amax(dim=1), own[part])
        chances = logits.sub_(top.unsqueeze(1)).exp_()
        own_chance = (own[part] - top).exp_()
        total = chances.sum(dim=1) + own_chance
        scale = share / total
        pull[part] = own_chance * scale - share
        if bf16:
            chances = chances.bfloat16()
        torch.mul(_product(chances, shared, bf16), scale.unsqueeze(1), out=toward_u[part])
        by_block[first] = _product(chances.T, u[part] * scale.unsqueeze(1), bf16)
        return float((top + total.log() - own[part]).sum())

    with mask.candidates(ids[1]) if mask is not None and ids is not None else nullcontext():
        loss = sum(workers.each(block, range(0, len(users), BLOCK)))
    toward_o = torch.zeros_like(o)
    for first in range(0, len(users), BLOCK):  # in order, so that bytes do not depend on the threads
        toward_o += by_block[first]
    toward_u.addcmul_(pull.unsqueeze(1), i)
    gradients = np.zeros_like(vectors)
    for positions, found, vector, norm in (
        (users, toward_u, u, norm_u),
        (items, pull.unsqueeze(1) * u, i, norm_i),
        (candidates, toward_o, o, norm_o),
    ):
        kernels.scatter_add(_unlengthened(found, vector, norm).numpy(), positions, gradients)
    return loss / len(users), gradients


def _product(one: Tensor, two: Tensor, bf16: bool) -> Tensor:
    return (one.bfloat16() @ two.bfloat16()).float() if bf16 else one @ two


def _lengthened(vectors: Tensor, cosine: bool) -> tuple[Tensor, Tensor | None]:
    """Vectors of length 1 and the length that each had, or as they are."""
    if not cosine:
        return vectors, None
    norms = vectors.norm(dim=1, keepdim=True).clamp_min_(_LEAST_NORM)
    return vectors / norms, norms


def _unlengthened(gradients: Tensor, vectors: Tensor, norms: Tensor | None) -> Tensor:
    """The gradient with respect to the vector before it was brought to length 1."""
    if norms is None:
        return gradients
    return (gradients - vectors * (vectors * gradients).sum(dim=1, keepdim=True)) / norms
