"""Who acted on what, when, and what they passed over."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

UNDATED = int(np.iinfo(np.int64).max)
"""Time of an action of which none is known: it sees the newest text."""
_ROUNDS = 20


@dataclass(frozen=True)
class Actions:
    """Rows (member, document, time, label); arrays `[n]`."""

    members: Int64Array
    """Node index."""
    documents: Int64Array
    """Node index."""
    times: Int64Array
    """Microseconds since 1970, or `UNDATED`."""
    labels: BoolArray
    """Whether the member acted."""

    def __len__(self) -> int:
        return len(self.members)

    def take(self, rows: npt.NDArray[np.integer] | BoolArray) -> Actions:
        return Actions(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def pairs(self) -> Int64Array:
        """One number per (member, document)."""
        return (self.members << 32) | self.documents

    @property
    def dated(self) -> bool:
        return bool((self.times != UNDATED).any())

    @classmethod
    def joined(cls, *parts: Actions) -> Actions:
        """All rows, by time, then member, document and label: an order that does not depend on how they were stored."""
        every = cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))
        return every.take(np.lexsort((every.labels, every.documents, every.members, every.times)))


def uniform_negatives(
    positives: Actions, documents: Int64Array, count: int, seed: int, born: Int64Array | None = None
) -> Actions:
    """`count` documents for each positive, at its time, each one that the member never acted on.

    A member who acted on nearly everything gets fewer.

    Args:
        positives: rows to draw for.
        documents: to draw from.
        count: as said.
        seed: of the draws.
        born: microseconds from which on each document, by node index, was there: one of later would be told from the
            positive by its age. None: always.

    Raises:
        TextError: T023 where there is nothing to draw from.
    """
    if not len(documents):
        raise TextError("T023", "there is no document with a text to draw negatives from")
    rng = np.random.default_rng([seed, 0xD0C5])
    known = np.unique(positives.pairs)
    drawn = Actions(
        np.repeat(positives.members, count),
        rng.choice(documents, len(positives) * count),
        np.repeat(positives.times, count),
        np.zeros(len(positives) * count, np.bool_),
    )

    def refused() -> BoolArray:
        acted = _contains(known, drawn.pairs)
        return acted if born is None else acted | (born[drawn.documents] > drawn.times)

    for _ in range(_ROUNDS):
        again = np.flatnonzero(refused())
        if not len(again):
            break
        drawn.documents[again] = rng.choice(documents, len(again))
    return drawn.take(~refused())


def without_pairs(actions: Actions, others: Actions) -> BoolArray:
    """Which rows have a (member, document) that does not occur in `others`; bool `[n]`."""
    return ~_contains(np.unique(others.pairs), actions.pairs)


def _contains(ascending: Int64Array, values: Int64Array) -> BoolArray:
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: BoolArray = ascending[at] == values
    return found
