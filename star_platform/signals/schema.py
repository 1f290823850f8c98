"""JSON Schema (draft-07, which editors speak) of branch files, made from the models.

`python -m star_platform.signals.schema schema/branch.schema.json` writes the committed copy; a test keeps it current.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from star_platform.signals import model
from star_platform.signals.model import Branch

SCHEMA_FILE = "schema/branch.schema.json"


def branch_schema() -> dict[str, Any]:
    """The schema as plain data: `definitions` instead of `$defs`, plain text descriptions, no tuples by position."""
    raw = Branch.model_json_schema(ref_template="#/definitions/{model}")
    definitions = raw.pop("$defs")
    for name, text in _field_texts().items():
        model, _, field = name.partition(".")
        owner = raw if model == Branch.__name__ else definitions.get(model, {})
        if field in owner.get("properties", {}):
            owner["properties"][field].setdefault("description", text)
    for key in ("title", "description"):
        raw.pop(key, None)
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Branch of star_platform",
        "description": "One file of signal_branches/: the signals that one owner declares.",
        **raw,
        "definitions": definitions,
    }
    tidied: dict[str, Any] = _tidy(schema)
    return tidied


def schema_text() -> str:
    """The schema as it is committed and as `init` writes it."""
    return json.dumps(branch_schema(), indent=2, ensure_ascii=False) + "\n"


def _field_texts() -> dict[str, str]:
    """What stands below each field of `model.py`, by `Class.field`, for fields that a class inherits too."""
    texts: dict[str, str] = {}
    classes = [item for item in ast.parse(inspect.getsource(model)).body if isinstance(item, ast.ClassDef)]
    for item in classes:
        for base in item.bases:
            inherited = f"{getattr(base, 'id', '')}."
            found = {name: text for name, text in texts.items() if name.startswith(inherited)}
            texts |= {f"{item.name}.{name.partition('.')[2]}": text for name, text in found.items()}
        for field, below in pairwise(item.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                texts[f"{item.name}.{field.target.id}"] = str(ast.literal_eval(below.value))
    return texts


def _tidy(value: Any) -> Any:
    """Draft-07 without what it does not know or need: `discriminator`, derived titles, nulls (a field is left out)."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _tidy(item) for key, item in value.items() if not _needless(key, item, value)}
    options = [item for item in kept.get("anyOf", ()) if item != {"type": "null"}]
    if len(options) == 1:
        del kept["anyOf"]
        kept = {**options[0], **kept}
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split()).replace("`", "'")
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    return kept


def _needless(key: str, item: Any, owner: dict[str, Any]) -> bool:
    if key == "title":
        return isinstance(item, str) and "$schema" not in owner
    if key == "discriminator":
        return isinstance(item, dict) and "propertyName" in item
    return key == "default" and (item is None or isinstance(item, dict))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else SCHEMA_FILE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(schema_text(), encoding="utf-8")
