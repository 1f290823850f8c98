"""What of a project decides the content of the next release, besides branches and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from star_platform.registry.states import ReleaseState

if TYPE_CHECKING:
    from star_platform.compat.config import CompatConfig
    from star_platform.planning.settings import ServedSpace, StageSettings
    from star_platform.project.project import Project

_NO_READERS = (ReleaseState.BUILDING, ReleaseState.FAILED)


def stage_settings(project: Project) -> StageSettings:
    """The sections of star.yaml that enter fingerprints, and the spaces that are still read."""
    from star_platform.planning.settings import StageSettings
    from star_platform.project.readers import gate_inputs

    file, served = project.file, served_spaces(project)
    base = project.active_number()
    joint = file.compat.mode.startswith("joint")
    own = sorted({*file.text.prompts, *file.text.limits})
    return StageSettings(
        text_fingerprint=project.encoder.fingerprint,
        text_features={name: project.encoder.for_feature(name).fingerprint for name in own},
        text={**project.encoder.describe(), **file.text.inner},
        training=file.training.model_dump(mode="json"),
        # gates decide on a report, not in it: they may change without a new one, and so may `keep`
        evaluation=file.evaluation.model_dump(mode="json", exclude={"gate"}),
        text_fitted=not project.encoder.cacheable,
        publishing={"feature_repo": file.publishing.feature_repo},
        compat=compat_settings(file.compat),
        served=served,
        aligned_to=next((space for space in served if joint and space.release == base), None),
        gate_inputs=gate_inputs(project.consumers(), project.root),
        scorers=gate_inputs([item for item in project.consumers() if item.scorer and item.cases], project.root),
    )


def compat_settings(config: CompatConfig) -> dict[str, Any]:
    """What of section `compat` decides on maps and on the figures of their report."""
    settings = config.model_dump(mode="json", exclude={"keep", "gate"})
    return {**settings, "gate": config.gate.model_dump(mode="json", include={"min_rows", "resamples"})}


def served_spaces(project: Project) -> tuple[ServedSpace, ...]:
    """The vectors of every published release that somebody may read, newest first, but those of the one under way."""
    from star_platform.planning.settings import ServedSpace

    if project.registry.status().state == "absent" or project.file.compat.mode == "none":
        return ()
    base, under_way = project.active_number(), project.interrupted()
    found = []
    for release in reversed(project.registry.releases()):
        if release.state in _NO_READERS or (under_way is not None and release.number == under_way.number):
            continue
        if project.file.compat.serve == "last" and release.number != base:
            continue
        made = {item.stage: item.fingerprint for item in project.registry.artefacts(release.number)}
        if "embed" in made and release.number in project.published():
            found.append(ServedSpace(release.number, made["embed"], made.get("compat")))
    return tuple(found)


def stage_seconds(project: Project) -> Mapping[str, float]:
    """Measured seconds per unit of work, by kind of stage, over the stages that earlier releases built.

    A training with the text encoder inside it tells nothing of one without, and the other way round.
    """
    from star_platform.planning.estimate import rates

    mode = project.file.text.inner.get("mode")
    measured: list[tuple[str, Any, Any]] = [
        (stage.stage.partition("/")[0], stage.seconds, release.record.get("units", {}).get(stage.stage, 0))
        for release in project.releases()
        for stage in project.registry.stages(release.number)
        if stage.state == "done" and not stage.reused and stage.seconds is not None
        if stage.stage != "train" or release.record["settings"].get("text", {}).get("mode") == mode
    ]
    return rates(measured)
