"""Computes derived edges (`graph.derived` says what they are) of a compiled graph, moment by moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import GraphError
from star_platform.graph import _derived_kernels as kernels
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.densify import DensifySpec, Similar, content_types, joined, similar
from star_platform.graph.derived import DERIVED, PPR_PREFIX, declared_edge_types, identity
from star_platform.graph.ppr import PprSpec, WalkEdges, channel_edges, top_neighbours, walkable
from star_platform.graph.storage import ALWAYS, EdgeArrays, EdgeType, Graph
from star_platform.progress import SILENT, Progress


@dataclass(frozen=True)
class DerivedSpec:
    """What to compute, and as of when."""

    moments: tuple[int, ...]
    """Microseconds, ascending: `snapshot_moments`."""
    ppr: PprSpec | None = None
    densify: DensifySpec | None = None
    threads: int | None = None
    """Of PageRank; None: all cores. Decides nothing in the result."""


def snapshot_moments(
    train_times: NDArray[np.int64], validation_start: int, test_start: int, as_of: int, count: int
) -> tuple[int, ...]:
    """When to compute: at the start of test, of validation, at quantiles of training time, and for publishing.

    Of `count` moments the last two are the boundaries of the split; at least one more lies in training time, since
    training would see no derived edge otherwise. They are spread so that each serves as many examples as any other;
    those before the first see none. `as_of + 1`, when vectors are published, comes on top.

    Args:
        train_times: int64[n], microseconds, of the training examples in any order.
        validation_start: where training ends.
        test_start: where validation ends.
        as_of: the newest moment of the graph.
        count: how many moments, without the one of publishing.
    """
    inner = max(1, count - 2) if len(train_times) else 0
    shares = np.arange(1, inner + 1) / (inner + 1)
    found = {test_start, as_of + 1}
    if inner:
        found.update(int(moment) for moment in np.quantile(train_times, shares, method="lower"))
    if count > 1:
        found.add(validation_start)
    return tuple(sorted(found))


def derive(
    graph: Graph, spec: DerivedSpec, out_dir: Path, progress: Progress = SILENT, work_dir: Path | None = None
) -> dict[str, Any]:
    """Compute derived edges of a compiled graph into folder `out_dir`; returns the artefact's `details`.

    Similar nodes come first, and walks over all edge types take their edges too: a newcomer that nobody has interacted
    with has neighbours by PageRank then. `work_dir` keeps what each moment gave, where a killed run goes on.

    Raises:
        GraphError: G065 for a channel over unknown edge types, G066 for a node type that cannot be densified.
        DependencyMissing: D030 without usearch, for more candidates than can be compared with all.
    """
    if list(spec.moments) != sorted(set(spec.moments)):
        raise ValueError(f"moments ascend, not {spec.moments}")
    kept = _Kept(work_dir)
    declared = {name: graph.edges(name) for name in declared_edge_types(graph)}
    made: dict[str, dict[str, Any]] = {}
    alike = list(_similar_edges(graph, spec, kept, progress))
    for edges in alike:
        made |= _write(out_dir, edges)
    if spec.ppr is not None:
        walked = declared | {edges.type: edges for edges in alike}
        for place, channel in enumerate(spec.ppr.channels or (None,)):
            name = "ppr" if channel is None else f"{PPR_PREFIX}{place}"
            made |= _ppr_channel(graph, spec, walked, name, channel, out_dir, kept, progress)
    taken = sorted(made.keys() & {name.relation for name in declared})
    if taken:
        raise GraphError(
            "G069", f"edge type {taken[0]!r} has the name of a derived one", hint="rename it in its branch file"
        )
    return {"base": identity(graph), "moments": list(spec.moments), "edges": dict(sorted(made.items()))}


def _similar_edges(graph: Graph, spec: DerivedSpec, kept: _Kept, progress: Progress) -> Iterator[EdgeArrays]:
    if spec.densify is None or spec.densify.neighbours < 1:
        return
    densify = spec.densify
    for node in content_types(graph, densify):
        found = []
        for moment in spec.moments:
            arrays = kept.get(f"similar-{node}-{moment}")
            if arrays is None:
                fresh = similar(graph, node, moment, densify, progress)
                arrays = {"dst": fresh.dst, "src": fresh.src, "similarity": fresh.similarity}
                arrays = kept.put(f"similar-{node}-{moment}", arrays)
            found.append((moment, Similar(arrays["dst"], arrays["src"], arrays["similarity"])))
        yield joined(node, graph.num_nodes(node), found)


def _ppr_channel(
    graph: Graph,
    spec: DerivedSpec,
    walked: Mapping[EdgeType, EdgeArrays],
    name: str,
    channel: Sequence[str] | None,
    out_dir: Path,
    kept: _Kept,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """Scores at every moment, then one edge type per pair of node types that they join."""
    assert spec.ppr is not None  # noqa: S101 - asked only with one
    counts = {node: graph.num_nodes(node) for node in graph.node_types}
    relations = channel_edges(sorted(walked), channel)
    types = {node for relation in relations for node in (relation.src, relation.dst)}
    adjacency = walkable(counts, walked, relations)
    born = _born(graph, adjacency)
    walk = WalkEdges(adjacency, born)
    seeds = np.arange(adjacency.num_nodes, dtype=np.int32)
    tops = []
    for number, moment in enumerate(spec.moments, 1):
        arrays = kept.get(f"{name}-{moment}")
        if arrays is None:
            title = f"{name} {number}/{len(spec.moments)}"
            with progress.task(title, total=len(seeds), unit="nodes") as task:
                found = top_neighbours(walk.at(moment, spec.ppr.window), seeds, spec.ppr, spec.threads, task)
            arrays = kept.put(f"{name}-{moment}", {"nodes": found.nodes, "scores": found.scores})
        tops.append((moment, arrays["nodes"], arrays["scores"]))
    made: dict[str, dict[str, Any]] = {}
    ranges = [(node, (first, last)) for node, first, last in _ranges(adjacency) if node in types]
    for dst, into in ranges:  # all pairs, also those that nothing joins: a model's relations do not hang on the data
        for src, out_of in ranges:
            made |= _write(out_dir, _between(EdgeType(src, f"{name}__{src}__{dst}", dst), tops, into, out_of))
    return made


def _between(
    edge_type: EdgeType,
    tops: Sequence[tuple[int, NDArray[np.int32], NDArray[np.float32]]],
    dst: tuple[int, int],
    src: tuple[int, int],
) -> EdgeArrays:
    """The scored pairs from one range of global ids to another, of all moments."""
    indptr = np.zeros(dst[1] - dst[0] + 1, dtype=np.int64)
    for _, nodes, _ in tops:
        kernels.count_between(nodes[dst[0] : dst[1]], *src, indptr)
    np.cumsum(indptr, out=indptr)
    size = int(indptr[-1])
    indices, times = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64)
    weights = np.empty(size, dtype=np.float32)
    fill = indptr[:-1].copy()
    for moment, nodes, scores in tops:
        rows = slice(*dst)
        kernels.fill_between(nodes[rows], scores[rows], *src, moment - 1, fill, indices, times, weights)
    return EdgeArrays(edge_type, indptr, indices, times, weights, {})


def _ranges(adjacency: Adjacency) -> Iterator[tuple[str, int, int]]:
    for place, node in enumerate(adjacency.node_types):
        yield node, int(adjacency.offsets[place]), int(adjacency.offsets[place + 1])


def _born(graph: Graph, adjacency: Adjacency) -> NDArray[np.int64]:
    """int64 by global id: when each node came to be."""
    born = np.full(adjacency.num_nodes, ALWAYS, dtype=np.int64)
    for node, first, last in _ranges(adjacency):
        created = graph.created_at(node)
        if created is not None:
            born[first:last] = created
    return born


def _write(out_dir: Path, edges: EdgeArrays) -> dict[str, dict[str, Any]]:
    """Store one edge type; its entry for the manifest."""
    assert edges.timestamps is not None and edges.weights is not None  # noqa: S101, PT018 - derived edges have both
    folder = out_dir / "edges" / edges.type.relation
    folder.mkdir(parents=True)
    for name in ("indptr", "indices", "timestamps", "weights"):
        np.save(folder / f"{name}.npy", getattr(edges, name))
    entry = {
        "src": edges.type.src,
        "dst": edges.type.dst,
        "kind": DERIVED,
        "edges": edges.num_edges,
        "dated": True,
        "weighted": True,
        "labels": [],
        "reverse_of": None,
        "newest": int(edges.timestamps.max()) if edges.num_edges else None,
    }
    return {edges.type.relation: entry}


class _Kept:
    """Arrays of finished moments in a work folder; each appears in one rename."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, name: str) -> dict[str, NDArray[Any]] | None:
        if self._folder is None or not (self._folder / name).exists():
            return None
        files = sorted((self._folder / name).glob("*.npy"))
        return {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in files}

    def put(self, name: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Keep them; the same arrays, out of memory where there is a folder."""
        if self._folder is None:
            return arrays
        draft = self._folder / f"{name}.partial"
        draft.mkdir(parents=True, exist_ok=True)
        for key, array in arrays.items():
            np.save(draft / f"{key}.npy", array)
        draft.rename(self._folder / name)
        found = self.get(name)
        assert found is not None  # noqa: S101 - just written
        return found
