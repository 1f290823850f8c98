"""Edges from nodes with few interactions to well-connected ones of similar content (LiGNN, arXiv 2402.11139, 4.3).

A newcomer has no neighbours to learn from, but content: a text, a vector. It receives edges from the nodes of its own
type that are most similar to it by cosine, out of those that have been interacted with most. Degrees and contents are
those of one moment, strictly earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import DependencyMissing, GraphError
from star_platform.graph.guard import did_you_mean
from star_platform.graph.kernels import kernel
from star_platform.graph.storage import EdgeArrays, EdgeType, FeatureArray, Graph
from star_platform.progress import SILENT, Progress

EXACT_CANDIDATES = 20_000
"""Up to so many givers each receiver is compared with all of them; beyond, an index finds nearly all the same."""
BLOCK = 1024
"""Receivers compared at a time. Fixed, because the shape of a matrix product decides the last bits of its sums."""
CONNECTIVITY, BUILD, SEARCH = 16, 128, 128
"""Of the index: neighbours per vector, candidates looked at when it is built and when it is searched."""


@dataclass(frozen=True)
class DensifySpec:
    """Who receives from whom; `gnn.config.DensifyConfig` says the same to users."""

    neighbours: int
    """Givers per receiver, at least 1."""
    low: float = 0.3
    """Nodes up to this quantile of degree receive."""
    high: float = 0.9
    """Nodes from this quantile of degree on give; never one without any interaction."""
    nodes: tuple[str, ...] = ()
    """Node types; empty: every entity with dense content and interactions."""


@dataclass(frozen=True)
class Similar:
    """Edges `src` -> `dst` within one node type, sorted by (dst, similarity ascending, src descending)."""

    dst: NDArray[np.int64]
    src: NDArray[np.int64]
    similarity: NDArray[np.float32]
    """Cosine, above 0."""


# --- who takes part ---------------------------------------------------------------------------------------------------


def content_types(graph: Graph, spec: DensifySpec) -> list[str]:
    """The node types that are densified, sorted.

    Raises:
        GraphError: G066 for a type named in `spec` that is not there or has nothing to compare.
    """
    for name in spec.nodes:
        if name not in graph.node_types:
            hint = did_you_mean(name, graph.node_types)
            raise GraphError("G066", f"densify names the node type {name!r}, which is not there", hint=hint)
        if not dense_features(graph, name):
            raise GraphError(
                "G066",
                f"node type {name!r} cannot be densified: it has no text and no vector feature",
                hint="declare one, or leave the type out of `training.densify.nodes`",
            )
    if spec.nodes:
        return sorted(set(spec.nodes))
    return [
        name
        for name in graph.node_types
        if graph.node_kind(name) == "entity" and dense_features(graph, name) and _interactions(graph, name)
    ]


def dense_features(graph: Graph, node: str) -> list[FeatureArray]:
    """The features that say in numbers what a node is about."""
    return [each for each in graph.features(node) if each.kind in ("text", "vector") and each.dim > 0]


def _interactions(graph: Graph, node: str) -> list[tuple[EdgeType, bool]]:
    """Interaction edge types that touch a node type, and whether they have to be read from their source's side."""
    names = [name for name in graph.edge_types if graph.edge_kind(name) == "interaction"]
    mirrored = {name.reversed for name in names}
    into = [(name, False) for name in names if name.dst == node]
    out = [(name, True) for name in names if name.src == node and name.reversed not in names and name not in mirrored]
    return into + out


def degrees(graph: Graph, node: str, moment: int) -> NDArray[np.int64]:
    """int64[n]: interactions of each node strictly before `moment`; undated ones always count."""
    total = np.zeros(graph.num_nodes(node), dtype=np.int64)
    for name, by_source in _interactions(graph, node):
        edges = graph.edges(name)
        if by_source:
            valid = slice(None) if edges.timestamps is None else np.asarray(edges.timestamps) < moment
            total += np.bincount(edges.indices[valid], minlength=len(total))
        else:
            total += _earlier(edges, moment)
    return total


def _earlier(edges: EdgeArrays, moment: int) -> NDArray[np.int64]:
    """int64[n]: edges of each destination strictly before `moment`."""
    if edges.timestamps is None:
        return np.diff(edges.indptr)
    before = np.zeros(edges.num_edges + 1, dtype=np.int64)
    np.cumsum(np.asarray(edges.timestamps) < moment, out=before[1:])
    return before[edges.indptr[1:]] - before[edges.indptr[:-1]]


# --- content ----------------------------------------------------------------------------------------------------------


class Content:
    """What the nodes of a type are about at a moment: all dense features side by side, each of unit length."""

    def __init__(self, features: Sequence[FeatureArray], moment: int) -> None:
        self._features = features
        self._moment = moment
        self.dim = sum(feature.dim for feature in features)

    def rows(self, nodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[n, dim] of unit length, the newest versions strictly earlier; all 0 for nodes without content."""
        out = np.zeros((len(nodes), self.dim), dtype=np.float32)
        at = 0
        times = np.full(len(nodes), self._moment, dtype=np.int64)
        for feature in self._features:
            assert feature.values is not None  # noqa: S101 - dense features have an array
            rows = feature.rows(nodes, times)
            known = rows >= 0
            out[known, at : at + feature.dim] = _unit(np.asarray(feature.values[rows[known]], dtype=np.float32))
            at += feature.dim
        return _unit(out)

    def known(self, nodes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the nodes have any content."""
        parts = [nodes[first : first + BLOCK] for first in range(0, len(nodes), BLOCK)]
        return np.concatenate([self.rows(part).any(axis=1) for part in parts] or [np.empty(0, dtype=bool)])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    unit: NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit


# --- neighbours -------------------------------------------------------------------------------------------------------


def similar(graph: Graph, node: str, moment: int, spec: DensifySpec, progress: Progress = SILENT) -> Similar:
    """The edges of one node type at a moment; the same bytes every time.

    Raises:
        DependencyMissing: D030 when there are too many givers to compare with all, and usearch is not installed.
    """
    content = Content(dense_features(graph, node), moment)
    receivers, givers = _sides(graph, node, moment, spec, content)
    if not len(receivers) or not len(givers):
        empty = np.empty(0, dtype=np.int64)
        return Similar(empty, empty, np.empty(0, dtype=np.float32))
    k = min(spec.neighbours, len(givers))
    search = _Exact(content, givers) if len(givers) <= EXACT_CANDIDATES else _Index(content, givers, k)
    found = []
    with progress.task(f"densify {node}", total=len(receivers), unit="nodes") as task:
        for first in range(0, len(receivers), BLOCK):
            part = receivers[first : first + BLOCK]
            found.append(_edges(content, part, givers, search.nearest(content.rows(part), part, k)))
            task.advance(len(part))
    return Similar(
        np.concatenate([each.dst for each in found]),
        np.concatenate([each.src for each in found]),
        np.concatenate([each.similarity for each in found]),
    )


def _sides(
    graph: Graph, node: str, moment: int, spec: DensifySpec, content: Content
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Receivers and givers, ascending, out of the nodes that existed."""
    created = graph.created_at(node)
    there = np.ones(graph.num_nodes(node), dtype=bool) if created is None else np.asarray(created) < moment
    nodes = np.flatnonzero(there)
    if not len(nodes):
        return nodes, nodes
    degree = degrees(graph, node, moment)[nodes]
    low = nodes[degree <= np.quantile(degree, spec.low, method="lower")]
    high = nodes[degree >= max(1, int(np.quantile(degree, spec.high, method="higher")))]
    return low[content.known(low)], high[content.known(high)]


def _edges(
    content: Content, receivers: NDArray[np.int64], givers: NDArray[np.int64], places: NDArray[np.int64]
) -> Similar:
    """Edges from `givers[places[i]]`, -1 for none, to each receiver, with cosines summed in one fixed order."""
    row, column = np.nonzero(places >= 0)
    dst, src = receivers[row], givers[places[row, column]]
    cosines = np.einsum("ij,ij->i", content.rows(dst), content.rows(src))
    kept = cosines > 0
    dst, src, cosines = dst[kept], src[kept], np.minimum(cosines[kept], np.float32(1.0))
    order = np.lexsort((-src, cosines, dst))
    return Similar(dst[order], src[order], cosines[order])


class _Exact:
    """Every giver is looked at."""

    def __init__(self, content: Content, givers: NDArray[np.int64]) -> None:
        self._givers = givers
        self._rows = content.rows(givers)

    def nearest(self, queries: NDArray[np.float32], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """int64[n, k]: places among the givers, -1 for none; ties go to the first."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        with threadpool_limits(1, "blas"):  # so that the number of threads does not decide the last bits
            cosines = queries @ self._rows.T
        places = np.full((len(queries), k), -1, dtype=np.int64)
        _best(cosines, own, self._givers, np.empty(k, dtype=np.float32), places)
        return places


@kernel
def _best(cosines: Any, own: Any, givers: Any, kept: Any, places: Any) -> None:
    """Per row the highest cosines by insertion, equal ones in order of place; a node does not give to itself."""
    k = kept.size
    for i in range(cosines.shape[0]):
        size = 0
        for j in range(cosines.shape[1]):
            value = cosines[i, j]
            if givers[j] == own[i] or (size == k and value <= kept[k - 1]):
                continue
            at = size if size < k else k - 1
            while at > 0 and kept[at - 1] < value:
                kept[at] = kept[at - 1]
                places[i, at] = places[i, at - 1]
                at -= 1
            kept[at], places[i, at] = value, j
            size = min(size + 1, k)


class _Index:
    """A navigable graph over the givers (HNSW, arXiv 1603.09320); one thread, since its shape depends on the order."""

    def __init__(self, content: Content, givers: NDArray[np.int64], k: int) -> None:
        self._givers = givers
        self._index = _usearch().Index(
            ndim=content.dim,
            metric="cos",
            dtype="f32",
            connectivity=CONNECTIVITY,
            expansion_add=BUILD,
            expansion_search=max(SEARCH, 2 * k),
        )
        for first in range(0, len(givers), BLOCK):
            part = givers[first : first + BLOCK]
            keys = np.arange(first, first + len(part), dtype=np.uint64)
            self._index.add(keys, content.rows(part), threads=1)

    def nearest(self, queries: NDArray[np.float32], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """int64[n, k]: places among the givers, -1 for none."""
        found = self._index.search(queries, min(k + 1, len(self._givers)), threads=1)
        keys = np.asarray(found.keys).astype(np.int64).reshape(len(queries), -1)
        missing = np.arange(keys.shape[1]) >= np.asarray(found.counts).reshape(-1, 1)
        keys = np.where(missing, 0, keys)
        useless = missing | (self._givers[keys] == own[:, None])
        # the receiver itself, where it is found, moves to the end; then one too many is cut off
        order = np.argsort(useless, axis=1, kind="stable")
        places = np.where(np.take_along_axis(useless, order, 1), -1, np.take_along_axis(keys, order, 1))
        return places[:, :k]


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise DependencyMissing(
            "D030",
            f"densifying with more than {EXACT_CANDIDATES:,} candidates needs usearch: {error}",
            hint='install the extra: pip install "star-platform[ann]"',
        ) from error
    return usearch.index


# --- over time --------------------------------------------------------------------------------------------------------


def joined(node: str, num_nodes: int, found: Sequence[tuple[int, Similar]]) -> EdgeArrays:
    """The edges of several moments, ascending, as one edge type: an edge is dated just before it was first found.

    So a node sees each similar one once, however often they were found similar, and none before its moment.
    """
    dst = np.concatenate([each.dst for _, each in found])
    src = np.concatenate([each.src for _, each in found])
    weights = np.concatenate([each.similarity for _, each in found])
    times = np.concatenate([np.full(len(each.dst), moment - 1, dtype=np.int64) for moment, each in found])
    _, first = np.unique(dst * num_nodes + src, return_index=True)
    order = first[np.lexsort((-src[first], weights[first], times[first], dst[first]))]
    indptr = np.zeros(num_nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(dst[order], minlength=num_nodes), out=indptr[1:])
    name = EdgeType(node, f"similar_{node}", node)
    return EdgeArrays(name, indptr, src[order].astype(np.int32), times[order], weights[order], {})
