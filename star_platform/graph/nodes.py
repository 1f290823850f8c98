"""Node types: distinct external ids in ascending order, without those that opted out, and when each came to exist."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph.inputs import Compiler
from star_platform.graph.keys import arrow_type, as_key, canonical_type, named_type, type_name
from star_platform.graph.needs import creators, opt_outs_of
from star_platform.graph.npy import NpyWriter
from star_platform.graph.rows import edge_rows, microseconds
from star_platform.graph.storage import ALWAYS
from star_platform.progress import Task
from star_platform.registry.artefacts import Artefact

ROW_GROUP = 1 << 17
"""Rows of a Parquet row group, always full but for the last: the bytes do not depend on how rows arrived."""
MAX_NODES = (1 << 31) - 1


def build_nodes(compiler: Compiler, node: str, fingerprint: str) -> Artefact:
    """Artefact `nodes`: `ids.parquet` (column `id`, ascending) and, where declared, `created_at.npy` int64[n].

    Details: `node, kind, key_type, nodes, created_at (bool), newest (microseconds or None), rows, created_by_edges,
    dropped: {null_key, duplicate, opted_out}`.

    Raises:
        GraphError: G010, G011, G013, G014, G016, G019, G022, and what reading its sources raises.
    """
    found = compiler.store.find("nodes", fingerprint)
    if found is not None:
        return found
    definition, what = compiler.spec.nodes[node], f"node type {node!r}"
    mentions = _mentions(compiler, node)
    gone = opted_out(compiler, node, mentions.id.type())
    kept = mentions.filter(mentions.id.notnull())
    kept = kept if gone is None else kept.anti_join(gone, "id")
    dated = definition.created_at is not None
    query = kept.group_by("id").agg(created=kept.created.min()) if dated else kept.select("id").distinct()
    with compiler.store.create("nodes", fingerprint) as draft:
        with compiler.progress.task(f"nodes {node}", unit="nodes") as task:
            batches = compiler.engine.batches(query.order_by("id"), what, exact=mentions.id.type().is_uuid())
            count, newest = _write(batches, arrow_type(mentions.id.type()), draft.path, dated, task)
        if count > MAX_NODES:
            raise GraphError("G019", f"{what} has {count} nodes; the format holds {MAX_NODES} per type")
        draft.details |= {
            "node": node,
            "kind": definition.kind,
            "key_type": type_name(mentions.id.type()),
            "nodes": count,
            "created_at": dated,
            "newest": newest,
            **_counts(compiler, node, mentions, gone, count),
        }
    return compiler.store.open("nodes", fingerprint)


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


def key_type_of(nodes: Artefact) -> dt.DataType:
    """The id type that a node artefact was built with."""
    return named_type(nodes.details["key_type"])


def _mentions(compiler: Compiler, node: str) -> ir.Table:
    """Every row that names a node of this type: `id`, `created` (microseconds or null), `declared` (by its source)."""
    found = _declared(compiler, node) + _created(compiler, node)
    if not found:
        raise GraphError(
            "G022",
            f"node type {node!r} has no source, and no edge creates nodes of it",
            hint="give it `source` and `key`, or set `unknown: create` on the end of an edge that names it",
        )
    target = canonical_type(found[0][0].key.type(), found[0][1])
    tables = [
        table.select(id=as_key(table.key, target, what, node), created=table.created, declared=table.declared)
        for table, what in found
    ]
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _declared(compiler: Compiler, node: str) -> list[tuple[ir.Table, str]]:
    definition = compiler.spec.nodes[node]
    if definition.source is None or definition.key is None:
        return []
    engine, signal = compiler.engine, compiler.spec.signals["node", node]
    table = engine.table(definition.source, signal.sources)
    created = ibis.null("int64")
    if definition.created_at is not None:
        column = engine.column(table, definition.source, definition.created_at)
        created = microseconds(column, f"created_at {definition.created_at!r} of node type {node!r}")
    key = engine.column(table, definition.source, definition.key)
    what = f"key {definition.key!r} of node type {node!r}"
    return [(table.select(key=key, created=created, declared=ibis.literal(True)), what)]


def _created(compiler: Compiler, node: str) -> list[tuple[ir.Table, str]]:
    """Ends of edges with `unknown: create`; rows that the edge type itself drops create nothing."""
    found = []
    for edge in creators(compiler.spec, node):
        rows = edge_rows(compiler, edge).table
        whole = rows.src.notnull() & rows.dst.notnull()
        rows = rows.filter(whole & rows.time.notnull() if "time" in rows.columns else whole)
        definition = compiler.spec.edges[edge]
        for side, end in (("src", definition.src), ("dst", definition.dst)):
            if end.node == node and end.unknown == "create":
                table = rows.select(key=rows[side], created=ibis.null("int64"), declared=ibis.literal(False))
                found.append((table, f"key {end.key!r} of edge type {edge!r}"))
    return found


def _write(
    batches: Iterator[pa.RecordBatch], kind: pa.DataType, folder: Path, dated: bool, task: Task
) -> tuple[int, int | None]:
    """Stream sorted ids to disk; returns how many, and the newest creation time."""
    count, newest = 0, ALWAYS
    schema = pa.schema([pa.field("id", kind)])
    pending, waiting = [schema.empty_table()], 0
    with ExitStack() as stack:
        writer = stack.enter_context(pq.ParquetWriter(folder / "ids.parquet", schema, use_dictionary=False))
        created = stack.enter_context(NpyWriter(folder / "created_at.npy", np.int64)) if dated else None
        for batch in batches:
            table = pa.Table.from_batches([batch])
            if created is not None:
                times = table.column("created").fill_null(pa.scalar(ALWAYS)).to_numpy()
                newest = max(newest, int(times.max(initial=ALWAYS)))
                created.append(times)
            pending.append(table.select(["id"]).cast(schema))
            waiting, count = waiting + len(table), count + len(table)
            task.advance(len(table))
            if waiting >= ROW_GROUP:
                pending, waiting = _flush(writer, pending, waiting - waiting % ROW_GROUP)
        _flush(writer, pending, waiting)
    return count, None if newest == ALWAYS else newest


def _flush(writer: pq.ParquetWriter, pending: list[pa.Table], rows: int) -> tuple[list[pa.Table], int]:
    """Write the first `rows` rows; what is left waits for the next row group."""
    table = pa.concat_tables(pending).combine_chunks()
    writer.write_table(table.slice(0, rows), row_group_size=ROW_GROUP)
    rest = table.slice(rows)
    return [rest], len(rest)


def _counts(
    compiler: Compiler, node: str, mentions: ir.Table, gone: ir.Table | None, kept: int
) -> dict[str, int | dict[str, int]]:
    """Rows of the declared source, nodes that only edges brought, and what was dropped and why."""
    engine, what = compiler.engine, f"node type {node!r}"
    declared = mentions.filter(mentions.declared)
    totals = engine.fetch(declared.aggregate(rows=declared.count(), keys=declared.id.count()), what).to_pylist()[0]
    out = 0
    if gone is not None:
        out = engine.fetch(declared.semi_join(gone, "id").aggregate(n=lambda t: t.id.nunique()), what).to_pylist()[0][
            "n"
        ]
    created, own = 0, kept
    if creators(compiler.spec, node):
        own = engine.fetch(declared.aggregate(n=declared.id.nunique()), what).to_pylist()[0]["n"] - out
        created = kept - own
    dropped = {"null_key": totals["rows"] - totals["keys"], "opted_out": out, "duplicate": totals["keys"] - own - out}
    return {"rows": totals["rows"], "created_by_edges": created, "dropped": dropped}
