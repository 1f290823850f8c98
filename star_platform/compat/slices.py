"""Parts of the entities that a mean forgets: few or many neighbours, cohorts, those who came last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from star_platform.compat.pairs import find
from star_platform.graph.derived import declared_edge_types
from star_platform.graph.storage import Graph

NEWEST = 0.1
"""Share of the entities that count as those who came last."""


@dataclass(frozen=True, eq=False)
class Slicing:
    """One way to cut the entities of a node type; `codes[i]` is an index into `labels`, -1 where unknown."""

    kind: str
    """`degree`, `newest` or `cohort <name>`."""
    labels: tuple[str, ...]
    codes: NDArray[np.int32]

    def at(self, rows: NDArray[np.int64]) -> Slicing:
        """The same of some entities; row -1 is unknown."""
        return Slicing(self.kind, self.labels, np.where(rows >= 0, self.codes[np.maximum(rows, 0)], -1))

    def parts(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Label and mask of every part."""
        for code, label in enumerate(self.labels):
            yield label, self.codes == code


def degrees(graph: Graph, node: str) -> NDArray[np.int64]:
    """Declared edges into each node, reverses included: int64 `[nodes]`."""
    total = np.zeros(graph.num_nodes(node), dtype=np.int64)
    for edge_type in declared_edge_types(graph):
        if edge_type.dst == node:
            ends = np.asarray(graph.edges(edge_type).indptr, dtype=np.int64)
            total += ends[1:] - ends[:-1]
    return total


def slicings(graph: Graph, node: str, ids: pa.Array[Any]) -> tuple[Slicing, ...]:
    """Every slicing of the entities `ids` of a node type, as the graph of the new release knows them."""
    if node not in graph.node_types:
        return ()
    rows = graph_rows(graph, node, ids)
    found = [_by_degree(degrees(graph, node))]
    created = graph.created_at(node)
    if created is not None and len(created):
        found.append(_newest(np.asarray(created)))
    for name, (codes, labels) in graph.cohorts(node).items():
        found.append(Slicing(f"cohort {name}", tuple(labels), np.asarray(codes, dtype=np.int32)))
    return tuple(each.at(rows) for each in found)


def graph_rows(graph: Graph, node: str, ids: pa.Array[Any]) -> NDArray[np.int64]:
    """Where each id stands in the graph; -1 where it does not."""
    known = graph.ids(node)
    return np.arange(len(ids)) if ids.equals(known) else find(ids, known, node)


def _by_degree(degree: NDArray[np.int64]) -> Slicing:
    """No neighbours, and deciles of the others; deciles that share a degree are one."""
    some = degree[degree > 0]
    if not len(some):
        return Slicing("degree", ("0",), np.zeros(len(degree), dtype=np.int32))
    cuts = np.unique(np.quantile(some, np.arange(1, 10) / 10, method="lower"))
    cuts = cuts[cuts < some.max()]
    codes = np.where(degree > 0, np.searchsorted(cuts, degree, side="left") + 1, 0)
    starts, ends = [int(some.min()), *(int(cut) + 1 for cut in cuts)], [*(int(cut) for cut in cuts), int(some.max())]
    labels = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    return Slicing("degree", ("0", *labels), codes.astype(np.int32))


def _newest(created: NDArray[np.int64]) -> Slicing:
    """Those who came last stand in for those without an old vector, of whom nothing can be measured."""
    limit = np.quantile(created, 1 - NEWEST, method="lower")
    return Slicing("newest", (f"last {NEWEST:.0%} to come",), np.where(created > limit, 0, -1).astype(np.int32))
