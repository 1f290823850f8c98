"""Features with an array: categorical codes, standardised numbers, vectors that somebody else computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph.inputs import Compiler
from star_platform.graph.nodes import ROW_GROUP
from star_platform.graph.npy import NpyWriter
from star_platform.graph.rows import number
from star_platform.graph.values import NodeRows, laid_out, node_rows, source_table
from star_platform.planning.spec import Signal
from star_platform.registry.artefacts import Artefact
from star_platform.signals.model import CategoricalFeature, NumericFeature, VectorFeature

_ROWS = 1 << 18
_FLOATS = 1 << 22
"""Numbers held at a time while vectors are written."""


def build_feature(compiler: Compiler, feature: str, nodes: Artefact, fingerprint: str) -> Artefact:
    """Artefact `features`: `values.npy` and `present.npy`, or `indptr.npy` and `valid_from.npy` (see `graph.storage`).

    Details: `feature, kind, dim, versioned, newest, rows, dropped: {null_key, unknown_key, opted_out, duplicate,
    null_valid_from}`; for categorical `rare` and `vocabulary` (its file), for numeric `columns, mean, std`.

    Raises:
        GraphError: G010, G011, G013, G014, G017 (vectors), G018 (numbers), and what reading its source raises.
    """
    found = compiler.store.find("features", fingerprint)
    if found is not None:
        return found
    signal = compiler.spec.signals["feature", feature]
    with (
        compiler.store.create("features", fingerprint) as draft,
        compiler.progress.task(f"feature {feature}", int(nodes.details["nodes"]), "nodes") as task,
    ):
        match signal.definition:
            case CategoricalFeature():
                rows, details = _categorical(compiler, signal, nodes, draft.path)
            case NumericFeature():
                rows, details = _numeric(compiler, signal, nodes, draft.path)
            case VectorFeature():
                rows, details = _vector(compiler, signal, nodes, draft.path)
            case other:
                raise TypeError(f"a feature of kind {other.kind!r} has no array of its own")
        task.advance(rows.nodes)
        draft.details |= common_details(feature, signal.definition.kind, rows) | details
    return compiler.store.open("features", fingerprint)


def common_details(feature: str, kind: str, rows: NodeRows) -> dict[str, Any]:
    """What the manifest says of every feature that has rows."""
    return {
        "feature": feature,
        "kind": kind,
        "versioned": rows.versioned,
        "newest": rows.newest,
        "rows": rows.rows,
        "dropped": dict(rows.dropped),
    }


def _categorical(compiler: Compiler, signal: Signal, nodes: Artefact, folder: Path) -> tuple[NodeRows, dict[str, Any]]:
    """int32 codes: 1.. for the values of `vocabulary.parquet` in its order, 0 for null and for rare values."""
    definition = signal.definition
    table = source_table(compiler, signal)
    text = compiler.engine.column(table, definition.source, definition.column).cast("string")
    rows = node_rows(compiler, signal, nodes, {"value": text})
    known = rows.table.filter(rows.table.value.notnull()).group_by("value").agg(nodes=lambda t: t["index"].nunique())
    frequent = known.filter(known.nodes >= definition.min_count).select("value").order_by("value")
    vocabulary = compiler.engine.fetch(frequent, rows.what)
    pq.write_table(vocabulary.combine_chunks(), folder / "vocabulary.parquet", row_group_size=ROW_GROUP)
    rare = compiler.engine.fetch(known.aggregate(n=known.count(where=known.nodes < definition.min_count)), rows.what)
    write_codes(compiler, rows, folder, folder / "vocabulary.parquet", "values")
    return rows, {
        "dim": len(vocabulary) + 1,
        "rare": int(rare.column("n")[0].as_py() or 0),
        "vocabulary": "vocabulary.parquet",
    }


def write_codes(compiler: Compiler, rows: NodeRows, folder: Path, vocabulary: Path, name: str) -> None:
    """int32 array `<name>.npy`: 1 + row of each node's value in the vocabulary file, 0 where there is none."""
    codes = compiler.engine.ids(vocabulary, "value")
    joined = rows.table.left_join(codes, rows.table.value == codes.id)
    coded = joined.select(
        joined["index"],
        *([joined.valid_from] if rows.versioned else []),
        value=(joined.index_right + 1).fill_null(0).cast("int32"),
    )
    # Where rows of one node tie, the known value comes before "missing", and then the last in the vocabulary.
    coded = coded.mutate(value=(-coded.value).cast("int32"))
    with NpyWriter(folder / f"{name}.npy", np.int32) as out:
        for piece in laid_out(replace(rows, table=coded), folder, _ROWS):
            values = np.zeros(piece.rows, np.int32)
            values[piece.at] = np.abs(piece.columns.column("value").to_numpy())
            out.append(values)


def _numeric(compiler: Compiler, signal: Signal, nodes: Artefact, folder: Path) -> tuple[NodeRows, dict[str, Any]]:
    """float32[m, 2 d]: the d columns transformed, then d flags that are 1 where the column was null.

    Mean and standard deviation are those of all rows, in double precision, over fixed chunks: the same for every run.
    """
    definition, engine, count = signal.definition, compiler.engine, len(signal.definition.columns)
    table = source_table(compiler, signal)
    values = {
        f"value{i}": number(engine.column(table, definition.source, column), f"column {column!r} of {signal.name!r}")
        for i, column in enumerate(definition.columns)
    }
    rows = node_rows(compiler, signal, nodes, values)
    scratch = folder / "raw.npy"
    with NpyWriter(scratch, np.float64, count + 1) as out:  # the last column: 1 where the row has a source row
        for piece in laid_out(rows, folder, _ROWS):
            raw = np.full((piece.rows, count + 1), np.nan)
            for i, name in enumerate(values):
                raw[piece.at, i] = piece.columns.column(name).fill_null(np.nan).to_numpy(zero_copy_only=False)
            raw[piece.at, count] = 1.0
            out.append(_transformed(raw, definition.transform, signal.name))
    stored = np.load(scratch, mmap_mode="r")
    mean, std = _moments(stored, count) if definition.transform != "none" else (np.zeros(count), np.ones(count))
    with NpyWriter(folder / "values.npy", np.float32, 2 * count) as out:
        for low in range(0, len(stored), _ROWS):
            raw = np.array(stored[low : low + _ROWS])
            here, missing = raw[:, count:] == 1.0, np.isnan(raw[:, :count])
            standard = np.where(missing, 0.0, (raw[:, :count] - mean) / std)
            out.append(np.hstack([standard, missing & here]).astype(np.float32))
    scratch.unlink()
    details = {"dim": 2 * count, "columns": list(definition.columns), "mean": mean.tolist(), "std": std.tolist()}
    return rows, details


def _transformed(raw: Any, transform: str, name: str) -> Any:
    if np.isinf(raw).any():
        raise GraphError("G018", f"feature {name!r} holds infinite numbers", hint="make them null in a `sql:` source")
    if transform == "log1p":
        if (raw[:, :-1] < 0).any():
            raise GraphError(
                "G018", f"feature {name!r} holds negative numbers, which log1p cannot take", hint="use `standard`"
            )
        raw[:, :-1] = np.log1p(raw[:, :-1])
    return raw


def _moments(stored: Any, count: int) -> tuple[Any, Any]:
    """Mean and population standard deviation per column, nulls left out; 0 and 1 where nothing varies."""
    total, valid, squares = np.zeros(count), np.zeros(count), np.zeros(count)
    for low in range(0, len(stored), _ROWS):
        chunk = np.array(stored[low : low + _ROWS, :count])
        total += np.nansum(chunk, axis=0)
        valid += (~np.isnan(chunk)).sum(axis=0)
    mean = total / np.maximum(valid, 1)
    for low in range(0, len(stored), _ROWS):
        squares += np.nansum((np.array(stored[low : low + _ROWS, :count]) - mean) ** 2, axis=0)
    std = np.sqrt(squares / np.maximum(valid, 1))
    return mean, np.where(std > 1e-12 * np.maximum(np.abs(mean), 1e-300), std, 1.0)


def _vector(compiler: Compiler, signal: Signal, nodes: Artefact, folder: Path) -> tuple[NodeRows, dict[str, Any]]:
    """float32[m, dim]; a null vector is an absent row."""
    definition = signal.definition
    table = source_table(compiler, signal)
    column = compiler.engine.column(table, definition.source, definition.column)
    kind = column.type()
    if not (kind.is_array() and kind.value_type.is_numeric()):
        raise GraphError(
            "G017", f"column {definition.column!r} of {signal.name!r} has type {kind}, which is not a list of numbers"
        )
    value = column.cast("array<float32>")
    rows = node_rows(compiler, signal, nodes, {"value": value}, {"tie": value.hash()})
    dim = _dim(compiler, rows, definition.dim, signal.name)
    rows = _without_null(rows)
    with NpyWriter(folder / "values.npy", np.float32, dim) as out:
        for piece in laid_out(rows, folder, max(2048, _FLOATS // max(dim, 1))):
            values = np.zeros((piece.rows, dim), np.float32)
            flat = pc.list_flatten(piece.columns.column("value"))
            numbers = flat.to_numpy(zero_copy_only=False)
            if flat.null_count or not np.isfinite(numbers).all():
                raise GraphError(
                    "G017",
                    f"feature {signal.name!r} holds vectors with null, infinite or NaN numbers",
                    hint="leave such vectors out in a `sql:` source",
                )
            values[piece.at] = numbers.reshape(len(piece.at), dim)
            out.append(values)
    return rows, {"dim": dim}


def _dim(compiler: Compiler, rows: NodeRows, declared: int | None, name: str) -> int:
    lengths = rows.table.select(n=rows.table.value.length()).filter(lambda t: t.n.notnull())
    query = lengths.aggregate(low=lengths.n.min(), high=lengths.n.max())
    low, high = compiler.engine.one(query, rows.what)
    if low is None:
        if declared is None:
            raise GraphError("G017", f"feature {name!r} has no vector, so its dim is unknown", hint="declare `dim`")
        return declared
    if low != high or (declared is not None and low != declared) or low == 0:
        expected = f"; {declared} is declared" if declared is not None else ""
        lengths_found = f"{low}" if low == high else f"{low} to {high}"
        raise GraphError("G017", f"feature {name!r} holds vectors of {lengths_found} numbers{expected}")
    return int(low)


def _without_null(rows: NodeRows) -> NodeRows:
    has = rows.table.value.notnull()
    query: ir.Table = rows.table.aggregate(n=rows.table.count(where=~has))
    rows.dropped["null_vector"] = int(rows.compiler.engine.one(query, rows.what)[0])
    return replace(rows, table=rows.table.filter(has))
