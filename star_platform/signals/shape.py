"""What pydantic says about a document, as diagnostics: each kind of error its own code, at its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from star_platform.errors import Diagnostic
from star_platform.signals.document import Document
from star_platform.signals.locate import Member, Steps, children_of, walk
from star_platform.signals.suggest import did_you_mean, known, listed
from star_platform.signals.tree import MappingNode, ScalarNode, kind_of, plain, resolve

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class ShapeError:
    """A diagnostic and the steps to the field that it is about."""

    steps: Steps
    diagnostic: Diagnostic


def validate(
    document: Document, model: type[Model], data: Any, noun: str = "a branch file"
) -> tuple[Model | None, list[ShapeError]]:
    """`data` of `document` as a `model`, or everything that keeps it from being one.

    A field without a value is an error even where the field may be left out: it says nothing, and looks as if it did.
    """
    errors = {steps: ShapeError(steps, _no_value(document, steps)) for steps in _valueless(document)}
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            found = _shape_error(document, model, dict(item), noun)
            if found.steps not in errors or found.diagnostic.code == "S010":
                errors[(*found.steps, len(errors))] = found
        return None, list(errors.values())
    return (None if errors else value), list(errors.values())


def _valueless(document: Document) -> list[Steps]:
    return [steps for steps in document.places if steps and _is_null(document.node(*steps))]


def _is_null(node: object) -> bool:
    return isinstance(node, ScalarNode) and node.value is None


def _no_value(document: Document, steps: Steps) -> Diagnostic:
    what = f"'{steps[-1]}'" if isinstance(steps[-1], str) else f"item {steps[-1] + 1}"
    parent = ".".join(map(str, steps[:-1]))
    message = f"{what} of {parent} has no value" if parent else f"{what} has no value"
    return document.diagnostic("S018", message, document.value_place(*steps), "write a value, or delete the field")


def _shape_error(document: Document, model: type[BaseModel], error: dict[str, Any], noun: str) -> ShapeError:
    found = _Found(document, error, noun, *walk(model, error["loc"]))
    return ShapeError(found.steps, _MAKERS.get(str(error["type"]), _wrong_type)(found))


# --- one maker per kind of error --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    document: Document
    error: dict[str, Any]
    noun: str
    steps: Steps
    owners: list[Member]

    @property
    def name(self) -> str:
        return str(self.steps[-1]) if self.steps else "the file"

    @property
    def context(self) -> dict[str, Any]:
        return self.error.get("ctx") or {}

    @property
    def on_key(self) -> bool:
        return bool(self.error["loc"][-1:] == ("[key]",))

    @property
    def fields(self) -> list[str]:
        """The fields that the owner of the last step knows."""
        return sorted(
            {
                name
                for owner in self.owners
                if isinstance(owner.type, type) and issubclass(owner.type, BaseModel)
                for name in owner.type.model_fields
            }
        )

    @property
    def value(self) -> Any:
        node = self.document.node(*self.steps)
        return plain(node) if node is not None else None

    def where(self, steps: Steps | None = None) -> str:
        """``'dst' of edges.member-views-job``, as far as there is a parent."""
        steps = self.steps if steps is None else steps
        parent = ".".join(str(step) for step in steps[:-1])
        return f"'{steps[-1]}' of {parent}" if parent else f"'{steps[-1]}'"

    def at_value(self, code: str, message: str, label: str | None = None, *notes: str | None) -> Diagnostic:
        place = self.document.place(*self.steps) if self.on_key else self.document.value_place(*self.steps)
        return self.document.diagnostic(code, message, place, label, *notes)


def _unknown_field(found: _Found) -> Diagnostic:
    parent = ".".join(str(step) for step in found.steps[:-1]) or found.noun
    return found.document.diagnostic(
        "S010",
        f"{parent} has no field '{found.name}'",
        found.document.place(*found.steps),
        did_you_mean(found.name, found.fields) or "unknown field",
        known("fields", found.fields),
    )


def _missing_field(found: _Found) -> Diagnostic:
    parent = ".".join(str(step) for step in found.steps[:-1]) or found.noun
    return found.document.diagnostic(
        "S011",
        f"{parent} needs the field '{found.name}'",
        found.document.place(*found.steps[:-1]),
        f"add '{found.name}: ...'",
        known("fields", found.fields),
    )


def _missing_kind(found: _Found) -> Diagnostic:
    if not isinstance(found.document.node(*found.steps), MappingNode):
        return _wrong_type(found)
    place = found.document.place(*found.steps)
    if found.steps[0] == "sources":
        return found.document.diagnostic(
            "S019",
            f"source '{found.name}' does not say where its rows come from",
            place,
            "add path, table, sql or feast",
            "exactly one of: path (parquet or csv files), table (a SQL table), sql (a query), feast (a feature view)",
        )
    return found.document.diagnostic(
        "S011", f"{'.'.join(map(str, found.steps))} needs the field 'kind'", place, "add 'kind: ...'", _kinds(found)
    )


def _unknown_kind(found: _Found) -> Diagnostic:
    steps = (*found.steps, "kind")
    given = str(found.context.get("tag", ""))
    options = re.findall(r"'([^']*)'", str(found.context.get("expected_tags", "")))
    return found.document.diagnostic(
        "S013",
        f"{found.where(steps)} is '{given}', which is not a kind",
        found.document.value_place(*steps),
        did_you_mean(given, options),
        known("kinds", options),
    )


def _kinds(found: _Found) -> str | None:
    members = [child for owner in found.owners for child in children_of(owner, found.steps[-1])]
    return known("kinds", [member.tag for member in members]) if members else None


def _unknown_value(found: _Found) -> Diagnostic:
    options = re.findall(r"'([^']*)'", str(found.context.get("expected", "")))
    value = found.value
    if found.name == "apiVersion":
        label = f"write {listed(options)}"
        return found.at_value("S021", f"apiVersion '{value}' is not one this version of the platform reads", label)
    return found.at_value(
        "S013",
        f"{found.where()} cannot be '{value}'",
        did_you_mean(str(value), options),
        known("values", options),
    )


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of names",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "union_tag_not_found": "a mapping of fields",
}


def _wrong_type(found: _Found) -> Diagnostic:
    if not found.steps:
        return found.at_value("S012", f"the file does not hold what it should: {found.error['msg']}")
    value = found.value
    expected = _EXPECTED.get(str(found.error["type"]))
    if expected is None:
        return found.at_value("S012", f"{found.where()} is not right: {found.error['msg']}")
    message = f"{found.where()} must be {expected}, and this is {kind_of(value)}"
    return found.at_value("S012", message, _retype(found, value, expected))


def _retype(found: _Found, value: Any, expected: str) -> str:
    node = found.document.node(*found.steps)
    if expected == "text" and isinstance(value, int | float) and isinstance(node, ScalarNode):
        return "put it in quotes"
    if expected == "true or false" and str(value).lower() in ("yes", "on", "no", "off"):
        return "write true" if str(value).lower() in ("yes", "on") else "write false"
    if isinstance(value, str) and kind_of(resolve(value)) == expected:
        return "remove the quotes"
    if expected == "a list" and isinstance(value, str):
        return f"write [{value}]"
    return f"write {expected}"


def _out_of_range(found: _Found) -> Diagnostic:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    limits = [f"{words[key]} {limit:g}" for key, limit in found.context.items() if key in words]
    if "max_length" in found.context:
        unit = "items" if isinstance(found.value, tuple | list) else "characters"
        limits = [f"at most {found.context['max_length']} {unit} long"]
    needed = limits[0] if limits else "finite"
    return found.at_value("S017", f"{found.where()} is out of range", f"must be {needed}")


def _too_short(found: _Found) -> Diagnostic:
    return found.at_value("S018", f"{found.where()} is empty", "write at least one")


_NAME_RULES = (
    "names are lower case: letters, digits and '_', starting with a letter; signals and branches may also use '-'"
)


def _bad_pattern(found: _Found) -> Diagnostic:
    pattern = str(found.context.get("pattern", ""))
    given = found.name if found.on_key else str(found.value)
    if pattern.endswith("[smhdw]$"):
        note = "a whole number and a unit: 45s, 30m, 12h, 90d, 2w"
        return found.at_value("S016", f"{found.where()} is not a duration: '{given}'", _as_duration(given), note)
    if found.name in ("table", "feast"):
        example = "schema.table" if found.name == "table" else "driver_stats@v2"
        what = "a table name" if found.name == "table" else "a feature view"
        return found.at_value("S022", f"{found.where()} is not {what}: '{given}'", f"such as {example}")
    if found.name == "release":
        return found.at_value("S055", f"'{given}' is not a release", "write rN, such as r3, or latest")
    if found.name not in _NAMED_BY and not found.on_key:
        return found.at_value(
            "S017", f"{found.where()} is '{given}', which is not in its form", f"must match {pattern}"
        )
    suggestion = _as_name(given, pattern)
    label = f"write '{suggestion}'" if suggestion else "not a name"
    if r"\." in pattern:
        rule = "a feature is named <node>.<feature>, such as member.profile, in lower case"
    elif "(-[" not in pattern:
        rule = "a node is named in lower case with letters, digits and '_': it also names a Feast view"
    else:
        rule = _NAME_RULES
    return found.at_value("S015", f"'{given}' is not a valid name", label, rule)


_NAMED_BY = {"branch", "consumer", "source", "node", "edge", "connection", "project"}


def _as_name(text: str, pattern: str) -> str | None:
    """The nearest text that `pattern` takes."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    separator = "-" if "(-[" in pattern and "-" in words else "_"
    kept = r"[^a-z0-9_.]+" if r"\." in pattern else r"[^a-z0-9_]+"
    name = re.sub(r"^[^a-z]+", "", re.sub(kept, separator, words).strip("-_."))
    return name if name and re.search(pattern, name) else None


def _as_duration(text: str) -> str:
    match = re.match(r"\s*([1-9][0-9]*)\s*([a-zA-Z]*)", text)
    months = {"mo": 30, "y": 365}
    if match is None:
        return "not a duration"
    number, unit = match.groups()
    for start, days in months.items():
        if unit.lower().startswith(start):
            return f"write '{int(number[:6]) * days}d'"
    return f"write '{number}{unit[:1].lower()}'" if unit[:1].lower() in tuple("smhdw") else "add a unit, such as d"


_MAKERS: dict[str, Callable[[_Found], Diagnostic]] = {
    "extra_forbidden": _unknown_field,
    "missing": _missing_field,
    "union_tag_not_found": _missing_kind,
    "union_tag_invalid": _unknown_kind,
    "literal_error": _unknown_value,
    "string_pattern_mismatch": _bad_pattern,
    "string_too_short": _too_short,
    "too_short": _too_short,
    "string_too_long": _out_of_range,
    "too_long": _out_of_range,
    "greater_than": _out_of_range,
    "greater_than_equal": _out_of_range,
    "less_than": _out_of_range,
    "less_than_equal": _out_of_range,
    "finite_number": _out_of_range,
    "int_parsing_size": _out_of_range,
}
