"""Gradients of a batch that does not fit into memory: cached (GradCache), accumulated, or plain.

Cached gradients after Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(arXiv 2101.06983): encode every micro-batch without a graph; compute the loss on all vectors and its gradient by each
vector; encode each micro-batch again, now with a graph and the same dropout, and propagate that gradient. The result
is the gradient of the whole batch, with the memory of one micro-batch. Accumulation is something else: there a
micro-batch finds its negatives in itself alone.

Dropout of a micro-batch depends on the run's seed, the step and the number of the micro-batch only, never on what was
drawn before. That makes replaying it the same as drawing it, and a step independent of how many processes share it and
of where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from star_platform.text.finetune.distributed import ALONE, Group

Chunk = TypeVar("Chunk")
Encode = Callable[[Chunk], Tensor]
"""Vectors `[rows of the chunk, d]`, with a gradient where that is enabled."""


@contextmanager
def replayed(*key: int) -> Iterator[None]:
    """Random numbers that depend on `key` alone; the outer state is left as it was."""
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 1) % (1 << 63)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def cached(
    encode: Encode[Chunk],
    chunks: Sequence[Chunk],
    loss: Callable[[Tensor], Tensor],
    encoder: Sequence[nn.Parameter],
    *,
    key: tuple[int, ...] = (0,),
    group: Group = ALONE,
) -> Tensor:
    """Leave the gradient of `loss` over all chunks in `.grad` of everything that it depends on.

    Args:
        encode: the encoder. Chunks may differ in size.
        chunks: the same in every process of `group`; process r encodes the chunks r, r + size, ...
        loss: from vectors `[n, d]` of all chunks, in order, to a scalar; computed once. Parameters that it reads by
            itself, those of a head, get their gradient there.
        encoder: parameters that `encode` reads; their gradients are summed over `group`, so they must be unset before.
        key: of the random numbers, besides the number of the chunk.
        group: the processes that share the step.

    Returns:
        The loss, without a graph.
    """
    mine = range(group.rank, len(chunks), group.size)
    with torch.no_grad():
        pieces = {k: _encoded(encode, chunks[k], (*key, k)) for k in mine}
    sizes = _counted([len(pieces[k]) if k in pieces else 0 for k in range(len(chunks))], group)
    vectors = _gathered(pieces, sizes, group).requires_grad_()
    value = loss(vectors)
    value.backward()  # type: ignore[no-untyped-call]
    if vectors.grad is None:  # a loss that reads no vector
        return value.detach()
    gradients = torch.split(vectors.grad, sizes)
    for k in mine:
        _encoded(encode, chunks[k], (*key, k)).backward(gradients[k])  # type: ignore[no-untyped-call]
    _sum_gradients(encoder, group)
    return value.detach()


def accumulated(
    loss: Callable[[Chunk], Tensor],
    chunks: Sequence[Chunk],
    weights: Sequence[float],
    parameters: Sequence[nn.Parameter],
    *,
    key: tuple[int, ...] = (0,),
    group: Group = ALONE,
) -> Tensor:
    """Leave the gradient of the weighted sum of the chunks' own losses in `.grad` of `parameters`.

    With one chunk this is the plain step. With several it is gradient accumulation: what a chunk's loss compares is in
    that chunk.

    Args:
        loss: encoder and loss of one chunk, with a graph.
        chunks: the same in every process of `group`, which share them as in `cached`.
        weights: of the chunks, such as their share of the rows.
        parameters: all that `loss` reads; unset before, for they are summed over `group`.
        key: of the random numbers, besides the number of the chunk.
        group: the processes that share the step.

    Returns:
        The weighted loss, without a graph.
    """
    total = torch.zeros(())
    for k in range(group.rank, len(chunks), group.size):
        with replayed(*key, k):
            value = weights[k] * loss(chunks[k])
            value.backward()  # type: ignore[no-untyped-call]
        total = total + value.detach().cpu()
    _sum_gradients(parameters, group)
    group.sum_([total])
    return total


def _encoded(encode: Encode[Chunk], chunk: Chunk, key: tuple[int, ...]) -> Tensor:
    with replayed(*key):
        return encode(chunk)


def _counted(sizes: list[int], group: Group) -> list[int]:
    counts = torch.tensor(sizes, dtype=torch.int64)
    group.sum_([counts])
    return [int(count) for count in counts]


def _gathered(pieces: dict[int, Tensor], sizes: list[int], group: Group) -> Tensor:
    """Vectors of all chunks, in order: each process puts its own among zeros, and the sum has all."""
    if group.size == 1:
        return torch.cat([pieces[k] for k in range(len(sizes))])
    first = pieces.get(0, torch.zeros(0, 0))  # process 0 always has the first chunk; another one may have none
    width, double = _counted([first.shape[1], int(first.dtype == torch.float64)], group)
    like = next(iter(pieces.values()), torch.zeros((), dtype=torch.float64 if double else torch.float32))
    out = like.new_zeros(sum(sizes), width)
    starts = torch.tensor([0, *sizes]).cumsum(0)
    for k, piece in pieces.items():
        out[starts[k] : starts[k] + len(piece)] = piece
    group.sum_([out])
    return out


def _sum_gradients(parameters: Sequence[nn.Parameter], group: Group) -> None:
    if group.size == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # every process must take part, also one without a chunk
            parameter.grad = torch.zeros_like(parameter)
    group.sum_([parameter.grad for parameter in parameters if parameter.grad is not None])
