"""A small job marketplace for planning tests: branch files, and snapshots of the data that they name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from star_platform.planning.base import BaseRelease
from star_platform.planning.canonical import digest
from star_platform.planning.impact import Consumer
from star_platform.planning.merge import merge
from star_platform.planning.plan import Plan, make_plan
from star_platform.planning.snapshot import SourceSnapshot, take_snapshots
from star_platform.planning.stages import StageSettings
from star_platform.signals.load import LoadedBranch, load_branch
from star_platform.signals.model import FeastSource, FileSource, Source, SqlSource, TableSource

CORE = """\
apiVersion: star/v1
branch: core
owner: core@example.com
status: ready
sources:
  members: {path: members.parquet}
  jobs: {path: jobs.parquet}
nodes:
  member: {kind: entity, source: members, key: member_id}
  job: {kind: entity, source: jobs, key: job_id, created_at: posted_at}
features:
  member.profile: {kind: text, source: members, key: member_id, columns: [headline, summary]}
  job.title: {kind: text, source: jobs, key: job_id, columns: [title]}
cohorts:
  seniority: {node: member, source: members, key: member_id, column: seniority}
privacy:
  deny_columns: [email]
"""

VIEWS = """\
apiVersion: star/v1
branch: views
owner: search@example.com
description: Who looked at which job.
status: ready
sources:
  views: {path: views.parquet}
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: viewed_at
    weight: {column: seconds, aggregate: sum}
    window: 180d
objectives:
  view:
    kind: link-prediction
    edge: member-views-job
"""

SKILLS = """\
apiVersion: star/v1
branch: skills
owner: skills@example.com
status: ready
sources:
  skills: {path: skills.parquet}
nodes:
  skill: {kind: attribute}
edges:
  member-has-skill:
    kind: attribute
    source: skills
    src: {node: member, key: member_id}
    dst: {node: skill, key: skill, unknown: create}
features:
  skill.id_embedding: {kind: id, dim: 16}
"""

LEVELS = """\
apiVersion: star/v1
branch: levels
owner: profiles@example.com
status: ready
sources:
  members: {path: members.parquet}
features:
  member.level: {kind: categorical, source: members, key: member_id, column: seniority}
objectives:
  level: {kind: node-classification, node: member, feature: member.level}
"""

TABLES: dict[str, tuple[int, dict[str, str]]] = {
    "members.parquet": (
        1000,
        {
            "member_id": "BIGINT",
            "headline": "VARCHAR",
            "summary": "VARCHAR",
            "seniority": "VARCHAR",
            "age": "INTEGER",
            "vector": "FLOAT[8]",
            "updated_at": "TIMESTAMP",
            "opted_out": "BOOLEAN",
        },
    ),
    "jobs.parquet": (200, {"job_id": "VARCHAR", "title": "VARCHAR", "posted_at": "TIMESTAMP", "place": "VARCHAR"}),
    "views.parquet": (
        20_000,
        {
            "member_id": "BIGINT",
            "job_id": "VARCHAR",
            "viewed_at": "TIMESTAMP WITH TIME ZONE",
            "seconds": "DOUBLE",
            "applied": "BOOLEAN",
            "day": "VARCHAR",
        },
    ),
    "skills.parquet": (5_000, {"member_id": "BIGINT", "skill": "VARCHAR"}),
}

SETTINGS = StageSettings(
    text_fingerprint="tfidf-svd-1",
    text={"encoder": "tfidf-svd", "dim": 128},
    training={"dim": 64, "max_epochs": 5, "seed": 0},
    evaluation={"gate": 0.5},
    publishing={"feature_repo": "feature_repo"},
)


def load(text: str) -> LoadedBranch:
    """A branch from YAML text, as if it stood in signal_branches/<branch>.yaml."""
    name = next(line.partition(":")[2].strip(' "') for line in text.splitlines() if line.startswith("branch:"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"signal_branches/{name}.yaml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        return load_branch(path, root=Path(folder))


def load_dict(document: Mapping[str, Any]) -> LoadedBranch:
    """A branch from plain data: JSON is YAML."""
    return load("".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items()))


def planned(
    *texts: str,
    tables: Tables | None = None,
    base: BaseRelease | None = None,
    store: Collection[tuple[str, str]] = (),
    settings: StageSettings = SETTINGS,
    consumers: Sequence[Consumer] = (),
) -> Plan:
    """The plan of some branches over `TABLES`, with the artefacts of `store` there already."""
    spec = merge([load(text) for text in texts], base)
    return make_plan(
        spec,
        take_snapshots(spec, tables or Tables()),
        settings,
        exists=lambda kind, fingerprint: (kind, fingerprint) in store,
        base=base,
        consumers=consumers,
    )


def released(plan: Plan, number: int = 1) -> tuple[BaseRelease, set[tuple[str, str]]]:
    """The base release that `plan` becomes, through the JSON that the registry keeps, and the artefacts it leaves."""
    record = json.loads(json.dumps(plan.record()))
    return BaseRelease.from_record(number, record), {(stage.kind, stage.fingerprint) for stage in plan.stages}


class Tables:
    """A Snapshotter over `TABLES`: tests change rows and columns, and count what is asked."""

    def __init__(self, tables: Mapping[str, tuple[int, Mapping[str, str]]] = TABLES, **edition: int) -> None:
        self.tables = {name: (rows, dict(columns)) for name, (rows, columns) in tables.items()}
        self.edition = edition
        self.asked: list[str] = []

    def snapshot(self, name: str, sources: Mapping[str, Source]) -> SourceSnapshot:
        self.asked.append(name)
        source = sources[name]
        if isinstance(source, SqlSource):
            first = min(other for other in sources if other != name)
            return self.snapshot(first, sources)
        file = _file(source)
        rows, columns = self.tables[file]
        edition = self.edition.get(file.partition(".")[0], 0)
        return SourceSnapshot(digest([file, rows, edition]), rows, 64 * rows, columns)


def _file(source: Source) -> str:
    if isinstance(source, FileSource):
        return source.path
    assert isinstance(source, TableSource | FeastSource)
    return source.table if isinstance(source, TableSource) else source.feast
