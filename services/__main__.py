"""python -m services up | status | down | migrate."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from services.processes import ServiceError


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 done, 1 something failed or does not answer."""
    parser = argparse.ArgumentParser("python -m services", description="Postgres, Redis and Feast's feature server.")
    parser.add_argument("verb", choices=("up", "status", "down", "migrate"), help="migrate: $STAR_REGISTRY_URL only")
    parser.add_argument("--folder", type=Path, default=Path(".star"), help="where data, logs and passwords go (.star)")
    parser.add_argument("--project", help="Feast's name of the project (default: that of ./star.yaml)")
    options = parser.parse_args(arguments)
    try:
        return _run(options.verb, options.folder.resolve(), options.project)
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(verb: str, folder: Path, project: str | None) -> int:
    if verb == "migrate":
        return _migrate()
    from services.installation import Folders, down, status, up

    folders = Folders(folder)
    if verb == "up":
        up(folders, project or _project_here())
        return 0
    if verb == "down":
        print("stopped" if down(folders) else "nothing runs")
        return 0
    parts = status(folders)
    for name, answers in parts.items():
        print(f"{name:<16}{'answers' if answers else 'does not answer'}")
    return 0 if all(parts.values()) else 1


def _migrate() -> int:
    from services.migrate import migrate
    from star_platform.errors import StarError

    url = os.environ.get("STAR_REGISTRY_URL")
    if not url:
        raise ServiceError("set STAR_REGISTRY_URL, such as postgresql+psycopg2://star:...@localhost/star")
    try:
        print(migrate(url))
    except StarError as error:
        raise ServiceError(str(error)) from None
    return 0


def _project_here() -> str:
    from ruamel.yaml import YAML

    file = Path("star.yaml")
    found = YAML(typ="safe", pure=True).load(file) if file.is_file() else {}
    return str(found.get("project", "marketplace"))


if __name__ == "__main__":
    sys.exit(main())
