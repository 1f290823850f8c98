"""What a stage will cost: honest orders of magnitude until the registry has measured figures of its own.

Cost is `seconds per unit * units`. `SECONDS_PER_UNIT` was set for two cores of a small machine; once a stage of a kind
has run, its measured rate (`rates`) takes the place of the constant. Sizes follow the compiled format (DESIGN 4.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from star_platform.planning.fingerprint import creators
from star_platform.planning.snapshot import Snapshots, SourceSnapshot
from star_platform.planning.sources import source_id
from star_platform.planning.spec import GraphSpec, SignalKey
from star_platform.signals.model import LinkPrediction


@dataclass(frozen=True)
class Estimate:
    """Cost of one stage: seconds on this machine, peak memory and store size in bytes, and the work it counts."""

    seconds: float
    memory_bytes: int
    store_bytes: int
    units: int = 0
    unit: str = "rows"


NOTHING = Estimate(0.0, 0, 0)

SECONDS_PER_UNIT: Mapping[str, float] = {
    "nodes": 1 / 1_500_000,  # rows
    "edges": 1 / 1_000_000,  # rows
    "features": 1 / 1_000_000,  # rows
    "texts": 1 / 200_000,  # rows
    "text": 1 / 150,  # texts through a small transformer; see WEIGHTLESS_TEXT
    "cohorts": 1 / 1_000_000,  # rows
    "graph": 1 / 20_000_000,  # edges and nodes, linked and checked
    "derive": 1 / 10_000,  # nodes, times moments and channels
    "train": 1 / 6_000,  # examples, times epochs
    "embed": 1 / 8_000,  # nodes
    "evaluate": 1 / 4_000,  # examples
    "compat": 1 / 100_000,  # vectors, times older releases
    "publish": 1 / 15_000,  # vectors
}
WEIGHTLESS_TEXT = 1 / 15_000
"""Seconds per text of the encoder `tfidf-svd`."""
WITH_TEXT_INSIDE: Mapping[str, float] = {"frozen": 1 / 50, "co-train": 1 / 8}
"""Seconds per example of training where a small transformer reads the texts of each step, by mode."""
START_SECONDS: Mapping[str, float] = {
    "train": 5.0,
    "embed": 2.0,
    "evaluate": 3.0,
    "compat": 1.0,
    "publish": 2.0,
    "activate": 0.5,
}
"""Paid once whatever the size: libraries that load, connections that open."""
STAGE_FLOOR = 0.1

ENGINE_MEMORY = 256 << 20
"""What the table engine takes whatever the size; it spills the rest to disk."""
TRAINING_MEMORY = 1 << 30
"""Torch, a batch and its gradients at usual settings."""
TEXT_MEMORY = 1 << 30
CREATED_PER_EDGE = 0.1
"""Nodes that only edges bring: one in ten of their rows is a new one."""
EXAMPLE_SHARE = 0.75
"""Of the edges of an objective, those before validation and test."""


@dataclass(frozen=True)
class Sizes:
    """Rows, nodes and edges of a spec as its snapshots tell: upper bounds, since duplicates are not known."""

    spec: GraphSpec
    snapshots: Snapshots
    training: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    served: int = 0
    """Earlier releases whose vectors are still read."""

    @property
    def dim(self) -> int:
        return int(self.training.get("dim", 128))

    @property
    def text_dim(self) -> int:
        return int(self.text.get("dim") or 384)

    def snapshot(self, key: SignalKey) -> SourceSnapshot | None:
        signal = self.spec.signals[key]
        if signal.source_name is None:
            return None
        return self.snapshots[source_id(signal.source_name, signal.sources)]

    def rows(self, key: SignalKey) -> int:
        snapshot = self.snapshot(key)
        return 0 if snapshot is None else snapshot.rows

    def nodes(self, node: str) -> int:
        """At most so many nodes of a type."""
        created = sum(self.rows(("edge", name)) for name in creators(self.spec, node))
        return self.rows(("node", node)) + int(created * CREATED_PER_EDGE)

    @property
    def all_nodes(self) -> int:
        return sum(self.nodes(node) for node in self.spec.nodes)

    @property
    def entities(self) -> int:
        return sum(self.nodes(name) for name, node in self.spec.nodes.items() if node.kind == "entity")

    @property
    def all_edges(self) -> int:
        """Both directions."""
        return sum(self.rows(("edge", name)) * (2 if edge.reverse else 1) for name, edge in self.spec.edges.items())

    @property
    def examples(self) -> int:
        """Positives of one epoch over all link predictions, and nodes of all classifications."""
        rows = sum(
            self.rows(("edge", each.edge)) if isinstance(each, LinkPrediction) else self.nodes(each.node)
            for each in self.spec.objectives.values()
        )
        return int(rows * EXAMPLE_SHARE)


def estimate(kind: str, subject: str | None, sizes: Sizes, history: Mapping[str, float]) -> Estimate:
    """The cost of building one stage; `history` holds measured seconds per unit by kind of stage."""
    units, unit, memory, store = _work(kind, subject, sizes)
    rate = history.get(kind, _default_rate(kind, sizes))
    seconds = START_SECONDS.get(kind, STAGE_FLOOR) + rate * units
    return Estimate(round(seconds, 3), memory, store, units, unit)


def _default_rate(kind: str, sizes: Sizes) -> float:
    if kind == "text" and sizes.text.get("encoder") == "tfidf-svd":
        return WEIGHTLESS_TEXT
    if kind == "train" and "mode" in sizes.text:
        return WITH_TEXT_INSIDE[sizes.text["mode"]]
    return SECONDS_PER_UNIT.get(kind, 0.0)


def _work(kind: str, subject: str | None, sizes: Sizes) -> tuple[int, str, int, int]:
    """Units, their name, peak memory and store size in bytes."""
    name = subject or ""
    if kind == "nodes":
        nodes = sizes.nodes(name)
        rows = sizes.rows(("node", name)) + sum(sizes.rows(("edge", edge)) for edge in creators(sizes.spec, name))
        return rows, "rows", ENGINE_MEMORY + 24 * nodes, 24 * nodes
    if kind == "edges":
        return _edges(name, sizes)
    if kind in ("features", "texts", "text"):
        return _feature(kind, name, sizes)
    if kind == "cohorts":
        rows = sizes.rows(("cohort", name))
        return rows, "rows", ENGINE_MEMORY, 4 * sizes.nodes(sizes.spec.cohorts[name].node)
    if kind == "graph":  # hard links: it takes no room of its own
        return sizes.all_nodes + sizes.all_edges, "edges and nodes", ENGINE_MEMORY, 0
    if kind == "derive":
        return _derived(sizes)
    vectors = 4 * sizes.dim
    if kind == "train":
        epochs = int(sizes.training.get("max_epochs", 1))
        tables = sum(
            4 * feature.dim * sizes.nodes(full.partition(".")[0])
            for full, feature in sizes.spec.features.items()
            if getattr(feature, "kind", None) == "id" and hasattr(feature, "dim")
        )
        adjacency = 14 * sizes.all_edges + 8 * sizes.all_nodes + _derived(sizes)[3]
        return sizes.examples * epochs, "examples", TRAINING_MEMORY + 3 * tables + adjacency, tables + (8 << 20)
    if kind == "embed":
        return sizes.all_nodes, "nodes", TRAINING_MEMORY + 14 * sizes.all_edges, vectors * sizes.entities
    if kind == "evaluate":
        return sizes.examples, "examples", TRAINING_MEMORY, 1 << 20
    if kind == "compat":
        return sizes.entities * sizes.served, "vectors", 256 << 20, 8 * sizes.dim * sizes.dim * sizes.served
    if kind == "publish":
        return sizes.entities, "vectors", 512 << 20, 3 * vectors * sizes.entities  # offline, online and its index
    return 0, "rows", 0, 0


def _edges(name: str, sizes: Sizes) -> tuple[int, str, int, int]:
    """Each direction holds an index (4 bytes), a time (8) and a weight (4) per edge, and a pointer per node."""
    edge, rows = sizes.spec.edges[name], sizes.rows(("edge", name))
    each = 4 + (8 if edge.timestamp else 0) + (4 if edge.weight else 0)
    directions = 2 if edge.reverse else 1
    store = directions * each * rows + 8 * (sizes.nodes(edge.src.node) + sizes.nodes(edge.dst.node))
    return rows, "rows", ENGINE_MEMORY + 32 * rows, store


def _derived(sizes: Sizes) -> tuple[int, str, int, int]:
    """Per node, moment and channel so many neighbours of 16 bytes; walks hold the edges of both directions twice."""
    ppr, densify = sizes.training.get("ppr", {}), sizes.training.get("densify", {})
    moments = int(ppr.get("snapshots", 4)) + 1
    seeds = edges = 0
    if sizes.training.get("strategy") == "ppr":
        seeds = sizes.all_nodes * moments * max(1, len(ppr.get("channels", ())))
        edges = seeds * int(ppr.get("top_k", 50))
    compared = sizes.entities * moments if densify.get("neighbours") else 0
    edges += sizes.entities * int(densify.get("neighbours") or 0)
    store = 16 * edges
    memory = 64 * sizes.all_edges + 64 * sizes.all_nodes + store
    return seeds + compared, "nodes", memory, store


def _feature(kind: str, name: str, sizes: Sizes) -> tuple[int, str, int, int]:
    rows = sizes.rows(("feature", name))
    feature: Any = sizes.spec.features[name]
    if kind == "text":
        store = 4 * sizes.text_dim * rows
        return rows, "texts", TEXT_MEMORY, store
    if kind == "texts":
        snapshot = sizes.snapshot(("feature", name))
        return rows, "rows", ENGINE_MEMORY, 0 if snapshot is None else snapshot.bytes
    if feature.kind == "id":
        return 0, "rows", 0, 0
    width = {"categorical": 4, "vector": 4 * (getattr(feature, "dim", None) or 128)}.get(feature.kind)
    store = rows * (width or 4 * len(getattr(feature, "columns", ())))
    return rows, "rows", ENGINE_MEMORY + store, store


def rates(measured: Iterable[tuple[str, float, int]]) -> dict[str, float]:
    """Seconds per unit by kind of stage from `(kind, seconds, units)` of stages that were built.

    What a kind pays once whatever its size is taken off, so that small runs do not make large ones look slow.
    """
    seconds: dict[str, float] = {}
    units: dict[str, int] = {}
    for kind, spent, count in measured:
        if count > 0:
            seconds[kind] = seconds.get(kind, 0.0) + max(0.0, spent - START_SECONDS.get(kind, STAGE_FLOOR))
            units[kind] = units.get(kind, 0) + count
    return {kind: seconds[kind] / units[kind] for kind in sorted(units)}


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Stages run one after the other: seconds and store add up, memory is that of the largest."""
    found = list(estimates)
    return Estimate(
        seconds=round(sum(item.seconds for item in found), 3),
        memory_bytes=max((item.memory_bytes for item in found), default=0),
        store_bytes=sum(item.store_bytes for item in found),
    )
