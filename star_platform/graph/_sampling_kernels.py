"""The loops of the sampler, compiled. They hold no GIL, allocate nothing and write only what they are handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiled without the GIL, and kept on disk: in `NUMBA_CACHE_DIR`, beside the code, or in the user's cache."""
    try:
        return numba.njit(nogil=True, cache=True, boundscheck=False)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # nowhere to write: compile again in every process
        return numba.njit(nogil=True, boundscheck=False)(function)  # type: ignore[no-any-return]


TILE = 64
"""Items drawn together."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)


@kernel
def mix(z: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits."""
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@kernel
def _bounds(
    nodes: Any,
    contexts: Any,
    begin: Any,
    end: Any,
    moments: Any,
    slots: Any,
    row: Any,
    offset: Any,
    indptr: Any,
    edges: Any,
    newest: Any,
    lows: Any,
    counts: Any,
) -> None:
    """Where the lists of a tile of items begin, and how many of their edges lie before the item's moment.

    All lists are bisected in step, so that their reads of memory overlap instead of waiting for each other.
    """
    lists = 0
    longest = np.int64(0)
    bounded = False
    for i in range(begin, end):
        first = row + (np.int64(nodes[i]) - offset) * slots
        moment = moments[contexts[i] if contexts.size else 0]
        for r in range(first, first + slots):
            low, n = indptr[r], indptr[r + 1] - indptr[r]
            lows[lists], counts[lists] = low, n
            longest = max(longest, n)
            lists += 1
        bounded = bounded or moment <= newest
    if not bounded:
        return
    # Invariant: the answer of each list lies in [at, at + left], where `left` is halved for all lists alike.
    at, left = counts[lists : 2 * lists], counts[2 * lists : 3 * lists]
    for m in range(lists):
        at[m], left[m] = lows[m], counts[m]
    while longest > 0:
        m = 0
        for i in range(begin, end):
            moment = moments[contexts[i] if contexts.size else 0]
            for _ in range(slots):
                if left[m] > 0:
                    half = (left[m] + 1) >> 1
                    if edges[at[m] + half - 1, 0] < moment:
                        at[m] += half
                        left[m] -= half
                    else:
                        left[m] = half - 1
                m += 1
        longest >>= 1
    for m in range(lists):
        counts[m] = at[m] - lows[m]


@kernel
def _choose(n: Any, k: Any, state: Any, low: Any, picked: Any, at: Any, seen: Any) -> None:
    """`k < n` distinct positions from `low` on into `picked[at:]`, every subset equally likely (Floyd 1987).

    `seen` is a bitmap of zeros, and is left so. A 32-bit draw below n is off from uniform by at most n / 2^32.
    """
    for i in range(k):
        top = n - k + i
        state += _GOLDEN
        position = np.int64(((mix(state) & _LOW32) * np.uint64(top + 1)) >> _S32)
        if (seen[position >> 6] >> np.uint64(position & 63)) & _ONE:
            position = top
        seen[position >> 6] |= _ONE << np.uint64(position & 63)
        picked[at + i] = position
    for i in range(k):
        seen[picked[at + i] >> 6] = _ZERO
        picked[at + i] += low


@kernel
def _without(edges: Any, low: Any, n: Any, partner: Any, visible: Any) -> Any:
    """Positions of `[low, low + n)` whose source is not `partner`, into `visible`; returns how many."""
    left = 0
    for p in range(low, low + n):
        if (edges[p, 1] & 0xFFFFFFFF) != partner:
            visible[left] = p
            left += 1
    return left


@kernel
def _partner(pairs: Any, context: Any, node: Any) -> Any:
    """The other end of the context's hidden pair, if `node` is one end; otherwise -1."""
    if pairs.size == 0:
        return np.int64(-1)
    if pairs[context, 0] == node:
        return np.int64(pairs[context, 1])
    if pairs[context, 1] == node:
        return np.int64(pairs[context, 0])
    return np.int64(-1)


@kernel
def _pick(
    nodes: Any,
    contexts: Any,
    begin: Any,
    end: Any,
    moments: Any,
    pairs: Any,
    slots: Any,
    edges: Any,
    k: Any,
    latest: Any,
    base: Any,
    lows: Any,
    counts: Any,
    seen: Any,
    visible: Any,
    picked: Any,
    ends: Any,
) -> Any:
    """Up to k positions of every list of a tile into `picked`; item i's end at `ends[i - begin]`."""
    m = 0
    at = 0
    for i in range(begin, end):
        node = np.int64(nodes[i])
        context = contexts[i] if contexts.size else 0
        partner = _partner(pairs, context, node)
        state = mix(mix(base + np.uint64(node) * _GOLDEN) ^ np.uint64(moments[context]))
        for _ in range(slots):
            low, n = lows[m], counts[m]
            m += 1
            if partner >= 0:
                n = _without(edges, low, n, partner, visible)
                low = np.int64(0)
            take = min(n, k)
            if n <= k or latest:
                for j in range(take):
                    picked[at + j] = low + n - take + j
            else:
                state += _GOLDEN
                _choose(n, k, mix(state), low, picked, at, seen)
            if partner >= 0:
                for j in range(take):
                    picked[at + j] = visible[picked[at + j]]
            at += take
        ends[i - begin] = at
    return at


@kernel
def draw(
    nodes: Any,
    contexts: Any,
    slices: Any,
    moments: Any,
    pairs: Any,
    slots: Any,
    rows: Any,
    offsets: Any,
    indptr: Any,
    edges: Any,
    weights: Any,
    newest: Any,
    k: Any,
    latest: Any,
    base: Any,
    width: Any,
    lows: Any,
    counts: Any,
    seen: Any,
    visible: Any,
    picked: Any,
    fetched: Any,
    ends: Any,
    starts: Any,
    out_sources: Any,
    out_relations: Any,
    out_ages: Any,
    out_weights: Any,
) -> Any:
    """Draw up to k edges from every list of every item; returns how many in all.

    `width` > 0: item i writes at `i * width` and pads with -1; 0: items follow each other as `starts [n + 1]` says.
    `pairs [contexts, 2]`: in that context, edges between the two nodes do not exist (-1: all do).
    Items are done in tiles: first where their lists are, then which edges, then the edges. Each loop has independent
    reads, as random access to main memory needs.
    """
    undated, forever = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    total = 0
    for t in range(slots.size):
        for begin in range(slices[t], slices[t + 1], TILE):
            end = min(begin + TILE, slices[t + 1])
            _bounds(
                nodes, contexts, begin, end, moments, slots[t], rows[t], offsets[t], indptr, edges, newest, lows, counts
            )
            _pick(
                nodes, contexts, begin, end, moments, pairs, slots[t], edges, k, latest, base, lows, counts, seen,
                visible, picked, ends,
            )  # fmt: skip
            for x in range(ends[end - begin - 1]):
                fetched[x, 0] = edges[picked[x], 0]
                fetched[x, 1] = edges[picked[x], 1]
            x = 0
            for i in range(begin, end):
                moment = moments[contexts[i] if contexts.size else 0]
                e = i * width if width > 0 else total
                total += ends[i - begin] - x
                while x < ends[i - begin]:
                    time, code = fetched[x, 0], fetched[x, 1]
                    out_sources[e] = np.int32(code & 0xFFFFFFFF)
                    out_relations[e] = np.int16(code >> 32)
                    age = moment - time  # beyond 292,000 years it wraps, and is capped
                    out_ages[e] = np.int64(-1) if time == undated else (age if age >= 0 else forever)
                    if out_weights.size:
                        out_weights[e] = weights[picked[x]]
                    x += 1
                    e += 1
                if width > 0:
                    for pad in range(e, (i + 1) * width):
                        out_sources[pad] = -1
                        out_relations[pad] = -1
                        out_ages[pad] = -1
                        if out_weights.size:
                            out_weights[pad] = 0.0
                else:
                    starts[i + 1] = e
    return total


@kernel
def most_edges(nodes: Any, slices: Any, slots: Any, rows: Any, offsets: Any, indptr: Any, k: Any) -> Any:
    """No more edges than this can be drawn."""
    total = 0
    for t in range(slots.size):
        for i in range(slices[t], slices[t + 1]):
            row = rows[t] + (np.int64(nodes[i]) - offsets[t]) * slots[t]
            for r in range(row, row + slots[t]):
                total += min(k, indptr[r + 1] - indptr[r])
    return total


# --- excluded partners ------------------------------------------------------------------------------------------------


@kernel
def _has_edge(
    source: Any,
    node: Any,
    moment: Any,
    offsets: Any,
    slots: Any,
    rows: Any,
    indptr: Any,
    edges: Any,
) -> Any:
    """Whether `node` has an edge from `source` that is valid at `moment`."""
    t = 0
    while node >= offsets[t + 1]:
        t += 1
    row = rows[t] + (node - offsets[t]) * slots[t]
    for p in range(indptr[row], indptr[row + slots[t]]):
        if (edges[p, 1] & 0xFFFFFFFF) == source and edges[p, 0] < moment:
            return True
    return False


@kernel
def _degree(node: Any, offsets: Any, slots: Any, rows: Any, indptr: Any) -> Any:
    t = 0
    while node >= offsets[t + 1]:
        t += 1
    row = rows[t] + (node - offsets[t]) * slots[t]
    return indptr[row + slots[t]] - indptr[row]


@kernel
def joined(
    nodes: Any,
    partners: Any,
    times: Any,
    mirrored: Any,
    offsets: Any,
    slots: Any,
    rows: Any,
    indptr: Any,
    edges: Any,
    out: Any,
) -> Any:
    """Which pairs have an edge, in either direction, that is valid at their moment; returns whether any has."""
    some = False
    for i in range(nodes.size):
        out[i] = False
        a, b = np.int64(nodes[i]), np.int64(partners[i])
        if b < 0:
            continue
        if mirrored and _degree(b, offsets, slots, rows, indptr) < _degree(a, offsets, slots, rows, indptr):
            a, b = b, a
        out[i] = _has_edge(b, a, times[i], offsets, slots, rows, indptr, edges)
        if not mirrored and not out[i]:
            out[i] = _has_edge(a, b, times[i], offsets, slots, rows, indptr, edges)
        some = some or out[i]
    return some
