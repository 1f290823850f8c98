"""A small project to compile in tests: sources in a folder, a spec put together by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.errors import Place
from star_platform.graph.compile import (
    Compiler,
    GraphParts,
    assemble_graph,
    build_cohort,
    build_edges,
    build_feature,
    build_nodes,
    build_texts,
)
from star_platform.graph.engine import Engine
from star_platform.graph.privacy import Pseudonymiser
from star_platform.graph.storage import Graph, open_graph
from star_platform.planning.canonical import digest
from star_platform.planning.spec import GraphSpec, Signal, SignalKind
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.signals.model import Cohort, Edge, Endpoint, FileSource, Node, Source

KEY = b"a key for tests, 32 bytes long.."


class World:
    def __init__(self, root: Path, sources: Mapping[str, Source] | None = None, **engine: Any) -> None:
        self.root = root
        self.sources: dict[str, Source] = dict(sources or {})
        self.signals: dict[tuple[SignalKind, str], Signal] = {}
        settings = {"variables": {"data": str(root)}, "connections": {}, "temp_dir": root / "tmp"} | engine
        self.engine = Engine(root=root, **settings)
        self.store = ArtefactStore(root / "store")
        self.compiled: dict[tuple[str, str], Artefact] = {}

    def write(self, name: str, columns: Mapping[str, Any] | pa.Table) -> FileSource:
        """A Parquet file, and a source of the same name."""
        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        pq.write_table(table, self.root / f"{name}.parquet")
        source = FileSource(path=f"${{data}}/{name}.parquet")
        self.sources[name] = source
        return source

    def add(self, kind: SignalKind, name: str, definition: Any) -> World:
        place = Place("test.yaml", 1, 1)
        self.signals[kind, name] = Signal(kind, name, definition, self.sources, "test", "owner", place)
        return self

    def node(self, name: str, source: str | None = None, key: str | None = None, **more: Any) -> World:
        return self.add("node", name, Node(kind=more.pop("kind", "entity"), source=source, key=key, **more))

    def edge(self, name: str, source: str, src: tuple[str, str], dst: tuple[str, str], **more: Any) -> World:
        """`src` and `dst` are (node type, column); `src_unknown`, `dst_unknown` their policies."""
        ends = {
            side: Endpoint(node=node, key=column, unknown=more.pop(f"{side}_unknown", "error"))
            for side, (node, column) in (("src", src), ("dst", dst))
        }
        return self.add("edge", name, Edge(kind=more.pop("kind", "interaction"), source=source, **ends, **more))

    @property
    def compiler(self) -> Compiler:
        spec = GraphSpec(dict(sorted(self.signals.items())))
        return Compiler(spec, self.engine, self.store, Pseudonymiser(KEY))

    def nodes(self, name: str) -> Artefact:
        return self._once("nodes", name, lambda fp: build_nodes(self.compiler, name, fp))

    def edges(self, name: str) -> Artefact:
        edge = self.compiler.spec.edges[name]
        src, dst = self.nodes(edge.src.node), self.nodes(edge.dst.node)
        return self._once("edges", name, lambda fp: build_edges(self.compiler, name, src, dst, fp))

    def feature(self, name: str) -> Artefact:
        nodes = self.nodes(name.split(".")[0])
        return self._once("features", name, lambda fp: build_feature(self.compiler, name, nodes, fp))

    def texts(self, name: str) -> Artefact:
        nodes = self.nodes(name.split(".")[0])
        return self._once("texts", name, lambda fp: build_texts(self.compiler, name, nodes, fp))

    def cohort(self, name: str) -> Artefact:
        definition: Cohort = self.compiler.spec.cohorts[name]
        nodes = self.nodes(definition.node)
        return self._once("cohorts", name, lambda fp: build_cohort(self.compiler, name, nodes, fp))

    def _once(self, kind: str, name: str, build: Any) -> Artefact:
        if (kind, name) not in self.compiled:
            self.compiled[kind, name] = build(digest([kind, name]))
        return self.compiled[kind, name]

    def graph(self, vectors: Mapping[str, Artefact] | None = None) -> Graph:
        spec = self.compiler.spec
        kinds = {name: definition.kind for name, definition in spec.features.items()}
        parts = GraphParts(
            nodes={name: self.nodes(name) for name in spec.nodes},
            edges={name: self.edges(name) for name in spec.edges},
            features={name: self.feature(name) for name, kind in kinds.items() if kind not in ("id", "text")},
            texts={name: self.texts(name) for name, kind in kinds.items() if kind == "text"},
            vectors=vectors or {},
            cohorts={name: self.cohort(name) for name in spec.cohorts},
        )
        return open_graph(self._once("graph", "all", lambda fp: assemble_graph(self.compiler, parts, fp)).path)


def micros(times: Sequence[int | None]) -> pa.Array:
    return pa.array(times, pa.timestamp("us"))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def as_rows(graph: Graph, relation: str) -> list[tuple[Any, ...]]:
    """(dst index, time, src index, weight, labels...) of every edge, in storage order."""
    edges = graph.edges_named(relation)
    columns: list[Any] = [edges.destinations().tolist()]
    columns.append(edges.timestamps.tolist() if edges.timestamps is not None else [None] * edges.num_edges)
    columns.append(edges.indices.tolist())
    columns.append(edges.weights.tolist() if edges.weights is not None else [None] * edges.num_edges)
    columns.extend(labels.tolist() for _, labels in sorted(edges.labels.items()))
    return list(zip(*columns, strict=True)) if edges.num_edges else []


def float32(value: float) -> float:
    return float(np.float32(value))
