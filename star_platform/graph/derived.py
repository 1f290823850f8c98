"""Edges that are computed from a compiled graph rather than declared: PageRank neighbours and similar nodes.

    <derived>/manifest.json                    `details`: `moments`, `edges` as in a graph, `base` (see `identity`)
    <derived>/edges/<relation>/indptr.npy      and indices, timestamps, weights: the format of `graph.storage`

    relation                        edges to each node from                                weight
    ppr__<src>__<dst>               its best nodes by personalised PageRank                the score
    ppr_<channel>__<src>__<dst>     the same, by walks over one channel of edge types      the score
    similar_<node>                  well-connected nodes of its type with like content     the cosine

They are computed (`graph.derive`) at a few moments, each from what was strictly earlier, and dated one microsecond
before their moment: a reader at or after the moment sees them, one before it does not, so no edge at or after a
reader's moment can have had a part in what it sees. A node that did not exist at a moment has none. Within a
destination edges are sorted by (time, weight): the latest k are the k best of the newest moment; where that has fewer,
the best of the moment before it follow.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from star_platform.errors import GraphError
from star_platform.graph import _derived_kernels as kernels
from star_platform.graph.adjacency import Adjacency, Budget
from star_platform.graph.storage import EdgeType, Graph, open_graph
from star_platform.registry.artefacts import Artefact, read_artefact

KIND = "derive"
"""Kind of the artefact and of the stage."""
DERIVED = "derived"
"""`edge_kind` of such an edge type."""
PPR_PREFIX = "ppr_"
_PPR: WeakKeyDictionary[Graph, dict[Budget, Adjacency]] = WeakKeyDictionary()


class ExtendedGraph(Graph):
    """A compiled graph with derived edge types beside the declared ones; files of both stay where they are."""

    def __init__(self, base: Artefact, derived: Artefact) -> None:
        super().__init__(base)
        self.base_fingerprint = base.fingerprint
        self.fingerprint = _combined(base.fingerprint, derived.fingerprint)
        self.content_hash = _combined(self.content_hash, derived.content_hash)
        self.manifest = {**base.details, "edges": {**base.details["edges"], **derived.details["edges"]}}
        self._derived_path = derived.path
        self._derived = frozenset(derived.details["edges"])

    @property
    def declared_edge_types(self) -> tuple[EdgeType, ...]:
        """What branches declare, with reverses, sorted."""
        return declared_edge_types(self)

    def _map(self, name: str) -> NDArray[Any]:
        section, _, rest = name.partition("/")
        if section != "edges" or rest.partition("/")[0] not in self._derived:
            return super()._map(name)
        try:
            return np.asarray(np.load(self._derived_path / name, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise GraphError(
                "G030", f"{self._derived_path / name} cannot be read: {error}", hint="release again"
            ) from error


def with_derived(graph: Graph, folder: Path | str) -> Graph:
    """The graph with the derived edges in `folder`.

    Raises:
        ArtefactError: A002 when a manifest is missing or damaged.
        GraphError: G067 when the folder holds something else, or edges of another graph.
    """
    derived = read_artefact(Path(folder))
    if derived.kind != KIND:
        raise GraphError("G067", f"{folder} holds a {derived.kind!r} artefact, not derived edges")
    if derived.details["base"] != identity(graph):
        raise GraphError(
            "G067", f"the derived edges in {folder} are those of another graph", hint="release again: they are rebuilt"
        )
    return ExtendedGraph(read_artefact(graph.path), derived)


def open_extended(graph: Path | str, derived: Path | str | None) -> Graph:
    """Open a compiled graph, with its derived edges where there are some."""
    opened = open_graph(graph)
    return opened if derived is None else with_derived(opened, derived)


def identity(graph: Graph) -> str:
    """What of a graph its derived edges depend on: all files but those of cohorts, which only divide reports."""
    files = read_artefact(graph.path).files
    lines = (f"{name}\0{files[name]['sha256']}\n" for name in sorted(files) if not name.startswith("cohorts/"))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def declared_edge_types(graph: Graph) -> tuple[EdgeType, ...]:
    """The edge types of a graph that are not derived, sorted: what happened, and what things are."""
    return tuple(name for name in graph.edge_types if str(graph.edge_kind(name)) != DERIVED)


def ppr_edge_types(graph: Graph) -> tuple[EdgeType, ...]:
    """The edge types of a graph that hold PageRank scores, sorted."""
    return tuple(name for name in graph.edge_types if str(graph.edge_kind(name)) == DERIVED and _is_ppr(name.relation))


def _is_ppr(relation: str) -> bool:
    return relation.startswith(PPR_PREFIX)


def ppr_edges(graph: Graph, budget: Budget = "joint") -> Adjacency:
    """The adjacency of PageRank neighbours alone, for a sampler that takes the latest: the best of the newest snapshot.

    Built once per graph and budget. In a joint list the neighbours of one moment are in order of score whatever their
    node type; scores of several channels stand in one order too.

    Raises:
        GraphError: G068 when the graph has no such edges.
    """
    built = _PPR.setdefault(graph, {})
    if budget not in built:
        names = ppr_edge_types(graph)
        if not names:
            raise GraphError(
                "G068",
                "the graph holds no PageRank neighbours",
                hint="they are made by the stage `derive` of a release with `training: {strategy: ppr}`",
            )
        counts = {node: graph.num_nodes(node) for node in graph.node_types}
        adjacency = Adjacency.from_edges(counts, (graph.edges(name) for name in names), budget)
        assert adjacency.weights is not None  # noqa: S101 - scores are weights
        kernels.rank_ties(adjacency.indptr, adjacency.edges, adjacency.weights, adjacency.longest)
        built[budget] = adjacency
    return built[budget]


def _combined(one: str, other: str) -> str:
    return hashlib.sha256(f"{one}\0{other}".encode()).hexdigest()[: len(one)]
