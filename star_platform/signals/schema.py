"""JSON Schema (draft-07, which editors speak) of branch and consumer files, made from the models.

`python -m star_platform.signals.schema` writes the committed copies; a test keeps them current.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from star_platform.signals import consumer_model, model
from star_platform.signals.consumer_model import Consumer
from star_platform.signals.model import Branch

SCHEMA_FILE = "schema/branch.schema.json"
CONSUMER_SCHEMA_FILE = "schema/consumer.schema.json"


def branch_schema() -> dict[str, Any]:
    """The schema of branch files as plain data: `definitions` instead of `$defs`, plain text, no tuples by position."""
    title, text = "Branch of star_platform", "One file of signal_branches/: the signals that one owner declares."
    return schema_of(Branch, title, text, model)


def consumer_schema() -> dict[str, Any]:
    """The schema of consumer files, in the same form."""
    title, text = "Consumer of star_platform", "One file of consumers/: who reads which embeddings of which release."
    return schema_of(Consumer, title, text, consumer_model)


def schema_text() -> str:
    """The schema of branches as it is committed and as `init` writes it."""
    return written(branch_schema())


def consumer_schema_text() -> str:
    """The schema of consumers as it is committed and as `init` writes it."""
    return written(consumer_schema())


def written(schema: dict[str, Any]) -> str:
    """A schema as it is committed."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def schema_of(top: type[BaseModel], title: str, text: str, *modules: ModuleType) -> dict[str, Any]:
    """The schema of `top`; what stands below the fields of its parts is read from the source of their `modules`."""
    raw = top.model_json_schema(ref_template="#/definitions/{model}")
    definitions = raw.pop("$defs")
    for name, below in (item for module in modules for item in _field_texts(module).items()):
        owner_name, _, field = name.partition(".")
        owner = raw if owner_name == top.__name__ else definitions.get(owner_name, {})
        if field in owner.get("properties", {}):
            owner["properties"][field].setdefault("description", below)
    for key in ("title", "description"):
        raw.pop(key, None)
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        "description": text,
        **raw,
        "definitions": definitions,
    }
    tidied: dict[str, Any] = _tidy(schema)
    return tidied


def _field_texts(module: ModuleType) -> dict[str, str]:
    """What stands below each field of a module's models, by `Class.field`, for fields that a class inherits too."""
    texts: dict[str, str] = {}
    classes = [item for item in ast.parse(inspect.getsource(module)).body if isinstance(item, ast.ClassDef)]
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
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, content in ((SCHEMA_FILE, schema_text()), (CONSUMER_SCHEMA_FILE, consumer_schema_text())):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
