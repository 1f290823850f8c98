"""What a node takes from its neighbours, as differentiable functions over a block of sampled edges.

Scores, softmax and weighted sum are one pass over the edges, and keys and values are projected once per item, not per
edge (reference/training_speed, lessons 3 and 4). On other devices than the CPU the same function runs on torch's own
segment sums, `attend_by_segments`, which is also what tests compare the kernels with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import _attention_kernels as kernels
from star_platform.gnn.buffers import PIECES, as_array, at_once, fresh
from star_platform.gnn.trees import BlockTensors


def own_rows(x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The items' own rows `[n, D]` among `x [m, D]`, and x itself for what else reads it.

    One gradient of x serves both: that of the rows is added into the other's in place. `positions` int64 `[n]`, none
    twice.
    """
    found: tuple[Tensor, Tensor] = _OwnRows.apply(x, positions)  # type: ignore[no-untyped-call]
    return found


def neighbour_attention(kv: Tensor, q: Tensor, rho: Tensor, terms: Tensor, block: BlockTensors, scale: float) -> Tensor:
    """The weighted sums of values.

    Args:
        kv: `[m, 2 inner]` keys and values of the deeper hop's items, heads side by side; float32 or bfloat16.
        q: `[n, inner]` queries, of kv's dtype.
        rho: float32 `[R, 2 inner]`, added to the keys and values of a neighbour by relation.
        terms: float32 `[4, R, heads]`: gate of values, and bias, age and weight terms of scores.
        block: the edges.
        scale: of the products.

    Returns:
        `[n, inner]`, of kv's dtype, zero for an item without neighbours.
    """
    if kv.device.type != "cpu":
        return attend_by_segments(kv, q, rho, terms, block, scale)
    found: Tensor = _Attention.apply(kv, q, rho, terms, block, scale)  # type: ignore[no-untyped-call]
    return found


def neighbour_mean(x: Tensor, rho: Tensor, gates: Tensor, block: BlockTensors) -> Tensor:
    """The mean message `[n, D]`: x `[m, D]` plus `rho [R, D]`, gated by relation (`gates` float32 `[R]`)."""
    if x.device.type != "cpu":
        return mean_by_segments(x, rho, gates, block)
    found: Tensor = _Mean.apply(x, rho, gates, block)  # type: ignore[no-untyped-call]
    return found


def attend_by_segments(kv: Tensor, q: Tensor, rho: Tensor, terms: Tensor, block: BlockTensors, scale: float) -> Tensor:
    """`neighbour_attention` in torch operations, on any device; memory grows with edges times inner."""
    target, relation = _targets(block), block.relations.long()
    n, heads, width = len(q), terms.shape[2], q.shape[1] // terms.shape[2]
    messages = kv.float()[block.neighbours.long()] + rho[relation]
    keys, values = messages.view(len(messages), 2, heads, width).unbind(1)
    scores = scale * torch.einsum("ehd,ehd->eh", q.float().view(n, heads, width)[target], keys)
    scores = scores + terms[1, relation] + terms[2, relation] * block.ages.unsqueeze(1)
    if block.weights is not None:
        scores = scores + terms[3, relation] * block.weights.unsqueeze(1)
    index = target.unsqueeze(1).expand(-1, heads)
    most = scores.new_full((n, heads), -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    powers = (scores - most[target]).exp()
    shares = powers / powers.new_zeros(n, heads).index_add(0, target, powers)[target]
    gated = (shares * terms[0, relation]).unsqueeze(2) * values
    return messages.new_zeros(n, q.shape[1]).index_add(0, target, gated.flatten(1)).to(kv.dtype)


def mean_by_segments(x: Tensor, rho: Tensor, gates: Tensor, block: BlockTensors) -> Tensor:
    """`neighbour_mean` in torch operations, on any device."""
    target, relation = _targets(block), block.relations.long()
    messages = (x.float()[block.neighbours.long()] + rho[relation]) * gates[relation].unsqueeze(1)
    counts = block.indptr.diff().clamp(min=1).unsqueeze(1)
    total = messages.new_zeros(len(counts), x.shape[1]).index_add(0, target, messages)
    return (total / counts).to(x.dtype)


def _targets(block: BlockTensors) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(block.indptr) - 1, device=block.indptr.device), block.indptr.diff())


class _OwnRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(positions)
        own = fresh((len(positions), x.shape[1]), x)
        return torch.index_select(x, 0, positions, out=own), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (positions,), (own, dx) = ctx.saved_tensors, grads
        if dx.device.type == "cpu":  # dx was made for nobody else: by a product, or by `_Mean`
            kernels.add_rows(as_array(own.contiguous()), positions.numpy(), as_array(dx))
        else:
            dx[positions] += own
        return dx, None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kv: Tensor, q: Tensor, rho: Tensor, terms: Tensor, block: BlockTensors, scale: float
    ) -> Tensor:
        kv, q = kv.contiguous(), q.contiguous()
        sums, shares = fresh(q.shape, q), fresh((len(block.neighbours), terms.shape[2]), terms)
        given = (as_array(kv), as_array(q), as_array(rho), as_array(terms), *_edges(block), np.float32(scale))
        out = (as_array(shares), as_array(sums))
        _by_edges(block.indptr.numpy(), lambda first, last, _: kernels.attend(first, last, *given, *out))
        ctx.save_for_backward(kv, q, rho, terms, shares)
        ctx.block, ctx.scale = block, scale
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kv, q, rho, terms, shares = ctx.saved_tensors
        edges, ds = _edges(ctx.block), grads[0].contiguous()
        dq, pulls = fresh(q.shape, q), fresh(shares.shape, shares)
        factors = fresh(shares.shape, shares).copy_(shares)
        drho, dterms = torch.zeros(PIECES, *rho.shape), torch.zeros(PIECES, *terms.shape)
        given = (as_array(kv), as_array(q), as_array(rho), as_array(terms), *edges, np.float32(ctx.scale))
        passed = (as_array(factors), as_array(ds), as_array(dq), as_array(pulls))
        _by_edges(
            edges[0],
            lambda first, last, piece: kernels.attend_backward(
                first, last, *given, *passed, as_array(drho[piece]), as_array(dterms[piece])
            ),
        )
        dkv, by_source = fresh(kv.shape, kv), kernels.by_source(*edges[:2], len(kv))
        back = (as_array(q), as_array(ds), as_array(factors), as_array(pulls), *by_source, as_array(dkv))
        _by_edges(by_source[0], lambda first, last, _: kernels.hand_back(first, last, *back))
        return dkv, dq, drho.sum(0), dterms.sum(0), None, None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rho: Tensor, gates: Tensor, block: BlockTensors) -> Tensor:
        x = x.contiguous()
        sums = fresh((len(block.indptr) - 1, x.shape[1]), x)
        given = (as_array(x), as_array(rho), as_array(gates), *_edges(block)[:3], as_array(sums))
        _by_edges(block.indptr.numpy(), lambda first, last, _: kernels.average(first, last, *given))
        ctx.save_for_backward(x, rho, gates)
        ctx.block = block
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, rho, gates = ctx.saved_tensors
        edges, ds, shares = _edges(ctx.block)[:3], grads[0].contiguous(), torch.empty(len(ctx.block.neighbours))
        drho, dgates = torch.zeros(PIECES, *rho.shape), torch.zeros(PIECES, *gates.shape)
        given = (as_array(x), as_array(rho), as_array(gates), *edges, as_array(ds), as_array(shares))
        _by_edges(
            edges[0],
            lambda first, last, piece: kernels.average_backward(
                first, last, *given, as_array(drho[piece]), as_array(dgates[piece])
            ),
        )
        dx, by_source = fresh(x.shape, x), kernels.by_source(*edges[:2], len(x))
        back = (as_array(ds), as_array(shares), *by_source, as_array(dx))
        _by_edges(by_source[0], lambda first, last, _: kernels.hand_back_mean(first, last, *back))
        return dx, drho.sum(0), dgates.sum(0), None


def _edges(block: BlockTensors) -> tuple[NDArray[Any], ...]:
    weights = np.empty(0, dtype=np.float32) if block.weights is None else block.weights.numpy()
    return block.indptr.numpy(), block.neighbours.numpy(), block.relations.numpy(), block.ages.numpy(), weights


def _by_edges(indptr: NDArray[Any], work: Callable[[int, int, int], object]) -> None:
    """`work(first, last, piece)` on `PIECES` ranges of items with about as many edges, on torch's threads."""
    wanted = np.linspace(0, indptr[-1] + len(indptr) - 1, PIECES + 1)
    cuts = np.searchsorted(indptr + np.arange(len(indptr)), wanted)  # an item costs as much as an edge
    cuts[-1] = len(indptr) - 1
    tasks = [partial(work, int(a), int(b), piece) for piece, (a, b) in enumerate(pairwise(cuts)) if a < b]
    at_once(tasks, torch.get_num_threads())
