"""Which of the valid edges of a list are drawn: uniformly, or with chances that follow weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31, _S32 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_S6, _LOW6 = np.uint64(6), np.uint64(63)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)
_UNIT = 1.0 / (1 << 53)
_LAST = 1e300
"""Keys of edges without a positive weight begin here, behind those of all others."""
REJECTION_PAYS = 4
"""From so many valid edges per drawn one on, weighted draws reject repeats; below, every edge gets a key."""


@kernel
def mix(z: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits."""
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@kernel
def choose_of_few(n: Any, k: Any, state: Any, low: Any, picked: Any, at: Any) -> None:
    """As `choose_of_many` for `n <= 64`, the bitmap being a register."""
    word, held, top = _ZERO, _ZERO, np.uint64(n - k)
    for i in range(k):
        word = word >> _S32 if i & 1 else mix(state + np.uint64(i) * GOLDEN)  # two draws of 32 bits each
        position = ((word & _LOW32) * (top + _ONE)) >> _S32
        position += ((held >> position) & _ONE) * (top - position)
        held |= _ONE << position
        picked[np.uint64(at + i)] = low + np.int64(position)
        top += _ONE


@kernel
def choose_of_many(n: Any, k: Any, state: Any, low: Any, picked: Any, at: Any, seen: Any) -> None:
    """`k < n` distinct positions from `low` on into `picked[at:]`, every subset equally likely (Floyd 1987).

    A position that was drawn before is replaced by the highest allowed one, by arithmetic: a jump is often guessed
    wrongly. `seen` is a bitmap of zeros, and is left so. A 32-bit draw below n is off from uniform by at most n / 2^32.
    """
    word, top = _ZERO, np.uint64(n - k)
    for i in range(k):
        word = word >> _S32 if i & 1 else mix(state + np.uint64(i) * GOLDEN)
        position = ((word & _LOW32) * (top + _ONE)) >> _S32
        position += ((seen[position >> _S6] >> (position & _LOW6)) & _ONE) * (top - position)
        seen[position >> _S6] |= _ONE << (position & _LOW6)
        picked[np.uint64(at + i)] = low + np.int64(position)
        top += _ONE
    for i in range(k):
        seen[np.uint64(picked[np.uint64(at + i)] - low) >> _S6] = _ZERO


@kernel
def choose_weighted(
    n: Any,
    k: Any,
    state: Any,
    low: Any,
    head: Any,
    gap: Any,
    partly: Any,
    visible: Any,
    cumulative: Any,
    picked: Any,
    at: Any,
    seen: Any,
    keys: Any,
) -> None:
    """`k < n` distinct positions into `picked[at:]`, one after the other, each with chance proportional to its weight.

    The valid positions are `head` from `low` on and, `gap` later, the rest of the n; if only `partly`, those of them
    that `visible` lists. The law is that of successive sampling, which smallest keys E / w, E exponential, have too
    (Efraimidis and Spirakis 2006). Weights that are not positive count as equal and infinitely small.

    Positions are found by bisection of the prefix sums and repeats are rejected, so a hub costs no more than its
    logarithm. Once too many were rejected, the edges not drawn yet get keys, and the smallest win; what was drawn
    stays, because how often an edge is rejected depends on which were drawn before: starting again would favour sets
    of light edges.
    """
    drawn = 0
    if n >= REJECTION_PAYS * k:
        drawn = _reject(n, k, state, low, head, gap, partly, visible, cumulative, picked, at, seen, keys)
    if drawn < k:
        _smallest_keys(
            n, k - drawn, ~state, low, head, gap, partly, visible, cumulative, picked, at + drawn, seen, keys
        )  # fmt: skip
    for i in range(at, at + drawn):
        seen[(picked[i] - low) >> 6] = _ZERO


@kernel
def _reject(
    n: Any,
    k: Any,
    state: Any,
    low: Any,
    head: Any,
    gap: Any,
    partly: Any,
    visible: Any,
    cumulative: Any,
    picked: Any,
    at: Any,
    seen: Any,
    targets: Any,
) -> Any:
    """Up to k distinct positions by bisection, until too many draws were in vain; their bits in `seen` stay set."""
    middle, start, end = low + head, low + head + gap, low + gap + n
    if partly:  # what is hidden still has its share of the sums
        end = visible[n]
    mass = cumulative[middle - 1] if head > 0 else 0.0
    before = cumulative[start - 1] if start > low else 0.0
    total = mass + (cumulative[end - 1] - before if end > start else 0.0)
    drawn = np.int64(0)
    tries = 2 * k + 8 + (n >> 3) if total > 0.0 else np.int64(0)
    while drawn < k and tries > 0:
        first, last = at + drawn, at + k
        for j in range(first, last):
            state += GOLDEN
            target = np.float64(mix(state) >> _S11) * _UNIT * total
            targets[j - at] = target if target < mass else target - mass + before
            picked[j] = low
        _after(cumulative, end - low, targets[first - at : last - at], picked[first:last])
        tries -= last - first
        for j in range(first, last):
            p = picked[j]
            place = p - low
            if p >= end or middle <= p < start or (seen[place >> 6] >> np.uint64(place & 63)) & _ONE:
                continue  # drawn before, or the sum was rounded up
            if partly:
                hidden = np.searchsorted(visible[:n], p)
                if hidden == n or visible[hidden] != p:
                    continue
            seen[place >> 6] |= _ONE << np.uint64(place & 63)
            picked[at + drawn] = p
            drawn += 1
    return drawn


@kernel
def _after(sums: Any, n: Any, targets: Any, places: Any) -> None:
    """Move each place to the first of the n sums from there on that is beyond its target, all in step."""
    while n > 0:
        half = (n + 1) >> 1
        for j in range(places.size):
            places[j] += half * np.int64(sums[np.uint64(places[j] + half - 1)] <= targets[j])
        n -= half


@kernel
def _smallest_keys(
    n: Any,
    k: Any,
    state: Any,
    low: Any,
    head: Any,
    gap: Any,
    partly: Any,
    visible: Any,
    cumulative: Any,
    picked: Any,
    at: Any,
    seen: Any,
    keys: Any,
) -> None:
    """The k smallest keys among valid positions that `seen` does not hold: a heap with the largest on top."""
    size = 0
    for j in range(n):
        p = visible[j] if partly else low + j + (gap if j >= head else np.int64(0))
        place = p - low
        if (seen[place >> 6] >> np.uint64(place & 63)) & _ONE:
            continue
        state += GOLDEN
        u = (np.float64(mix(state) >> _S11) + 1.0) * _UNIT
        weight = cumulative[p] - (cumulative[p - 1] if p > low else 0.0)
        if size == k and 1.0 - u >= keys[0] * weight and weight > 0.0:  # a logarithm is not needed: -log(u) >= 1 - u
            continue
        key = -math.log(u) / weight if weight > 0.0 else _LAST * (1.0 + u)
        if size < k:
            i = size
            size += 1
            while i > 0 and keys[(i - 1) >> 1] < key:
                keys[i], picked[at + i] = keys[(i - 1) >> 1], picked[at + ((i - 1) >> 1)]
                i = (i - 1) >> 1
            keys[i], picked[at + i] = key, p
        elif key < keys[0]:
            i = 0
            child = 1
            while child < size:
                if child + 1 < size and keys[child + 1] > keys[child]:
                    child += 1
                if keys[child] <= key:
                    break
                keys[i], picked[at + i] = keys[child], picked[at + child]
                i = child
                child = 2 * i + 1
            keys[i], picked[at + i] = key, p
