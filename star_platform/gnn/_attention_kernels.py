"""The loops of neighbour attention, compiled, over the edges of a block in CSR form. None holds the GIL.

With y_e = x_u + rho_r the message of edge e from u to v over relation r, per head h:

    z_e = scale * Q_v . y_e + b_r + c_r age_e + w_r weight_e        a = softmax of z over the edges into v
    S_v = sum_e a_e g_r y_e

Nothing of size [edges, width] is ever stored: rows of y are formed in a buffer that stays in the first-level cache.
Rows may be float32, or bfloat16 handed over as uint16; sums are always float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.gnn._rows import expect, get, put
from star_platform.graph.kernels import fast_kernel, kernel

AHEAD = 6
"""Edges between a prefetch and its use."""


@fast_kernel
def _message(x: Any, u: Any, rho: Any, r: Any, out: Any) -> None:
    """`out = x[u] + rho[r]`, float32."""
    row, shift = x[u], rho[r]
    for j in range(out.size):
        out[j] = get(row, j) + shift[j]


@fast_kernel
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0.0)
    for j in range(b.size):
        total += get(a, j) * b[j]
    return total


@fast_kernel
def _load(rows: Any, v: Any, out: Any) -> None:
    """`out [heads, D]` = `rows [heads, n, D]` of destination v, as float32."""
    for h in range(len(out)):
        row, to = rows[h, v], out[h]
        for j in range(to.size):
            to[j] = get(row, j)


@fast_kernel
def _store(rows: Any, v: Any, values: Any) -> None:
    """The way back of `_load`."""
    for h in range(len(values)):
        row, given = rows[h, v], values[h]
        for j in range(given.size):
            put(row, j, given[j])


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
def _hand_over(by_relation: Any, v: Any, relations: Any, low: Any, high: Any, summed: Any) -> None:
    """Write the sums `[2, heads, R]` of destination v where they belong, and set them to 0."""
    for e in range(low, high):
        r = relations[e]
        for side in range(2):
            for h in range(summed.shape[1]):
                put(by_relation[side, h, v], r, summed[side, h, r])
    for e in range(low, high):
        summed[:, :, relations[e]] = 0.0


@fast_kernel
def attend(
    first: Any,
    last: Any,
    x: Any,
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
    """`s [heads, n, D]` and the shares a `[e, heads]` of destinations `first .. last`; zero without neighbours.

    Args:
        first: destination.
        last: destination.
        x: `[m, D]`.
        q: `[heads, n, D]`.
        rho: float32 `[R, D]`.
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
    heads, width = q.shape[0], x.shape[1]
    message = np.empty(width, np.float32)
    query = np.empty((heads, width), np.float32)
    total = np.empty((heads, width), np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        _load(q, v, query)
        total[:, :] = 0.0
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(x, neighbours[e + AHEAD], 0, width)
            r = relations[e]
            _message(x, neighbours[e], rho, r, message)
            for h in range(heads):
                score = scale * _dot(query[h], message) + terms[1, r, h] + terms[2, r, h] * ages[e]
                if weights.size:
                    score += terms[3, r, h] * weights[e]
                shares[e, h] = score
        _softmax(shares, low, high)
        for e in range(low, high):
            r = relations[e]
            _message(x, neighbours[e], rho, r, message)
            for h in range(heads):
                factor = shares[e, h] * terms[0, r, h]
                for j in range(width):
                    total[h, j] += factor * message[j]
        _store(s, v, total)


@fast_kernel
def attend_backward(
    first: Any,
    last: Any,
    x: Any,
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
    by_relation: Any,
    dterms: Any,
) -> None:
    """Gradients that belong to destinations: `dq`, `dterms` (added to), and what each edge pulls at its message.

    `ds` is the gradient of `s`. `shares [e, heads]` becomes a g, `pulls [e, heads]` becomes scale dz: with both,
    the gradient of y_e is the sum over heads of `shares ds_v + pulls q_v`. `by_relation [2, heads, n, R]`, of x's
    dtype and zero, becomes their sums over the edges of each relation, so that the gradient of rho is two products.
    """
    heads, width = q.shape[0], x.shape[1]
    message = np.empty(width, np.float32)
    given = np.empty((heads, width), np.float32)
    total = np.empty((heads, width), np.float32)
    mean = np.empty(heads, np.float32)
    summed = np.zeros((2, heads, len(rho)), np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        _load(ds, v, given)
        total[:, :] = 0.0
        mean[:] = 0.0
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(x, neighbours[e + AHEAD], 0, width)
            r = relations[e]
            _message(x, neighbours[e], rho, r, message)
            for h in range(heads):
                product = _dot(given[h], message)
                dterms[0, r, h] += shares[e, h] * product
                pulls[e, h] = product * terms[0, r, h]
                mean[h] += shares[e, h] * pulls[e, h]
        for e in range(low, high):
            r = relations[e]
            _message(x, neighbours[e], rho, r, message)
            for h in range(heads):
                dz = shares[e, h] * (pulls[e, h] - mean[h])
                dterms[1, r, h] += dz
                dterms[2, r, h] += dz * ages[e]
                if weights.size:
                    dterms[3, r, h] += dz * weights[e]
                dz *= scale
                pulls[e, h] = dz
                shares[e, h] *= terms[0, r, h]
                summed[0, h, r] += shares[e, h]
                summed[1, h, r] += dz
                for j in range(width):
                    total[h, j] += dz * message[j]
        _store(dq, v, total)
        _hand_over(by_relation, v, relations, low, high, summed)


@fast_kernel
def _add_heads(rows: Any, coefficients: Any, to: Any) -> None:
    """`to += coefficients . rows`, eight rows `[k, width]` at a time: the target is read and written once for eight."""
    for k in range(0, len(rows), 8):
        a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        e, f, g, h = rows[k + 4], rows[k + 5], rows[k + 6], rows[k + 7]
        ka, kb, kc, kd = coefficients[k], coefficients[k + 1], coefficients[k + 2], coefficients[k + 3]
        ke, kf, kg, kh = coefficients[k + 4], coefficients[k + 5], coefficients[k + 6], coefficients[k + 7]
        for j in range(to.size):
            one = ka * a[j] + kb * b[j] + kc * c[j] + kd * d[j]
            to[j] += one + ke * e[j] + kf * f[j] + kg * g[j] + kh * h[j]


@fast_kernel
def scatter(
    begin: Any, end: Any, q: Any, ds: Any, shares: Any, pulls: Any, indptr: Any, neighbours: Any, dx: Any
) -> None:
    """Columns `begin .. end` of `dx [m, D]`, float32, added to, over all edges in order.

    Threads divide the columns, not the edges: no two write one number, and sums never depend on how many there are.
    """
    heads, width = ds.shape[0], end - begin
    rows = np.zeros((-(-2 * heads // 8) * 8, width), np.float32)
    coefficients = np.zeros(len(rows), np.float32)
    for v in range(len(indptr) - 1):
        if indptr[v] == indptr[v + 1]:
            continue
        for h in range(heads):
            given, asked = ds[h, v, begin:end], q[h, v, begin:end]  # slices: with an offset nothing is vectorised
            for j in range(width):
                rows[2 * h, j] = get(given, j)
                rows[2 * h + 1, j] = get(asked, j)
        for e in range(indptr[v], indptr[v + 1]):
            if e + AHEAD < len(neighbours):
                expect(dx, neighbours[e + AHEAD], begin, end)
            for h in range(heads):
                coefficients[2 * h], coefficients[2 * h + 1] = shares[e, h], pulls[e, h]
            _add_heads(rows, coefficients, dx[neighbours[e], begin:end])


@fast_kernel
def scatter_mean(begin: Any, end: Any, ds: Any, shares: Any, indptr: Any, neighbours: Any, dx: Any) -> None:
    """As `scatter`, of a mean: `ds [1, n, D]`, `shares [e, 1]`."""
    given = np.empty(end - begin, np.float32)
    for v in range(len(indptr) - 1):
        row = ds[0, v, begin:end]
        for j in range(given.size):
            given[j] = get(row, j)
        for e in range(indptr[v], indptr[v + 1]):
            if e + AHEAD < len(neighbours):
                expect(dx, neighbours[e + AHEAD], begin, end)
            share = shares[e, 0]
            to = dx[neighbours[e], begin:end]
            for j in range(given.size):
                to[j] += share * given[j]


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
    """`s [1, n, D]` = mean over the neighbours of g_r y_e, for destinations `first .. last`; `gates` float32 `[R]`."""
    width = x.shape[1]
    total = np.empty(width, np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        for j in range(width):
            total[j] = 0.0
        for e in range(low, high):
            if e + AHEAD < len(neighbours):
                expect(x, neighbours[e + AHEAD], 0, width)
            r = relations[e]
            row, shift = x[neighbours[e]], rho[r]
            factor = gates[r] / np.float32(high - low)
            for j in range(width):
                total[j] += factor * (get(row, j) + shift[j])
        out = s[0, v]
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
    by_relation: Any,
    dgates: Any,
) -> None:
    """`dgates [R]` (added to), and `shares [e, 1]`: what of `ds` each edge hands to its message.

    `by_relation [n, R]`, of x's dtype and zero, becomes its sums over the edges of each relation.
    """
    width = x.shape[1]
    summed = np.zeros(len(rho), np.float32)
    given = np.empty(width, np.float32)
    for v in range(first, last):
        low, high = indptr[v], indptr[v + 1]
        row = ds[0, v]
        for j in range(width):
            given[j] = get(row, j)
        for e in range(low, high):
            r = relations[e]
            if e + AHEAD < len(neighbours):
                expect(x, neighbours[e + AHEAD], 0, width)
            part = np.float32(1.0) / np.float32(high - low)
            shares[e, 0] = gates[r] * part
            summed[r] += shares[e, 0]
            source, shift = x[neighbours[e]], rho[r]
            product = np.float32(0.0)
            for j in range(width):
                product += given[j] * (get(source, j) + shift[j])
            dgates[r] += product * part
        for e in range(low, high):
            put(by_relation[v], relations[e], summed[relations[e]])
        for e in range(low, high):
            summed[relations[e]] = 0.0


@kernel
def edge_terms(
    indptr: Any, neighbours: Any, relations: Any, ages: Any, weights: Any, own: Any, self_relation: Any
) -> Any:
    """The edges of a block as the encoder reads them.

    Args:
        indptr: int64 `[n + 1]`.
        neighbours: int32 `[e]`.
        relations: int16 `[e]`.
        ages: int64 `[e]`, microseconds, -1 for undated edges.
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
            if ages[e] > 0:
                hours[at] = np.log1p(ages[e] / 3.6e9)
            if len(weights):
                logs[at] = np.log1p(max(weights[e], np.float32(0.0)))
            at += 1
        if more:
            sources[at], kinds[at] = own[v], self_relation
            at += 1
    starts[n] = at
    return starts, sources, kinds, hours, logs
