"""Length-sorted batches within a token budget, such that companions never change a text's vector.

Where a model is computed without padding (`packed`), a batch is any texts within the budget. Else:

Padding a text to another length changes the last bits of its vector: the sums of attention then run over another
number of (masked) terms. So a text is always padded to the same length, the next step of a fixed ladder above its own
length, and a batch holds texts of one step only. Everything else about a batch, its size and the order of its rows,
left every bit alone where it was measured (the tests measure it).

A plan is greedy from the front, so the plan of what is left after some whole batches is the rest of the plan: a killed
run that resumes goes through exactly the batches that it would have gone through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

LADDER_VERSION = 2
"""Raised with every change of how texts share batches that can change a bit; it enters every encoder fingerprint."""

_STEPS = ((64, 8), (128, 16), (256, 32), (1024, 64))
_LAST_STEP = 256


@dataclass(frozen=True)
class Batch:
    """Texts encoded together: `positions` int64 `[b]`, all padded to `length` tokens."""

    positions: npt.NDArray[np.int64]
    length: int


def padded_lengths(tokens: npt.NDArray[np.integer[Any]], limit: int) -> npt.NDArray[np.int64]:
    """The ladder step of each length: multiples of 8 up to 64, of 16 up to 128, ...; never above `limit` tokens.

    Args:
        tokens: integer `[n]`, each from 1 to `limit`.
        limit: the model's maximum.
    """
    lengths = np.asarray(tokens, dtype=np.int64)
    step = np.full(len(lengths), _LAST_STEP, np.int64)
    for bound, size in reversed(_STEPS):
        step[lengths <= bound] = size
    padded: npt.NDArray[np.int64] = np.minimum(-(-lengths // step) * step, limit)
    return padded


def plan(tokens: npt.NDArray[np.integer[Any]], budget: int, limit: int) -> Iterator[Batch]:
    """Batches that cover every text once, longest first: what does not fit into memory fails at once, not at the end.

    A batch holds at most `budget` tokens with padding, or a single text that is longer than the budget. Texts of one
    ladder step keep the order in which they came.
    """
    lengths = padded_lengths(tokens, limit)
    order = np.argsort(-lengths, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(lengths[order])) + 1).tolist(), len(order)]
    for start, end in pairwise(bounds):
        step = int(lengths[order[start]]) if end > start else limit
        rows = max(1, budget // step)
        for first in range(start, end, rows):
            yield Batch(order[first : min(first + rows, end)], step)


def plan_packed(tokens: npt.NDArray[np.integer[Any]], budget: int) -> Iterator[Batch]:
    """As `plan`, for texts that lie end to end: equal lengths are neighbours, and `length` is the longest text's."""
    lengths = np.asarray(tokens, np.int64)
    order = np.argsort(-lengths, kind="stable")
    until = np.cumsum(lengths[order])
    first = 0
    while first < len(order):
        before = int(until[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(until, before + budget, side="right")))
        yield Batch(order[first:end], int(lengths[order[first]]))
        first = end


def padding_share(tokens: npt.NDArray[np.integer[Any]], limit: int) -> float:
    """The share of encoded tokens that is padding; 0 without texts."""
    padded = int(padded_lengths(tokens, limit).sum())
    return 1.0 - int(np.asarray(tokens, np.int64).sum()) / padded if padded else 0.0
