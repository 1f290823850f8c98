"""The loop that draws edges, compiled. It holds no GIL, allocates nothing and writes only what it is handed."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph._choice_kernels import GOLDEN, choose_of_few, choose_of_many, choose_weighted, mix
from star_platform.graph._exclusion_kernels import partner_of, without
from star_platform.graph._validity_kernels import valid_ranges
from star_platform.graph.kernels import kernel

TILE = 64
"""Items drawn together."""
_AHEAD = 16
"""So many edges are taken without asking how many there are: a jump that is guessed wrongly costs more."""
_ONE = np.uint64(1)
UNIFORM, LATEST, WEIGHTED = 0, 1, 2


@kernel
def _in_a_row(start: Any, take: Any, k: Any, picked: Any, at: Any) -> None:
    """`take <= k` positions from `start` on."""
    for j in range(min(k, _AHEAD)):  # a fixed number: the next list writes over what is too much
        picked[at + j] = start + j
    for j in range(_AHEAD, take):
        picked[at + j] = start + j


@kernel
def _over_the_gap(middle: Any, gap: Any, picked: Any, first: Any, last: Any) -> None:
    """Positions from `middle` on move up by the gap."""
    for j in range(first, last):
        if picked[j] >= middle:
            picked[j] += gap


@kernel
def _of_visible(visible: Any, picked: Any, first: Any, last: Any) -> None:
    """Places among the visible edges become positions."""
    for j in range(first, last):
        picked[j] = visible[picked[j]]


@kernel
def _pick(
    nodes: Any,
    contexts: Any,
    begin: Any,
    end: Any,
    moments: Any,
    window: Any,
    pairs: Any,
    slots: Any,
    limits: Any,
    edges: Any,
    cumulative: Any,
    strategy: Any,
    base: Any,
    lows: Any,
    counts: Any,
    heads: Any,
    gaps: Any,
    seen: Any,
    visible: Any,
    keys: Any,
    picked: Any,
    ends: Any,
) -> Any:
    """Up to `limits[r]` positions of every list r of a tile into `picked`; item i's end at `ends[i - begin]`."""
    m = 0
    at = 0
    for i in range(begin, end):
        node = np.int64(nodes[i])
        context = contexts[i] if contexts.size else 0
        partner = partner_of(pairs, context, node)
        state = mix(mix(base + np.uint64(node) * GOLDEN) ^ np.uint64(moments[context]))
        for r in range(slots):
            low, n, k = lows[m], counts[m], limits[r]
            head, gap = n, np.int64(0)
            if window > 0:
                head, gap = heads[m], gaps[m]
            m += 1
            if partner >= 0:
                n = without(edges, low, n, head, gap, partner, visible)
            take = min(n, k)
            state += GOLDEN
            start = np.int64(0) if partner >= 0 else low
            if n <= k or strategy == LATEST:
                _in_a_row(start + n - take, take, k, picked, at)
            elif strategy == WEIGHTED:
                choose_weighted(
                    n, k, mix(state), low, head, gap, partner >= 0, visible, cumulative, picked, at, seen, keys
                )  # fmt: skip
                at += take
                continue
            elif n <= 64:  # not one call for both: it would count references per list
                choose_of_few(n, k, mix(state), start, picked, at)
            else:
                choose_of_many(n, k, mix(state), start, picked, at, seen)
            if partner >= 0:
                _of_visible(visible, picked, at, at + take)
            elif gap > 0:
                _over_the_gap(low + head, gap, picked, at, at + take)
            at += take
        ends[i - begin] = at
    return at


@kernel
def _gather(
    edges: Any,
    weights: Any,
    picked: Any,
    first: Any,
    out_sources: Any,
    out_relations: Any,
    out_ages: Any,
    out_weights: Any,
) -> None:
    """Write the edges at `picked` from place `first` on; their times stand for their ages."""
    e = np.uint64(first)
    for x in range(picked.size):
        p = np.uint64(picked[x])
        code = edges[(p << _ONE) | _ONE]
        out_sources[e] = np.int32(code & 0xFFFFFFFF)
        out_relations[e] = np.int16(code >> 32)
        out_ages[e] = edges[p << _ONE]
        if out_weights.size:
            out_weights[e] = weights[p]
        e += _ONE


@kernel
def _to_ages(times: Any, moment: Any) -> None:
    """Times become ages in place: -1 if undated; beyond 292,000 years an age wraps, and is capped."""
    undated, forever = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    for e in range(times.size):
        age = moment - times[e]
        times[e] = np.int64(-1) if times[e] == undated else (age if age >= 0 else forever)


@kernel
def draw(
    nodes: Any,
    contexts: Any,
    slices: Any,
    moments: Any,
    shares: Any,
    window: Any,
    pairs: Any,
    slots: Any,
    rows: Any,
    offsets: Any,
    limits: Any,
    indptr: Any,
    undated: Any,
    edges: Any,
    weights: Any,
    cumulative: Any,
    newest: Any,
    strategy: Any,
    base: Any,
    width: Any,
    ranges: Any,
    cuts: Any,
    work: Any,
    seen: Any,
    visible: Any,
    keys: Any,
    picked: Any,
    ends: Any,
    starts: Any,
    out_sources: Any,
    out_relations: Any,
    out_ages: Any,
    out_weights: Any,
) -> Any:
    """Draw up to `limits[t, r]` edges from list r of every item of type t; returns how many in all.

    `width` > 0: item i writes at `i * width` and pads with -1; 0: items follow each other as `starts [n + 1]` says.
    `shares [contexts]`: of dated edges, those before the moment; a guess.
    `window` > 0: microseconds before an item's moment that are seen; 0: no bound.
    `pairs [contexts, 2]`: in that context, edges between the two nodes do not exist (-1: all do).
    `ranges [4, lists of a tile]`, `cuts [the same]`, `work [3, the same]`, `seen`, `visible`, `keys`, `picked` and
    `ends`: scratch.
    Items are done in tiles: first where their lists are, then which edges, then the edges. Each loop has independent
    reads, as random access to main memory needs.
    """
    lows, counts, heads, gaps = ranges[0], ranges[1], ranges[2], ranges[3]
    total = np.int64(0)
    for t in range(slots.size):
        for begin in range(slices[t], slices[t + 1], TILE):
            end = min(begin + TILE, slices[t + 1])
            valid_ranges(
                nodes, contexts, begin, end, moments, shares, window, slots[t], rows[t], offsets[t], limits[t],
                indptr, undated, edges, newest, lows, counts, heads, gaps, cuts, work[0], work[1], work[2],
            )  # fmt: skip
            _pick(
                nodes, contexts, begin, end, moments, window, pairs, slots[t], limits[t], edges, cumulative,
                strategy, base, lows, counts, heads, gaps, seen, visible, keys, picked, ends,
            )  # fmt: skip
            count = ends[end - begin - 1]
            if width == 0:
                _gather(edges, weights, picked[:count], total, out_sources, out_relations, out_ages, out_weights)
            x = np.int64(0)
            for i in range(begin, end):
                y = ends[i - begin]
                e = total + x
                if width > 0:
                    e = np.int64(i * width)
                    _gather(edges, weights, picked[x:y], e, out_sources, out_relations, out_ages, out_weights)
                    out_sources[e + y - x : e + width] = -1
                    out_relations[e + y - x : e + width] = -1
                    out_ages[e + y - x : e + width] = -1
                    if out_weights.size:
                        out_weights[e + y - x : e + width] = 0.0
                else:
                    starts[i + 1] = total + y
                if contexts.size or width > 0:
                    _to_ages(out_ages[e : e + y - x], moments[contexts[i] if contexts.size else 0])
                x = y
            if not (contexts.size or width > 0):
                _to_ages(out_ages[total : total + count], moments[0])
            total += count
    return total


@kernel
def most_edges(nodes: Any, slices: Any, slots: Any, rows: Any, offsets: Any, limits: Any, indptr: Any) -> Any:
    """No more edges than this can be drawn."""
    total = 0
    for t in range(slots.size):
        for i in range(slices[t], slices[t + 1]):
            row = rows[t] + (np.int64(nodes[i]) - offsets[t]) * slots[t]
            for r in range(slots[t]):
                total += min(limits[t, r], indptr[row + r + 1] - indptr[row + r])
    return total
