"""Declared sources as relations of the engine: a view where DuckDB can read the data itself, else a loaded table."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from star_platform.errors import GraphError
from star_platform.graph.feastsource import FeastView, open_view
from star_platform.graph.guard import checked_query, did_you_mean
from star_platform.graph.snapshots import Cache, hash_files, state_of
from star_platform.graph.sqltables import open_table
from star_platform.planning.canonical import canonical, digest
from star_platform.planning.snapshot import SourceSnapshot
from star_platform.planning.sources import source_id
from star_platform.signals.model import FeastSource, FileSource, Source, SqlSource, TableSource

Sources = Mapping[str, Source]
_EXTENSIONS: dict[str, str] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".gz": "csv",
}


class SourceReader:
    """Makes one relation per distinct source, without denied columns, and takes snapshots."""

    def __init__(
        self,
        *,
        connection: Callable[[], duckdb.DuckDBPyConnection],
        variables: Mapping[str, str],
        connections: Mapping[str, str],
        root: Path,
        cache_file: Path,
        deny: frozenset[str],
        feast_repo: Path | None,
    ) -> None:
        self._connection = connection
        self._variables = variables
        self._connections = connections
        self._root = root
        self._cache = Cache(cache_file)
        self._deny = deny
        self._feast_repo = feast_repo
        self._relations: dict[str, str] = {}

    # --- relations ----------------------------------------------------------------------------------------------------

    def relation(self, name: str, sources: Sources) -> str:
        """Name of the relation that holds source `name`; made on first use and kept while the engine is open."""
        identity = source_id(name, sources)
        if identity not in self._relations:
            self._relations[identity] = self._make(f"source_{identity}", name, sources)
        return self._relations[identity]

    def _make(self, relation: str, name: str, sources: Sources) -> str:
        source = sources[name]
        match source:
            case FileSource():
                self._view(relation, f"SELECT * FROM {self._reader(name, source)}")
            case SqlSource():
                self._view(relation, self._query(name, source, sources))
            case TableSource():
                with open_table(self._url(name, source), source.table, self._deny) as (columns, stream):
                    self._load(relation, columns, stream())
            case FeastSource():
                self._load(relation, None, self._feast(source).batches())
        return relation

    def _view(self, relation: str, query: str) -> None:
        """A view without denied columns: what a view does not have, nothing above it can read."""
        columns = [row[0] for row in self._connection().execute(f"DESCRIBE {query}").fetchall()]
        allowed = [column for column in columns if column.lower() not in self._deny]
        if not allowed:
            raise GraphError("G011", "every column of the source is denied", hint="remove the source")
        select = ", ".join(_identifier(column) for column in allowed)
        self._connection().execute(
            f"CREATE OR REPLACE TEMP VIEW {_identifier(relation)} AS SELECT {select} FROM ({query})"
        )

    def _load(self, relation: str, columns: Mapping[str, str] | None, batches: Iterator[pa.RecordBatch]) -> None:
        """A table of the rows; it may spill to disk as any table of the engine."""
        connection, target = self._connection(), _identifier(relation)
        if columns is not None:
            fields = ", ".join(f"{_identifier(name)} {kind}" for name, kind in columns.items())
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {target} ({fields})")
        made = columns is not None
        for batch in batches:
            connection.register("incoming", pa.Table.from_batches([batch]))
            verb = f"INSERT INTO {target}" if made else f"CREATE OR REPLACE TEMP TABLE {target} AS"
            connection.execute(f"{verb} SELECT * FROM incoming")
            connection.unregister("incoming")
            made = True
        if not made:
            raise GraphError("G006", "the feature view has no rows", hint="load its batch source first")

    def _reader(self, name: str, source: FileSource) -> str:
        files = self.files(name, source)
        listed = "[" + ", ".join(_literal(str(path)) for path in files) + "]"
        if self._format(name, source, files) == "parquet":
            return f"read_parquet({listed}, union_by_name = true, hive_partitioning = false)"
        nulls = "[" + ", ".join(_literal(text) for text in source.null_values) + "]"
        delimiter = "\t" if source.delimiter == "," and ".tsv" in files[0].suffixes else source.delimiter
        return (  # types come from every row, so that a late value cannot break a run half-way
            f"read_csv({listed}, header = true, delim = {_literal(delimiter)}, nullstr = {nulls}, "
            "quote = '\"', escape = '\"', skip = 0, null_padding = false, sample_size = -1, "
            "union_by_name = true, hive_partitioning = false)"
        )

    def _format(self, name: str, source: FileSource, files: list[Path]) -> str:
        found = source.format or _EXTENSIONS.get(files[0].suffix.lower())
        if found is None:
            raise GraphError(
                "G002",
                f"the format of source {name!r} cannot be told from {files[0].name!r}",
                hint="add `format: parquet` or `format: csv`",
            )
        return found

    def files(self, name: str, source: FileSource) -> list[Path]:
        """The files of a source, sorted; G001 when there are none, G003 for an unknown variable."""
        pattern = self._root / self._expanded(name, source.path)
        if "://" in source.path:
            raise GraphError("G001", f"source {name!r} names a URL", hint="the engine reads local files only")
        if pattern.is_dir():
            pattern = pattern / "**" / "*.parquet" if source.format != "csv" else pattern / "**" / "*.csv"
        if pattern.is_file():
            return [pattern]
        found = sorted(Path(path) for path in glob.glob(str(pattern), recursive=True))  # noqa: PTH207
        files = [path for path in found if path.is_file()]
        if not files:
            near = [path.name for path in pattern.parent.glob("*")] if pattern.parent.is_dir() else []
            hint = did_you_mean(pattern.name, near) if near else f"the folder {pattern.parent} does not exist"
            raise GraphError("G001", f"source {name!r} has no file: {pattern}", hint=hint)
        return files

    def _expanded(self, name: str, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in self._variables:
                raise GraphError(
                    "G003",
                    f"source {name!r} uses the variable ${{{match[1]}}}, which star.yaml does not define",
                    hint=did_you_mean(match[1], list(self._variables)) or "define it under `variables`",
                )
            return self._variables[match[1]]

        return re.sub(r"\$\{([^}]*)\}", value, text)

    def _query(self, name: str, source: SqlSource, sources: Sources) -> str:
        by_lower = {other.lower(): other for other in sources if other != name}

        def relation(mentioned: str) -> str | None:
            found = by_lower.get(mentioned.lower())
            return self.relation(found, sources) if found else None

        return checked_query(source.sql, f"the query of source {name!r}", relation, self._deny)

    def _url(self, name: str, source: TableSource) -> str:
        if source.connection not in self._connections:
            raise GraphError(
                "G004",
                f"source {name!r} uses the connection {source.connection!r}, which star.yaml does not define",
                hint=did_you_mean(source.connection, list(self._connections)) or "define it under `connections`",
            )
        return self._connections[source.connection]

    def _feast(self, source: FeastSource) -> FeastView:
        repository = (
            self._root / self._expanded(source.feast, source.feature_repo) if source.feature_repo else self._feast_repo
        )
        if repository is None:
            raise GraphError(
                "G006", f"no Feast repository is known for {source.feast!r}", hint="set `feature_repo` of the source"
            )
        return open_view(source.feast, repository, self._deny)

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self, name: str, sources: Sources) -> SourceSnapshot:
        """The state of a source; reading a file's rows is skipped when the cache knows the file as it is."""
        source = sources[name]
        match source:
            case FileSource():
                return self._snapshot_files(name, sources, self.files(name, source), canonical(source))
            case SqlSource():
                return self._snapshot_query(name, source, sources)
            case FeastSource():
                view = self._feast(source)
                if view.files is None:
                    return self._snapshot_rows(self.relation(name, sources))
                files = self.files(name, FileSource(path=view.files))
                return self._snapshot_files(name, sources, files, [source.feast, view.columns])
            case TableSource():
                return self._snapshot_rows(self.relation(name, sources))

    def _snapshot_files(self, name: str, sources: Sources, files: list[Path], reading: Any) -> SourceSnapshot:
        content = hash_files(files, self._cache)
        state, settled = state_of(files)
        key = f"shape:{digest([content, state, reading, sorted(self._deny)])}"

        def describe() -> str:
            rows, columns = self._shape(self.relation(name, sources))
            size = sum(path.stat().st_size for path in files)
            return json.dumps(asdict(SourceSnapshot(content, rows, size, columns)))

        return SourceSnapshot(**json.loads(self._cache.get_or_make(key, describe, keep=settled)))

    def _snapshot_query(self, name: str, source: SqlSource, sources: Sources) -> SourceSnapshot:
        used: set[str] = set()
        by_lower = {other.lower(): other for other in sources if other != name}

        def note(mentioned: str) -> str | None:
            found = by_lower.get(mentioned.lower())
            if found:
                used.add(found)
            return found

        query = checked_query(source.sql, f"the query of source {name!r}", note, self._deny)
        inputs = {other: self.snapshot(other, sources) for other in sorted(used)}
        content = digest([query, {other: snapshot.hash for other, snapshot in inputs.items()}])
        size = sum(snapshot.bytes for snapshot in inputs.values())

        def describe() -> str:
            rows, columns = self._shape(self.relation(name, sources))
            return json.dumps(asdict(SourceSnapshot(content, rows, size, columns)))

        key = f"query:{digest([content, sorted(self._deny)])}"
        return SourceSnapshot(**json.loads(self._cache.get_or_make(key, describe)))

    def _snapshot_rows(self, relation: str) -> SourceSnapshot:
        """Hash of a loaded table that does not depend on the order of its rows: sums of their MD5s, and their count."""
        rows, columns = self._shape(relation)
        fields = ", ".join(f"coalesce({_identifier(c)}::VARCHAR, chr(1))" for c in sorted(columns))
        low, high, size = self._one(
            f"""SELECT sum(md5_number_lower(line)::HUGEINT), sum(md5_number_upper(line)::HUGEINT), sum(strlen(line))
                FROM (SELECT concat_ws(chr(31), {fields}) AS line FROM {_identifier(relation)})"""
        )
        content = digest([str(low), str(high), rows, dict(sorted(columns.items()))])
        return SourceSnapshot(content, rows, int(size or 0), columns)

    def _shape(self, relation: str) -> tuple[int, dict[str, str]]:
        described = self._connection().execute(f"DESCRIBE {_identifier(relation)}").fetchall()
        (rows,) = self._one(f"SELECT count(*) FROM {_identifier(relation)}")
        return int(rows), {str(row[0]): str(row[1]) for row in described}

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self._connection().execute(query).fetchone()
        return tuple(row or ())


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
