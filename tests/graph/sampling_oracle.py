"""The sampler's promises, checked edge by edge in slow Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np

from star_platform.graph.adjacency import UNDATED, Adjacency
from star_platform.graph.sampling import FanOut, Sample
from star_platform.graph.storage import EdgeArrays, EdgeType


class Relation(NamedTuple):
    type: EdgeType
    dated: bool
    edges: list[tuple[int, int, int]]
    """Source index, destination index, time."""


def compiled(relation: Relation, num_destinations: int) -> EdgeArrays:
    """As the compiler lays it out: by destination, then time, then source."""
    ordered = sorted(relation.edges, key=lambda e: (e[1], e[2] if relation.dated else 0, e[0]))
    indptr = np.zeros(num_destinations + 1, dtype=np.int64)
    for _, destination, _ in ordered:
        indptr[destination + 1 :] += 1
    times = np.array([t for _, _, t in ordered], dtype=np.int64)
    weights = np.array([1 + s for s, _, _ in ordered], dtype=np.float32)
    sources = np.array([s for s, _, _ in ordered], dtype=np.int32)
    return EdgeArrays(relation.type, indptr, sources, times if relation.dated else None, weights, {})


def adjacency_of(counts: dict[str, int], relations: Sequence[Relation], budget: Any = "joint") -> Adjacency:
    return Adjacency.from_edges(counts, [compiled(each, counts[each.type.dst]) for each in relations], budget)


class Oracle:
    """Knows every edge as declared, not as the adjacency stores it."""

    def __init__(
        self,
        counts: dict[str, int],
        relations: Sequence[Relation],
        budget: str,
        strategy: str = "uniform",
        window: int | None = None,
    ) -> None:
        self.strategy, self.window = strategy, window
        names = sorted(counts)
        offsets = dict(zip(names, np.cumsum([0] + [counts[n] for n in names]), strict=False))
        self.budget = budget
        self.into: dict[int, list[tuple[int, EdgeType, int]]] = {}
        for each in relations:
            for source, destination, time in each.edges:
                key = int(offsets[each.type.dst]) + destination
                edge = (int(offsets[each.type.src]) + source, each.type, time if each.dated else UNDATED)
                self.into.setdefault(key, []).append(edge)

    def valid(self, node: int, moment: int, hidden: tuple[int, int] | None) -> Counter[tuple[int, EdgeType, int]]:
        """Edges into `node` strictly before `moment` and in the window, with their number; undated ones have age -1."""
        found: Counter[tuple[int, EdgeType, int]] = Counter()
        for source, name, time in self.into.get(node, []):
            if hidden is not None and {source, node} == set(hidden):
                continue
            if time == UNDATED:
                found[(source, name, -1)] += 1
            elif time < moment and (self.window is None or moment - self.window <= time):
                found[(source, name, moment - time)] += 1
        return found

    def check(
        self,
        sample: Sample,
        adjacency: Adjacency,
        gids: Sequence[int],
        times: Sequence[int],
        fan_outs: Sequence[FanOut],
        exclude: Sequence[int] | None = None,
    ) -> None:
        hops = _hops(sample)
        for h, (nodes, _) in enumerate(hops):
            slices = sample.type_slices[h]
            assert slices[0] == 0
            assert slices[-1] == len(nodes) == sample.sizes[h]
            for t in range(len(adjacency.node_types)):
                own = nodes[slices[t] : slices[t + 1]]
                assert ((own >= adjacency.offsets[t]) & (own < adjacency.offsets[t + 1])).all()
        for i, (gid, moment) in enumerate(zip(gids, times, strict=True)):
            hidden = None if exclude is None or exclude[i] < 0 else (int(gid), int(exclude[i]))
            item = int(sample.seed_positions[i])
            assert (hops[0][0][item], hops[0][1][item]) == (gid, moment)
            self._walk(sample, adjacency, hops, 0, item, int(moment), fan_outs, hidden)

    def _walk(
        self,
        sample: Sample,
        adjacency: Adjacency,
        hops: list[tuple[Any, Any]],
        h: int,
        item: int,
        moment: int,
        fan_outs: Sequence[FanOut],
        hidden: tuple[int, int] | None,
    ) -> None:
        assert hops[h][1][item] == moment
        if h == len(fan_outs):
            return
        node = int(hops[h][0][item])
        positions, relations, ages, weights = _edges_of(sample, h, item)
        drawn = Counter(
            (int(hops[h + 1][0][p]), adjacency.relation_names[r], int(age))
            for p, r, age in zip(positions, relations, ages, strict=True)
        )
        valid = self.valid(node, moment, hidden)
        assert not drawn - valid, (node, moment, drawn - valid)
        k = fan_outs[h]
        if self.budget == "joint":
            assert isinstance(k, int)
            self._as_many(drawn, valid, k)
        else:
            for name in adjacency.relation_names:
                limit = k.get(name.relation, 0) if isinstance(k, Mapping) else k
                self._as_many(_of(drawn, name), _of(valid, name), limit)
        for p, r, w in zip(positions, relations, weights, strict=True):
            source = int(hops[h + 1][0][p])
            start = adjacency.offsets[adjacency.node_types.index(adjacency.relation_names[r].src)]
            assert w == 1 + source - start
        here = int(sample.self_positions[h][item])
        assert hops[h + 1][0][here] == node
        for position in {here, *positions}:
            self._walk(sample, adjacency, hops, h + 1, position, moment, fan_outs, hidden)

    def _as_many(self, drawn: Counter[Any], valid: Counter[Any], k: int) -> None:
        """All valid edges, or k of them; `latest`: none is older than one that was left out."""
        assert drawn.total() == min(k, valid.total())
        if self.strategy == "latest":
            newest_first = sorted(inf if age < 0 else age for _, _, age in valid.elements())
            assert sorted(inf if age < 0 else age for _, _, age in drawn.elements()) == newest_first[:k]


def _of(edges: Counter[Any], name: EdgeType) -> Counter[Any]:
    return Counter({edge: n for edge, n in edges.items() if edge[1] == name})


def _hops(sample: Sample) -> list[tuple[Any, Any]]:
    """Node and moment of the items of every hop, from the deepest hop outwards."""
    hops = [(sample.nodes, sample.times)]
    for positions in reversed(sample.self_positions):
        nodes, times = hops[0]
        hops.insert(0, (nodes[positions], times[positions]))
    return hops


def _edges_of(sample: Sample, h: int, item: int) -> tuple[list[int], list[int], list[int], list[float]]:
    block = sample.blocks[h]
    assert block.weights is not None
    if block.indptr is not None:
        part: Any = slice(block.indptr[item], block.indptr[item + 1])
    else:
        filled = int((block.neighbours[item] >= 0).sum())
        assert (block.neighbours[item, filled:] == -1).all(), "padding follows the neighbours"
        assert (block.relations[item, filled:] == -1).all()
        assert (block.ages[item, filled:] == -1).all()
        assert (block.weights[item, filled:] == 0).all()
        part = (item, slice(filled))
    return tuple(list(map(kind, getattr(block, name)[part])) for name, kind in _FIELDS)  # type: ignore[return-value]


_FIELDS = (("neighbours", int), ("relations", int), ("ages", int), ("weights", float))
