"""External ids of any type: one type per node type, and what may be compared with it."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
from ibis.expr import types as ir

from star_platform.errors import GraphError

_FAMILIES: tuple[tuple[str, type[dt.DataType]], ...] = (
    ("boolean", dt.Boolean),
    ("integer", dt.Integer),
    ("float", dt.Floating),
    ("decimal", dt.Decimal),
    ("string", dt.String),
    ("uuid", dt.UUID),
    ("date", dt.Date),
    ("timestamp", dt.Timestamp),
    ("bytes", dt.Binary),
)


def key_family(kind: dt.DataType, what: str) -> str:
    """`integer`, `string`, `uuid`, ...: ids are comparable within a family, and never across two.

    Raises:
        GraphError: G014 for lists, structs and other types that cannot be ids.
    """
    if isinstance(kind, dt.Decimal) and kind.scale == 0:  # also how wide integers arrive
        return "integer"
    for family, base in _FAMILIES:
        if isinstance(kind, base):
            return family
    raise GraphError("G014", f"{what} has type {kind}, which cannot be an id", hint="use a number, text, uuid or date")


def canonical_type(kind: dt.DataType, what: str) -> dt.DataType:
    """The type that ids of this family have in `ids.parquet`: integers of every width are int64."""
    family = key_family(kind, what)
    if isinstance(kind, dt.Timestamp):
        return dt.Timestamp(timezone="UTC" if kind.timezone else None, scale=6)
    fixed: dict[str, dt.DataType] = {"integer": dt.int64, "float": dt.float64}
    return fixed.get(family, kind.copy(nullable=True))


def as_key(column: ir.Value, target: dt.DataType, what: str, node: str) -> ir.Value:
    """`column` in the id type of its node type; float NaN counts as null.

    Raises:
        GraphError: G014 when the column's family is another one.
    """
    ours, theirs = key_family(column.type(), what), key_family(target, what)
    if ours != theirs:
        raise GraphError(
            "G014",
            f"{what} has type {column.type()}, but the ids of node type {node!r} are {target}",
            hint=f"cast it to {theirs} in a `sql:` source, or declare both with one type",
        )
    key = column if column.type() == target else column.cast(target)
    return ibis.ifelse(key.isnan(), ibis.null(target), key) if ours == "float" else key


def arrow_type(kind: dt.DataType) -> pa.DataType:
    """How ids of this type are stored."""
    return pa.uuid() if kind.is_uuid() else kind.to_pyarrow()


def type_name(kind: dt.DataType) -> str:
    """A type as a manifest writes it; `named_type` reads it back."""
    return str(kind.copy(nullable=True))


def named_type(name: Any) -> dt.DataType:
    """The type that `type_name` wrote."""
    return dt.dtype(str(name))
