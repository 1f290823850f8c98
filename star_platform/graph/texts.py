"""Text features: the columns of each row joined into one text, one per node or one per version; vectors come later."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr import types as ir

from star_platform.graph.features import common_details
from star_platform.graph.inputs import Compiler
from star_platform.graph.values import laid_out, node_rows, source_table
from star_platform.registry.artefacts import Artefact

ROW_GROUP = 1 << 16


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def md5(text: str) -> str:  # type: ignore[empty-body]
    """DuckDB's MD5 of a text, as hex."""


SEPARATOR = "\n"


def build_texts(compiler: Compiler, feature: str, nodes: Artefact, fingerprint: str) -> Artefact:
    """Artefact `texts`: `texts.parquet` (node int32, valid_from int64 or null, text), in the row order of the vectors.

    Columns are trimmed, empty ones left out, the others joined by a line break in the declared order. Without versions
    there is one row per node, with an empty text where the source has none, and `present.npy`; with versions
    `indptr.npy` and `valid_from.npy`. Details as `build_feature`, with `columns` and `texts` (rows).

    Raises:
        GraphError: as `build_feature`.
    """
    found = compiler.store.find("texts", fingerprint)
    if found is not None:
        return found
    signal = compiler.spec.signals["feature", feature]
    definition = signal.definition
    table = source_table(compiler, signal)
    parts = [
        compiler.engine.column(table, definition.source, column).cast("string").strip().nullif("")
        for column in definition.columns
    ]
    text: ir.Value = ibis.array(parts).filter(lambda part: part.notnull()).join(SEPARATOR).fill_null("")
    # Of several rows, one with a text is kept; which one is arbitrary and always the same.
    rows = node_rows(compiler, signal, nodes, {"text": text}, {"empty": text == "", "tie": md5(text)})
    columns: dict[str, pa.DataType] = {"node": pa.int32(), "valid_from": pa.int64(), "text": pa.string()}
    schema = pa.schema(columns)
    with (
        compiler.store.create("texts", fingerprint) as draft,
        compiler.progress.task(f"texts {feature}", rows.nodes, "nodes") as task,
    ):
        written = 0
        waiting: list[pa.Table] = []
        with pq.ParquetWriter(draft.path / "texts.parquet", schema, compression="zstd") as writer:
            for piece in laid_out(rows, draft.path, ROW_GROUP):
                texts = piece.columns.column("text")
                if len(texts) != piece.rows:  # nodes without a row in between: null, then empty
                    places = np.full(piece.rows, -1)
                    places[piece.at] = np.arange(len(piece.at))
                    texts = texts.take(pa.array(places, mask=places < 0)).fill_null("")
                valid = piece.columns.column("valid_from") if rows.versioned else pa.nulls(piece.rows, pa.int64())
                waiting.append(pa.table([pa.array(piece.node), valid, texts], schema=schema))
                written += piece.rows
                waiting = _flush(writer, waiting, last=False)
                task.advance(piece.rows)
            _flush(writer, waiting, last=True)
        draft.details |= common_details(feature, "text", rows)
        draft.details |= {"columns": list(definition.columns), "texts": written}
    return compiler.store.open("texts", fingerprint)


def _flush(writer: pq.ParquetWriter, waiting: list[pa.Table], *, last: bool) -> list[pa.Table]:
    """Write full row groups only (and the rest at the end): bytes do not depend on how pieces were cut."""
    rows = sum(len(table) for table in waiting)
    full = rows if last else rows - rows % ROW_GROUP
    if full == 0:
        return waiting
    table = pa.concat_tables(waiting).combine_chunks()
    writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP)
    return [table.slice(full)]
