"""What a node takes from its neighbours, as differentiable functions over a block of sampled edges.

The keys' projection is absorbed into the query, q . (W_k y) = (W_k' q) . y, and the values' is applied after the sum:
neighbours are never projected per edge or per head, and scores, softmax and weighted sum are one pass over the edges
(reference/training_speed, lessons 3 and 4). On other devices than the CPU the same function runs on torch's own
segment sums, `attend_by_segments`, which is also what tests compare the kernels with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import _attention_kernels as kernels
from star_platform.gnn.trees import BlockTensors

PIECES = 16
"""Destinations are done in so many pieces, whatever the number of threads: sums over pieces are always the same."""
_COLUMNS = 32
"""Fewest columns that a thread of `scatter` takes: two cache lines."""


def own_rows(x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The items' own rows `[n, D]` among `x [m, D]`, and x itself for what else reads it.

    One gradient of x serves both: that of the rows is added into the other's in place. `positions` int64 `[n]`, none
    twice.
    """
    found: tuple[Tensor, Tensor] = _OwnRows.apply(x, positions)  # type: ignore[no-untyped-call]
    return found


def neighbour_attention(x: Tensor, q: Tensor, rho: Tensor, terms: Tensor, block: BlockTensors, scale: float) -> Tensor:
    """The weighted sums of messages.

    Args:
        x: `[m, D]` hidden states of the deeper hop, float32 or bfloat16.
        q: `[heads, n, D]` absorbed queries, of x's dtype.
        rho: float32 `[R, D]`, added to the hidden state of a neighbour by relation.
        terms: float32 `[4, R, heads]`: gate of values, and bias, age and weight terms of scores.
        block: the edges.
        scale: of the products.

    Returns:
        `[heads, n, D]`, of x's dtype, zero for an item without neighbours.
    """
    if x.device.type != "cpu":
        return attend_by_segments(x, q, rho, terms, block, scale)
    found: Tensor = _Attention.apply(x, q, rho, terms, block, scale)  # type: ignore[no-untyped-call]
    return found


def neighbour_mean(x: Tensor, rho: Tensor, gates: Tensor, block: BlockTensors) -> Tensor:
    """The mean message `[1, n, D]`, values gated by relation (`gates` float32 `[R]`)."""
    if x.device.type != "cpu":
        return mean_by_segments(x, rho, gates, block)
    found: Tensor = _Mean.apply(x, rho, gates, block)  # type: ignore[no-untyped-call]
    return found


def attend_by_segments(x: Tensor, q: Tensor, rho: Tensor, terms: Tensor, block: BlockTensors, scale: float) -> Tensor:
    """`neighbour_attention` in torch operations, on any device; memory grows with edges times D."""
    target, relation = _targets(block), block.relations.long()
    messages = x.float()[block.neighbours.long()] + rho[relation]
    scores = scale * torch.einsum("hed,ed->eh", q.float()[:, target], messages)
    scores = scores + terms[1, relation] + terms[2, relation] * block.ages.unsqueeze(1)
    if block.weights is not None:
        scores = scores + terms[3, relation] * block.weights.unsqueeze(1)
    n, heads = len(block.indptr) - 1, q.shape[0]
    index = target.unsqueeze(1).expand(-1, heads)
    most = scores.new_full((n, heads), -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    powers = (scores - most[target]).exp()
    shares = powers / powers.new_zeros(n, heads).index_add(0, target, powers)[target]
    gated = (shares * terms[0, relation]).T.unsqueeze(2) * messages
    return messages.new_zeros(heads, n, x.shape[1]).index_add(1, target, gated).to(x.dtype)


def mean_by_segments(x: Tensor, rho: Tensor, gates: Tensor, block: BlockTensors) -> Tensor:
    """`neighbour_mean` in torch operations, on any device."""
    target, relation = _targets(block), block.relations.long()
    messages = (x.float()[block.neighbours.long()] + rho[relation]) * gates[relation].unsqueeze(1)
    counts = block.indptr.diff().clamp(min=1).unsqueeze(1)
    total = messages.new_zeros(len(counts), x.shape[1]).index_add(0, target, messages)
    return (total / counts).unsqueeze(0).to(x.dtype)


def _targets(block: BlockTensors) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(block.indptr) - 1, device=block.indptr.device), block.indptr.diff())


class _OwnRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(positions)
        return x[positions], x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (positions,), (own, dx) = ctx.saved_tensors, grads
        dx[positions] += own  # dx was made for nobody else, by the functions below
        return dx, None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, q: Tensor, rho: Tensor, terms: Tensor, block: BlockTensors, scale: float
    ) -> Tensor:
        edges = _edges(block)
        q = q.contiguous()
        sums = torch.empty_like(q)
        shares = torch.empty(len(block.neighbours), q.shape[0])
        given: tuple[Any, ...] = (array(x), array(q), array(rho), array(terms), *edges, np.float32(scale))
        out: tuple[Any, ...] = (array(shares), array(sums))
        _over_destinations(block, lambda first, last, _: kernels.attend(first, last, *given, *out))
        ctx.save_for_backward(x, q, rho, terms, shares)
        ctx.block, ctx.scale = block, scale
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, q, rho, terms, shares = ctx.saved_tensors
        block, edges = ctx.block, _edges(ctx.block)
        ds = grads[0].contiguous()
        dq, factors, pulls = torch.empty_like(q), shares.clone(), torch.empty_like(shares)
        parts, sums = torch.zeros(PIECES, *terms.shape), q.new_zeros(2, *q.shape[:2], len(rho))
        given: tuple[Any, ...] = (
            array(x),
            array(q),
            array(rho),
            array(terms),
            *edges,
            np.float32(ctx.scale),
            array(factors),
            array(ds),
        )
        _over_destinations(
            block,
            lambda first, last, piece: kernels.attend_backward(
                first, last, *given, array(dq), array(pulls), array(sums), array(parts[piece])
            ),
        )
        passed: tuple[Any, ...] = (array(q), array(ds), array(factors), array(pulls), *edges[:2])
        dx = _scattered(x, lambda a, b, dx: kernels.scatter(a, b, *passed, dx))
        drho = (torch.bmm(sums[0].transpose(1, 2), ds) + torch.bmm(sums[1].transpose(1, 2), q)).float().sum(0)
        return dx, dq, drho, parts.sum(0), None, None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rho: Tensor, gates: Tensor, block: BlockTensors) -> Tensor:
        sums = x.new_empty(1, len(block.indptr) - 1, x.shape[1])
        given: tuple[Any, ...] = (array(x), array(rho), array(gates), *_edges(block)[:3])
        _over_destinations(block, lambda first, last, _: kernels.average(first, last, *given, array(sums)))
        ctx.save_for_backward(x, rho, gates)
        ctx.block = block
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, rho, gates = ctx.saved_tensors
        block, ds = ctx.block, grads[0].contiguous()
        shares, parts = torch.empty(len(block.neighbours), 1), torch.zeros(PIECES, *gates.shape)
        sums = x.new_zeros(ds.shape[1], len(rho))
        given: tuple[Any, ...] = (array(x), array(rho), array(gates), *_edges(block)[:3], array(ds), array(shares))
        _over_destinations(
            block,
            lambda first, last, piece: kernels.average_backward(first, last, *given, array(sums), array(parts[piece])),
        )
        passed: tuple[Any, ...] = (array(ds), array(shares), *_edges(block)[:2])
        dx = _scattered(x, lambda a, b, dx: kernels.scatter_mean(a, b, *passed, dx))
        return dx, (sums.T @ ds[0]).float(), parts.sum(0), None


def _scattered(x: Tensor, scatter: Callable[[int, int, NDArray[Any]], object]) -> Tensor:
    """The gradient of x, in ranges of columns: `scatter(begin, end, dx)`."""
    width, dx = x.shape[1], torch.zeros(x.shape)
    cuts = np.linspace(0, width, min(torch.get_num_threads(), max(1, width // _COLUMNS)) + 1).astype(np.int64)
    _at_once([partial(scatter, int(a), int(b), array(dx)) for a, b in pairwise(cuts)])
    return dx.to(x.dtype)


def array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory as an array; bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _edges(block: BlockTensors) -> tuple[NDArray[Any], ...]:
    weights = np.empty(0, dtype=np.float32) if block.weights is None else block.weights.numpy()
    return block.indptr.numpy(), block.neighbours.numpy(), block.relations.numpy(), block.ages.numpy(), weights


def _over_destinations(block: BlockTensors, work: Callable[[int, int, int], object]) -> None:
    """`work(first, last, piece)` on `PIECES` ranges of destinations with about as many edges, on torch's threads."""
    indptr = block.indptr.numpy()
    wanted = np.linspace(0, indptr[-1] + len(indptr) - 1, PIECES + 1)
    cuts = np.searchsorted(indptr + np.arange(len(indptr)), wanted)  # an item costs as much as an edge
    cuts[-1] = len(indptr) - 1
    _at_once([partial(work, int(a), int(b), piece) for piece, (a, b) in enumerate(pairwise(cuts)) if a < b])


def _at_once(tasks: Sequence[Callable[[], object]]) -> None:
    threads = torch.get_num_threads()
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            task()
        return
    for done in [_pool(threads).submit(task) for task in tasks]:
        done.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="attention")
