"""What the tests know of the tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_SENTENCE = (
    "we hire a senior data engineer nurse teacher for our team in the city who likes graphs and tests of text "
    "passage query : . , é ñ 日 本 work remote lead sales"
)
WORDS = tuple(_SENTENCE.split())


def edit_config(folder: Path, target: Path, **changes: object) -> Path:
    """A copy of a model folder with changes in its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target
