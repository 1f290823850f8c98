"""The life of releases, wired: the maps of the active release with what the gate says of them, and its stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from star_platform.progress import SILENT, Progress
from star_platform.registry.states import ReleaseState

if TYPE_CHECKING:
    from star_platform.lifecycle.model import Judgement, ServingMap
    from star_platform.lifecycle.service import Lifecycle
    from star_platform.project.project import Project


def open_lifecycle(project: Project, progress: Progress = SILENT) -> Lifecycle:
    """Deprecation, retirement and purge of the project's releases."""
    from star_platform.lifecycle.model import Services
    from star_platform.lifecycle.service import Lifecycle
    from star_platform.publishing.usage import read_usage
    from star_platform.release import LEASE

    return Lifecycle(
        Services(
            registry=project.registry,
            feast=project.publisher,
            feast_state=project.feast_state,
            published=project.serving.ever_published,
            maps=lambda number: serving_maps(project, number),
            usage=lambda: read_usage(project.feature_repo),
            consumers=project.consumers,
            work_dir=project.store.root / ".work",
            config=project.file.lifecycle,
            discard=lambda number: discard(project, number),
            lease=LEASE,
            progress=progress,
        )
    )


def serving_maps(project: Project, target: int) -> tuple[ServingMap, ...]:
    """The maps from the active release to an older one, judged by the gate as star.yaml has it now."""
    from star_platform.compat.gate import judge_geometry
    from star_platform.lifecycle.model import ServingMap

    active, gate = project.registry.active(), project.file.compat.gate
    if active is None:
        return ()
    made = next((item for item in project.registry.artefacts(active.number) if item.kind == "compat"), None)
    artefact = None if made is None else project.store.find(made.kind, made.fingerprint)
    if artefact is None:
        return ()
    details: Mapping[str, Any] = artefact.details
    return tuple(
        ServingMap(
            node=item["node"],
            source=active.number,
            target=target,
            artefact=artefact.fingerprint,
            geometry=_judgement(judge_geometry(item["node"], item["figures"], gate)),
            consumers=_own_verdicts(project, details, target, item["node"]),
            fidelity={name: value for name, value in item["figures"].items() if isinstance(value, float)},
        )
        for item in details["maps"]
        if item["target"] == target
    )


def _own_verdicts(project: Project, details: Mapping[str, Any], target: int, node: str) -> dict[str, Judgement]:
    """By consumer of `target` that reads `node`: what its own model said, as its file is now.

    A scorer or a labelled set that the release has not asked proves nothing, whatever geometry says.
    """
    from star_platform.compat.verdicts import judge
    from star_platform.lifecycle.model import Judgement
    from star_platform.project.readers import at_the_gate

    entries = {item["consumer"]: item for item in details["gate"]["consumers"] if item["release"] == target}
    found = {}
    for consumer in at_the_gate(project.consumers(), project.root):
        if consumer.release != target or node not in consumer.nodes:
            continue
        entry = entries.get(consumer.name)
        if entry is not None and entry["asked"] == consumer.asked:
            current = {**entry, "margin": consumer.margin}
            found[consumer.name] = _judgement(judge(current, details["maps"], project.file.compat.gate))
        elif consumer.asked:
            reason = "its scorer and labelled set were not asked when the active release was made: release again"
            found[consumer.name] = Judgement("inconclusive", (reason,))
    return found


def _judgement(found: Any) -> Judgement:
    from star_platform.lifecycle.model import Judgement

    return Judgement(found.verdict, found.reasons)


def discard(project: Project, number: int) -> int:
    """Remove the vectors of a release from the artefact store, unless another release has the same; bytes given back.

    Its model, graph, report and maps stay.
    """
    embedded = {
        release.number: item.fingerprint
        for release in project.registry.releases()
        if release.number == number or release.state is not ReleaseState.PURGED
        for item in project.registry.artefacts(release.number)
        if item.kind == "embed"
    }
    fingerprint = embedded.pop(number, None)
    found = None if fingerprint is None else project.store.find("embed", fingerprint)
    if found is None or fingerprint in embedded.values():
        return 0
    project.store.remove("embed", found.fingerprint)
    return found.bytes
