"""Rows of a SQL table, streamed through SQLAlchemy in Arrow batches.

DuckDB's own database scanners are extensions that would have to be downloaded, so rows come through the driver, a
batch at a time, and only the columns that may be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from star_platform.errors import GraphError
from star_platform.graph.guard import did_you_mean

BATCH_ROWS = 20_000


@dataclass(frozen=True)
class _Column:
    name: str
    read: sa.ColumnElement[Any]
    """What the server is asked for."""
    arrow: pa.DataType
    duckdb: str
    """The type that it has in the engine."""


@contextmanager
def open_table(
    url: str, table: str, deny: Collection[str]
) -> Iterator[tuple[dict[str, str], Callable[[], Iterator[pa.RecordBatch]]]]:
    """The columns of a SQL table (name to DuckDB type) and a function that streams its rows.

    Args:
        url: SQLAlchemy URL.
        table: `table`, `schema.table` or `catalog.schema.table`.
        deny: lower-case names of columns that are never selected.

    Raises:
        GraphError: G004 when the database cannot be reached, G005 when the table cannot be read.
    """
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
        raise GraphError("G004", f"the connection URL is not usable: {error}", hint="see star.yaml") from error
    if engine.dialect.name == "sqlite" and engine.url.database and not _exists(engine.url.database):
        raise GraphError("G004", "the SQLite file of the connection does not exist", hint="see star.yaml")
    try:
        columns = _columns(engine, table, deny)
        yield {column.name: column.duckdb for column in columns}, lambda: _stream(engine, table, columns)
    except sa.exc.OperationalError as error:
        raise GraphError("G004", f"the database cannot be reached: {_reason(error)}") from error
    except sa.exc.SQLAlchemyError as error:
        raise GraphError("G005", f"table {table} cannot be read: {_reason(error)}") from error
    finally:
        engine.dispose()


def _exists(database: str) -> bool:
    from pathlib import Path

    return database == ":memory:" or database.startswith("file:") or Path(database).is_file()


def _reason(error: sa.exc.SQLAlchemyError) -> str:
    """The driver's words, first line only: the rest repeats the statement."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _columns(engine: sa.Engine, table: str, deny: Collection[str]) -> list[_Column]:
    *schema, name = table.split(".")
    inspector = sa.inspect(engine)
    where = ".".join(schema) or None
    try:
        reflected = inspector.get_columns(name, schema=where)
    except sa.exc.NoSuchTableError as error:
        known = [*inspector.get_table_names(schema=where), *inspector.get_view_names(schema=where)]
        raise GraphError("G005", f"there is no table {table}", hint=did_you_mean(name, known)) from error
    columns = [
        _column(str(column["name"]), column["type"], engine.dialect.name)
        for column in reflected
        if str(column["name"]).lower() not in deny
    ]
    if not columns:
        raise GraphError("G005", f"table {table} has no column that may be read")
    return columns


def _column(name: str, kind: sa.types.TypeEngine[object], dialect: str) -> _Column:
    column: sa.ColumnElement[Any] = sa.column(name, kind)
    text = sa.cast(column, sa.String)
    if isinstance(kind, sa.Boolean):
        return _Column(name, column, pa.bool_(), "BOOLEAN")
    if isinstance(kind, sa.Integer):
        return _Column(name, column, pa.int64(), "BIGINT")
    if isinstance(kind, sa.Numeric | sa.Float):  # also float and double; exact decimals become doubles
        return _Column(name, sa.type_coerce(column, sa.Float()), pa.float64(), "DOUBLE")
    if isinstance(kind, sa.DateTime):
        zone = "UTC" if getattr(kind, "timezone", False) else None
        return _Column(name, column, pa.timestamp("us", tz=zone), "TIMESTAMPTZ" if zone else "TIMESTAMP")
    if isinstance(kind, sa.Date):
        return _Column(name, column, pa.date32(), "DATE")
    if isinstance(kind, sa.Uuid):
        return _Column(name, text, pa.string(), "UUID")
    if isinstance(kind, sa.LargeBinary):
        return _Column(name, column, pa.binary(), "BLOB")
    if isinstance(kind, sa.ARRAY | postgresql.ARRAY):
        return _Column(name, sa.cast(column, postgresql.ARRAY(sa.Float)), pa.list_(pa.float64()), "DOUBLE[]")
    if isinstance(kind, sa.String) and dialect == "sqlite":
        return _Column(name, column, pa.string(), "VARCHAR")
    return _Column(name, text, pa.string(), "VARCHAR")


def _stream(engine: sa.Engine, table: str, columns: list[_Column]) -> Iterator[pa.RecordBatch]:
    *schema, name = table.split(".")
    source = sa.table(name, schema=".".join(schema) or None)
    query = sa.select(*(column.read.label(column.name) for column in columns)).select_from(source)
    schema_ = pa.schema([pa.field(column.name, column.arrow) for column in columns])
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TIME ZONE 'UTC'")
        for rows in connection.execute(query, execution_options={"yield_per": BATCH_ROWS}).partitions():
            arrays = []
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                try:
                    arrays.append(pa.array(values, type=column.arrow))
                except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                    raise GraphError(
                        "G005", f"column {column.name!r} of table {table} holds a value that is not {column.duckdb}"
                    ) from error
            yield pa.RecordBatch.from_arrays(arrays, schema=schema_)
