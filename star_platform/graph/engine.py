"""The engine that reads sources: Ibis on an embedded DuckDB, bounded in memory, without network or extensions.

Everything that reads data goes through `table`, so that a denied column cannot be read by any signal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import duckdb
import ibis
import pyarrow as pa
from ibis.expr import operations as ops
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph.guard import checked_predicate, did_you_mean
from star_platform.graph.sources import SourceReader
from star_platform.planning.canonical import digest
from star_platform.planning.snapshot import SourceSnapshot
from star_platform.signals.model import Source

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class Engine:
    """One DuckDB connection with the sources of a project.

    Args:
        variables: values of `${name}` in paths.
        connections: SQLAlchemy URLs by connection name.
        root: project folder; relative paths of sources start here.
        memory_limit: of DuckDB, such as `1GB`; what does not fit is spilled to `temp_dir`. Edge sorting keeps to half
            of it on its own.
        threads: of DuckDB. Results do not depend on it.
        temp_dir: spill files, scratch of edge sorting, and the cache of file hashes.
        deny_columns: columns that no signal may read, compared without case.
        feast_repo: Feast repository of `feast:` sources that name none.

    Raises:
        GraphError: G020 for a memory limit that cannot be understood. Methods: G001 to G014 (see `error_pages`).
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        connections: Mapping[str, str],
        root: Path,
        *,
        temp_dir: Path,
        memory_limit: str = "1GB",
        threads: int = 2,
        deny_columns: frozenset[str] = frozenset(),
        feast_repo: Path | None = None,
    ) -> None:
        self.memory_bytes = parse_bytes(memory_limit)
        self.temp_dir = temp_dir
        self._memory_limit = memory_limit
        self.threads = threads
        self.deny = frozenset(column.lower() for column in deny_columns)
        self._reader = SourceReader(
            connection=lambda: self.connection,
            variables=variables,
            connections=connections,
            root=root,
            cache_file=temp_dir / "snapshots.sqlite",
            deny=self.deny,
            feast_repo=feast_repo,
        )

    # --- sources ------------------------------------------------------------------------------------------------------

    def snapshot(self, name: str, sources: Mapping[str, Source]) -> SourceSnapshot:
        """Content hash, rows, bytes and columns of source `name`; `sources` also holds those that a query reads."""
        with translated(f"source {name!r}"):
            return self._reader.snapshot(name, sources)

    def table(self, name: str, sources: Mapping[str, Source]) -> ir.Table:
        """Source `name` as an Ibis table, without denied columns."""
        with translated(f"source {name!r}"):
            return self.backend.table(self._reader.relation(name, sources))

    def column(self, table: ir.Table, source: str, name: str) -> ir.Value:
        """A column by its exact name; G011 when it is denied, G010 when the source has none of that name."""
        if name.lower() in self.deny:
            raise GraphError(
                "G011",
                f"column {name!r} of source {source!r} is denied",
                hint="`privacy.deny_columns` of some branch lists it, and that holds for every branch",
            )
        if name not in table.columns:
            raise GraphError(
                "G010", f"source {source!r} has no column {name!r}", hint=did_you_mean(name, list(table.columns))
            )
        return table[name]

    # --- running ------------------------------------------------------------------------------------------------------

    @cached_property
    def backend(self) -> ibis.BaseBackend:
        """The Ibis backend; opened when first used."""
        spill = self.temp_dir / f"spill-{os.getpid()}"
        _remove_left_behind(self.temp_dir)
        spill.mkdir(parents=True, exist_ok=True)
        backend = ibis.duckdb.connect(
            ":memory:",
            memory_limit=self._memory_limit,
            threads=self.threads,
            temp_directory=str(spill),
            preserve_insertion_order=False,
            autoinstall_known_extensions=False,
            autoload_known_extensions=False,
            allow_community_extensions=False,
        )
        backend.con.execute("SET enable_progress_bar = false")
        # DuckDB goes on producing rows while the last ones are sorted into place.
        backend.con.execute(f"SET streaming_buffer_size = '{self.memory_bytes // 8} bytes'")
        self._close = weakref.finalize(self, _close, backend, spill)
        return backend

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        connection: duckdb.DuckDBPyConnection = self.backend.con
        return connection

    def where(self, table: ir.Table, predicate: str, what: str) -> ir.Table:
        """The rows of `table` for which a branch's own predicate is true; G011 and G012 as for `sql:` sources."""
        condition = checked_predicate(predicate, what, self.deny)
        query = f"SELECT * FROM ({self._sql(table)}) WHERE {condition}"
        name = f"rows_{digest(query)}"
        with translated(what):
            self.connection.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {query}')
            return self.backend.table(name)

    def batches(
        self, expression: ir.Table, what: str, *, rows: int | None = None, exact: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows of an expression as Arrow batches of up to `rows`; unordered unless the expression orders them.

        `exact` keeps the Arrow types of UUIDs, which otherwise become text.
        """
        with translated(what):
            rows = rows or max(1 << 15, min(1 << 20, self.memory_bytes // 512))  # a row of an edge has some 24 bytes
            self.connection.execute(f"SET arrow_lossless_conversion = {str(exact).lower()}")
            yield from self.connection.execute(self._sql(expression)).to_arrow_reader(rows)

    def fetch(self, expression: ir.Table, what: str) -> pa.Table:
        """A small result as one Arrow table."""
        with translated(what):
            found: pa.Table = self.connection.execute(self._sql(expression)).to_arrow_table()
            return found

    def one(self, expression: ir.Table, what: str) -> tuple[Any, ...]:
        """The values of a result that has one row."""
        return tuple(column[0].as_py() for column in self.fetch(expression, what).columns)

    def loaded(self, parts: Sequence[tuple[ir.Table, ir.Table]], what: str) -> ir.Table:
        """The rows of several tables of one shape, in a table that may spill.

        Each part is a reduced form and a plain one: the plain is taken where reducing does not fit the memory limit.
        """
        plain = [self._sql(part) for _, part in parts]
        name = f"loaded_{digest(plain)}"
        with translated(what):
            self.connection.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {plain[0]} LIMIT 0')
            for (reduced, _), sql in zip(parts, plain, strict=True):
                try:
                    self.connection.execute(f'INSERT INTO "{name}" {self._sql(reduced)}')
                except duckdb.OutOfMemoryException:
                    self.connection.execute(f'INSERT INTO "{name}" {sql}')
            return self.backend.table(name)

    def unload(self, table: ir.Table) -> None:
        """Drop a table that `loaded` made; others are left alone."""
        name = table.get_name() if isinstance(table.op(), ops.DatabaseTable) else ""
        if name.startswith("loaded_"):
            self.connection.execute(f'DROP TABLE "{name}"')

    def _sql(self, expression: ir.Table) -> str:
        sql: str = self.backend.compile(expression)
        return sql

    def ids(self, path: Path, column: str = "id") -> ir.Table:
        """A Parquet column of distinct values as a table of `id` and `index` (int32), the row that it is in."""
        name = f"ids_{digest(str(path))}"
        sql = f"""CREATE OR REPLACE TEMP VIEW "{name}" AS
            SELECT "{column}" AS id, file_row_number::INTEGER AS index
            FROM read_parquet({_quoted(path)}, file_row_number = true)"""
        with translated("node ids"):
            self.connection.execute(sql)
            return self.backend.table(name)

    def close(self) -> None:
        """Close the connection and remove its spill files."""
        if "backend" in self.__dict__:
            self._close()
            del self.__dict__["backend"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_bytes(text: str) -> int:
    """`1GB`, `512 MiB` or `2000000` in bytes; GraphError G020 otherwise."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?i?b?)\s*", text, re.IGNORECASE)
    if match is None or match[2].lower() not in _UNITS:
        raise GraphError("G020", f"the memory limit {text!r} is not a size", hint="write it like 512MB or 4GB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _close(backend: Any, spill: Path) -> None:
    backend.con.close()
    shutil.rmtree(spill, ignore_errors=True)


def _remove_left_behind(temp_dir: Path) -> None:
    """Spill folders of processes that were killed."""
    for folder in temp_dir.glob("spill-*"):
        pid = folder.name.removeprefix("spill-")
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns DuckDB's errors into GraphErrors; values that they quote are left out, since they may be personal."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise GraphError(
            "G020",
            f"{what} does not fit the memory limit",
            hint="raise `memory_limit` in star.yaml, or lower `threads`",
        ) from error
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
        raise GraphError("G013", f"{what}: {_without_values(error)}", hint="cast it in a `sql:` source") from error
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        raise GraphError("G012", f"{what}: {_first_line(error)}") from error
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException) as error:
        raise GraphError("G002", f"{what} cannot be read: {_without_values(error)}") from error
    except duckdb.Error as error:
        raise GraphError("G002", f"{what}: {_without_values(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].split(": ", 1)[-1]


def _without_values(error: Exception) -> str:
    """The first line of a message, with what it quotes from the data struck out; quoted file paths stay."""
    return re.sub(r"'(?![^']*/)[^']*'|\"(?![^\"]*/)[^\"]*\"", "'…'", _first_line(error))
