"""Which examples a step has, and which distinct texts these need, in micro-batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from star_platform.text.finetune.actions import Int64Array
from star_platform.text.finetune.heads import Vectors
from star_platform.text.finetune.losses import Facts
from star_platform.text.finetune.samples import Samples
from star_platform.text.finetune.tokens import TokenTable


@dataclass(frozen=True)
class Chunk:
    """Texts that are encoded at once."""

    rows: tuple[npt.NDArray[np.int32], ...]


@dataclass(frozen=True)
class Batch:
    """The distinct texts of some examples, and which of them each example reads.

    A text that several examples share is encoded once; its gradient is the sum of theirs.
    """

    chunks: tuple[Chunk, ...]
    at: Mapping[str, Int64Array]
    """By tower: position among all texts of the chunks, in order; -1 for a missing text."""
    facts: Facts

    def vectors(self, encoded: Tensor) -> Vectors:
        """The rows' vectors out of those of all chunks `[texts, d]`."""
        return row_vectors(self.at, encoded)


def row_vectors(at: Mapping[str, Int64Array], encoded: Tensor) -> Vectors:
    """Vectors of rows: by tower the position of each row's text in `encoded` `[texts, d]`, -1 for a missing one."""
    parts: dict[str, tuple[Tensor | None, Tensor]] = {}
    for tower in ("profile", "resume"):
        if tower in at:
            places = torch.from_numpy(at[tower]).to(encoded.device)
            parts[tower] = encoded[places.clamp(min=0)], places >= 0
        else:
            parts[tower] = None, torch.zeros(len(at["document"]), dtype=torch.bool, device=encoded.device)
    documents = encoded[torch.from_numpy(at["document"]).to(encoded.device)]
    (profile, has_profile), (resume, has_resume) = parts["profile"], parts["resume"]
    return Vectors(documents, profile, resume, has_profile, has_resume)


def epoch_order(size: int, seed: int, epoch: int) -> Int64Array:
    """The order of examples in an epoch; depends on seed and number only."""
    return np.random.default_rng([seed, 0xE9, epoch]).permutation(size)


def batch_of(
    samples: Samples, which: Int64Array, tokens: Mapping[str, TokenTable], micro: int, device: torch.device
) -> Batch:
    """The batch of examples `which`, its texts longest first in chunks of `micro`."""
    part = samples.take(which)
    found: list[npt.NDArray[np.int32]] = []
    at: dict[str, Int64Array] = {}
    for tower, table in tokens.items():
        slots = table.slots(part.rows[tower])
        distinct, places = np.unique(slots[slots >= 0], return_inverse=True)
        at[tower] = np.full(len(slots), -1)
        at[tower][slots >= 0] = len(found) + places.reshape(-1)
        found += [table[slot] for slot in distinct.tolist()]
    order = np.argsort([-len(row) for row in found], kind="stable")
    place = np.empty(len(order) + 1, np.int64)
    place[order] = np.arange(len(order))
    place[-1] = -1  # where -1 points to: a missing text stays missing
    chunks = tuple(Chunk(tuple(found[i] for i in piece)) for piece in _pieces(order, micro))
    return Batch(chunks, {tower: place[places] for tower, places in at.items()}, _facts(part, device))


def _pieces(order: Int64Array, size: int) -> Iterator[list[int]]:
    for first in range(0, len(order), size):
        yield order[first : first + size].tolist()


def _facts(samples: Samples, device: torch.device) -> Facts:
    actions = samples.actions
    return Facts(
        torch.from_numpy(actions.labels.astype(np.float32)).to(device),
        torch.from_numpy(actions.members).to(device),
        torch.from_numpy(actions.documents).to(device),
    )
