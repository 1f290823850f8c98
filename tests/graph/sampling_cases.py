"""Small graphs full of ties, and everything that can be asked of the sampler about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from star_platform.graph.sampling import FanOut, NeighbourSampler, Sample
from star_platform.graph.storage import EdgeType

from .sampling_oracle import Oracle, Relation, adjacency_of

COUNTS = {"member": 6, "job": 5, "skill": 3}
NODES = sum(COUNTS.values())
VIEWS = EdgeType("member", "views", "job")
TYPES = [
    (VIEWS, True),
    (VIEWS.reversed, True),
    (EdgeType("member", "has", "skill"), False),
    (EdgeType("member", "has", "skill").reversed, False),
    (EdgeType("member", "follows", "member"), True),
    (EdgeType("job", "needs", "skill"), False),
]
STRATEGIES = ["uniform", "latest", "weighted"]


@st.composite
def graphs(draw: Any) -> list[Relation]:
    """Small, dense and full of ties: times 0 ... 6 only."""
    relations = []
    for name, dated in TYPES:
        ends = st.tuples(st.integers(0, COUNTS[name.src] - 1), st.integers(0, COUNTS[name.dst] - 1), st.integers(0, 6))
        relations.append(Relation(name, dated, draw(st.lists(ends, max_size=25))))
    return relations


seeds = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, 8)), max_size=12)


@dataclass(frozen=True)
class Case:
    """A graph, a batch of (seed, moment, excluded partner or -1), and how to sample."""

    relations: list[Relation]
    batch: list[tuple[int, int, int]]
    fan_outs: list[FanOut]
    budget: Any
    strategy: Any
    window: int | None
    layout: Any
    step: int

    def columns(self) -> tuple[Any, Any, Any]:
        """Seeds, moments, partners; each int64[b]."""
        gids, times, exclude = np.array(self.batch, dtype=np.int64).reshape(-1, 3).T
        return gids, times, exclude

    def sample(self, relations: list[Relation] | None = None) -> Sample:
        """Of the case's graph, or of another with the same nodes and edge types."""
        adjacency = adjacency_of(COUNTS, relations or self.relations, self.budget)
        sampler = NeighbourSampler(
            adjacency, self.fan_outs, self.strategy, seed=3, layout=self.layout, window=self.window
        )
        gids, times, exclude = self.columns()
        return sampler.sample(gids, times, self.step, exclude if (exclude >= 0).any() else None)

    def check(self) -> None:
        """Every edge of the sample is one that its seed may see, and there are as many as there must be."""
        sample = self.sample()
        gids, times, exclude = (column.tolist() for column in self.columns())
        adjacency = adjacency_of(COUNTS, self.relations, self.budget)
        oracle = Oracle(COUNTS, self.relations, self.budget, self.strategy, self.window)
        oracle.check(sample, adjacency, gids, times, self.fan_outs, exclude)


@st.composite
def cases(draw: Any) -> Case:
    budget = draw(st.sampled_from(["joint", "per-relation"]))
    hop: Any = st.integers(1, 4)
    if budget == "per-relation":
        names = st.sampled_from([name.relation for name, _ in TYPES])
        hop = st.one_of(hop, st.dictionaries(names, st.integers(0, 4)))
    batch = draw(st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, 8)), min_size=1, max_size=12))
    if draw(st.booleans()):  # one moment for all
        batch = [(gid, batch[0][1]) for gid, _ in batch]
    hidden = draw(st.booleans())
    partner = st.integers(-1, NODES - 1) if hidden else st.just(-1)
    return Case(
        relations=draw(graphs()),
        batch=[(gid, moment, draw(partner)) for gid, moment in batch],
        fan_outs=draw(st.lists(hop, max_size=3)),
        budget=budget,
        strategy=draw(st.sampled_from(STRATEGIES)),
        window=draw(st.one_of(st.none(), st.integers(1, 5))),
        layout=draw(st.sampled_from(["dense", "ragged"])),
        step=draw(st.integers(0, 5)),
    )


def assert_equal(one: Sample, other: Sample, seed_positions: bool = True) -> None:
    """The same sample, but perhaps for the order of the seeds."""
    assert one.sizes == other.sizes
    arrays: list[tuple[Any, Any]] = [(one.nodes, other.nodes), (one.times, other.times)]
    arrays += list(zip(one.self_positions, other.self_positions, strict=True))
    arrays += list(zip(one.type_slices, other.type_slices, strict=True))
    for a, b in zip(one.blocks, other.blocks, strict=True):
        arrays += [(a.neighbours, b.neighbours), (a.relations, b.relations), (a.ages, b.ages)]
        arrays += [(a.weights, b.weights), (a.indptr, b.indptr)]
    if seed_positions:
        arrays.append((one.seed_positions, other.seed_positions))
    for a, b in arrays:
        np.testing.assert_array_equal(a, b)
