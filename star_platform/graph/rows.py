"""The rows of an edge type before ids are mapped: filtered by `where` and `window`, columns in their final types."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph.csc import FOREVER
from star_platform.graph.inputs import Compiler
from star_platform.graph.needs import label_columns

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def epoch_us(value: dt.Timestamp(scale=6)) -> dt.int64:  # type: ignore[valid-type]
    """Microseconds since 1970 UTC; DuckDB's function of that name."""


@dataclass(frozen=True)
class EdgeRows:
    """`table` has `src` and `dst` as the source types them, then `time` int64, `weight` float64, `label<i>` int8 where
    declared. `read` counts the rows of the source; `dropped` those that `where` and `window` left out.
    """

    table: ir.Table
    read: int
    dropped: dict[str, int]
    dated: bool
    weight_column: bool
    labels: tuple[str, ...]


def edge_rows(compiler: Compiler, edge: str) -> EdgeRows:
    """The rows of edge type `edge`; runs one aggregate query to count rows and to find the window's start."""
    signal = compiler.spec.signals["edge", edge]
    definition, engine, what = signal.definition, compiler.engine, f"edge type {edge!r}"
    source = engine.table(definition.source, signal.sources)
    kept = source if definition.where is None else engine.where(source, definition.where, f"`where` of {what}")
    labels = label_columns(compiler.spec, edge)
    columns: dict[str, ir.Value] = {
        "src": engine.column(kept, definition.source, definition.src.key),
        "dst": engine.column(kept, definition.source, definition.dst.key),
    }
    if definition.timestamp is not None:
        column = engine.column(kept, definition.source, definition.timestamp)
        columns["time"] = microseconds(column, f"timestamp {definition.timestamp!r} of {what}")
    if definition.weight is not None and definition.weight.column is not None:
        column = engine.column(kept, definition.source, definition.weight.column)
        columns["weight"] = number(column, f"weight {definition.weight.column!r} of {what}")
    for index, label in enumerate(labels):
        columns[f"label{index}"] = truth(engine.column(kept, definition.source, label), f"label {label!r} of {what}")
    rows = kept.select(**columns)
    read = _one(compiler, source.aggregate(n=source.count()), what) or 0
    dropped: dict[str, int] = {}
    if definition.where is not None:
        dropped["where"] = read - (_one(compiler, kept.aggregate(n=kept.count()), what) or 0)
    if definition.window is not None and definition.timestamp is not None:
        rows, dropped["window"] = _windowed(compiler, rows, definition.window, what)
    return EdgeRows(rows, read, dropped, "time" in columns, "weight" in columns, labels)


def _windowed(compiler: Compiler, rows: ir.Table, window: str, what: str) -> tuple[ir.Table, int]:
    """Rows no older than `window` before the newest row that has both keys; rows without time stay for now."""
    whole = rows.src.notnull() & rows.dst.notnull()
    newest = _one(compiler, rows.aggregate(n=rows.time.max(where=whole)), what)
    if newest is None:
        return rows, 0
    start = newest - int(window[:-1]) * _SECONDS[window[-1]] * 1_000_000
    older = int(_one(compiler, rows.aggregate(n=(rows.time < start).sum()), what) or 0)
    return rows.filter(rows.time.isnull() | (rows.time >= start)), older


def _one(compiler: Compiler, query: ir.Table, what: str) -> int | None:
    """The column `n` of a query with one row."""
    value: int | None = compiler.engine.fetch(query, what).column("n")[0].as_py()
    return value


def microseconds(column: ir.Value, what: str) -> ir.Value:
    """A point in time as int64 microseconds since 1970 UTC; time without zone is UTC, infinities are null.

    Raises:
        GraphError: G013 for a number: its unit cannot be told.
    """
    kind = column.type()
    if kind.is_timestamp() or kind.is_date() or kind.is_string():
        time = epoch_us(column if kind.is_timestamp() else column.cast(dt.Timestamp(scale=6)))
        return ibis.ifelse((time > -FOREVER) & (time < FOREVER), time, ibis.null("int64"))
    raise GraphError(
        "G013",
        f"{what} has type {kind}, which is not a time",
        hint="for Unix times use a `sql:` source with to_timestamp(seconds) or epoch_ms(milliseconds)",
    )


def number(column: ir.Value, what: str) -> ir.Value:
    """float64; G018 for a column that is neither number nor boolean."""
    if not (column.type().is_numeric() or column.type().is_boolean()):
        raise GraphError(
            "G018", f"{what} has type {column.type()}, which is not a number", hint="cast it in a `sql:` source"
        )
    return column.cast("float64")


def truth(column: ir.Value, what: str) -> ir.Value:
    """int8: 1 true, 0 false, -1 null, 2 for a number that is neither 0 nor 1.

    Raises:
        GraphError: G021 for a column that is neither boolean nor number.
    """
    if column.type().is_boolean():
        return column.cast("int8").fill_null(-1)
    if column.type().is_numeric():
        return ibis.cases((column.isnull(), -1), (column == 1, 1), (column == 0, 0), else_=2).cast("int8")
    raise GraphError(
        "G021", f"{what} has type {column.type()}, which is not a truth value", hint="cast it in a `sql:` source"
    )
