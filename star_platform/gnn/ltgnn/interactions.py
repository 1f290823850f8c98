"""Who interacted with what: users and items as numbers, for benchmarks without features or times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import TrainingError
from star_platform.gnn.ltgnn import _batch_kernels as kernels
from star_platform.gnn.ltgnn.matrix import ALONE, Int64Array, Propagation, Workers, propagation


@dataclass(frozen=True)
class Interactions:
    """Distinct pairs of users and items, by user, items ascending."""

    num_users: int
    num_items: int
    indptr: Int64Array
    """`[users + 1]`."""
    items: NDArray[np.int32]
    """`[pairs]`."""

    @classmethod
    def of(cls, users: NDArray[Any], items: NDArray[Any], num_users: int, num_items: int) -> Interactions:
        """From pairs in any order; repeated ones count once.

        Raises:
            TrainingError: M031 without pairs, or for ids outside the given numbers.
        """
        if not len(users):
            raise TrainingError("M031", "there is no interaction to read")
        if min(users.min(), items.min()) < 0 or users.max() >= num_users or items.max() >= num_items:
            raise TrainingError("M031", f"an id is not among the {num_users:,} users and {num_items:,} items")
        keys = np.unique(users.astype(np.int64) * num_items + items)
        counts = np.bincount(keys // num_items, minlength=num_users)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(num_users, num_items, indptr, (keys % num_items).astype(np.int32))

    @property
    def users(self) -> Int64Array:
        """User of each pair, int64 `[pairs]` (allocates)."""
        return np.repeat(np.arange(self.num_users, dtype=np.int64), np.diff(self.indptr))

    def __len__(self) -> int:
        return len(self.items)

    def joined(self, other: Interactions) -> Interactions:
        """The pairs of both."""
        return Interactions.of(
            np.concatenate([self.users, other.users]),
            np.concatenate([self.items, other.items]),
            max(self.num_users, other.num_users),
            max(self.num_items, other.num_items),
        )

    def first_users(self, count: int) -> Interactions:
        """The pairs of the first `count` users; every item keeps its number."""
        end = int(self.indptr[count])
        return Interactions(count, self.num_items, self.indptr[: count + 1], self.items[:end])

    def adjacency(self) -> Propagation:
        """Normalised adjacency of users and items: item i is node `num_users + i`."""
        return propagation(self.num_users + self.num_items, self.users, self.items.astype(np.int64) + self.num_users)

    def others(self, users: Int64Array, key: int, workers: Workers = ALONE) -> Int64Array:
        """For each of `users [b]` a uniform item that it has not interacted with, int64 `[b]`."""
        out = np.empty(len(users), dtype=np.int64)
        workers.over(
            len(users),
            lambda first, last: kernels.draw_others(
                self.indptr, self.items, users, self.num_items, np.uint64(key), out, first, last
            ),
        )
        return out


def read_pairs(path: Path) -> tuple[Int64Array, Int64Array]:
    """Users and items from a text file with a line per user: `user item item ...` (the format of NGCF and LightGCN).

    Raises:
        TrainingError: M031 when the file cannot be read or holds something else than numbers.
    """
    try:
        lines = [np.array(line.split(), dtype=np.int64) for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError) as error:
        raise TrainingError(
            "M031", f"{path} cannot be read: {error}", hint="a line holds a user and its items, as numbers"
        ) from error
    lines = [line for line in lines if len(line)]
    if not lines:
        raise TrainingError("M031", f"{path} holds no interaction")
    users = np.repeat([line[0] for line in lines], [len(line) - 1 for line in lines])
    return users.astype(np.int64), np.concatenate([line[1:] for line in lines])
