"""Writes the pages of docs/ that repeat what the code says: `cli.md`, `star-yaml.md` and `errors.md`.

python docs/generate.py    # a test fails while one of them is stale
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from star_platform.cli.app import EXIT_CODES, app
from star_platform.cli.explain import all_pages
from star_platform.project import ProjectFile

DOCS = Path(__file__).resolve().parent
GENERATED = "<!-- Written by docs/generate.py. Change the code, then run `make docs`. -->\n"

# --- cli.md -----------------------------------------------------------------------------------------------------------

CLI_HEAD = """\
# The command line

Data and findings go to stdout, everything else (progress, hints, errors) to stderr. `--json` prints one JSON object
with `schema_version`, errors included, and is there on every verb that reads. On a terminal, long work shows a bar with
rate and time left; elsewhere a plain line every 10 %. `NO_COLOR` turns colours off.

Every verb works on the project whose `star.yaml` is nearest, upward from the current folder; `--project DIR` names
another. `init` makes one. Events carry `$STAR_ACTOR`, or the user's name.

| exit code | meaning |
|---|---|
"""
CLI_ROOT = """
An error has a stable code, such as `S014`: `star-platform explain S014` tells more, [errors.md](errors.md) lists all.

Shell completion for bash, zsh and fish:

```
star-platform --install-completion
```

`star-platform --debug VERB ...` prints the traceback of an unexpected failure, which otherwise goes to a file.
"""


def cli_page() -> str:
    """Every verb with its help, its example, its arguments and options."""
    codes = [part.strip().partition(" ") for part in EXIT_CODES.partition(":")[2].split("·")]
    parts = [CLI_HEAD + "".join(f"| {code} | {meaning} |\n" for code, _, meaning in codes) + CLI_ROOT]
    group: Any = typer.main.get_command(app)
    parts += [_verb(name, command) for name, command in _verbs(group)]
    return "\n".join(parts)


def _verbs(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb with its full name; those of a group in its place."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _verb(name: str, command: Any) -> str:
    text, _, example = (command.help or "").partition("Example:")
    lines = [f"## {name}", "", _paragraph(text), "", "```", example.strip(), "```", ""]
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    if shown:
        hints = get_type_hints(command.callback)
        lines += ["| | |", "|---|---|"]
        lines += [f"| {_usage(param, hints.get(param.name))} | {_meaning(param)} |" for param in shown]
        lines.append("")
    return "\n".join(lines)


def _usage(param: Any, hint: Any) -> str:
    if param.param_type_name == "argument":
        name = param.metavar or param.name.upper()
        name += "..." if param.nargs == -1 else ""
        return f"`{name}`" if param.required else f"`[{name}]`"
    value = "" if param.is_flag else f" {param.metavar or _placeholder(hint)}"
    return ", ".join(f"`{option}{value}`" for option in sorted(param.opts, key=len, reverse=True))


def _placeholder(hint: Any) -> str:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _is_union(hint) else [hint]
    kind = get_args(kinds[0])[0] if get_origin(kinds[0]) is list else kinds[0]
    return {int: "N", Path: "FILE"}.get(kind, "TEXT")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (types.UnionType, Union)


def _meaning(param: Any) -> str:
    text = _cell(param.help or "")
    default = param.default
    given = default is not None and default != "" and default is not False and str(default) != "."
    return f"{text} Default: `{default}`." if given and not param.required else text


# --- star-yaml.md -----------------------------------------------------------------------------------------------------

STAR_HEAD = """\
# star.yaml

One file per project, at its root; all paths in it are relative to its folder. `${env:NAME}` in a value is the
environment variable `NAME`, `${env:NAME:-default}` has a default. Unknown keys are errors with a place and a "did you
mean". Only `project` is needed:

<!-- whole: star.yaml -->
```yaml
apiVersion: star/v1
project: marketplace
variables:
  data: ${env:STAR_PROJECT_DATA:-data}
connections:
  warehouse: ${env:WAREHOUSE_URL:-sqlite:///warehouse.db}
text:
  encoder: tfidf-svd
training:
  dim: 64
  fan_outs: [12, 6]
evaluation:
  gate: {min_auc: 0.6}
```

`text`, `training`, `evaluation`, `compat` and `publishing` are recorded with each release, and `plan` shows what
changed in them; [releases.md](releases.md) says what that rebuilds.
"""
MEANINGS = {
    "apiVersion": "Version of this file's format.",
    "project": "Name of the project and of its Feast project; lower case letters, digits and `_`.",
    "branches": "Folder of the branch files.",
    "consumers": "Folder of the consumer files; may be absent.",
    "variables": "Values for `${name}` in the `path`, `sql` and `feature_repo` of sources.",
    "connections": "SQLAlchemy URLs by name, for sources with `table` and `connection`.",
    "registry": "SQLAlchemy URL of the registry: SQLite, or `postgresql+psycopg2://...` for teams.",
    "artefacts": "Folder of the artefacts; the key of the pseudonyms lies beside it.",
    "engine.memory_limit": "Of DuckDB; what does not fit is spilled to disk.",
    "engine.threads": "Threads of DuckDB.",
    "training.heads": "Attention heads; `dim` must be a multiple.",
    "training.norm": "After every layer but the last: over each node's numbers, over the nodes of a step, or none.",
    "training.dropout": "Share of hidden values dropped in training.",
    "training.validation_share": "Share of the examples, by time, that stop training early.",
    "training.test_share": "Share of the examples, the latest ones, that a release is judged on.",
    "training.lr": "Learning rate.",
    "training.weight_decay": "Of AdamW.",
    "training.adaptive.enabled": "Whether the fan-out starts small; [training.md](training.md) says when it pays.",
    "training.sequence.layers": "Layers of the transformer.",
    "training.sequence.heads": "Its attention heads; `dim` must be a multiple.",
    "training.sequence.long_term_weight": "Of the long-term loss, added to those of the objectives.",
    "training.max_epochs": "Training stops here at the latest.",
    "training.seed": "Of every random draw of training and sampling.",
    "text.device": "`auto` takes a GPU where torch finds one.",
    "evaluation.baselines": (
        "What the release is compared with. `no-graph`: the same model without neighbours and activity counts; "
        "`no-neighbours` keeps the counts. Each of the two costs another training."
    ),
    "evaluation.k": "Of Recall@k.",
    "evaluation.seed": "Of drawn negatives and resamples.",
    "compat.residual_epochs": "Passes over the entities that teach the network of `residual`.",
    "compat.residual_lr": "Its learning rate.",
    "compat.residual_batch": "Entities per step.",
    "compat.seed": "Of the network, of the held-out entities and of what is drawn to be judged.",
    "publishing.feature_repo": "Folder of `feature_store.yaml`.",
}
"""Of keys that carry no docstring of their own; a docstring beside the field takes their place."""


def star_page() -> str:
    """Every key of star.yaml with type, default and meaning, one table per section."""
    schema = ProjectFile.model_json_schema()
    return "\n".join([STAR_HEAD, *_sections("", ProjectFile, schema, schema["$defs"])])


def documented_keys() -> dict[str, str | None]:
    """Every key, dotted, and what stands beside its field in the code."""
    return dict(_keys("", ProjectFile))


def _keys(prefix: str, model: type[BaseModel]) -> Iterable[tuple[str, str | None]]:
    texts = field_texts(model)
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is None:
            yield prefix + name, texts.get(name)
        else:
            yield from _keys(f"{prefix}{name}.", inner)


def _sections(prefix: str, model: type[BaseModel], schema: dict[str, Any], defs: dict[str, Any]) -> list[str]:
    title = "Top level" if not prefix else f"`{prefix[:-1]}`"
    lines = [f"## {title}", ""]
    if prefix and model.__doc__:
        lines += [_paragraph(model.__doc__), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    texts, nested = field_texts(model), []
    for name, field in model.model_fields.items():
        key = prefix + name
        inner = _model_of(field.annotation)
        if inner is not None:
            nested += _sections(f"{key}.", inner, defs[inner.__name__], defs)
            lines.append(f"| `{key}` | section | | [below](#{key.replace('.', '')}) |")
            continue
        default = "required" if field.default is PydanticUndefined else f"`{_yaml(field.default)}`"
        meaning = texts.get(name) or MEANINGS[key]
        lines.append(f"| `{key}` | {_kind(schema['properties'][name], defs)} | {default} | {_cell(meaning)} |")
    return [*lines, "", *nested]


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """The string that stands below each field of a model's class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class is a class
    return {
        field.target.id: str(ast.literal_eval(below.value))
        for field, below in pairwise(body.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr)
    }


def _model_of(annotation: Any) -> type[BaseModel] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def _kind(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(item, defs) for item in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = {"null": "absent", "boolean": "true or false", "string": "text"}.get(schema["type"], schema["type"])
    if kind == "array":
        most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        items = _kind(schema["items"], defs)
        return f"list of {f'({items})' if ' or ' in items else items}{most}"
    if kind == "object":
        below = schema.get("additionalProperties")
        return f"names to {_kind(below, defs) if isinstance(below, dict) else 'anything'}"
    return kind + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    named = (("minimum", ">= "), ("exclusiveMinimum", "> "), ("maximum", "<= "), ("exclusiveMaximum", "< "))
    found = [f"{sign}{schema[key]:,}".replace(".0", "") for key, sign in named if key in schema]
    return f" {' and '.join(found)}" if found else ""


def _yaml(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool | dict | list | tuple) else str(value) or '""'


# --- errors.md --------------------------------------------------------------------------------------------------------

ERRORS_HEAD = """\
# Error codes

`star-platform explain CODE` prints what a code means, a wrong example and the fix; `star-platform explain` prints this
list. Codes are stable and never reused.
"""
FAMILIES = {
    "A": ("Stored artefacts", "1"),
    "C": ("Compat maps and their gate", "4 for C020, else 1"),
    "D": ("Optional packages", "1"),
    "E": ("Quality gates", "4"),
    "F": ("Feast", "1"),
    "G": ("Sources and the compiled graph", "1"),
    "L": ("The life of a release", "5 for L004, else 1"),
    "M": ("Training and models", "1"),
    "P": ("Merging and planning", "3 for P001, else 1"),
    "R": ("Registry and leases", "6 for R006, R007 and R008, else 1"),
    "S": ("Branch files, consumer files and star.yaml", "1"),
    "T": ("Text encoders", "1"),
    "U": ("Command line", "64"),
}
"""Heading and exit code by the letter that codes begin with."""


def errors_page() -> str:
    """Every code with its title."""
    parts = [ERRORS_HEAD]
    for letter, codes in groupby(all_pages().items(), key=lambda item: item[0][0]):
        heading, exit_code = FAMILIES[letter]
        rows = "".join(f"| {code} | {_cell(page.title)} |\n" for code, page in codes)
        parts.append(f"## {letter}: {heading}\n\nExit code {exit_code}.\n\n| code | title |\n|---|---|\n{rows}")
    return "\n".join(parts)


# --- all --------------------------------------------------------------------------------------------------------------


def _paragraph(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"cli.md": cli_page, "star-yaml.md": star_page, "errors.md": errors_page}


def pages() -> dict[str, str]:
    """Generated pages by file name."""
    return {name: GENERATED + make().rstrip("\n") + "\n" for name, make in PAGES.items()}


def main(arguments: Sequence[str] = ()) -> None:
    """Write the pages into docs/, or into the folder given."""
    folder = Path(arguments[0]) if arguments else DOCS
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
