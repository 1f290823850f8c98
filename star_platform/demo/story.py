"""`star-platform demo`: five teams, two releases, one downstream model, told with figures.

Run again, it goes on from what is there: unchanged data and branches release nothing, a killed run is finished.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from star_platform.demo.generate import Size, ensure
from star_platform.progress import SILENT, Progress

if TYPE_CHECKING:
    from star_platform.evaluation.intervals import Interval
    from star_platform.project import Project
    from star_platform.registry.values import Release

FIRST = ("marketplace-core", "companies", "skills")
"""The branches of the first release; the second takes every ready branch."""
DATA = "data"
"""The variable of star.yaml that says where the generated tables go."""


@dataclass(frozen=True)
class Story:
    """Who tells what about which project."""

    project: Project
    console: Console
    progress: Progress

    @property
    def data(self) -> Path:
        return self.project.root / self.project.file.variables[DATA]

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False)


def run(
    root: Path, *, members: int = 2_000, seed: int = 0, progress: Progress = SILENT, console: Console | None = None
) -> None:
    """Generate, release from three branches, release from all, fetch, train a downstream model, tell.

    The data goes to the folder that the variable `data` of star.yaml names; the story to stdout.
    """
    from star_platform.project import Project

    begin = time.monotonic()
    story = Story(Project.open(root), console or Console(soft_wrap=True), progress)
    made = _marketplace(story, Size(members, seed))
    if made or _active(story) is None:
        _release(story, "Three teams release", FIRST)
    _release(story, "All teams release", None)
    _downstream(story)
    _ending(story, time.monotonic() - begin)
