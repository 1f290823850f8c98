"""A marketplace in memory, of any size, with the interface of a compiled graph."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa

from benchmarks.sampling import generate
from star_platform.graph.storage import EdgeArrays, EdgeType, FeatureArray, Graph

TEXT_DIM = 384
ENTITIES = ("job", "member", "recruiter")


class MemoryGraph:
    """What training and inference ask of a graph: arrays by type. Every node has a text vector of 384 numbers."""

    path = fingerprint = content_hash = "in memory"

    def __init__(self, nodes: int, edges: int, seed: int = 7) -> None:
        self.counts, made = generate(nodes, edges, seed)
        self._edges = {each.type: each for each in made}
        rng = np.random.default_rng(seed)
        self._texts = {node: rng.standard_normal((n, TEXT_DIM), dtype=np.float32) for node, n in self.counts.items()}
        self.manifest: dict[str, Any] = {}

    @property
    def graph(self) -> Graph:
        return cast(Graph, self)

    @cached_property
    def as_of(self) -> int:
        return max(int(each.timestamps.max()) for each in self._edges.values() if each.timestamps is not None)

    @property
    def node_types(self) -> tuple[str, ...]:
        return tuple(sorted(self.counts))

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        return tuple(sorted(self._edges))

    declared_edge_types = edge_types

    def node_kind(self, node: str) -> str:
        return "entity" if node in ENTITIES else "attribute"

    def edge_kind(self, edge: EdgeType) -> str:
        return "attribute" if self._edges[edge].timestamps is None else "interaction"

    def num_nodes(self, node: str) -> int:
        return self.counts[node]

    def ids(self, node: str) -> pa.Array[Any]:
        return pa.array(np.arange(self.counts[node]))

    def created_at(self, node: str) -> None:  # noqa: ARG002 - of none
        return None

    def edges(self, edge: EdgeType) -> EdgeArrays:
        return self._edges[edge]

    def edges_named(self, name: str) -> EdgeArrays:
        return next(each for each in self._edges.values() if each.type.relation == name)

    def features(self, node: str) -> tuple[FeatureArray, ...]:
        return (FeatureArray(node, "text", "text", TEXT_DIM, self._texts[node]),)

    def cohorts(self, node: str) -> dict[str, Any]:  # noqa: ARG002 - of none
        return {}
