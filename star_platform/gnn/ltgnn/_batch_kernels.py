"""Compiled loops over a batch of users and items: relabelling, negatives, losses, ranking."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.gnn.ltgnn._kernels import GOLDEN, below, mixed
from star_platform.graph.kernels import fast_kernel, kernel


@kernel
def relabel(ids: Any, stamps: Any, unique: Any, positions: Any) -> Any:
    """Distinct ids in order of appearance into `unique`, the place of each into `positions`; returns how many.

    `stamps` is int32[n], -1 everywhere before and after.
    """
    count = 0
    for i in range(len(ids)):
        place = stamps[ids[i]]
        if place < 0:
            place = count
            stamps[ids[i]] = count
            unique[count] = ids[i]
            count += 1
        positions[i] = place
    for i in range(count):
        stamps[unique[i]] = -1
    return count


@fast_kernel
def bpr(vectors: Any, users: Any, items: Any, others: Any, gradients: Any) -> Any:
    """Bayesian personalised ranking: mean of softplus(u.j - u.i) (Rendle et al. 2009).

    Args:
        vectors: float32[r, dim], distinct rows of the batch.
        users: int64[b], row of each example's user.
        items: int64[b], of its item.
        others: int64[b], of the item that it is compared with.
        gradients: float32[r, dim], out: the gradient is added.

    Returns:
        The loss.
    """
    dim = vectors.shape[1]
    count = len(users)
    share = np.float32(1.0 / count)
    loss = 0.0
    for b in range(count):
        u, i, j = vectors[users[b]], vectors[items[b]], vectors[others[b]]
        x = np.float32(0.0)
        for d in range(dim):
            x += u[d] * (j[d] - i[d])
        loss += max(x, 0.0) + np.log1p(np.exp(-abs(x)))
        g = share / (np.float32(1.0) + np.exp(-x))
        gu, gi, gj = gradients[users[b]], gradients[items[b]], gradients[others[b]]
        for d in range(dim):
            gu[d] += g * (j[d] - i[d])
            gi[d] -= g * u[d]
            gj[d] += g * u[d]
    return loss / count


@kernel
def add_decay(positions: Any, own: Any, strength: Any, gradients: Any) -> None:
    """Adds `strength * own[p]` to the gradient of row p for every occurrence of p in `positions`."""
    dim = own.shape[1]
    for i in range(len(positions)):
        p = positions[i]
        for d in range(dim):
            gradients[p, d] += strength * own[p, d]


@kernel
def draw_others(indptr: Any, items: Any, users: Any, num_items: Any, key: Any, out: Any, first: Any, last: Any) -> None:
    """A uniform item per example that its user has not interacted with; `items` ascends within a user.

    A user who has interacted with everything gets any item.
    """
    for b in range(first, last):
        low, high = indptr[users[b]], indptr[users[b] + 1]
        state = mixed(key ^ (np.uint64(b) * GOLDEN))
        out[b] = below(state, num_items)
        if high - low >= num_items:
            continue
        while True:
            left, right = low, high
            while left < right:
                middle = (left + right) >> 1
                if items[middle] < out[b]:
                    left = middle + 1
                else:
                    right = middle
            if left == high or items[left] != out[b]:
                break
            state = mixed(state)
            out[b] = below(state, num_items)


@kernel
def scatter_add(gradients: Any, positions: Any, out: Any) -> None:
    """`out[positions[i]] += gradients[i]`, in order."""
    dim = out.shape[1]
    for i in range(len(positions)):
        for d in range(dim):
            out[positions[i], d] += gradients[i, d]


@kernel
def top_k(scores: Any, indptr: Any, seen: Any, users: Any, out: Any, first: Any, last: Any) -> None:
    """The best columns of each row, best first, without those in `seen` of its user; ties to the lower column.

    Args:
        scores: float32[b, items]; seen entries are overwritten by -inf.
        indptr: int64[users + 1].
        seen: int32[interactions].
        users: int64[b].
        out: int32[b, k], out; -1 beyond the items that are left.
        first: first row handled.
        last: end of the rows handled.
    """
    k = out.shape[1]
    best = np.empty(k, dtype=np.float32)
    for b in range(first, last):
        row = scores[b]
        for e in range(indptr[users[b]], indptr[users[b] + 1]):
            row[seen[e]] = -np.inf
        best[:] = -np.inf
        out[b, :] = -1
        floor = np.float32(-np.inf)
        for c in range(len(row)):
            x = row[c]
            if not x > floor:
                continue
            at = k - 1
            while at > 0 and x > best[at - 1]:
                best[at] = best[at - 1]
                out[b, at] = out[b, at - 1]
                at -= 1
            best[at] = x
            out[b, at] = c
            floor = best[k - 1]
