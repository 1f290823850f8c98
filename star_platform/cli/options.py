"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", "-p", metavar="DIR", help="Folder of star.yaml; found upward from here when absent."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout, with schema_version.")]
