"""Training by itself, wired; and what the store tells about the size of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_platform.errors import UsageError
from star_platform.progress import SILENT, Progress
from star_platform.project.file import PROJECT_FILE
from star_platform.project.project import Project

if TYPE_CHECKING:
    from star_platform.gnn.step_size import GraphCounts, StepSize
    from star_platform.release.trial import Trial
    from star_platform.signals.model import Objective

DRAWN = ("uniform", "degree", "hard")
"""Kinds of negatives that are drawn besides the batch."""


def given_settings(project: Project) -> dict[str, Any]:
    """What star.yaml says below `training`, as it was written."""
    from ruamel.yaml import YAML

    data = YAML(typ="safe", pure=True).load((project.root / PROJECT_FILE).read_text(encoding="utf-8")) or {}
    return dict(data.get("training") or {})


def with_preset(project: Project, name: str) -> Project:
    """The project as if star.yaml named this preset; what star.yaml sets beside it stays.

    Raises:
        UsageError: U022 for a preset that is not known, or whose settings contradict those of star.yaml.
    """
    from pydantic import ValidationError

    from star_platform.gnn.presets import PRESETS

    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise UsageError(
            "U022", f"there is no preset {name!r}", hint=f"star-platform train --presets; there are {known}"
        )
    training, values = project.file.training, project.file.training.model_dump(mode="json")
    chosen: dict[str, Any] = {"preset": name}
    for key, raw in given_settings(project).items():
        if key in SECTION_KEYS:
            chosen[key] = {inner: values[key][inner] for inner in raw}
        elif key != "preset":
            chosen[key] = values[key]
    try:
        found = type(training).model_validate(chosen)
    except ValidationError as error:
        told = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise UsageError(
            "U022", f"preset {name!r} does not go with star.yaml: {told}", hint="change these keys of `training:`"
        ) from error
    return Project(project.root, project.file.model_copy(update={"training": found}))


SECTION_KEYS = ("adaptive", "ppr", "densify", "sequence", "ltgnn")
"""Keys of `training:` that are sections of their own."""


def train_only(project: Project, only: Sequence[str] | None = None, progress: Progress = SILENT) -> Trial:
    """The model that the next release would train, under the release lease; nothing is released or published.

    Raises:
        LeaseHeld: R006 somebody is releasing; nothing was written.
    """
    from star_platform.release import LEASE
    from star_platform.release.trial import try_training

    if project.registry.status().state == "absent":
        project.registry.upgrade()
    with project.registry.lease(LEASE) as lease:
        request = project.plan(only)
        with closing(project.engine(request.spec.deny_columns)) as engine:
            return try_training(project.workshop(engine, progress), request, lease)


# --- sizes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """What the active release's graph tells about a training with other settings."""

    release: str
    counts: GraphCounts
    steps: Mapping[str, StepSize]
    """By objective."""
    steps_per_epoch: int | None
    """None where the examples of the objectives are not known."""


def sizes(project: Project) -> Sizes | None:
    """None where no release is active, or its graph is no longer in the store."""
    number = project.active_number()
    if number is None:
        return None
    made = {item.stage: item for item in project.registry.artefacts(number)}
    graph = project.store.find("graph", made["graph"].fingerprint) if "graph" in made else None
    if graph is None:
        return None
    from star_platform.gnn.step_size import step_size

    counts, config = _counts(graph.details), project.file.training
    objectives = project.merged(project.branches()).objectives
    steps = {
        name: step_size(config, counts, seeds)
        for name, objective in sorted(objectives.items())
        if (seeds := _seeds(objective, counts, config.batch_size, config.negatives))
    }
    model = project.store.find("train", made["train"].fingerprint) if "train" in made else None
    told = {} if model is None else model.details.get("objectives", {})
    known = [math.ceil(told[name]["train"] / config.batch_size) for name in steps if "train" in told.get(name, {})]
    return Sizes(f"r{number}", counts, steps, sum(known) if known and len(known) == len(steps) else None)


def _counts(details: Mapping[str, Any]) -> GraphCounts:
    from star_platform.gnn.step_size import GraphCounts

    columns: dict[str, int] = {}
    for name, feature in details["features"].items():
        node = name.partition(".")[0]
        width = 0 if feature["kind"] == "categorical" else int(feature["dim"])
        columns[node] = columns.get(node, 0) + width
    return GraphCounts(
        nodes={node: int(entry["nodes"]) for node, entry in details["nodes"].items()},
        edges={(entry["src"], name, entry["dst"]): int(entry["edges"]) for name, entry in details["edges"].items()},
        columns=columns,
    )


def _seeds(objective: Objective, counts: GraphCounts, batch: int, negatives: int) -> dict[str, int]:
    """Seeds by node type of one step; empty for an objective of weight 0 or of an edge that the graph lacks."""
    from star_platform.signals.model import LinkPrediction

    if not objective.weight:
        return {}
    if not isinstance(objective, LinkPrediction):
        return {objective.node: batch} if objective.node in counts.nodes else {}
    ends = next(((src, dst) for src, name, dst in counts.edges if name == objective.edge), None)
    if ends is None:
        return {}
    drawn = negatives if objective.negatives.kind in DRAWN else 0
    seeds = {ends[0]: batch}
    seeds[ends[1]] = seeds.get(ends[1], 0) + batch + drawn
    return seeds
