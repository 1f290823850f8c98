"""`search` and `index`: which entities are nearest to one, or to what another type of entity is matched with."""

from __future__ import annotations

from typing import Annotated

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import columns, note, say, say_json

Name = Annotated[str, typer.Option("--release", help="`latest`, or a release such as `r2`.")]


def search(
    node: Annotated[str, typer.Argument(help="Entity node type that is searched, such as `job`.")],
    key: Annotated[str, typer.Argument(metavar="ID", help="The entity whose neighbours are wanted.")],
    of: Annotated[
        str | None, typer.Option("--of", metavar="NODE", help="Its node type; NODE itself if absent.")
    ] = None,
    name: Name = "latest",
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many.")] = 10,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Find the nearest entities among published vectors: `search job 17 --of member` finds jobs for member 17.

    Example: star-platform search job 17 --of member --release r2
    """
    from star_platform.project import Project
    from star_platform.project.reading import search as nearest

    found = nearest(Project.open(project), node, key, of=of or node, release=name, k=k)
    distances = [round(float(value), 6) for value in found.distances]
    if as_json:
        rows = [{"id": item, "distance": distance} for item, distance in zip(found.ids, distances, strict=True)]
        say_json({"node": node, "of": of or node, "id": key, "neighbours": rows})
    else:
        rows_text = [(str(item), f"{distance:.4f}") for item, distance in zip(found.ids, distances, strict=True)]
        say(columns([(node, "distance"), *rows_text]))


def index(
    name: Annotated[str, typer.Argument(help="A release such as `r2`, or `latest`.")] = "latest",
    node: Annotated[str | None, typer.Option(help="Only this entity node type.")] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Export a search index of a release, for online stores that cannot search themselves (extra `ann`).

    Example: star-platform index r2 --node job
    """
    from star_platform.cli.console import open_progress
    from star_platform.project import Project
    from star_platform.project.reading import export_index

    folders = export_index(Project.open(project), name, node, open_progress())
    if as_json:
        say_json({"indexes": {key: str(path) for key, path in folders.items()}})
        return
    for key, path in folders.items():
        say(f"{key}: {path}")
    note(f"Next: star-platform search {next(iter(folders), 'job')} <id> --release {name}")
