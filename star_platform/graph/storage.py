"""The compiled graph as files, and the read side of it: opens by memory map, never writes.

    <graph>/manifest.json                     as every artefact; `details` holds what `Graph` lists (see below)
    <graph>/nodes/<type>/ids.parquet          column `id`, ascending; row number = node index
    <graph>/nodes/<type>/created_at.npy       int64[n], microseconds; INT64_MIN = always there (only where declared)
    <graph>/edges/<relation>/indptr.npy       int64[n_dst + 1]       the relation's own name, or `rev_` + name
    <graph>/edges/<relation>/indices.npy      int32[m], index of the source node
    <graph>/edges/<relation>/timestamps.npy   int64[m], microseconds (only dated relations)
    <graph>/edges/<relation>/weights.npy      float32[m] (only weighted relations)
    <graph>/edges/<relation>/label.<column>.npy   int8[m]: 1, 0, -1 unknown (only relations with labelled objectives)
    <graph>/features/<node>.<feature>/values.npy  int32[m] for categorical, float32[m, dim] otherwise; none for `id`
    <graph>/features/<node>.<feature>/present.npy     bool[m]; of versioned features only text has it
    <graph>/features/<node>.<feature>/tokens.npy      int32[m, longest] of texts that are encoded inside the GNN
    <graph>/features/<node>.<feature>/indptr.npy      int64[n + 1], and valid_from.npy int64[m], where there are
    <graph>/cohorts/<cohort>/codes.npy            int32[n], index into the manifest's names; -1 unknown

`details`: `{"as_of", "nodes": {type: {...}}, "edges": {relation: {...}}, "features": {name: {...}},
"cohorts": {name: {...}}}`, each with counts, and counts of what was dropped and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.errors import GraphError
from star_platform.registry.artefacts import Artefact, read_artefact

if TYPE_CHECKING:
    import dgl

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

FeatureKind = Literal["id", "categorical", "numeric", "vector", "text"]
NodeKind = Literal["entity", "attribute"]
EdgeKind = Literal["interaction", "attribute", "derived"]
"""`derived`: computed from the graph, see `graph.derived`."""
REVERSE_PREFIX = "rev_"
ALWAYS = int(np.iinfo(np.int64).min)
"""`created_at` of a node whose source gives none: it was always there."""


class EdgeType(NamedTuple):
    """Names of source node type, relation and destination node type."""

    src: str
    relation: str
    dst: str

    @property
    def reversed(self) -> EdgeType:
        """The reverse of a declared edge type, `(dst, "rev_" + name, src)`."""
        return EdgeType(self.dst, REVERSE_PREFIX + self.relation, self.src)


@dataclass(frozen=True)
class EdgeArrays:
    """The edges of one type in CSC form.

    In-neighbours of destination `v` are `indices[indptr[v]:indptr[v + 1]]`, sorted by time ascending (ties, and edges
    without time, by source index). All arrays are read-only memory maps.
    """

    type: EdgeType
    indptr: Int64Array
    indices: Int32Array
    timestamps: Int64Array | None
    weights: Float32Array | None
    labels: Mapping[str, Int8Array]
    """By label column: 1 true, 0 false, -1 unknown."""

    @property
    def num_edges(self) -> int:
        return len(self.indices)

    def destinations(self) -> Int32Array:
        """int32[m]: the destination index of every edge, in storage order (allocates)."""
        degrees = np.diff(self.indptr)
        return np.repeat(np.arange(len(degrees), dtype=np.int32), degrees)


@dataclass(frozen=True)
class FeatureArray:
    """One feature of one node type.

    Without `indptr`, m = n and row i belongs to node i. With it, the versions of node i are rows
    `indptr[i]:indptr[i + 1]`, `valid_from` ascending. `present[row]` is False where a row stands for "no value" (it is
    then zero).
    """

    node: str
    name: str
    kind: FeatureKind
    dim: int
    """Columns of `values`; for `id` the size of the learned vector; for `categorical` the number of codes with 0."""
    values: npt.NDArray[Any] | None
    """`categorical`: int32[m], 0 = missing or rare. `id`: None. Otherwise float32[m, dim]."""
    indptr: Int64Array | None = None
    valid_from: Int64Array | None = None
    present: BoolArray | None = None
    tokens: Int32Array | None = None
    """int32[m, longest] of a text whose encoder runs inside the GNN: token ids, -1 after the last one."""

    def rows(self, nodes: npt.NDArray[np.integer[Any]], times: Int64Array | None = None) -> Int64Array:
        """Row of `values` that holds for each node at each time.

        Args:
            nodes: node indices, integer[k].
            times: int64[k] microseconds; a version counts if `valid_from < time`, strictly. None asks for the newest.

        Returns:
            int64[k]; -1 where there is no value.
        """
        nodes = np.asarray(nodes)
        if self.indptr is None:
            rows = nodes.astype(np.int64)
        else:
            first, last = self.indptr[nodes], self.indptr[nodes + 1]
            if times is not None and self.valid_from is not None:
                last = _count_before(self.valid_from, first, last, np.asarray(times, dtype=np.int64))
            rows = np.where(last > first, last - 1, np.int64(-1))
        if self.present is None or not len(self.present):
            return rows
        return np.where((rows >= 0) & self.present[rows], rows, np.int64(-1))


def _count_before(valid_from: Int64Array, first: Int64Array, last: Int64Array, times: Int64Array) -> Int64Array:
    """For each k: first row in `[first, last)` whose `valid_from >= times`; a bisection over all k at once."""
    low, high = first.copy(), last.copy()
    while True:
        open_ = low < high
        if not open_.any():
            return low
        middle = (low + high) >> 1
        before = np.zeros(len(low), dtype=bool)
        before[open_] = valid_from[middle[open_]] < times[open_]
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)


class Graph:
    """A compiled graph; arrays are mapped when first asked for."""

    def __init__(self, artefact: Artefact) -> None:
        self.path = artefact.path
        self.fingerprint = artefact.fingerprint
        seen = {name: entry for name, entry in artefact.files.items() if not name.startswith("cohorts/")}
        self.content_hash = replace(artefact, files=seen).content_hash
        """Of all that a model sees. Cohorts only divide reports: with a new one a model still fits its graph."""
        self.manifest: dict[str, Any] = artefact.details
        """The artefact's `details`; the module's docstring gives its shape."""

    @property
    def as_of(self) -> int:
        """Newest timestamp (edges, feature versions, node creation) in microseconds; 0 where nothing is dated."""
        return int(self.manifest["as_of"])

    @cached_property
    def node_types(self) -> tuple[str, ...]:
        """Sorted by name."""
        return tuple(sorted(self.manifest["nodes"]))

    @cached_property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """With reverses, sorted by (src, relation, dst)."""
        entries = self.manifest["edges"].items()
        return tuple(sorted(EdgeType(entry["src"], relation, entry["dst"]) for relation, entry in entries))

    def node_kind(self, node: str) -> NodeKind:
        kind: NodeKind = self._node(node)["kind"]
        return kind

    def edge_kind(self, edge_type: EdgeType) -> EdgeKind:
        """As declared, or `derived`; a reverse has the kind of its edge type."""
        kind: EdgeKind = self._edge(edge_type)["kind"]
        return kind

    def num_nodes(self, node: str) -> int:
        return int(self._node(node)["nodes"])

    def ids(self, node: str) -> pa.Array[Any]:
        """External ids, ascending; row i is node i."""
        self._node(node)
        column = pq.read_table(self.path / "nodes" / node / "ids.parquet", memory_map=True).column("id")
        return column.combine_chunks()

    def created_at(self, node: str) -> Int64Array | None:
        """int64[n], microseconds; `ALWAYS` (INT64_MIN) where the source gives none. None where not declared."""
        return self._map(f"nodes/{node}/created_at.npy") if self._node(node)["created_at"] else None

    def edges(self, edge_type: EdgeType) -> EdgeArrays:
        entry = self._edge(edge_type)
        folder = f"edges/{edge_type.relation}"
        return EdgeArrays(
            type=edge_type,
            indptr=self._map(f"{folder}/indptr.npy"),
            indices=self._map(f"{folder}/indices.npy"),
            timestamps=self._map(f"{folder}/timestamps.npy") if entry["dated"] else None,
            weights=self._map(f"{folder}/weights.npy") if entry["weighted"] else None,
            labels={column: self._map(f"{folder}/label.{column}.npy") for column in entry["labels"]},
        )

    def edges_named(self, name: str) -> EdgeArrays:
        """The edges of a relation by its name alone, such as `member-applies-job` or `rev_member-applies-job`."""
        entry = self.manifest["edges"].get(name, {})
        return self.edges(EdgeType(entry.get("src", "?"), name, entry.get("dst", "?")))

    def features(self, node: str) -> tuple[FeatureArray, ...]:
        """All features of a node type, sorted by name."""
        self._node(node)
        names = sorted(name for name in self.manifest["features"] if name.split(".", 1)[0] == node)
        return tuple(self._feature(name) for name in names)

    def _feature(self, full_name: str) -> FeatureArray:
        entry = self.manifest["features"][full_name]
        node, name = full_name.split(".", 1)
        if entry["kind"] == "id":
            return FeatureArray(node, name, "id", entry["dim"], None)
        folder = f"features/{full_name}"
        versioned = bool(entry["versioned"])
        return FeatureArray(
            node=node,
            name=name,
            kind=entry["kind"],
            dim=entry["dim"],
            values=self._map(f"{folder}/values.npy"),
            indptr=self._map(f"{folder}/indptr.npy") if versioned else None,
            valid_from=self._map(f"{folder}/valid_from.npy") if versioned else None,
            present=self._map(f"{folder}/present.npy") if not versioned or entry["kind"] == "text" else None,
            tokens=self._map(f"{folder}/tokens.npy") if entry.get("tokens_kept") else None,
        )

    def cohorts(self, node: str) -> dict[str, tuple[Int32Array, list[str]]]:
        """By cohort name: int32[n] codes (-1 unknown) and the name of each code."""
        self._node(node)
        return {
            name: (self._map(f"cohorts/{name}/codes.npy"), list(entry["names"]))
            for name, entry in sorted(self.manifest["cohorts"].items())
            if entry["node"] == node
        }

    def to_dgl(self, *, features: bool = False) -> dgl.DGLHeteroGraph:
        """A DGL heterograph with int64 ids, edge times and weights; see `graph.dgl`."""
        from star_platform.graph.dgl import to_dgl

        return to_dgl(self, features=features)

    def _edge(self, edge_type: EdgeType) -> dict[str, Any]:
        entry: dict[str, Any] | None = self.manifest["edges"].get(edge_type.relation)
        if entry is None or (entry["src"], entry["dst"]) != (edge_type.src, edge_type.dst):
            known = ", ".join("(" + ", ".join(known) + ")" for known in self.edge_types)
            raise GraphError("G031", f"the graph has no edge type {tuple(edge_type)}", hint=f"it has {known}")
        return entry

    def _node(self, node: str) -> dict[str, Any]:
        entry: dict[str, Any] | None = self.manifest["nodes"].get(node)
        if entry is None:
            raise GraphError(
                "G031", f"the graph has no node type {node!r}", hint=f"it has {', '.join(self.node_types)}"
            )
        return entry

    def _map(self, name: str) -> npt.NDArray[Any]:
        try:
            return np.asarray(np.load(self.path / name, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise GraphError("G030", f"{self.path / name} cannot be read: {error}", hint="release again") from error


def open_graph(path: Path | str) -> Graph:
    """Open the compiled graph in folder `path`: reads its manifest, maps arrays when they are asked for.

    Raises:
        ArtefactError: A002 when the manifest is missing or damaged.
        GraphError: G030 when the folder holds another kind of artefact.
    """
    artefact = read_artefact(Path(path))
    if artefact.kind != "graph":
        raise GraphError("G030", f"{path} holds a {artefact.kind!r} artefact, not a compiled graph")
    return Graph(artefact)
