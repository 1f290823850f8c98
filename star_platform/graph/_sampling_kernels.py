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


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)
_P5, _P3, _P0F = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_P01, _S1, _S2, _S4, _S56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@kernel
def mix(z: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits."""
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@kernel
def _ones(x: Any) -> Any:
    """Set bits of a word; the compiler turns this pattern into one instruction."""
    x = x - ((x >> _S1) & _P5)
    x = (x & _P3) + ((x >> _S2) & _P3)
    x = (x + (x >> _S4)) & _P0F
    return (x * _P01) >> _S56


@kernel
def first_not_before(edges: Any, low: Any, high: Any, moment: Any) -> Any:
    """The first position in `[low, high)` whose time is not before `moment`, or `high`."""
    while low < high:
        middle = (low + high) >> 1
        if edges[middle, 0] < moment:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _choose(n: Any, k: Any, state: Any, chosen: Any, seen: Any) -> None:
    """`k < n` distinct positions of 0 ... n-1 into `chosen`, every subset equally likely (Floyd 1987).

    `seen` is a bitmap of zeros, and is left so. A 32-bit draw below n is off from uniform by at most n / 2^32.
    """
    for i in range(k):
        top = n - k + i
        state += _GOLDEN
        position = np.int64(((mix(state) & _LOW32) * np.uint64(top + 1)) >> _S32)
        if (seen[position >> 6] >> np.uint64(position & 63)) & _ONE:
            position = top
        seen[position >> 6] |= _ONE << np.uint64(position & 63)
        chosen[i] = position
    for i in range(k):
        seen[chosen[i] >> 6] = _ZERO


@kernel
def _without(edges: Any, low: Any, high: Any, partner: Any, visible: Any) -> Any:
    """Positions of `[low, high)` whose source is not `partner`, into `visible`; returns how many."""
    n = 0
    for p in range(low, high):
        if (edges[p, 1] & 0xFFFFFFFF) != partner:
            visible[n] = p
            n += 1
    return n


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
def _write(
    edges: Any, weights: Any, p: Any, moment: Any, e: Any, sources: Any, relations: Any, ages: Any, out_weights: Any
) -> None:
    """Edge p as output e. An age beyond 292,000 years is capped."""
    time, code = edges[p, 0], edges[p, 1]
    sources[e] = np.int32(code & 0xFFFFFFFF)
    relations[e] = np.int16(code >> 32)
    age = moment - time
    if age < 0:
        age = np.iinfo(np.int64).max
    ages[e] = np.int64(-1) if time == np.iinfo(np.int64).min else age
    if out_weights.size:
        out_weights[e] = weights[p]


@kernel
def _pad(begin: Any, end: Any, sources: Any, relations: Any, ages: Any, out_weights: Any) -> None:
    for p in range(begin, end):
        sources[p] = -1
        relations[p] = -1
        ages[p] = -1
        if out_weights.size:
            out_weights[p] = 0.0


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
    chosen: Any,
    seen: Any,
    visible: Any,
    starts: Any,
    out_sources: Any,
    out_relations: Any,
    out_ages: Any,
    out_weights: Any,
) -> Any:
    """Draw up to k edges from every list of every item; returns how many in all.

    `width` > 0: item i writes at `i * width` and pads with -1; 0: items follow each other as `starts [n + 1]` says.
    `pairs [contexts, 2]`: in that context, edges between the two nodes do not exist (-1: all do).
    """
    total = 0
    e = 0
    for t in range(slots.size):
        for i in range(slices[t], slices[t + 1]):
            node = np.int64(nodes[i])
            context = contexts[i] if contexts.size else 0
            moment = moments[context]
            partner = _partner(pairs, context, node)
            state = mix(mix(base + np.uint64(node) * _GOLDEN) ^ np.uint64(moment))
            if width > 0:
                e = i * width
            first = e
            row = rows[t] + (node - offsets[t]) * slots[t]
            for r in range(row, row + slots[t]):
                low, high = indptr[r], indptr[r + 1]
                if low < high and moment <= newest and edges[high - 1, 0] >= moment:
                    high = first_not_before(edges, low, high, moment)
                n = high - low if partner < 0 else _without(edges, low, high, partner, visible)
                shift = low
                drawing = n > k and not latest
                if drawing:
                    state += _GOLDEN
                    _choose(n, k, mix(state), chosen, seen)
                elif n > k:
                    shift = high - k if partner < 0 else low + n - k
                for j in range(min(n, k)):
                    p = low + chosen[j] if drawing else shift + j
                    if partner >= 0:
                        p = visible[p - low]
                    _write(edges, weights, p, moment, e, out_sources, out_relations, out_ages, out_weights)
                    e += 1
            total += e - first
            if width > 0:
                _pad(e, first + width, out_sources, out_relations, out_ages, out_weights)
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


# --- relabelling, one moment for all: a bitmap with ranks -------------------------------------------------------------


@kernel
def mark(nodes: Any, bits: Any) -> None:
    """Set the bit of every node; -1 is skipped."""
    for i in range(nodes.size):
        node = nodes[i]
        if node >= 0:
            bits[node >> 6] |= _ONE << np.uint64(node & 63)


@kernel
def rank(bits: Any, ranks: Any) -> Any:
    """Per word, the number of bits set before it; returns how many there are in all."""
    total = np.int64(0)
    for w in range(bits.size):
        ranks[w] = total
        if bits[w]:
            total += np.int64(_ones(bits[w]))
    return total


@kernel
def members(bits: Any, offsets: Any, nodes: Any, slices: Any) -> None:
    """The marked nodes, ascending, and where each node type begins among them."""
    n = 0
    t = 0
    for w in range(bits.size):
        word = bits[w]
        while word:
            low = word & (~word + _ONE)
            node = (w << 6) + np.int64(_ones(low - _ONE))
            while node >= offsets[t]:
                slices[t] = n
                t += 1
            nodes[n] = node
            n += 1
            word ^= low
    for rest in range(t, slices.size):
        slices[rest] = n


@kernel
def positions(nodes: Any, bits: Any, ranks: Any, out: Any) -> None:
    """Rank of every node among the marked ones; -1 stays -1. `out` may be `nodes`."""
    for i in range(nodes.size):
        node = nodes[i]
        if node >= 0:
            w = node >> 6
            below = bits[w] & ((_ONE << np.uint64(node & 63)) - _ONE)
            out[i] = ranks[w] + np.int32(_ones(below))
        else:
            out[i] = -1


# --- relabelling, many moments: a hash table --------------------------------------------------------------------------


@kernel
def _find(key: Any, value: Any, keys: Any, values: Any, shift: Any) -> Any:
    """The value of `key`, which becomes `value` if the key is new. Linear probing, Fibonacci hashing."""
    mask = np.int64(keys.size - 1)
    at = np.int64((np.uint64(key) * _GOLDEN) >> shift)
    while keys[at] != key:
        if keys[at] == -1:
            keys[at] = key
            values[at] = value
            return value
        at = (at + 1) & mask
    return values[at]


@kernel
def number(
    nodes: Any,
    contexts: Any,
    slices: Any,
    sources: Any,
    relations: Any,
    starts: Any,
    width: Any,
    source_types: Any,
    num_nodes: Any,
    keys: Any,
    values: Any,
    shift: Any,
    out_nodes: Any,
    out_contexts: Any,
    out_types: Any,
) -> Any:
    """Number the distinct (node, context) of a hop and of what it drew, in order of discovery.

    `sources` become numbers in place. Returns how many there are; the hop's own items keep their numbers 0 ... n-1.
    """
    keys[:] = -1
    found = 0
    for t in range(slices.size - 1):
        for i in range(slices[t], slices[t + 1]):
            _find(contexts[i] * num_nodes + nodes[i], found, keys, values, shift)
            out_nodes[found], out_contexts[found], out_types[found] = nodes[i], contexts[i], t
            found += 1
    for i in range(nodes.size):
        begin, end = (i * width, (i + 1) * width) if width > 0 else (starts[i], starts[i + 1])
        context = contexts[i]
        for e in range(begin, end):
            node = sources[e]
            if node < 0:
                break
            at = _find(context * num_nodes + node, found, keys, values, shift)
            if at == found:
                out_nodes[found], out_contexts[found] = node, context
                out_types[found] = source_types[relations[e]]
                found += 1
            sources[e] = at
    return found


@kernel
def by_type(
    nodes: Any, contexts: Any, types: Any, count: Any, order: Any, slices: Any, out_nodes: Any, out_contexts: Any
) -> None:
    """Sort items by node type, stably; `order[i]` is where item i goes."""
    slices[:] = 0
    for i in range(count):
        slices[types[i] + 1] += 1
    for t in range(1, slices.size):
        slices[t] += slices[t - 1]
    fill = slices.copy()
    for i in range(count):
        at = fill[types[i]]
        fill[types[i]] += 1
        order[i] = at
        out_nodes[at] = nodes[i]
        out_contexts[at] = contexts[i]


@kernel
def renumber(numbers: Any, order: Any) -> None:
    """`numbers[i] = order[numbers[i]]` where it is not -1."""
    for i in range(numbers.size):
        if numbers[i] >= 0:
            numbers[i] = order[numbers[i]]


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
