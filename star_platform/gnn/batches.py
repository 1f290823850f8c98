"""Steps of an epoch: which examples, which negatives, and their sampled neighbourhoods.

A step belongs to one objective. Where negatives are drawn, its positives are close in time: a negative was then alive
when the example happened, and it can be judged at a moment that is not after the example's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import _negative_kernels as kernels
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.existence import NEVER, Existence, first_meetings
from star_platform.gnn.negatives import SAMPLED, Drawer, Drawn, Wanted, drawer
from star_platform.gnn.split import Examples, Int64Array
from star_platform.gnn.trees import TreeReader, Trees
from star_platform.graph.storage import ALWAYS, EdgeType, Graph
from star_platform.signals.model import LinkPrediction

GROUPED = 8
"""With grouping: steps' worth of consecutive examples within which those of a source are put together."""
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
    """One step's examples. Seeds are the sources, then the destinations, then drawn negatives; or just the nodes."""

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
    kind: Literal["pairs", "drawn", "classes"] = "pairs"
    """Pairs with labels, positives against drawn negatives, or nodes with a class."""
    targets: Tensor | None = None
    """int64[n]: the class of each node, from 0."""


class Maker(Protocol):
    """Makes the batches of one objective."""

    def epoch(self, rng: np.random.Generator) -> list[Int64Array]:
        """The examples of each step of an epoch, in random order."""
        ...

    def in_order(self, limit: int) -> list[Int64Array]:
        """The examples of each step of a validation: at most `limit`, in order of time."""
        ...

    def make(self, key: StepKey) -> Batch:
        """Sample and read everything that a step needs; runs on the prefetch thread."""
        ...


class BatchMaker:
    """Makes the batches of one link prediction from a set of its examples."""

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
        keys = positives.src * self.num_dst + positives.dst
        self._undated = undated_pairs(graph, edge)
        counts = np.bincount(positives.dst, minlength=self.num_dst).astype(np.float64)
        self._share = counts / max(1.0, counts.sum())
        self._drawer: Drawer | None = None
        if self.kind in SAMPLED:
            existence = Existence.of(graph, edge.dst)
            self._drawer = drawer(graph, objective, edge, existence)
            last = int(known.times.max(initial=ALWAYS))
            keys = np.concatenate([keys, first_meetings(graph.edges(edge), existence, last)])
        self._keys = np.unique(keys)
        sources = np.arange(graph.num_nodes(edge.src) + 1) * self.num_dst
        self._hidden = [(each, np.searchsorted(each, sources)) for each in (self._keys, self._undated) if len(each)]

    @property
    def drawn(self) -> bool:
        return self.kind == "in-batch" or self.kind in SAMPLED

    def epoch(self, rng: np.random.Generator) -> list[Int64Array]:
        """The examples of each step of an epoch, in random order.

        Where negatives are drawn, the examples of a step are close in time. With `config.grouping` those of one source
        that lie in one stretch of `GROUPED` steps come together.
        """
        n, size = len(self.examples), self.config.batch_size
        if self.config.grouping:
            chunks = grouped_steps(self.examples.src, size, rng)
        elif self.drawn:
            phase = int(rng.integers(size)) if n > size else 0
            cuts = [0, *range(phase or size, n, size), n]
            chunks = [np.arange(first, last) for first, last in pairwise(cuts) if last > first]
        else:
            order = rng.permutation(n)
            return [np.sort(order[first : first + size]) for first in range(0, n, size)]
        return [chunks[place] for place in rng.permutation(len(chunks))]

    def in_order(self, limit: int) -> list[Int64Array]:
        """The examples of each step of a validation: at most `limit`, in order of time."""
        return ordered_steps(len(self.examples), self.config.batch_size, limit)

    def make(self, key: StepKey) -> Batch:
        """Sample and read everything that a step needs; runs on the prefetch thread."""
        examples = self.examples.take(key.examples)
        n = len(examples)
        src, dst = (
            self.reader.gids(self.edge.src, examples.src),
            self.reader.gids(self.edge.dst, examples.dst),
        )
        src_seen, dst_seen = self._seen(examples, key.step)
        gids, times = [src, dst], [src_seen, dst_seen]
        labels = allowed = log_q = None
        if self._drawer is not None:
            drawn = self.draw(examples, key.step)
            gids.append(self.reader.gids(self.edge.dst, drawn.nodes))
            times.append(drawn.moments)
            allowed = self._allowed(examples, drawn.nodes, drawn.moments, drawn.exist)
            log_q = None if drawn.log_q is None else torch.from_numpy(drawn.log_q)
        elif self.kind == "in-batch":
            allowed = self._allowed(examples, examples.dst, dst_seen, np.ones(n, dtype=np.bool_))
            log_q = torch.from_numpy(np.tile(self._log_q(examples.dst, n), 2))
        else:
            labels = torch.from_numpy(examples.labels)
        return Batch(
            objective=key.objective,
            trees=self._read(examples, gids, times, key.step),
            size=n,
            labels=labels,
            in_batch=self.kind == "in-batch",
            allowed=allowed,
            log_q=log_q,
            kind="drawn" if self.drawn else "pairs",
        )

    def draw(self, examples: Examples, step: int) -> Drawn:
        """The negatives of a step, where they are drawn from all nodes."""
        assert self._drawer is not None  # noqa: S101 - of these kinds
        rng = np.random.default_rng((self.config.seed, step, 1))
        chosen = np.sort(rng.integers(len(examples), size=self.config.negatives))
        return self._drawer.draw(Wanted(examples.dst, self._seen(examples, step)[1], chosen), rng)

    def _seen(self, examples: Examples, step: int) -> tuple[Int64Array, Int64Array]:
        """When sources and destinations are seen, int64[n] each; never after the example.

        With grouping the examples of one source see it at the earliest of their moments, and so share its tree. In
        validation all are seen at their own moment, as in evaluation, whatever makes training cheaper.
        """
        if step >= VALIDATION_STEP:
            return examples.times, examples.times
        if self.config.moment == "step":
            earliest = np.full(len(examples), examples.times.min(initial=NEVER))
            return earliest, earliest
        if not self.config.grouping:
            return examples.times, examples.times
        _, group = np.unique(examples.src, return_inverse=True)
        earliest = np.full(int(group.max(initial=-1)) + 1, NEVER)
        np.minimum.at(earliest, group, examples.times)
        return earliest[group], examples.times

    def _read(self, examples: Examples, gids: list[Int64Array], times: list[Int64Array], step: int) -> Trees:
        """The trees of all seeds.

        Dated edges of an example are never seen, for they are not strictly earlier. An undated edge between its nodes
        would be, so that source and destination hide what joins them from each other.
        """
        seeds = np.concatenate(gids)
        joined = _among(self._undated, examples.src * self.num_dst + examples.dst)
        exclude: Int64Array | None = None
        if joined.any():
            exclude = np.full(len(seeds), -1, dtype=np.int64)
            exclude[: len(joined)][joined] = gids[1][joined]
            exclude[len(joined) : 2 * len(joined)][joined] = gids[0][joined]
        return self.reader.read(seeds, np.concatenate(times), step, exclude=exclude)

    def _allowed(
        self, examples: Examples, negatives: Int64Array, moments: Int64Array, exist: NDArray[np.bool_]
    ) -> Tensor:
        """bool[n, m]: neither a known positive of the source, nor the source, nor seen at a moment after the example's.

        Nor joined to the source by an undated edge: positives hide theirs, and a negative is shared by all sources, so
        that it would be the only one to show it.
        """
        allowed = np.empty((len(examples), len(negatives)), dtype=np.bool_)
        kernels.allow(moments, exist, examples.times, allowed)
        order = np.argsort(negatives, kind="stable")
        for keys, starts in self._hidden:
            kernels.forbid(keys, starts, examples.src, negatives[order], order, self.num_dst, allowed)
        if self.edge.src == self.edge.dst:
            allowed &= negatives[None, :] != examples.src[:, None]
        return torch.from_numpy(allowed)

    def _log_q(self, dst: Int64Array, draws: int) -> NDArray[np.float32]:
        """Log of the chance that each destination is in a batch, relative to a uniform draw."""
        share = np.maximum(self._share[dst], 0.5 / max(1, len(self._keys)))
        chance = -np.expm1(draws * np.log1p(-np.minimum(share, 1 - 1e-9)))
        relative: NDArray[np.float32] = np.log(chance * self.num_dst / draws).astype(np.float32)
        return relative


def undated_pairs(graph: Graph, edge: EdgeType) -> Int64Array:
    """Keys `src * nodes(dst) + dst`, ascending, of the pairs that an undated edge joins, in either direction."""
    width = graph.num_nodes(edge.dst)
    keys = [np.empty(0, dtype=np.int64)]
    for other in graph.edge_types:
        if {other.src, other.dst} != {edge.src, edge.dst}:
            continue
        arrays = graph.edges(other)
        if arrays.timestamps is not None:
            continue
        one, two = np.asarray(arrays.indices, dtype=np.int64), arrays.destinations().astype(np.int64)
        if (other.src, other.dst) == (edge.src, edge.dst):
            keys.append(one * width + two)
        if (other.dst, other.src) == (edge.src, edge.dst):
            keys.append(two * width + one)
    return np.unique(np.concatenate(keys))


def _among(keys: Int64Array, wanted: Int64Array) -> NDArray[np.bool_]:
    """Which of `wanted` are in ascending `keys`."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=bool)
    found: NDArray[np.bool_] = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return found


def ordered_steps(n: int, size: int, limit: int) -> list[Int64Array]:
    """Consecutive stretches of `size` of n examples; of more than `limit` some, spread over the whole."""
    chunks = [np.arange(first, min(first + size, n)) for first in range(0, n, size)]
    keep = max(1, limit // size)
    if len(chunks) > keep:
        chunks = [chunks[place] for place in np.unique(np.linspace(0, len(chunks) - 1, keep).astype(np.int64))]
    return chunks


def grouped_steps(src: Int64Array, size: int, rng: np.random.Generator) -> list[Int64Array]:
    """Steps of at most `size` examples in which those of one source stay together.

    Examples, in order of time, are cut into stretches of `GROUPED * size` at random places. Within a stretch groups
    come in random order; one of more than `size` examples is cut.
    """
    n, width = len(src), GROUPED * size
    phase = int(rng.integers(width)) if n > width else 0
    steps = []
    for first, last in pairwise([0, *range(phase or width, n, width), n]):
        distinct, group = np.unique(src[first:last], return_inverse=True)
        order = np.argsort(rng.permutation(len(distinct))[group], kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        at = 0
        while at < last - first:
            cut = last - first
            if cut - at > size:
                cut = int(starts[np.searchsorted(starts, at + size, side="right") - 1])
                cut = cut if cut > at else at + size
            steps.append(np.sort(first + order[at:cut]))
            at = cut
    return steps


class Schedule:
    """The steps of every epoch, interleaved over objectives by chance; the same for the same seed."""

    def __init__(self, makers: Mapping[str, Maker], seed: int) -> None:
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
