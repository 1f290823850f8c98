"""Where drawn negatives come from: what existed at the moment, evenly, by degree, or alike in its attributes.

Negatives are drawn per step and shared by all its positives. Each is seen at the moment of some example of the step,
and counts only against examples that are not earlier, so that it existed then and shows nothing that came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import TrainingError
from star_platform.gnn import _negative_kernels as kernels
from star_platform.gnn.existence import Existence
from star_platform.graph.storage import ALWAYS, REVERSE_PREFIX, EdgeArrays, EdgeType, Graph
from star_platform.signals.model import LinkPrediction, Negatives

Int64Array = NDArray[np.int64]
SAMPLED = ("uniform", "degree", "hard")
"""Kinds of negatives that are drawn from all nodes of the destination type."""
WALKS = 8
"""Walks that are tried for a hard negative before it is drawn evenly."""
MOST_CHANGES = 1 << 22
"""Moments at which the sum of all weights is remembered exactly; between more of them the last one holds."""


@dataclass(frozen=True)
class Wanted:
    """What a step wants negatives for: its n positives, and k of them that each negative belongs to."""

    dst: Int64Array
    """int64[n]: destinations of the positives."""
    seen: Int64Array
    """int64[n]: the moment at which each is seen, microseconds."""
    chosen: Int64Array
    """int64[k], ascending: the positive at whose moment each negative is seen."""

    @property
    def moments(self) -> Int64Array:
        return self.seen[self.chosen]


@dataclass(frozen=True)
class Drawn:
    """The k negatives of one step."""

    nodes: Int64Array
    moments: Int64Array
    """When each is seen, ascending."""
    exist: NDArray[np.bool_]
    """False where nothing could be drawn."""
    log_q: NDArray[np.float32] | None = None
    """float32[n + k]: log of the chance of each positive and negative to be drawn at its moment, relative to an even
    draw; None where all are equal or no correction is wanted."""
    hard: NDArray[np.bool_] | None = None
    """Which share an attribute with the positive destination."""


class Drawer(Protocol):
    """Draws negatives of one objective."""

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        """A negative for each chosen positive."""
        ...


def drawer(graph: Graph, objective: LinkPrediction, edge: EdgeType, existence: Existence) -> Drawer:
    """The drawer that an objective asks for; made once per graph, for training and validation.

    Raises:
        TrainingError: M012 for hard negatives where the destination type has no attribute edges.
    """
    made = _MADE.setdefault(graph, {})
    key = objective.edge, objective.negatives
    if key not in made:
        if objective.negatives.kind == "degree":
            made[key] = ByDegree(graph.edges_named(objective.edge), existence)
        elif objective.negatives.kind == "hard":
            share = objective.negatives.hard_share
            made[key] = Hard(AttributeWalk.of(graph, edge.dst), existence, 0.5 if share is None else share)
        else:
            made[key] = Uniform(existence)
    return made[key]


_MADE: WeakKeyDictionary[Graph, dict[tuple[str, Negatives], Drawer]] = WeakKeyDictionary()


class Uniform:
    """Any node that exists, evenly."""

    def __init__(self, existence: Existence) -> None:
        self.existence = existence

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        nodes, exist = self.existence.draw(wanted.moments, rng)
        return Drawn(nodes, wanted.moments, exist)


class ByDegree:
    """Chance proportional to (1 + d) ** 0.75 among nodes that exist; d counts the objective's edges so far.

    The 1 lets nodes that nobody has met yet be negatives too, so that having no history tells nothing. Chances are
    handed out for the logQ correction, which makes scores converge to what even draws would give.
    """

    def __init__(self, edges: EdgeArrays, existence: Existence) -> None:
        if edges.timestamps is None:
            raise TrainingError("M002", f"edge {edges.type.relation!r} has no timestamp")
        self.existence, self._indptr = existence, np.asarray(edges.indptr)
        self._timestamps = np.asarray(edges.timestamps)
        by_time = np.argsort(self._timestamps, kind="stable")
        self._event_times = self._timestamps[by_time]
        self._event_nodes = edges.destinations()[by_time]
        self._change_times, self._weights = self._totals()

    def _totals(self) -> tuple[Int64Array, NDArray[np.float64]]:
        """When the sum of all weights changes, and what it is from then on."""
        existence, changes = self.existence, len(self.existence.since) + len(self._event_nodes)
        stride = 1 + changes // MOST_CHANGES
        times = np.empty(-(-changes // stride), dtype=np.int64)
        totals = np.empty(len(times))
        kernels.weight_over_time(
            existence.order, existence.since, self._event_nodes, self._event_times, stride, times, totals
        )
        return times, totals

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        moments = wanted.moments
        alive = self.existence.count(moments)
        events = np.searchsorted(self._event_times, moments, side="left").astype(np.int64)
        nodes, degrees = np.empty(len(moments), np.int64), np.empty(len(moments), np.int64)
        kernels.draw_by_degree(
            self.existence.order,
            self.existence.since,
            alive,
            self._event_nodes,
            events,
            self._indptr,
            self._timestamps,
            moments,
            np.uint64(rng.integers(2**63)),
            nodes,
            degrees,
        )
        log_q = np.concatenate([self.log_q(wanted.dst, wanted.seen), self._relative(degrees, moments)])
        return Drawn(np.maximum(nodes, 0), moments, nodes >= 0, log_q)

    def log_q(self, nodes: Int64Array, moments: Int64Array) -> NDArray[np.float32]:
        """Log of the chance of each node to be drawn at its moment, relative to an even draw."""
        degrees = np.empty(len(nodes), np.int64)
        kernels.degrees_before(self._indptr, self._timestamps, nodes, moments, degrees)
        return self._relative(degrees, moments)

    def _relative(self, degrees: Int64Array, moments: Int64Array) -> NDArray[np.float32]:
        """Log of the chance of nodes with these degrees, times the number of nodes that exist."""
        place = np.searchsorted(self._change_times, moments, side="right") - 1
        total = np.where(place >= 0, self._weights[np.maximum(place, 0)], 1.0)
        even = np.maximum(self.existence.count(moments), 1)
        relative: NDArray[np.float32] = np.log((1.0 + degrees) ** kernels.POWER * even / total).astype(np.float32)
        return relative


@dataclass(frozen=True)
class _Lists:
    """Neighbours by node: `indices[indptr[v]:indptr[v + 1]]`, dated or not."""

    indptr: Int64Array
    indices: NDArray[np.int32]
    times: Int64Array | None

    def at(self, nodes: Int64Array, places: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Neighbour number `places` of each node, and the time of that edge."""
        where = self.indptr[nodes] + places
        times = np.full(len(nodes), ALWAYS, np.int64) if self.times is None else self.times[where]
        return self.indices[where].astype(np.int64), times

    def count(self, nodes: Int64Array) -> Int64Array:
        return self.indptr[nodes + 1] - self.indptr[nodes]


class AttributeWalk:
    """From nodes of a type over one of their attributes to others that share it."""

    def __init__(self, relations: Sequence[tuple[_Lists, _Lists]]) -> None:
        """By relation: the attributes of each node, and the nodes of each attribute."""
        self._relations = tuple(relations)

    @classmethod
    def of(cls, graph: Graph, node: str) -> AttributeWalk:
        """Over the attribute edges that join `node` to other types, in whichever direction they are declared.

        Raises:
            TrainingError: M012 when there is none.
        """
        into: dict[str, EdgeArrays] = {}
        out_of: dict[str, EdgeArrays] = {}
        for edge_type in graph.edge_types:
            if edge_type.src != edge_type.dst and node in edge_type and graph.edge_kind(edge_type) == "attribute":
                side = into if edge_type.dst == node else out_of
                side[edge_type.relation.removeprefix(REVERSE_PREFIX)] = graph.edges(edge_type)
        if not into and not out_of:
            raise TrainingError(
                "M012",
                f"hard negatives of type {node!r} cannot be found: it has no attribute edges",
                hint="declare an edge of `kind: attribute` at it, or use uniform or degree negatives",
            )
        return cls(
            [
                (
                    _lists(into[name]) if name in into else _turned(out_of[name], graph.num_nodes(node)),
                    _lists(out_of[name])
                    if name in out_of
                    else _turned(into[name], graph.num_nodes(into[name].type.src)),
                )
                for name in sorted({*into, *out_of})
            ]
        )

    def walk(
        self, nodes: Int64Array, moments: Int64Array, existence: Existence, rng: np.random.Generator
    ) -> tuple[Int64Array, NDArray[np.bool_]]:
        """Another node that shares an attribute with each, int64[k], and whether one was found.

        Both edges lie strictly before the moment or are undated, and the other node exists then. `WALKS` are tried: a
        node may have attributes that are its own.
        """
        others = nodes.copy()
        found = np.zeros(len(nodes), dtype=bool)
        for _ in range(WALKS):
            left = np.flatnonzero(~found)
            ends, good = self._steps(nodes[left], moments[left], rng)
            good &= (ends != nodes[left]) & existence.holds(ends, moments[left])
            others[left[good]] = ends[good]
            found[left[good]] = True
        return others, found

    def _steps(
        self, nodes: Int64Array, moments: Int64Array, rng: np.random.Generator
    ) -> tuple[Int64Array, NDArray[np.bool_]]:
        """The ends of one walk each, over an attribute edge taken evenly from all relations, and which are valid."""
        ends, good = nodes.copy(), np.zeros(len(nodes), dtype=bool)
        counts = np.stack([attributes.count(nodes) for attributes, _ in self._relations])
        upto = np.cumsum(counts, axis=0)
        places = (rng.random(len(nodes)) * upto[-1]).astype(np.int64)
        back = rng.random(len(nodes))
        for r, (attributes, owners) in enumerate(self._relations):
            here = np.flatnonzero((places < upto[r]) & (places >= upto[r] - counts[r]))
            at, when = attributes.at(nodes[here], places[here] - (upto[r] - counts[r])[here])
            ends[here], then = owners.at(at, (back[here] * owners.count(at)).astype(np.int64))
            good[here] = (when < moments[here]) & (then < moments[here])
        return ends, good


def _lists(edges: EdgeArrays) -> _Lists:
    return _Lists(np.asarray(edges.indptr), edges.indices, edges.timestamps)


def _turned(edges: EdgeArrays, sources: int) -> _Lists:
    """The destinations of each of the `sources`, for an edge type that was declared without its reverse."""
    order = np.argsort(edges.indices, kind="stable")
    indptr = np.zeros(sources + 1, dtype=np.int64)
    np.cumsum(np.bincount(edges.indices, minlength=sources), out=indptr[1:])
    times = None if edges.timestamps is None else edges.timestamps[order]
    return _Lists(indptr, edges.destinations()[order], times)


class Hard:
    """A share of nodes that have an attribute in common with the positive destination, the rest drawn evenly.

    Their chances are not corrected for: they are there to be told apart although they look alike. A node without
    attributes, or with attributes of its own only, gives an even draw.
    """

    def __init__(self, walk: AttributeWalk, existence: Existence, share: float) -> None:
        self.attributes, self.existence, self.share = walk, existence, share

    def draw(self, wanted: Wanted, rng: np.random.Generator) -> Drawn:
        moments, count = wanted.moments, len(wanted.chosen)
        nodes, exist = self.existence.draw(moments, rng)
        places = np.sort(rng.permutation(count)[: round(self.share * count)])
        starts = wanted.dst[wanted.chosen[places]]
        others, found = self.attributes.walk(starts, moments[places], self.existence, rng)
        hard = np.zeros(count, dtype=bool)
        hard[places[found]] = True
        nodes[hard], exist[hard] = others[found], True
        return Drawn(nodes, moments, exist, hard=hard)
