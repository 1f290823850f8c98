"""`upgrade`: the registry's schema, before anybody works with it."""

from __future__ import annotations

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import say, say_json


def upgrade(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Create the registry, or bring its schema up to date; safe to run again.

    Example: star-platform upgrade --project /srv/marketplace
    """
    from star_platform.project import Project

    registry = Project.open(project).registry
    before = registry.status()
    registry.upgrade()
    after = registry.status()
    if as_json:
        say_json({"registry": str(registry.database), "before": before.found, "after": after.found})
    elif before.found == after.found:
        say(f"{registry.database} is up to date: schema {after.found}.")
    else:
        say(f"{registry.database}: schema {before.found or 'none'} -> {after.found}.")
