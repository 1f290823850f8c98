"""Moments: when training's propagation ends, and which snapshots vectors are served from.

An example must not see itself or what came after it, and one propagation serves all examples of a step. So training
time is cut: edges before a cut are propagated, examples after it are learned. The cut rolls forward `WINDOWS` times in
an epoch, from `FIRST` of the examples on; those before it are history only. Later snapshots are spread over validation
and test, and the last is after everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from star_platform.errors import TrainingError
from star_platform.gnn.ltgnn.matrix import Int64Array
from star_platform.gnn.tasks import Tasks

WINDOWS = 4
FIRST = 0.3
"""Share of the training examples before the first cut."""
SNAPSHOTS = 16
"""At most."""
BEGINNING = -(1 << 62)
"""Moment of the snapshot that sees undated edges only."""


def moments(tasks: Tasks, as_of: int) -> Int64Array:
    """Moments of all snapshots, ascending, microseconds: the beginning, training's cuts, and those that serve.

    Raises:
        TrainingError: M034 when no training example is left after the first cut.
    """
    training = _times([*(part.train for part in tasks.links.values()), *(p.train for p in tasks.labels.values())])
    cuts = _spread(training, np.linspace(FIRST, 1.0, WINDOWS, endpoint=False))
    if not len(training) or not (training >= cuts[0]).any():
        raise TrainingError(
            "M034",
            "no training example is left after the first cut of time",
            hint="LTGNN learns the later examples from the edges before them: give it a longer history",
        )
    later = _times([part.test for part in tasks.links.values()])
    judged = _times([part.validation for part in tasks.links.values()])
    found = [BEGINNING, *cuts, tasks.validation_start, tasks.test_start, as_of + 1]
    found += [*_spread(judged, [0.5]), *_spread(later, np.linspace(0.0, 1.0, 8)[1:-1])]
    unique: Int64Array = np.unique(np.array([each for each in found if each <= as_of + 1], dtype=np.int64))
    return unique


def cuts_of(found: Int64Array, validation_start: int) -> Int64Array:
    """The moments that begin a window of training."""
    return found[(found > BEGINNING) & (found < validation_start)]


def snapshot_of(found: Int64Array, times: Int64Array) -> Int64Array:
    """The latest snapshot not after each of `times`; none is before the beginning."""
    places: Int64Array = np.maximum(np.searchsorted(found, times, side="right") - 1, 0).astype(np.int64)
    return places


def _times(parts: Sequence[object]) -> Int64Array:
    arrays = [np.asarray(part.times, dtype=np.int64) for part in parts if len(part)]  # type: ignore[attr-defined, arg-type]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *arrays]))


def _spread(times: Int64Array, shares: Sequence[float] | np.ndarray) -> list[int]:
    """The moments before which these shares of ascending `times` lie."""
    return [int(times[min(len(times) - 1, int(share * len(times)))]) for share in shares] if len(times) else []
