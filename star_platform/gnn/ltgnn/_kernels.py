"""Compiled loops of LTGNN. Each call handles the rows from `first` to `last`, so that threads may share the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.gnn.ltgnn._prefetch import prefetch
from star_platform.graph.kernels import fast_kernel, kernel

_AHEAD = 8
"""Rows between asking for one and reading it."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@kernel
def mixed(x: Any) -> Any:
    """uint64 -> uint64: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = np.uint64(x) + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@kernel
def below(state: Any, bound: Any) -> Any:
    """An integer in [0, bound) from the upper 32 bits of `state`; `bound` < 2^31."""
    return np.int64(((state >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@kernel
def multiply(
    indptr: Any,
    indices: Any,
    values: Any,
    vectors: Any,
    scale: Any,
    base: Any,
    base_scale: Any,
    out: Any,
    first: Any,
    last: Any,
) -> None:
    """`out[v] = scale * sum_u A[v, u] vectors[u] + base_scale * base[v]`."""
    dim = vectors.shape[1]
    for v in range(first, last):
        row = out[v]
        for d in range(dim):
            row[d] = base_scale * base[v, d]
        for e in range(indptr[v], indptr[v + 1]):
            if e + _AHEAD < len(indices):
                prefetch(vectors, indices[e + _AHEAD])
            weight = scale * values[e]
            other = vectors[indices[e]]
            for d in range(dim):
                row[d] += weight * other[d]


@kernel
def draw(
    indptr: Any,
    indices: Any,
    values: Any,
    rows: Any,
    limit: Any,
    key: Any,
    places: Any,
    neighbours: Any,
    weights: Any,
    counts: Any,
    first: Any,
    last: Any,
) -> None:
    """Up to `limit` entries of each row of a CSR matrix without replacement, uniformly (Floyd 1987).

    The draw depends on `key` and the row alone: not on the batch, the order or the threads.

    Args:
        indptr: int64[n + 1].
        indices: int32[nnz].
        values: float32[nnz].
        rows: int64[b], which rows.
        limit: entries at most.
        key: uint64, the step.
        places: int64[b, limit], out: places among the matrix's entries, undefined beyond the count.
        neighbours: int32[b, limit], out: columns of the entries.
        weights: float32[b, limit], out: values of the entries, times entries of the row over entries drawn.
        counts: int64[b], out: entries drawn.
        first: first row handled.
        last: end of the rows handled.
    """
    for b in range(first, last):
        if b + 2 * _AHEAD < last:
            prefetch(indptr, rows[b + 2 * _AHEAD])
        if b + _AHEAD < last:
            start = indptr[rows[b + _AHEAD]]
            prefetch(indices, start)
            prefetch(values, start)
        v = rows[b]
        start = indptr[v]
        degree = indptr[v + 1] - start
        counts[b] = min(degree, limit)
        if degree <= limit:
            for j in range(degree):
                places[b, j] = start + j
        else:
            state = mixed(key ^ (np.uint64(v) * _GOLDEN))
            for j in range(limit):
                state = mixed(state)
                top = degree - limit + j
                chosen = below(state, top + 1)
                for i in range(j):
                    if places[b, i] == start + chosen:
                        chosen = top
                        break
                places[b, j] = start + chosen
        boost = np.float32(degree / max(1, counts[b]))
        for j in range(counts[b]):
            neighbours[b, j] = indices[places[b, j]]
            weights[b, j] = boost * values[places[b, j]]


@kernel
def aggregate(
    counts: Any, neighbours: Any, weights: Any, moving: Any, part: Any, scale: Any, out: Any, first: Any, last: Any
) -> None:
    """`out[b] += scale * sum over the drawn entries of weight * moving[neighbour]`, of one half of `moving`.

    Args:
        counts: int64[b].
        neighbours: int32[b, limit].
        weights: float32[b, limit].
        moving: float32[n, 2 x dim].
        part: 0 for its first `dim` columns, 1 for the others.
        scale: float32.
        out: float32[b, dim].
        first: first row handled.
        last: end of the rows handled.
    """
    dim = out.shape[1]
    for b in range(first, last):
        row = out[b]
        for j in range(counts[b]):
            if b + 1 < last and j < counts[b + 1]:
                prefetch(moving, neighbours[b + 1, j])
            weight = scale * weights[b, j]
            other = moving[neighbours[b, j], part * dim : (part + 1) * dim]
            for d in range(dim):
                row[d] += weight * other[d]


@kernel
def aggregate_both(
    counts: Any,
    neighbours: Any,
    weights: Any,
    moving: Any,
    scale: Any,
    one: Any,
    two: Any,
    first: Any,
    last: Any,
) -> None:
    """`aggregate` of the first half of `moving` into `one` and of the second into `two`, reading each row once."""
    dim = one.shape[1]
    for b in range(first, last):
        row, other_row = one[b], two[b]
        for j in range(counts[b]):
            if b + 1 < last and j < counts[b + 1]:
                prefetch(moving, neighbours[b + 1, j])
            weight = scale * weights[b, j]
            near = moving[neighbours[b, j]]
            for d in range(dim):
                row[d] += weight * near[d]
            far = near[dim:]
            for d in range(dim):
                other_row[d] += weight * far[d]


@kernel
def mix(rows: Any, aggregates: Any, scale: Any, own: Any, own_scale: Any, out: Any, first: Any, last: Any) -> None:
    """`out[b] = scale * aggregates[rows[b]] + own_scale * own[b]`."""
    dim = own.shape[1]
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(aggregates, rows[b + _AHEAD])
        v = rows[b]
        for d in range(dim):
            out[b, d] = scale * aggregates[v, d] + own_scale * own[b, d]


@kernel
def store_difference(rows: Any, vectors: Any, snapshot: Any, moving: Any) -> None:
    """`moving[v, :dim] = vectors[b] - snapshot[v]`, v = rows[b]."""
    dim = vectors.shape[1]
    for b in range(len(rows)):
        if b + _AHEAD < len(rows):
            prefetch(snapshot, rows[b + _AHEAD])
            prefetch(moving, rows[b + _AHEAD])
        v = rows[b]
        for d in range(dim):
            moving[v, d] = vectors[b, d] - snapshot[v, d]


@kernel
def store_gradient(rows: Any, gradients: Any, moving: Any) -> None:
    """`moving[v, dim:] = gradients[b]`, v = rows[b]."""
    dim = gradients.shape[1]
    for b in range(len(rows)):
        if b + _AHEAD < len(rows):
            prefetch(moving, rows[b + _AHEAD])
        for d in range(dim):
            moving[rows[b], dim + d] = gradients[b, d]


@kernel
def take(memory: Any, rows: Any, out: Any) -> None:
    """`out[b] = memory[rows[b]]`."""
    dim = memory.shape[1]
    for b in range(len(rows)):
        if b + _AHEAD < len(rows):
            prefetch(memory, rows[b + _AHEAD])
        for d in range(dim):
            out[b, d] = memory[rows[b], d]


@kernel
def adam_rows(
    table: Any,
    first_moment: Any,
    second_moment: Any,
    rows: Any,
    gradients: Any,
    step_size: Any,
    root_correction: Any,
    beta_1: Any,
    beta_2: Any,
    epsilon: Any,
    first: Any,
    last: Any,
) -> None:
    """One step of Adam on the rows of a batch; moments of other rows rest, as in torch's SparseAdam.

    `step_size` is lr / (1 - beta_1^t), `root_correction` 1 / sqrt(1 - beta_2^t).
    """
    dim = table.shape[1]
    one = np.float32(1.0)
    for b in range(first, last):
        if b + _AHEAD < last:
            prefetch(table, rows[b + _AHEAD])
            prefetch(first_moment, rows[b + _AHEAD])
            prefetch(second_moment, rows[b + _AHEAD])
        v = rows[b]
        for d in range(dim):
            g = gradients[b, d]
            m = beta_1 * first_moment[v, d] + (one - beta_1) * g
            s = beta_2 * second_moment[v, d] + (one - beta_2) * g * g
            first_moment[v, d] = m
            second_moment[v, d] = s
            table[v, d] -= step_size * m / (np.sqrt(s) * root_correction + epsilon)


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
        state = mixed(key ^ (np.uint64(b) * _GOLDEN))
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
def mask_known(indptr: Any, items: Any, users: Any, slots: Any, next_slot: Any, logits: Any, masked: Any) -> None:
    """Sets the logits of candidates that a user is known to have interacted with.

    Args:
        indptr: int64[users + 1].
        items: int32[interactions].
        users: int64[b], user of each row of `logits`.
        slots: int32[items], a column of each item, -1 where it has none.
        next_slot: int32[c], the next column of the same item, -1 at the last.
        logits: float32[b, c].
        masked: the value to set.
    """
    for b in range(len(users)):
        for e in range(indptr[users[b]], indptr[users[b] + 1]):
            c = slots[items[e]]
            while c >= 0:
                logits[b, c] = masked
                c = next_slot[c]


@kernel
def link_slots(candidates: Any, slots: Any, next_slot: Any) -> None:
    """Chains the columns of equal candidates; undo with `slots[candidates] = -1`."""
    for c in range(len(candidates)):
        next_slot[c] = slots[candidates[c]]
        slots[candidates[c]] = c


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
