"""Small compiled graphs written by hand, in the storage format of graph/storage.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.graph.storage import Graph, open_graph


@dataclass
class GraphWriter:
    """Collects nodes, edges and features, and writes them as one graph artefact."""

    path: Path
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: dict[str, dict[str, Any]] = field(default_factory=dict)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    as_of: int = 0

    def node(self, name: str, ids: list[Any], kind: str = "entity", created_at: np.ndarray | None = None) -> None:
        folder = self.path / "nodes" / name
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": pa.array(ids)}), folder / "ids.parquet")
        if created_at is not None:
            np.save(folder / "created_at.npy", np.asarray(created_at, dtype=np.int64))
        self.nodes[name] = {"kind": kind, "nodes": len(ids), "created_at": created_at is not None}

    def edge(
        self,
        name: str,
        src: str,
        dst: str,
        pairs: tuple[Any, Any],
        times: Any = None,
        weights: Any = None,
        labels: dict[str, Any] | None = None,
    ) -> None:
        """Both directions."""
        sources, destinations = (np.asarray(side, dtype=np.int64) for side in pairs)
        for relation, a, b, left, right in (
            (name, src, dst, sources, destinations),
            ("rev_" + name, dst, src, destinations, sources),
        ):
            order = np.lexsort((left, *(() if times is None else (np.asarray(times),)), right))
            folder = self.path / "edges" / relation
            folder.mkdir(parents=True)
            counts = np.bincount(right, minlength=self.nodes[b]["nodes"])
            np.save(folder / "indptr.npy", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
            np.save(folder / "indices.npy", left[order].astype(np.int32))
            if times is not None:
                np.save(folder / "timestamps.npy", np.asarray(times, dtype=np.int64)[order])
                self.as_of = max(self.as_of, int(np.max(times, initial=0)))
            if weights is not None:
                np.save(folder / "weights.npy", np.asarray(weights, dtype=np.float32)[order])
            for column, values in (labels or {}).items():
                np.save(folder / f"label.{column}.npy", np.asarray(values, dtype=np.int8)[order])
            self.edges[relation] = {
                "src": a,
                "dst": b,
                "edges": len(left),
                "kind": "attribute" if times is None else "interaction",
                "dated": times is not None,
                "weighted": weights is not None,
                "labels": sorted(labels or {}),
            }

    def feature(self, name: str, kind: str, values: Any = None, dim: int = 0, present: Any = None) -> None:
        self.features[name] = {"kind": kind, "dim": dim, "versioned": False}
        if kind == "id":
            return
        folder = self.path / "features" / name
        folder.mkdir(parents=True)
        values = np.asarray(values, dtype=np.int32 if kind == "categorical" else np.float32)
        present = np.ones(len(values), dtype=bool) if present is None else np.asarray(present, dtype=bool)
        np.save(folder / "values.npy", values)
        np.save(folder / "present.npy", present)
        self.features[name]["dim"] = dim or values.shape[1]

    def versions(self, name: str, kind: str, indptr: Any, valid_from: Any, values: Any, dim: int = 0) -> None:
        folder = self.path / "features" / name
        folder.mkdir(parents=True)
        values = np.asarray(values, dtype=np.int32 if kind == "categorical" else np.float32)
        np.save(folder / "values.npy", values)
        np.save(folder / "indptr.npy", np.asarray(indptr, dtype=np.int64))
        np.save(folder / "valid_from.npy", np.asarray(valid_from, dtype=np.int64))
        if kind == "text":
            np.save(folder / "present.npy", np.ones(len(values), dtype=bool))
        self.features[name] = {"kind": kind, "dim": dim or values.shape[1], "versioned": True}

    def finish(self, fingerprint: str = "test") -> Graph:
        details = {
            "as_of": self.as_of,
            "nodes": self.nodes,
            "edges": self.edges,
            "features": self.features,
            "cohorts": {},
        }
        files = {
            path.relative_to(self.path).as_posix(): {"bytes": path.stat().st_size, "sha256": fingerprint}
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        manifest = {"kind": "graph", "fingerprint": fingerprint, "files": files, "details": details}
        (self.path / "manifest.json").write_text(json.dumps(manifest))
        return open_graph(self.path)
