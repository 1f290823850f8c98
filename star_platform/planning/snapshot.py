"""What the platform knows of a source before it reads it in full: a hash of its data, its size, its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from star_platform.planning.sources import source_id
from star_platform.planning.spec import GraphSpec
from star_platform.signals.model import Source

TypeFamily = Literal[
    "boolean", "integer", "float", "decimal", "string", "uuid", "bytes", "date", "timestamp", "list", "other"
]
"""What the planner needs to know of a column type; engines write types in their own words."""


@dataclass(frozen=True)
class SourceSnapshot:
    """The state of one source at planning time.

    Two snapshots with equal `hash` hold the same rows. `bytes` is the size of the stored data; `columns` maps each
    column to the type that the engine (DuckDB or Ibis) gives it.
    """

    hash: str
    rows: int
    bytes: int
    columns: Mapping[str, str] = field(default_factory=dict)


class Snapshotter(Protocol):
    """Takes snapshots; the graph engine is one."""

    def snapshot(self, name: str, sources: Mapping[str, Source]) -> SourceSnapshot:
        """The state of source `name`; `sources` also holds those that a `sql:` source reads."""


Snapshots = Mapping[str, SourceSnapshot]
"""By `sources.source_id`: names of sources are local to a branch, ids are not."""


def take_snapshots(spec: GraphSpec, snapshotter: Snapshotter) -> dict[str, SourceSnapshot]:
    """One snapshot per distinct source of `spec`, however many signals read it, by source id."""
    found: dict[str, SourceSnapshot] = {}
    for _, signal in sorted(spec.signals.items()):
        name = signal.source_name
        if name is not None:
            identity = source_id(name, signal.sources)
            if identity not in found:
                found[identity] = snapshotter.snapshot(name, signal.sources)
    return found


_WHOLE_DECIMAL = re.compile(r"(decimal|numeric)\(\d+(, *0)?\)")
_PREFIXES: tuple[tuple[str, TypeFamily], ...] = (
    ("timestamp", "timestamp"),
    ("datetime", "timestamp"),
    ("date", "date"),
    ("bool", "boolean"),
    ("array", "list"),
    ("list", "list"),
    ("fixed_size_list", "list"),
    ("large_list", "list"),
    ("interval", "other"),
    ("int", "integer"),
    ("uint", "integer"),
    ("bigint", "integer"),
    ("ubigint", "integer"),
    ("smallint", "integer"),
    ("usmallint", "integer"),
    ("tinyint", "integer"),
    ("utinyint", "integer"),
    ("hugeint", "integer"),
    ("uhugeint", "integer"),
    ("uinteger", "integer"),
    ("float", "float"),
    ("double", "float"),
    ("real", "float"),
    ("halffloat", "float"),
    ("decimal", "decimal"),
    ("numeric", "decimal"),
    ("varchar", "string"),
    ("string", "string"),
    ("large_string", "string"),
    ("text", "string"),
    ("char", "string"),
    ("enum", "string"),
    ("uuid", "uuid"),
    ("blob", "bytes"),
    ("binary", "bytes"),
    ("bytes", "bytes"),
)


def type_family(type_name: str) -> TypeFamily:
    """The family of a type as DuckDB (`BIGINT`, `FLOAT[3]`), Ibis (`!int64`) or Arrow writes it."""
    name = type_name.strip().lower().removeprefix("!")
    if name.endswith("]"):
        return "list"
    if _WHOLE_DECIMAL.fullmatch(name):  # also how very wide integers arrive
        return "integer"
    return next((family for prefix, family in _PREFIXES if name.startswith(prefix)), "other")
