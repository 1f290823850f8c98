"""Compiled passes over the logits of a batch: what lies between the matrix products of a sampled softmax.

A block of logits is read twice and written once while it is in the cache, float32 or bfloat16 (as uint16).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from star_platform.gnn._rows import get, put
from star_platform.gnn.ltgnn._prefetch import prefetch
from star_platform.graph.kernels import fast_kernel, kernel

_AHEAD = 8
"""Candidates between asking for one and reading it."""
LOG2_E = np.float32(1.4426950408889634)
MASKED = np.float32(-1e9)
_LEAST = np.float32(-126.0)
"""Exponent of the smallest normal number: what is smaller is rounded up to it."""


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _exp2(y: Any) -> Any:
    """2^y for y <= 0, to 3e-6 of it: 2^n 2^f with |f| <= 1/2 and the polynomial of degree 4 that is closest to 2^f.

    Written out because a call of the library's is one per number; this compiles to vectors.
    """
    y = y if y > _LEAST else _LEAST
    n = np.rint(y)
    f = y - n
    p = np.float32(0.00956991312882754)
    p = p * f + np.float32(0.05591785398414379)
    p = p * f + np.float32(0.2402474954446466)
    p = p * f + np.float32(0.6931218159240985)
    p = p * f + np.float32(0.9999992599743557)
    return np.int32(np.float32(p).view(np.int32) + (np.int32(n) << np.int32(23))).view(np.float32)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _ordered(x: Any) -> Any:
    """An int32 that is ordered as float32 is: the maximum of integers compiles to vectors, that of floats does not."""
    bits = np.float32(x).view(np.int32)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@fast_kernel
def chances(
    logits: Any,
    own: Any,
    first_known: Any,
    next_known: Any,
    columns: Any,
    share: Any,
    u: Any,
    pull: Any,
    scale: Any,
    scaled: Any,
) -> Any:
    """Turns logits into what the gradient is made of; returns the sum of the rows' losses.

    Args:
        logits: float32[b, c], or uint16 for bfloat16; out: exp(logit - largest of the row, own included).
        own: float32[b], the logit of the row's own item.
        first_known: int32[b], the first of a row's candidates that do not count, -1 where all do.
        next_known: int32[k], the next of the same row.
        columns: int32[k], which candidate it is.
        share: float32, the weight of a row in the loss.
        u: [b, dim], of the kind of `logits`.
        pull: float32[b], out: dL/d own.
        scale: float32[b], out: what `logits` is to be multiplied by to be dL/d logit.
        scaled: [b, dim], out: `scale * u`.
    """
    loss = 0.0
    for b in range(len(logits)):
        row = logits[b]
        k = first_known[b]
        while k >= 0:
            put(row, columns[k], MASKED)
            k = next_known[k]
        best = _ordered(own[b])
        for c in range(len(row)):
            best = max(best, _ordered(get(row, c)))
        bits = best ^ ((best >> np.int32(31)) & np.int32(0x7FFFFFFF))
        top = np.int32(bits).view(np.float32)
        less = top * LOG2_E
        total = np.float32(0.0)
        for c in range(len(row)):
            chance = _exp2(get(row, c) * LOG2_E - less)
            put(row, c, chance)
            total += chance
        mine = np.exp(own[b] - top)
        total += mine
        scale[b] = share / total
        pull[b] = mine * scale[b] - share
        loss += top + np.log(total) - own[b]
        for d in range(u.shape[1]):
            put(scaled[b], d, scale[b] * get(u[b], d))
    return loss


@kernel
def count_known(starts: Any, candidates: Any) -> Any:
    """How many known pairs the candidates are in."""
    total = 0
    for c in range(len(candidates)):
        total += starts[candidates[c] + 1] - starts[candidates[c]]
    return total


@kernel
def link_known(
    starts: Any, users: Any, wanted: Any, candidates: Any, slots: Any, first: Any, following: Any, columns: Any
) -> None:
    """Links, for each row of a batch, the candidates that its user is known to have interacted with.

    By candidate and not by user: a uniform draw of items is in few pairs, the users of a batch are in many.

    Args:
        starts: int64[items + 1].
        users: int32[interactions], by item.
        wanted: int64[b], user of each row.
        candidates: int64[c], items, repeated or not.
        slots: int32[users], -1 everywhere before and after.
        first: int32[b], out: see `chances`; rows of the same user share their links.
        following: int32[count_known], out.
        columns: int32[count_known], out.
    """
    for b in range(len(wanted)):
        first[b] = -1
        if slots[wanted[b]] < 0:
            slots[wanted[b]] = b
    k = 0
    for c in range(len(candidates)):
        if c + 2 * _AHEAD < len(candidates):
            prefetch(starts, candidates[c + 2 * _AHEAD])
        if c + _AHEAD < len(candidates):
            prefetch(users, starts[candidates[c + _AHEAD]])
        for e in range(starts[candidates[c]], starts[candidates[c] + 1]):
            b = slots[users[e]]
            if b >= 0:
                columns[k], following[k], first[b] = c, first[b], k
                k += 1
    for b in range(len(wanted)):
        first[b] = first[slots[wanted[b]]]
    for b in range(len(wanted)):
        slots[wanted[b]] = -1


@fast_kernel
def gather(vectors: Any, rows: Any, factor: Any, out: Any) -> None:
    """`out[b] = factor * vectors[rows[b]]`; `out` float32, or uint16 for bfloat16."""
    for b in range(len(rows)):
        row, to = vectors[rows[b]], out[b]
        for d in range(len(row)):
            put(to, d, factor * row[d])


@fast_kernel
def own_logits(vectors: Any, users: Any, items: Any, factor: Any, less: Any, out: Any) -> None:
    """`out[b] = factor * vectors[users[b]] . vectors[items[b]] - less`."""
    dim = vectors.shape[1]
    for b in range(len(users)):
        u, i = vectors[users[b]], vectors[items[b]]
        product = np.float32(0.0)
        for d in range(dim):
            product += u[d] * i[d]
        out[b] = factor * product - less


@fast_kernel
def pass_back(
    vectors: Any, users: Any, items: Any, toward: Any, scale: Any, pull: Any, factor: Any, gradients: Any
) -> None:
    """Adds the gradient of users and own items, of logits `factor * u . v`, to `gradients`.

    Args:
        vectors: float32[r, dim].
        users: int64[b], row of each example's user.
        items: int64[b], of its item.
        toward: float32[b, dim], or uint16 for bfloat16: sum of the candidates times what `chances` left of the logits.
        scale: float32[b], of `chances`.
        pull: float32[b], of `chances`.
        factor: float32.
        gradients: float32[r, dim].
    """
    dim = vectors.shape[1]
    for b in range(len(users)):
        u, i, t = vectors[users[b]], vectors[items[b]], toward[b]
        gu, gi = gradients[users[b]], gradients[items[b]]
        others, own = factor * scale[b], factor * pull[b]
        for d in range(dim):
            gu[d] += others * get(t, d) + own * i[d]
        for d in range(dim):
            gi[d] += own * u[d]
