"""Embedding spaces with a known relation: one set of hidden factors, seen through another matrix by each release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from star_platform.compat.model import CompatMap, SpaceVectors, Vectors
from star_platform.graph.storage import Graph, open_graph

from ..gnn.graphs import GraphWriter


def factors(n: int, rank: int = 8, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, rank))


def seen(hidden: NDArray[np.float64], dim: int, seed: int, noise: float = 0.0) -> NDArray[np.float32]:
    """Vectors of a release: `hidden` through a random matrix, with an offset, and noise of its own."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(hidden.shape[1], dim)) / np.sqrt(hidden.shape[1])
    vectors = hidden @ matrix + rng.normal(size=dim) + noise * rng.normal(size=(len(hidden), dim))
    return vectors.astype(np.float32)


def space(release: int, nodes: Mapping[str, tuple[Any, NDArray[np.float32]]], name: str | None = None) -> SpaceVectors:
    found = {node: Vectors(pa.array(ids), vectors) for node, (ids, vectors) in nodes.items()}
    return SpaceVectors(release, name or f"space-{release}", found)


def linear_map(
    source: int, target: int, weights: Any, bias: Any = None, node: str = "member", **more: Any
) -> CompatMap:
    weights = np.asarray(weights, dtype=np.float64)
    given: dict[str, Any] = {
        "node": node,
        "source": source,
        "target": target,
        "source_space": f"space-{source}",
        "target_space": f"space-{target}",
        "weights": weights,
        "bias": np.zeros(weights.shape[1]) if bias is None else np.asarray(bias, dtype=np.float64),
        "normalise": False,
        "method": "ridge",
    }
    return CompatMap(**{**given, **more})


def marketplace(folder: Path, members: Any, jobs: Any, seed: int = 0) -> Graph:
    """Members who apply to jobs, some far more than others and some never; members have a cohort and a birth."""
    rng = np.random.default_rng(seed)
    writer = GraphWriter(folder)
    writer.node("member", list(members), created_at=np.arange(len(members)))
    writer.node("job", list(jobs))
    activity = rng.pareto(1.5, len(members)) * (np.arange(len(members)) % 10 != 0)
    count = len(members) * 5
    source = rng.choice(len(members), count, p=activity / activity.sum())
    writer.edge("applies", "member", "job", (source, rng.integers(len(jobs), size=count)), np.arange(count))
    writer.finish()
    (folder / "cohorts" / "region").mkdir(parents=True)
    np.save(folder / "cohorts" / "region" / "codes.npy", (np.arange(len(members)) % 3 - 1).astype(np.int32))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["details"]["cohorts"]["region"] = {"node": "member", "names": ["north", "south"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_graph(folder)
