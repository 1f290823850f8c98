"""Puts the artefacts of all signals together as one graph: hard links, and one manifest that lists everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from star_platform.graph.inputs import Compiler, GraphParts
from star_platform.graph.storage import REVERSE_PREFIX, EdgeType
from star_platform.registry.artefacts import Artefact, link
from star_platform.signals.model import IdFeature


def assemble_graph(compiler: Compiler, parts: GraphParts, fingerprint: str) -> Artefact:
    """Artefact `graph`: the folder that `open_graph` opens. Its files are hard links to those of `parts`.

    Features of kind id have no part; they come from the spec. `as_of` is the newest timestamp of edges, feature
    versions and node creation.
    """
    found = compiler.store.find("graph", fingerprint)
    if found is not None:
        return found
    with compiler.store.create("graph", fingerprint) as draft:
        details: dict[str, Any] = {"nodes": {}, "edges": {}, "features": {}, "cohorts": {}}
        for node, artefact in sorted(parts.nodes.items()):
            _link(artefact, draft.path / "nodes" / node)
            # what the spec says, not the artefact: changing the kind leaves the arrays as they are, so they are reused
            details["nodes"][node] = {**artefact.details, "kind": compiler.spec.nodes[node].kind}
        for edge, artefact in sorted(parts.edges.items()):
            _link(artefact, draft.path / "edges")
            details["edges"] |= _edge_entries(edge, artefact.details)
        for feature, artefact in sorted(parts.features.items()):
            _link(artefact, draft.path / "features" / feature)
            details["features"][feature] = dict(artefact.details)
        for feature, artefact in sorted(parts.texts.items()):
            details["features"][feature] = _text(artefact, parts.vectors[feature], draft.path / "features" / feature)
        for feature, definition in sorted(compiler.spec.features.items()):
            if isinstance(definition, IdFeature):
                details["features"][feature] = {"feature": feature, "kind": "id", "dim": definition.dim}
        for cohort, artefact in sorted(parts.cohorts.items()):
            _link(artefact, draft.path / "cohorts" / cohort)
            details["cohorts"][cohort] = dict(artefact.details)
        newest = [
            entry["newest"]
            for section in ("nodes", "edges", "features")
            for entry in details[section].values()
            if entry.get("newest") is not None
        ]
        draft.details |= details | {"as_of": max(newest, default=0)}
    return compiler.store.open("graph", fingerprint)


def _link(artefact: Artefact, folder: Path) -> None:
    for name in artefact.files:
        link(artefact.path / name, folder / name)


def _edge_entries(edge: str, details: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The relation and, where compiled, its reverse."""
    entry = {key: value for key, value in details.items() if key not in ("edge", "reverse")}
    entry["reverse_of"] = None
    entries = {edge: entry}
    if details["reverse"]:
        back = EdgeType(details["src"], edge, details["dst"]).reversed
        entries[REVERSE_PREFIX + edge] = {**entry, "src": back.src, "dst": back.dst, "reverse_of": edge}
    return entries


def _text(texts: Artefact, vectors: Artefact, folder: Path) -> dict[str, Any]:
    """Vectors with the row layout of the texts that they came from."""
    link(vectors.path / "values.npy", folder / "values.npy")
    if texts.details["versioned"]:
        for name in ("indptr.npy", "valid_from.npy"):
            link(texts.path / name, folder / name)
    # the encoder marks texts that are empty or that it knows no word of: such a version is "no value from then on"
    link(vectors.path / "present.npy", folder / "present.npy")
    if "tokens.npy" in vectors.files:
        link(vectors.path / "tokens.npy", folder / "tokens.npy")
    encoder = {key: value for key, value in vectors.details.items() if key not in texts.details}
    return {**texts.details, **encoder, "dim": int(vectors.details["dim"])}
