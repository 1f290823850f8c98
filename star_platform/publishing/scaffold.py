"""The files of a Feast repository, as `init` writes them; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

_YAML = """\
# Feast reads this file; star-platform writes what it points to. Paths are relative to this folder.
project: {project}
provider: local
registry:
  path: ../.star/feast_registry.db
  # Releases are versions of a view: without this line, a client reads nulls.
  enable_online_feature_view_versioning: true
  # A running client sees a new release, an activation or a rollback after this many seconds at the latest.
  cache_ttl_seconds: 30
online_store:
  # Feast's SQLite store, byte for byte, which also answers retired releases through a map and counts reads. Others:
  # star_platform.publishing.redis.StarRedisOnlineStore, star_platform.publishing.postgres.StarPostgreSQLOnlineStore
  type: star_platform.publishing.sqlite.StarSqliteOnlineStore
  path: ../.star/feast_online.db
offline_store:
  type: duckdb
entity_key_serialization_version: 3
"""

_DEFINITIONS = '''\
"""Feast's objects, derived from the registry of the project: only `star-platform` changes them.

A plain `feast apply` finds nothing to do. Where Feast's registry and ours disagree, loading this file fails and says
how to put that right.
"""

from pathlib import Path

from star_platform.project import Project

for _number, _object in enumerate(Project.open(Path(__file__).resolve().parent).feast_objects()):
    globals()[f"object_{_number:04d}"] = _object
'''


def feature_repo_files(project: str) -> dict[str, str]:
    """Contents by file name."""
    return {"feature_store.yaml": _YAML.format(project=project), "definitions.py": _DEFINITIONS}


def write_feature_repo(folder: Path, project: str) -> tuple[Path, ...]:
    """Write the files that are not there yet; those written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in feature_repo_files(project).items():
        path = folder / name
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return tuple(written)
