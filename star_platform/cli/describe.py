"""One release as JSON data: what `show --json` prints and what the text of `show` is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from star_platform.project import Project
    from star_platform.registry.values import Release


def describe(project: Project, release: Release) -> dict[str, Any]:
    """Counts, quality, stages and published views of a release, finished or not; ids of entities never appear."""
    artefacts = {item.stage: item for item in project.registry.artefacts(release.number)}
    return {
        "release": release.name,
        "state": release.state,
        "plan_id": release.plan_id,
        "base": f"r{release.base}" if release.base else None,
        "created_at": release.created_at.isoformat(),
        "created_by": release.created_by,
        "branches": [
            {"branch": item.branch, "owner": item.owner, "file": item.file, "content_hash": item.content_hash}
            for item in project.registry.branches(release.number)
        ],
        **_graph_counts(_details(project, artefacts, "graph")),
        "training": _details(project, artefacts, "train"),
        "embedding": _details(project, artefacts, "embed"),
        "evaluation": _details(project, artefacts, "evaluate"),
        "compat": _details(project, artefacts, "compat"),
        "stages": [
            {
                "stage": item.stage,
                "state": item.state,
                "reused": item.reused,
                "seconds": item.seconds,
                "fingerprint": item.fingerprint,
                "bytes": artefacts[item.stage].bytes if item.stage in artefacts else None,
            }
            for item in project.registry.stages(release.number)
        ],
        "published": _published(project, release),
        "events": [
            {"at": event.at.isoformat(), "actor": event.actor, "kind": event.kind, "reason": event.reason}
            for event in project.registry.events(release.number)
        ],
    }


def _details(project: Project, artefacts: dict[str, Any], stage: str) -> dict[str, Any] | None:
    item = artefacts.get(stage)
    found = project.store.find(item.kind, item.fingerprint) if item else None
    return found.details if found else None


def _graph_counts(graph: dict[str, Any] | None) -> dict[str, Any]:
    if graph is None:
        return {}
    return {
        "as_of": graph["as_of"],
        "nodes": {name: entry["nodes"] for name, entry in sorted(graph["nodes"].items())},
        "edges": {
            name: entry["edges"] for name, entry in sorted(graph["edges"].items()) if not name.startswith("rev_")
        },
    }


def _published(project: Project, release: Release) -> dict[str, Any]:
    from star_platform.publishing.model import reference

    known = project.published().get(release.number)
    if known is None:
        return {}
    return {
        node: {"reference": reference(node, release.number), "rows": facts.rows, "dim": facts.dim, "space": facts.space}
        for node, facts in sorted(known.nodes.items())
    }
