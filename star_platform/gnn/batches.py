"""Steps of an epoch: which examples, which negatives, and their sampled neighbourhoods.

A step belongs to one objective. Where negatives are drawn, its positives are close in time: a negative was then alive
when the example happened, and it can be judged at a moment that is not after the example's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import kernels
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.split import Examples, Int64Array
from star_platform.gnn.trees import TreeReader, Trees
from star_platform.graph.storage import EdgeType, Graph
from star_platform.signals.model import LinkPrediction

VALIDATION_STEP = 1 << 40
"""Sampling step numbers from here on belong to validation, so that training draws are never repeated there."""


@dataclass(frozen=True)
class StepKey:
    """What a step is made from; equal keys give equal batches."""

    objective: str
    examples: Int64Array
    """Positions among the objective's examples, ascending."""
    step: int


@dataclass(frozen=True)
class Batch:
    """One step's examples. Seeds are the sources, then the destinations, then drawn negatives."""

    objective: str
    trees: Trees
    size: int
    """Examples."""
    labels: Tensor | None
    """float32[n] where every pair has its label; None where negatives are drawn."""
    in_batch: bool
    """Whether the destinations themselves are the negatives."""
    allowed: Tensor | None
    """bool[n, m]: which negatives count for which example."""
    log_q: Tensor | None
    """float32[n + m]."""


class BatchMaker:
    """Makes the batches of one objective from a set of its examples."""

    def __init__(
        self,
        graph: Graph,
        reader: TreeReader,
        objective: LinkPrediction,
        edge: EdgeType,
        examples: Examples,
        known: Examples,
        config: TrainingConfig,
    ) -> None:
        """`known`: pairs that must not be taken as negatives: those of `examples` and whatever came before."""
        self.reader, self.edge, self.examples, self.config = reader, edge, examples, config
        self.kind = objective.negatives.kind
        self.num_dst = graph.num_nodes(edge.dst)
        positives = known.take(known.labels > 0)
        self._keys = np.unique(positives.src * self.num_dst + positives.dst)
        created = graph.created_at(edge.dst)
        self._by_creation = None if created is None else np.argsort(created, kind="stable").astype(np.int64)
        self._created = None if created is None else np.asarray(created)[self._by_creation]
        counts = np.bincount(positives.dst, minlength=self.num_dst).astype(np.float64)
        self._share = counts / max(1.0, counts.sum())

    @property
    def drawn(self) -> bool:
        return self.kind in ("uniform", "in-batch")

    def epoch(self, rng: np.random.Generator) -> list[Int64Array]:
        """The examples of each step of an epoch, in random order."""
        n, size = len(self.examples), self.config.batch_size
        if not self.drawn:
            order = rng.permutation(n)
            return [np.sort(order[first : first + size]) for first in range(0, n, size)]
        phase = int(rng.integers(size)) if n > size else 0
        cuts = [0, *range(phase or size, n, size), n]
        chunks = [np.arange(first, last) for first, last in pairwise(cuts) if last > first]
        return [chunks[place] for place in rng.permutation(len(chunks))]

    def in_order(self, limit: int) -> list[Int64Array]:
        """The examples of each step of a validation: at most `limit`, in order of time."""
        n, size = len(self.examples), self.config.batch_size
        chunks = [np.arange(first, min(first + size, n)) for first in range(0, n, size)]
        keep = max(1, limit // size)
        if len(chunks) > keep:  # spread over the whole time
            chunks = [chunks[place] for place in np.unique(np.linspace(0, len(chunks) - 1, keep).astype(np.int64))]
        return chunks

    def make(self, key: StepKey) -> Batch:
        """Sample and read everything that a step needs; runs on the prefetch thread."""
        examples = self.examples.take(key.examples)
        n = len(examples)
        src, dst = self.edge.src, self.edge.dst
        gids = [self.reader.gids(src, examples.src), self.reader.gids(dst, examples.dst)]
        times = [examples.times, examples.times]
        labels = allowed = log_q = None
        if not self.drawn:
            labels = torch.from_numpy(examples.labels)
        elif self.kind == "in-batch":
            allowed = self._allowed(examples, examples.dst, examples.times)
            log_q = torch.from_numpy(np.tile(self._log_q(examples.dst, n), 2))
        else:
            drawn, moments, alive = self._draw(examples, key.step)
            gids.append(self.reader.gids(dst, drawn))
            times.append(moments)
            allowed = self._allowed(examples, drawn, moments) & torch.from_numpy(alive)
        trees = self.reader.read(np.concatenate(gids), np.concatenate(times), key.step)
        return Batch(key.objective, trees, n, labels, self.kind == "in-batch", allowed, log_q)

    def _draw(self, examples: Examples, step: int) -> tuple[Int64Array, Int64Array, NDArray[np.bool_]]:
        """Uniform negatives, the moment at which each is seen (that of some example), and whether it existed then."""
        rng = np.random.default_rng((self.config.seed, step, 1))
        count = self.config.negatives
        moments = np.sort(examples.times[rng.integers(len(examples), size=count)])
        if self._created is None or self._by_creation is None:
            return rng.integers(self.num_dst, size=count), moments, np.ones(count, dtype=bool)
        existing = np.searchsorted(self._created, moments, side="right")
        return self._by_creation[(rng.random(count) * existing).astype(np.int64)], moments, existing > 0

    def _allowed(self, examples: Examples, negatives: Int64Array, moments: Int64Array) -> Tensor:
        """Neither a known positive of the source, nor seen at a moment after the example's."""
        known = kernels.known_pairs(self._keys, examples.src, negatives, self.num_dst)
        return torch.from_numpy(~known & (moments[None, :] <= examples.times[:, None]))

    def _log_q(self, dst: Int64Array, draws: int) -> NDArray[np.float32]:
        """Log of the chance that each destination is in a batch, relative to a uniform draw."""
        share = np.maximum(self._share[dst], 0.5 / max(1, len(self._keys)))
        chance = -np.expm1(draws * np.log1p(-np.minimum(share, 1 - 1e-9)))
        relative: NDArray[np.float32] = np.log(chance * self.num_dst / draws).astype(np.float32)
        return relative


class Schedule:
    """The steps of every epoch, interleaved over objectives by chance; the same for the same seed."""

    def __init__(self, makers: Mapping[str, BatchMaker], seed: int) -> None:
        self._makers, self._seed = dict(sorted(makers.items())), seed

    def epoch(self, number: int) -> list[StepKey]:
        rng = np.random.default_rng((self._seed, number))
        steps = [(name, chunk) for name, maker in self._makers.items() for chunk in maker.epoch(rng)]
        order = rng.permutation(len(steps))
        return [StepKey(steps[place][0], steps[place][1], (number << 24) + at) for at, place in enumerate(order)]

    def validation(self, limit: int) -> list[StepKey]:
        steps = [(name, chunk) for name, maker in self._makers.items() for chunk in maker.in_order(limit)]
        return [StepKey(name, chunk, VALIDATION_STEP + at) for at, (name, chunk) in enumerate(steps)]

    def make(self, key: StepKey) -> Batch:
        return self._makers[key.objective].make(key)
