"""An older release as the fit sees it: its vectors, or, once they are gone, what its readers get instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from star_platform.compat.model import CompatMap, Float32Array, SpaceVectors, Vectors

UNIT = 1e-3
"""How far the length of a vector may be from 1 in a space whose vectors have length 1."""
PROBED = 10_000


@dataclass(frozen=True, eq=False)
class Older:
    """A release that readers still ask for."""

    release: int
    space: str
    vectors: SpaceVectors | None
    """None: purged, so that a map can only be composed."""
    maps: tuple[CompatMap, ...]
    """From this release to still older spaces."""
    live: bool
    """Served by its own vectors; otherwise through a map."""
    then: SpaceVectors | None = None
    """The new model's vectors as of the moment of this release; None: as the new release has them.

    Maps are fitted and judged on these, so that what has happened since is not taken for a difference of the spaces.
    """


@dataclass(frozen=True, eq=False)
class Reference:
    """What a mapped vector is compared with."""

    vectors: Vectors
    through: int | None
    """None: the release's own vectors. A release: its vectors, mapped, which is what readers get today."""


class MappedRows:
    """Vectors that are mapped as they are read: stands in for the array in `Vectors`, which may not fit memory."""

    ndim = 2

    def __init__(self, base: Float32Array, through: CompatMap) -> None:
        self._base, self._map = base, through
        self.shape = (len(base), through.dims[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Float32Array:
        return self._map.apply(self._base[rows])


def reference(target: Older, node: str, newer: Sequence[Older]) -> Reference | None:
    """What readers of `target` get today: its own vectors, else those of the newest of `newer` that maps to it."""
    if target.vectors is not None:
        own = target.vectors.nodes.get(node)
        return None if own is None else Reference(own, None)
    for each in newer:
        base = None if each.vectors is None else each.vectors.nodes.get(node)
        through = next((known for known in each.maps if (known.node, known.target) == (node, target.release)), None)
        if base is not None and through is not None:
            mapped = cast(Float32Array, MappedRows(base.vectors, through))
            return Reference(Vectors(base.ids, mapped), each.release)
    return None


def unit_length(vectors: Vectors) -> bool:
    """Whether the vectors have length 1, going by rows taken evenly; rows of zeros do not count."""
    if not len(vectors):
        return False
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(PROBED, len(vectors))).astype(np.int64))
    lengths = np.linalg.norm(np.asarray(vectors.vectors[rows]), axis=1)
    lengths = lengths[lengths > 0.0]
    return bool(len(lengths)) and bool((np.abs(lengths - 1.0) < UNIT).all())
