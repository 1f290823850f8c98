"""JSON Schema (draft-07, which editors speak) of star.yaml, made from its model.

`python -m star_platform.project.schema` writes the committed copy; a test keeps it current.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from star_platform.compat import config as compat
from star_platform.evaluation import config as evaluation
from star_platform.gnn import config as gnn
from star_platform.gnn.presets import PRESETS
from star_platform.lifecycle import config as lifecycle
from star_platform.project import file
from star_platform.project.file import ProjectFile
from star_platform.signals.schema import schema_of, written
from star_platform.text import config as text

STAR_SCHEMA_FILE = "schema/star.schema.json"


def star_schema() -> dict[str, Any]:
    """The schema of star.yaml as plain data, in the form of that of branches."""
    title, below = "Project of star_platform", "star.yaml: one project, its stores, and how it trains and releases."
    schema = schema_of(ProjectFile, title, below, file, text, gnn, evaluation, compat, lifecycle)
    schema["definitions"]["TrainingConfig"]["properties"]["preset"]["enum"] = list(PRESETS)
    return schema


def star_schema_text() -> str:
    """The schema as it is committed and as `init` writes it."""
    return written(star_schema())


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / STAR_SCHEMA_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(star_schema_text(), encoding="utf-8")
