"""Rows that say something about nodes: joined to node indices, put in order, laid out one per node or as versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr import types as ir

from star_platform.graph import csc
from star_platform.graph.inputs import Compiler
from star_platform.graph.keys import as_key
from star_platform.graph.nodes import key_type_of, with_opted_out
from star_platform.graph.npy import NpyWriter
from star_platform.graph.rows import microseconds
from star_platform.planning.spec import Signal
from star_platform.registry.artefacts import Artefact
from star_platform.signals.model import Cohort

_REASONS = {csc.NULL_KEY: "null_key", csc.OPTED_OUT: "opted_out", csc.UNKNOWN: "unknown_key"}


@dataclass(frozen=True)
class NodeRows:
    """`table` has `index` int32, `valid_from` int64 where versioned, and the value columns; every row has a node."""

    compiler: Compiler
    table: ir.Table
    nodes: int
    versioned: bool
    values: tuple[str, ...]
    rows: int
    dropped: dict[str, int]
    """By reason; `duplicate` is counted while the rows are laid out."""
    what: str
    newest: int | None
    """Newest `valid_from`, in microseconds."""
    ties: tuple[str, ...] = ()
    """Columns that decide which of several rows of a node and version is kept: the first; `values` when empty."""

    def batches(self, rows: int = 1 << 18) -> Iterator[pa.RecordBatch]:
        """In order of node and version."""
        order = ["index", *(["valid_from"] if self.versioned else [])]
        ties = [self.table[name].asc(nulls_first=False) for name in self.ties or self.values]
        query = self.table.order_by(*order, *ties).select(*order, *self.values)
        return self.compiler.engine.batches(query, self.what, rows=rows)


def node_rows(
    compiler: Compiler,
    signal: Signal,
    nodes: Artefact,
    values: Mapping[str, ir.Value],
    ties: Mapping[str, ir.Value] | None = None,
) -> NodeRows:
    """Rows of a feature or cohort, with what was dropped and why.

    `values` and `ties` are expressions over the signal's source table (`source_table`). Dropped are rows without key,
    of nodes that do not exist or opted out, without `valid_from` where it is declared, and repeated ones.
    """
    definition, engine = signal.definition, compiler.engine
    what = f"{signal.kind} {signal.name!r}"
    table = source_table(compiler, signal)
    column = engine.column(table, definition.source, definition.key)
    key = as_key(column, key_type_of(nodes), f"key of {what}", str(nodes.details["node"]))
    valid_from = None if isinstance(definition, Cohort) else definition.valid_from
    columns: dict[str, ir.Value] = {"key": key, **values, **(ties or {})}
    if valid_from is not None:
        columns["valid_from"] = microseconds(
            engine.column(table, definition.source, valid_from), f"valid_from {valid_from!r} of {what}"
        )
    rows = table.select(**columns)
    known = with_opted_out(compiler, nodes, ibis.literal(csc.OPTED_OUT, "int32"))
    joined = rows.left_join(known, rows.key == known.id)
    missing = ibis.ifelse(joined.key.isnull(), csc.NULL_KEY, csc.UNKNOWN).cast("int32")
    joined = joined.mutate(index=joined["index"].fill_null(missing)).drop("key", "id")
    versioned = valid_from is not None
    whole = (joined["index"] >= 0) & joined.valid_from.notnull() if versioned else joined["index"] >= 0
    total, dropped, newest = _counts(compiler, joined, whole, versioned, what)
    return NodeRows(
        compiler=compiler,
        table=joined.filter(whole),
        nodes=int(nodes.details["nodes"]),
        versioned=versioned,
        values=tuple(values),
        rows=total,
        dropped=dropped,
        what=what,
        newest=newest,
        ties=tuple(ties or ()),
    )


def source_table(compiler: Compiler, signal: Signal) -> ir.Table:
    """The source of a signal, without denied columns."""
    return compiler.engine.table(signal.definition.source, signal.sources)


def _counts(
    compiler: Compiler, joined: ir.Table, whole: ir.BooleanValue, versioned: bool, what: str
) -> tuple[int, dict[str, int], int | None]:
    """Rows, dropped rows by reason, and the newest `valid_from`."""
    reasons = {name: joined.count(where=joined["index"] == code) for code, name in _REASONS.items()}
    if versioned:
        reasons["null_valid_from"] = joined.count(where=(joined["index"] >= 0) & joined.valid_from.isnull())
    newest = joined.valid_from.max(where=whole) if versioned else ibis.null("int64")
    query = joined.aggregate(total=joined.count(), newest=newest, **reasons)
    total, last, *counts = compiler.engine.one(query, what)
    return int(total), dict(zip(reasons, map(int, counts), strict=True)) | {"duplicate": 0}, last


@dataclass(frozen=True)
class Piece:
    """The next `rows` rows of the output: `columns` holds values for the rows `at`, the others have none."""

    rows: int
    at: Any
    """int64[k], ascending, in `[0, rows)`."""
    node: Any
    """int32[rows]: the node of each output row."""
    columns: pa.RecordBatch
    """k rows: `index`, `valid_from` where versioned, and the values."""


def laid_out(rows: NodeRows, folder: Path, most: int) -> Iterator[Piece]:
    """Output rows in pieces of at most about `most`; writes `present.npy`, or `indptr.npy` and `valid_from.npy`."""
    return _versions(rows, folder, most) if rows.versioned else _one_per_node(rows, folder, most)


def _first_of_each(rows: NodeRows, most: int) -> Iterator[pa.RecordBatch]:
    """Batches in order without repeated rows."""
    before: tuple[int, int] | None = None
    for batch in rows.batches(most):
        if len(batch) == 0:
            continue
        index = batch.column("index").to_numpy()
        other = batch.column("valid_from").to_numpy() if rows.versioned else np.zeros_like(index)
        keep = np.ones(len(index), bool)
        keep[1:] = (index[1:] != index[:-1]) | (other[1:] != other[:-1])
        keep[0] = before != (int(index[0]), int(other[0]))
        before = (int(index[-1]), int(other[-1]))
        rows.dropped["duplicate"] += int(len(keep) - keep.sum())
        yield batch if keep.all() else batch.filter(pa.array(keep))


def _versions(rows: NodeRows, folder: Path, most: int) -> Iterator[Piece]:
    counts = np.zeros(rows.nodes + 1, np.int64)
    with NpyWriter(folder / "valid_from.npy", np.int64) as valid_from:
        for batch in _first_of_each(rows, most):
            index = batch.column("index").to_numpy()
            np.add.at(counts, index + 1, 1)
            valid_from.append(batch.column("valid_from").to_numpy())
            yield Piece(len(index), np.arange(len(index)), index, batch)
    np.save(folder / "indptr.npy", np.cumsum(counts))


def _one_per_node(rows: NodeRows, folder: Path, most: int) -> Iterator[Piece]:
    next_node = 0
    with NpyWriter(folder / "present.npy", np.bool_) as present:

        def piece(count: int, at: Any, batch: pa.RecordBatch) -> Piece:
            here = np.zeros(count, bool)
            here[at] = True
            present.append(here)
            return Piece(count, at, np.arange(next_node, next_node + count, dtype=np.int32), batch)

        last: pa.RecordBatch | None = None
        for batch in _first_of_each(rows, most):
            last = batch
            index = batch.column("index").to_numpy().astype(np.int64)
            low = 0
            while low < len(index):
                end = min(next_node + most, int(index[-1]) + 1)
                high = int(np.searchsorted(index, end))
                yield piece(end - next_node, index[low:high] - next_node, batch.slice(low, high - low))
                next_node, low = end, high
        if last is None:
            empty = {name: pa.array([], rows.table[name].type().to_pyarrow()) for name in ("index", *rows.values)}
            last = pa.RecordBatch.from_pydict(empty)
        while next_node < rows.nodes:
            end = min(next_node + most, rows.nodes)
            yield piece(end - next_node, np.empty(0, np.int64), last.slice(0, 0))
            next_node = end
