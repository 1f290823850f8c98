"""What a branch's own SQL may do: read the sources that it names, without denied columns, and nothing else.

Queries (`sql:`) and predicates (`where:`) are parsed with sqlglot before DuckDB sees them. A query is one SELECT over
sibling sources; it cannot name files, call functions that read them, or touch a denied column, not even inside a
struct or a JSON path.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope

from star_platform.errors import GraphError

DIALECT = "duckdb"
_TABLE_FUNCTIONS = {"unnest", "range", "generate_series"}
_WORLD_FUNCTIONS = {"getenv", "current_setting", "query", "query_table", "getvariable", "which_secret"}


def checked_query(sql: str, where: str, relation: Callable[[str], str | None], deny: Collection[str]) -> str:
    """The query with every source name replaced by the relation that holds it.

    Args:
        sql: the text of a `sql:` source.
        where: what to call the query in an error, such as ``source 'recent'``.
        relation: name of a source to the name of its relation in the engine; None for an unknown name.
        deny: denied column names, lower case.

    Raises:
        GraphError: G012 for SQL that is not one SELECT over known sources, G011 for a denied column.
    """
    tree = _parse(sql, where)
    if not isinstance(tree, exp.Query):
        raise GraphError("G012", f"{where} is not a SELECT statement", hint="a source is one SELECT over other sources")
    _check_expressions(tree, where, deny)
    try:
        # A table is a real source unless it is the name of a CTE in that scope, which sqlglot resolves.
        tables = {
            id(table): table
            for scope in traverse_scope(tree)
            for table in scope.sources.values()
            if isinstance(table, exp.Table)
        }
    except SqlglotError as error:
        raise GraphError("G012", f"{where}: {_first_line(error)}") from error
    for table in tables.values():
        _replace(table, where, relation)
    return str(tree.sql(dialect=DIALECT, comments=False))


def checked_predicate(sql: str, where: str, deny: Collection[str]) -> str:
    """A `where:` predicate, normalised; G012 when it is not one expression over the row, G011 for a denied column."""
    tree = _parse(f"SELECT 1 WHERE {sql}", where)
    if not isinstance(tree, exp.Select) or set(_arguments(tree)) != {"expressions", "where"}:
        raise GraphError("G012", f"{where} is not one predicate", hint="write a condition over the row's columns")
    if tree.find(exp.Table, exp.Subquery) or len(list(tree.find_all(exp.Select))) > 1:
        raise GraphError(
            "G012", f"{where} holds a query", hint="write the query as a `sql:` source and name that source instead"
        )
    _check_expressions(tree, where, deny)
    condition: exp.Expression = tree.args["where"].this
    return f"({condition.sql(dialect=DIALECT, comments=False)})"


def _arguments(tree: exp.Expression) -> list[str]:
    return [name for name, value in tree.args.items() if value]


def _parse(sql: str, where: str) -> exp.Expression:
    try:
        statements = sqlglot.parse(sql, read=DIALECT)
    except SqlglotError as error:
        raise GraphError("G012", f"{where} cannot be parsed: {_first_line(error)}") from error
    if len(statements) != 1 or statements[0] is None:
        raise GraphError("G012", f"{where} holds {len(statements)} statements", hint="write exactly one")
    return statements[0]


def _first_line(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()[0]


def _check_expressions(tree: exp.Expression, where: str, deny: Collection[str]) -> None:
    for node in tree.walk():
        if isinstance(node, exp.Func):
            name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
            if name in _WORLD_FUNCTIONS or name.startswith(("read_", "parquet_", "sniff_", "duckdb_", "pragma_")):
                raise GraphError("G012", f"{where} calls {name}(), which reads outside the declared sources")
        for name in _names(node):
            if name.lower() in deny:
                raise GraphError(
                    "G011",
                    f"{where} reads the denied column {name!r}",
                    hint="leave it out; `privacy.deny_columns` holds for every branch of the project",
                )


def _names(node: exp.Expression) -> list[str]:
    """Column names that this node of the tree may stand for; nested fields and JSON keys count."""
    if isinstance(node, exp.Identifier):
        return [node.name]
    if isinstance(node, exp.JSONPathKey):
        return [str(node.this)]
    if isinstance(node, exp.Literal) and node.is_string:
        parent = node.parent
        if isinstance(parent, exp.Func | exp.Bracket | exp.Dot | exp.JSONExtract | exp.JSONExtractScalar | exp.Columns):
            return re.findall(r"\w+", node.name)
    return []


def _replace(table: exp.Table, where: str, relation: Callable[[str], str | None]) -> None:
    if isinstance(table.this, exp.Func):
        name = table.this.name if isinstance(table.this, exp.Anonymous) else table.this.sql_name()
        if name.lower() not in _TABLE_FUNCTIONS:
            raise GraphError("G012", f"{where} calls {name.lower()}() as a table", hint="declare a source and name it")
        return
    found = relation(table.name) if not (table.args.get("db") or table.args.get("catalog")) else None
    if found is None:
        raise GraphError("G012", f"{where} reads {table.sql(dialect=DIALECT)}, which is not a source of its branch")
    if not table.alias:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))
    table.set("this", exp.to_identifier(found, quoted=True))


def did_you_mean(name: str, known: Collection[str]) -> str | None:
    """A hint with the nearest known names, or all of them when none is near."""
    lowered = {other.lower(): other for other in known}
    near = [lowered[other] for other in difflib.get_close_matches(name.lower(), lowered, n=2, cutoff=0.6)]
    if near:
        return "did you mean " + " or ".join(repr(other) for other in near) + "?"
    shown = sorted(known)[:12]
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return "known: " + ", ".join(shown) + more if shown else None
