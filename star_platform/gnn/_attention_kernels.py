"""The loops of neighbour attention, compiled, over the edges of a block in CSR form. None holds the GIL.

With k_e = k_u + rho^k_r and v_e = v_u + rho^v_r for edge e from u to v over relation r, per head h:

    z_e = scale * q_v . k_e + b_r + c_r age_e + w_r weight_e        a = softmax of z over the edges into v
    s_v = sum_e a_e g_r v_e

Keys and values of an item lie side by side in one row `[2 inner]`, heads one after another in each half: a neighbour is
one place in memory. Nothing of size [edges, inner] is ever stored. Gradients that belong to destinations are made by
destination; those of keys and values by source, from the transposed block, so that each row is written once and no two
threads write one number. Rows may be float32, or bfloat16 handed over as uint16; sums are always float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.gnn._rows import expect, get, put
from star_platform.graph.kernels import fast_kernel, kernel

AHEAD = 6
"""Edges between a prefetch and its use."""


@fast_kernel
def _bias(terms: Any, ages: Any, weights: Any, e: Any, r: Any, h: Any) -> Any:
    """What is added to the product of query and key."""
    found = terms[1, r, h] + terms[2, r, h] * ages[e]
    return found + terms[3, r, h] * weights[e] if weights.size else found


@fast_kernel
def _softmax(scores: Any, low: Any, high: Any) -> None:
    """In place, over the rows `low .. high` of each column."""
    for h in range(scores.shape[1]):
        most = np.float32(-np.inf)
        for e in range(low, high):
            most = max(most, scores[e, h])
        total = np.float32(0.0)
        for e in range(low, high):
            scores[e, h] = np.exp(scores[e, h] - most)
            total += scores[e, h]
        for e in range(low, high):
            scores[e, h] /= total


@fast_kernel
def attend(
    first: Any,
    last: Any,
    kv: Any,
    q: Any,
    rho: Any,
    terms: Any,
    indptr: Any,
    neighbours: Any,
    relations: Any,
    ages: Any,
    weights: Any,
    scale: Any,
    shares: Any,
    s: Any,
) -> None:
    """`s [n, inner]` and the shares a `[e, heads]` of destinations `first .. last`; zero without neighbours.

    Args:
        first: destination.
        last: destination.
        kv: `[m, 2 inner]`.
        q: `[n, inner]`.
        rho: float32 `[R, 2 inner]`.
        terms: float32 `[4, R, heads]`: g, b, c, w of each relation and head.
        indptr: int64 `[n + 1]`.
        neighbours: int32 `[e]`.
        relations: int16 `[e]`.
        ages: float32 `[e]`.
        weights: float32 `[e]`, or `[0]`.
        scale: float32.
        shares: written.
        s: written.
    """
    heads, inner = shares.shape[1], q.shape[1]
    width = inner // heads
    query, total = np.empty(inner, np.float32), np.empty(inner, np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        row = q[v]
        for j in range(inner):
            query[j] = get(row, j) * scale
        for j in range(inner):
            total[j] = 0.0
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(kv, neighbours[e + AHEAD], 0, 2 * inner)
            u, r = neighbours[e], relations[e]
            for h in range(heads):
                begin, end = h * width, (h + 1) * width
                key, shift, asked = kv[u][begin:end], rho[r][begin:end], query[begin:end]
                score = np.float32(0.0)
                for j in range(width):
                    score += (get(key, j) + shift[j]) * asked[j]
                shares[e, h] = score + _bias(terms, ages, weights, e, r, h)
        _softmax(shares, low, high)
        for e in range(low, high):
            u, r = neighbours[e], relations[e]
            for h in range(heads):
                begin, end = inner + h * width, inner + (h + 1) * width
                value, shift, to = kv[u][begin:end], rho[r][begin:end], total[h * width : (h + 1) * width]
                factor = shares[e, h] * terms[0, r, h]
                for j in range(width):
                    to[j] += factor * (get(value, j) + shift[j])
        out = s[v]
        for j in range(inner):
            put(out, j, total[j])


@fast_kernel
def attend_backward(  # noqa: C901 - loops that are taken apart into functions of rows are no longer vectorised
    first: Any,
    last: Any,
    kv: Any,
    q: Any,
    rho: Any,
    terms: Any,
    indptr: Any,
    neighbours: Any,
    relations: Any,
    ages: Any,
    weights: Any,
    scale: Any,
    shares: Any,
    ds: Any,
    dq: Any,
    pulls: Any,
    drho: Any,
    dterms: Any,
) -> None:
    """Gradients that belong to destinations: `dq`, `drho` and `dterms` (added to), and what each edge hands on.

    `ds` is the gradient of `s`; `shares [e, heads]` becomes a g, `pulls [e, heads]` becomes scale dz: with both the
    gradients of k_e and v_e are `pulls q_v` and `shares ds_v`.
    """
    heads, inner = shares.shape[1], q.shape[1]
    width = inner // heads
    query, given = np.empty(inner, np.float32), np.empty(inner, np.float32)
    total, mean = np.empty(inner, np.float32), np.empty(heads, np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        row, wanted = q[v], ds[v]
        for j in range(inner):
            query[j] = get(row, j)
        for j in range(inner):
            given[j] = get(wanted, j)
        for j in range(inner):
            total[j] = 0.0
        mean[:] = 0.0
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(kv, neighbours[e + AHEAD], 0, 2 * inner)
            u, r = neighbours[e], relations[e]
            for h in range(heads):
                begin, end = inner + h * width, inner + (h + 1) * width
                value, shift, of_sum = kv[u][begin:end], rho[r][begin:end], given[h * width : (h + 1) * width]
                product = np.float32(0.0)
                for j in range(width):
                    product += (get(value, j) + shift[j]) * of_sum[j]
                dterms[0, r, h] += shares[e, h] * product
                pulls[e, h] = product * terms[0, r, h]
                mean[h] += shares[e, h] * pulls[e, h]
        for e in range(low, high):
            u, r = neighbours[e], relations[e]
            for h in range(heads):
                dz = shares[e, h] * (pulls[e, h] - mean[h])
                dterms[1, r, h] += dz
                dterms[2, r, h] += dz * ages[e]
                if weights.size:
                    dterms[3, r, h] += dz * weights[e]
                pull, factor = dz * scale, shares[e, h] * terms[0, r, h]
                pulls[e, h], shares[e, h] = pull, factor
                begin, end = h * width, (h + 1) * width
                key, shift, to = kv[u][begin:end], rho[r][begin:end], total[begin:end]
                for j in range(width):
                    to[j] += pull * (get(key, j) + shift[j])
                asked, of_key = query[begin:end], drho[r][begin:end]
                for j in range(width):
                    of_key[j] += pull * asked[j]
                of_sum, of_value = given[begin:end], drho[r][inner + begin : inner + end]
                for j in range(width):
                    of_value[j] += factor * of_sum[j]
        out = dq[v]
        for j in range(inner):
            put(out, j, total[j])


@fast_kernel
def by_source(indptr: Any, neighbours: Any, sources: Any) -> Any:
    """The transposed block: `starts int64 [sources + 1]`, and of each source's edges number and destination, int32.

    In the order of the edges.
    """
    starts = np.zeros(sources + 1, np.int64)
    for e in range(len(neighbours)):
        starts[neighbours[e] + 1] += 1
    for u in range(sources):
        starts[u + 1] += starts[u]
    free = starts[:-1].copy()
    edges, targets = np.empty(len(neighbours), np.int32), np.empty(len(neighbours), np.int32)
    for v in range(len(indptr) - 1):
        for e in range(indptr[v], indptr[v + 1]):
            place = free[neighbours[e]]
            edges[place], targets[place] = e, v
            free[neighbours[e]] = place + 1
    return starts, edges, targets


@fast_kernel
def hand_back(
    first: Any, last: Any, q: Any, ds: Any, shares: Any, pulls: Any, starts: Any, edges: Any, targets: Any, dkv: Any
) -> None:
    """Rows `first .. last` of the gradient of kv, from what `attend_backward` left of each edge."""
    heads, inner = shares.shape[1], q.shape[1]
    width = inner // heads
    total = np.empty(2 * inner, np.float32)
    for u in range(first, last):
        for j in range(2 * inner):
            total[j] = 0.0
        for place in range(starts[u], starts[u + 1]):
            if place + AHEAD < len(targets):
                expect(q, targets[place + AHEAD], 0, inner)
                expect(ds, targets[place + AHEAD], 0, inner)
            e, v = edges[place], targets[place]
            for h in range(heads):
                begin, end, pull = h * width, (h + 1) * width, pulls[e, h]
                asked, of_key = q[v][begin:end], total[begin:end]
                for j in range(width):
                    of_key[j] += pull * get(asked, j)
            for h in range(heads):
                begin, end, share = h * width, (h + 1) * width, shares[e, h]
                given, of_value = ds[v][begin:end], total[inner + begin : inner + end]
                for j in range(width):
                    of_value[j] += share * get(given, j)
        out = dkv[u]
        for j in range(2 * inner):
            put(out, j, total[j])


@fast_kernel
def average(
    first: Any,
    last: Any,
    x: Any,
    rho: Any,
    gates: Any,
    indptr: Any,
    neighbours: Any,
    relations: Any,
    s: Any,
) -> None:
    """`s [n, D]` = mean over the neighbours of g_r (x_u + rho_r), of destinations `first .. last`; gates `[R]`."""
    width = x.shape[1]
    total = np.empty(width, np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        total[:] = 0.0
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(x, neighbours[e + AHEAD], 0, width)
            r = relations[e]
            row, shift = x[neighbours[e]], rho[r]
            factor = gates[r] / np.float32(high - low)
            for j in range(width):
                total[j] += factor * (get(row, j) + shift[j])
        out = s[v]
        for j in range(width):
            put(out, j, total[j])


@fast_kernel
def average_backward(
    first: Any,
    last: Any,
    x: Any,
    rho: Any,
    gates: Any,
    indptr: Any,
    neighbours: Any,
    relations: Any,
    ds: Any,
    shares: Any,
    drho: Any,
    dgates: Any,
) -> None:
    """`drho [R, D]` and `dgates [R]` (added to), and `shares [e]`: what of `ds` each edge hands to its message."""
    width = x.shape[1]
    given = np.empty(width, np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        wanted = ds[v]
        for j in range(width):
            given[j] = get(wanted, j)
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(x, neighbours[e + AHEAD], 0, width)
            r = relations[e]
            part = np.float32(1.0) / np.float32(high - low)
            share = gates[r] * part
            shares[e] = share
            row, shift, of_shift = x[neighbours[e]], rho[r], drho[r]
            product = np.float32(0.0)
            for j in range(width):
                product += given[j] * (get(row, j) + shift[j])
            for j in range(width):
                of_shift[j] += share * given[j]
            dgates[r] += product * part


@fast_kernel
def hand_back_mean(first: Any, last: Any, ds: Any, shares: Any, starts: Any, edges: Any, targets: Any, dx: Any) -> None:
    """Rows `first .. last` of the gradient of x, from what `average_backward` left of each edge."""
    width = ds.shape[1]
    total = np.empty(width, np.float32)
    for u in range(first, last):
        total[:] = 0.0
        for place in range(starts[u], starts[u + 1]):
            if place + AHEAD < len(targets):
                expect(ds, targets[place + AHEAD], 0, width)
            share, given = shares[edges[place]], ds[targets[place]]
            for j in range(width):
                total[j] += share * get(given, j)
        out = dx[u]
        for j in range(width):
            put(out, j, total[j])


@fast_kernel
def add_rows(rows: Any, places: Any, to: Any) -> None:
    """`to[places] += rows`, in place; no place twice."""
    for i in range(len(places)):
        given, target = rows[i], to[places[i]]
        for j in range(given.size):
            put(target, j, get(target, j) + get(given, j))


@kernel
def edge_terms(
    indptr: Any, neighbours: Any, relations: Any, ages: Any, weights: Any, own: Any, self_relation: Any
) -> Any:
    """The edges of a block as the encoder reads them.

    Args:
        indptr: int64 `[n + 1]`.
        neighbours: int32 `[e]`.
        relations: int16 `[e]`.
        ages: int64 `[e]`, microseconds, -1 for undated edges; or `[0]`.
        weights: float32 `[e]`, or `[0]`.
        own: int32 `[n]`, each item's place among the neighbours, to add an edge from itself at the end of its list;
            `[0]` to add none.
        self_relation: relation of such an edge.

    Returns:
        indptr, neighbours, relations, log1p of hours float32, log1p of weights float32.
    """
    n, more = len(indptr) - 1, 1 if len(own) else 0
    count = len(neighbours) + n * more
    starts = np.empty(n + 1, np.int64)
    sources, kinds = np.empty(count, np.int32), np.empty(count, np.int16)
    hours, logs = np.zeros(count, np.float32), np.zeros(count if len(weights) else 0, np.float32)
    at = 0
    for v in range(n):
        starts[v] = at
        for e in range(indptr[v], indptr[v + 1]):
            sources[at], kinds[at] = neighbours[e], relations[e]
            if len(ages) and ages[e] > 0:
                hours[at] = np.log1p(ages[e] / 3.6e9)
            if len(weights):
                logs[at] = np.log1p(max(weights[e], np.float32(0.0)))
            at += 1
        if more:
            sources[at], kinds[at] = own[v], self_relation
            at += 1
    starts[n] = at
    return starts, sources, kinds, hours, logs
