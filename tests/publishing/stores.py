"""The kinds of online store that tests run on, as the lines of feature_store.yaml."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

OURS = {
    "star-sqlite": "star_platform.publishing.sqlite.StarSqliteOnlineStore",
    "star-redis": "star_platform.publishing.redis.StarRedisOnlineStore",
    "star-postgres": "star_platform.publishing.postgres.StarPostgreSQLOnlineStore",
}
KINDS = ("sqlite", "star-sqlite", "redis", "star-redis", "postgres")


def use_store(repo: Path, kind: str, url: str = "", project: str | None = None, **more: object) -> None:
    """Make feature_store.yaml of `repo` name a store of one of `KINDS`. url: SQLAlchemy's, of a server."""
    path = repo / "feature_store.yaml"
    head, rest = path.read_text().split("online_store:\n", 1)
    tail = rest[rest.index("offline_store:") :]
    lines = {"type": OURS.get(kind, kind), **_settings(kind, url), **more}
    settings = "".join(f"  {name}: {value}\n" for name, value in lines.items())
    text = f"{head}online_store:\n{settings}{tail}"
    if project is not None:
        text = "\n".join(f"project: {project}" if line.startswith("project:") else line for line in text.splitlines())
    path.write_text(text)


def _settings(kind: str, url: str) -> dict[str, object]:
    if kind.endswith("sqlite"):
        return {"path": "../.star/feast_online.db"}
    parts = make_url(url)
    if kind.endswith("redis"):
        where = f"{parts.host}:{parts.port},db={parts.database or 0}"
        return {"connection_string": where, "skip_dedup": "true"}
    return {
        "host": parts.host or parts.query["host"],
        "port": parts.port or 5432,
        "database": parts.database,
        "db_schema": "public",
        "user": parts.username,
        "password": parts.password or "unused",
        "sslmode": "disable",
    }
