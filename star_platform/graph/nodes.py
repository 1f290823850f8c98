"""Node types: distinct external ids in ascending order, without those that opted out, and when each came to exist."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.datatypes as dt
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph.inputs import Compiler
from star_platform.graph.keys import arrow_type, named_type, type_name
from star_platform.graph.mentions import Mentions, mentions, opted_out
from star_platform.graph.npy import NpyWriter
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
    mentioned = mentions(compiler, node)
    dated = definition.created_at is not None
    with compiler.store.create("nodes", fingerprint) as draft:
        with compiler.progress.task(f"nodes {node}", unit="nodes") as task:
            # Sorted and not DISTINCT: DuckDB's sort keeps to its memory limit, its aggregation of text does not always.
            rows = mentioned.rows.order_by("id", mentioned.rows.created.asc(), mentioned.rows.declared.desc())
            exact = mentioned.key_type.is_uuid()
            batches = compiler.engine.batches(rows, what, rows=ROW_GROUP // 2, exact=exact)
            written = _write(batches, arrow_type(mentioned.key_type), draft.path, dated, task)
        if written.nodes > MAX_NODES:
            raise GraphError("G019", f"{what} has {written.nodes} nodes; the format holds {MAX_NODES} per type")
        draft.details |= {
            "node": node,
            "kind": definition.kind,
            "key_type": type_name(mentioned.key_type),
            "nodes": written.nodes,
            "created_at": dated,
            "newest": written.newest,
            **_counts(compiler, mentioned, written, what),
        }
    compiler.engine.unload(mentioned.rows)
    return compiler.store.open("nodes", fingerprint)


def key_type_of(nodes: Artefact) -> dt.DataType:
    """The id type that a node artefact was built with."""
    return named_type(nodes.details["key_type"])


def with_opted_out(compiler: Compiler, nodes: Artefact, index: ir.IntegerScalar) -> ir.Table:
    """`id` and `index` of every node, and of every id that opted out of the node type, with the given index."""
    known = compiler.engine.ids(nodes.path / "ids.parquet")
    gone = opted_out(compiler, str(nodes.details["node"]), key_type_of(nodes))
    return known if gone is None else known.union(gone.select("id", index=index))


@dataclass
class _Written:
    nodes: int = 0
    declared: int = 0
    """How many of them the node type's own source lists."""
    newest: int | None = None


def _write(batches: Iterator[pa.RecordBatch], kind: pa.DataType, folder: Path, dated: bool, task: Task) -> _Written:
    """Stream sorted mentions to disk, the first of each id."""
    written = _Written()
    schema = pa.schema([pa.field("id", kind)])
    pending, waiting = [schema.empty_table()], 0
    with ExitStack() as stack:
        writer = stack.enter_context(pq.ParquetWriter(folder / "ids.parquet", schema, use_dictionary=False))
        created = stack.enter_context(NpyWriter(folder / "created_at.npy", np.int64)) if dated else None
        last: pa.Scalar[pa.DataType] | None = None
        for batch in batches:
            if len(batch) == 0:
                continue
            first = _first_of_each(batch.column("id"), last)
            last = batch.column("id")[-1]
            table = pa.Table.from_batches([batch if first.all() else batch.filter(pa.array(first))])
            written.nodes += len(table)
            written.declared += int(pc.sum(table.column("declared")).as_py() or 0)
            if created is not None:
                times = table.column("created").fill_null(pa.scalar(ALWAYS)).to_numpy()
                newest = int(times.max(initial=ALWAYS))
                written.newest = max(written.newest or newest, newest) if newest > ALWAYS else written.newest
                created.append(times)
            pending.append(table.select(["id"]).cast(schema))
            waiting += len(table)
            task.advance(len(table))
            if waiting >= ROW_GROUP:
                pending, waiting = _flush(writer, pending, waiting - waiting % ROW_GROUP)
        _flush(writer, pending, waiting)
    return written


def _first_of_each(ids: pa.Array[pa.Scalar[pa.DataType]], last: object) -> npt.NDArray[np.bool_]:
    """Which of the sorted ids differ from the one before; `last` is the one before the first."""
    if isinstance(ids, pa.ExtensionArray):
        ids = ids.storage
    first = np.ones(len(ids), bool)
    first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    before = last.value if isinstance(last, pa.ExtensionScalar) else last
    first[0] = before is None or ids[0] != before
    return first


def _flush(writer: pq.ParquetWriter, pending: list[pa.Table], rows: int) -> tuple[list[pa.Table], int]:
    """Write the first `rows` rows; what is left waits for the next row group."""
    table = pa.concat_tables(pending).combine_chunks()
    writer.write_table(table.slice(0, rows), row_group_size=ROW_GROUP)
    rest = table.slice(rows)
    return [rest], len(rest)


def _counts(compiler: Compiler, mentioned: Mentions, written: _Written, what: str) -> dict[str, int | dict[str, int]]:
    """Rows of the declared source, nodes that only edges brought, and what was dropped and why."""
    rows = keys = lost_rows = lost = 0
    if mentioned.declared is not None:
        ids = mentioned.declared
        rows, keys = compiler.engine.one(ids.aggregate(rows=ids.count(), keys=ids.id.count()), what)
        if mentioned.gone is not None:
            left = ids.semi_join(mentioned.gone, "id")
            lost_rows, lost = compiler.engine.one(left.aggregate(rows=left.count(), ids=left.id.nunique()), what)
    duplicate = keys - lost_rows - written.declared + (lost_rows - lost)
    return {
        "rows": rows,
        "created_by_edges": written.nodes - written.declared,
        "dropped": {"null_key": rows - keys, "opted_out": lost, "duplicate": duplicate},
    }
