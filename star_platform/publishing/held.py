"""The vectors that a release serves now, for whoever publishes some of them anew: read back from its dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from star_platform.publishing import dataset, offline
from star_platform.publishing.model import FIELD, join_key


@dataclass(frozen=True)
class Held:
    """What a dataset holds of some ids.

    found: bool [n]. gone: ids with a vector that are not among them. as_of: event time of the newest rows.
    """

    found: npt.NDArray[np.bool_]
    gone: int
    as_of: int


def read_held(offline_root: Path, release: int, node: str, ids: pa.Array, out: npt.NDArray[np.float32]) -> Held | None:
    """Write the newest vector of each of `ids [n]` into `out`, float32 [n, dim]; None where the dataset is not whole.

    Memory grows with the ids, not the vectors.
    """
    as_of = offline.newest(offline_root, release, node)
    if as_of is None:
        return None
    keys = pc.cast(ids, pa.int64() if pa.types.is_integer(ids.type) else pa.string())
    find, found, gone = dataset.Finder(keys), np.zeros(len(keys), dtype=np.bool_), 0
    for batch in dataset.current(offline_root, release, node):
        batch = batch.filter(pc.is_valid(batch.column(FIELD)))
        rows = find(batch.column(join_key(node)))
        known = rows >= 0
        out[rows[known]] = offline.as_matrix(batch.column(FIELD), out.shape[1])[known]
        found[rows[known]] = True
        gone += int((~known).sum())
    return Held(found, gone, as_of)
