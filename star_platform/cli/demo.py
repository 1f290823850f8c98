"""`demo`: the whole way on a generated job marketplace."""

from __future__ import annotations

from typing import Annotated

import typer

from star_platform.cli.options import ProjectOption


def demo(
    members: Annotated[
        int, typer.Option(min=200, help="How many members; the rest of the market grows with them.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another market.")] = 0,
    project: ProjectOption = None,
) -> None:
    """Generate a job marketplace, release it twice, read it back, and tell what happened with figures.

    Example: star-platform demo --members 5000
    """
    from star_platform.cli.console import open_progress
    from star_platform.demo.story import run
    from star_platform.project import find_project

    run(find_project(project), members=members, seed=seed, progress=open_progress())
