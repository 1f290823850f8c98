"""A branch that classifies nodes goes through a whole release, and its label is no input of anything published."""

from __future__ import annotations

import json
from pathlib import Path

from star_platform.project import Project
from tests.release.conftest import FIRST

BRANCH = """\
apiVersion: star/v1
branch: regions
owner: profiles@example.com
status: ready
objectives:
  region: {kind: node-classification, node: member, feature: member.region, weight: 0.5}
"""


def _artefact(project: Project, number: int, kind: str) -> Path:
    found = next(item for item in project.registry.artefacts(number) if item.kind == kind)
    return project.store.path(kind, found.fingerprint)


def _inputs(project: Project, number: int) -> list[str]:
    model = json.loads((_artefact(project, number, "train") / "config.json").read_text(encoding="utf-8"))
    return [spec["name"] for spec in model["inputs"]["member"]]


def test_a_release_that_classifies_nodes(market: Project) -> None:
    (market.root / "signal_branches" / "regions.yaml").write_text(BRANCH, encoding="utf-8")
    project = Project.open(market.root)
    release = project.release(only=(*FIRST, "regions"))
    assert release is not None
    assert "region" in _inputs(project, 1)
    assert "region" not in _inputs(project, release.number)
    reused = {stage.stage for stage in project.registry.stages(release.number) if stage.reused}
    assert {"graph", "features/member.region"} <= reused, "a label is compiled as any feature"
    manifest = json.loads((_artefact(project, release.number, "train") / "manifest.json").read_text(encoding="utf-8"))
    examples = manifest["details"]["objectives"]["region"]
    assert examples["split_by"] in ("created_at", "hash")
    assert examples["train"] > examples["test"] > 10
    report = json.loads((_artefact(project, release.number, "evaluate") / "manifest.json").read_text(encoding="utf-8"))
    judged = report["details"]["classification"]["objectives"]["region"]
    assert {"release", "no-graph", "majority"} <= set(judged["methods"])
    assert judged["test"]["scored"] == examples["test"]
