"""Where nodes come from: rows of their own source, ends of edges that create them; and who opted out."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph.inputs import Compiler
from star_platform.graph.keys import as_key, canonical_type
from star_platform.graph.needs import creators, opt_outs_of
from star_platform.graph.rows import edge_rows, microseconds


@dataclass(frozen=True)
class Mentions:
    """`rows` has `id` (never null, never of one who opted out), `created` (microseconds or null) and `declared` (1
    for a row of the node type's own source, else 0).
    """

    rows: ir.Table
    key_type: dt.DataType
    declared: ir.Table | None
    """`id` of every row of the node type's own source, with nulls."""
    gone: ir.Table | None
    """`id` of those who opted out."""


@dataclass(frozen=True)
class _Part:
    """`table` has `key` as its source types it, and `created`."""

    table: ir.Table
    what: str


def mentions(compiler: Compiler, node: str) -> Mentions:
    """Every row that names a node of this type.

    Raises:
        GraphError: G022 when nothing can name one, G014 when their ids have different types.
    """
    declared, brought = _declared(compiler, node), _brought(compiler, node)
    parts = [*([declared] if declared else []), *brought]
    if not parts:
        raise GraphError(
            "G022",
            f"node type {node!r} has no source, and no edge creates nodes of it",
            hint="give it `source` and `key`, or set `unknown: create` on the end of an edge that names it",
        )
    target = canonical_type(parts[0].table.key.type(), parts[0].what)
    keyed = [
        part.table.select(
            id=as_key(part.table.key, target, part.what, node),
            created=part.table.created,
            declared=ibis.literal(int(part is declared), "int8"),
        )
        for part in parts
    ]
    gone = opted_out(compiler, node, target)
    kept = [table.filter(table.id.notnull()) for table in keyed]
    kept = [table if gone is None else table.anti_join(gone, "id") for table in kept]
    rows = kept[0]
    if brought:  # loaded one after the other: in one query, DuckDB would need the memory of all at once
        reduced = [kept[0] if declared else kept[0].distinct(), *(table.distinct() for table in kept[1:])]
        rows = compiler.engine.loaded(list(zip(reduced, kept, strict=True)), f"node type {node!r}")
    return Mentions(rows, target, keyed[0].select("id") if declared else None, gone)


def opted_out(compiler: Compiler, node: str, key_type: dt.DataType) -> ir.Table | None:
    """Distinct ids that left this node type, as a table of `id`; None where no opt-out concerns it."""
    tables = []
    for name in opt_outs_of(compiler.spec, node):
        signal = compiler.spec.signals["opt_out", name]
        opt_out = signal.definition
        table = compiler.engine.table(opt_out.source, signal.sources)
        if opt_out.where is not None:
            table = compiler.engine.where(table, opt_out.where, f"`where` of the opt-out {name!r}")
        column = compiler.engine.column(table, opt_out.source, opt_out.key)
        key = table.select(id=as_key(column, key_type, f"key {opt_out.key!r} of the opt-out {name!r}", node))
        tables.append(key.filter(key.id.notnull()))
    return ibis.union(*tables, distinct=True) if len(tables) > 1 else tables[0].distinct() if tables else None


def _declared(compiler: Compiler, node: str) -> _Part | None:
    definition = compiler.spec.nodes[node]
    if definition.source is None or definition.key is None:
        return None
    engine, signal = compiler.engine, compiler.spec.signals["node", node]
    table = engine.table(definition.source, signal.sources)
    created = ibis.null("int64")
    if definition.created_at is not None:
        column = engine.column(table, definition.source, definition.created_at)
        created = microseconds(column, f"created_at {definition.created_at!r} of node type {node!r}")
    key = engine.column(table, definition.source, definition.key)
    return _Part(table.select(key=key, created=created), f"key {definition.key!r} of node type {node!r}")


def _brought(compiler: Compiler, node: str) -> list[_Part]:
    """Ends of edges with `unknown: create`; rows that the edge type itself drops create nothing."""
    found = []
    for edge in creators(compiler.spec, node):
        rows = edge_rows(compiler, edge).table
        whole = rows.src.notnull() & rows.dst.notnull()
        rows = rows.filter(whole & rows.time.notnull() if "time" in rows.columns else whole)
        definition = compiler.spec.edges[edge]
        for side, end in (("src", definition.src), ("dst", definition.dst)):
            if end.node == node and end.unknown == "create":
                table = rows.select(key=rows[side], created=ibis.null("int64"))
                found.append(_Part(table, f"key {end.key!r} of edge type {edge!r}"))
    return found
