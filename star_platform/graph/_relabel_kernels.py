"""The loops that give the distinct nodes of a hop their positions, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_P5, _P3, _P0F = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_P01, _S1, _S2, _S4, _S56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@kernel
def _ones(x: Any) -> Any:
    """Set bits of a word; the compiler turns this pattern into one instruction."""
    x = x - ((x >> _S1) & _P5)
    x = (x & _P3) + ((x >> _S2) & _P3)
    x = (x + (x >> _S4)) & _P0F
    return (x * _P01) >> _S56


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
