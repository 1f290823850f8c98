"""Edge types: the engine maps ids to indices, `sorting` sorts and deduplicates, both directions are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr import types as ir

from star_platform.errors import GraphError
from star_platform.graph import csc
from star_platform.graph.inputs import Compiler
from star_platform.graph.keys import as_key
from star_platform.graph.nodes import key_type_of, with_opted_out
from star_platform.graph.rows import EdgeRows, edge_rows
from star_platform.graph.sorting import Batch, Layout, Merge, Sorter, Written
from star_platform.graph.storage import REVERSE_PREFIX
from star_platform.planning.spec import Signal
from star_platform.registry.artefacts import Artefact

_EXAMPLES = 3
_REVERSE_ROWS = 1 << 20


def build_edges(compiler: Compiler, edge: str, src: Artefact, dst: Artefact, fingerprint: str) -> Artefact:
    """Artefact `edges`: the arrays of `graph.storage`, below `<edge>/` and, for `reverse: true`, below `rev_<edge>/`.

    Args:
        compiler: spec, engine and store.
        edge: name of the edge type.
        src: node artefact of its source node type.
        dst: node artefact of its destination node type.
        fingerprint: of the artefact to make.

    Details: `edge, src, dst, kind, edges, reverse, dated, weighted, labels, newest (microseconds or None), rows,
    null_weights, dropped: {where, window, null_key, null_timestamp, opted_out, unknown_src, unknown_dst, duplicate}`.

    Raises:
        GraphError: G010, G011, G013, G014, G015 (unknown endpoints under `unknown: error`), G018, G021, and what
            reading its source raises.
    """
    found = compiler.store.find("edges", fingerprint)
    if found is not None:
        return found
    signal = compiler.spec.signals["edge", edge]
    rows = edge_rows(compiler, edge)
    weight = signal.definition.weight
    layout = Layout(rows.dated, rows.weight_column, rows.labels)
    merge = Merge(signal.definition.dedupe, csc.AGGREGATES.index(weight.aggregate) if weight is not None else -1)
    sizes = (int(src.details["nodes"]), int(dst.details["nodes"]))
    counts = np.zeros(len(csc.COUNTS), np.int64)
    mapped = Mapped(compiler, signal, rows, src, dst)
    with compiler.store.create("edges", fingerprint) as draft:
        with compiler.progress.task(f"edges {edge}", rows.read - sum(rows.dropped.values()), "rows") as task:
            sorter = Sorter(compiler.engine, layout, merge)
            written = sorter.write(mapped.batches(layout), sizes[1], draft.path / edge, counts, task.advance)
        mapped.check(counts)
        if signal.definition.reverse:
            final = Layout(rows.dated, merge.how >= 0, rows.labels)
            back = _stored_batches(draft.path / edge, final)
            with compiler.progress.task(f"edges {REVERSE_PREFIX}{edge}", written.edges, "edges") as task:
                sorter = Sorter(compiler.engine, final, Merge("none", 0 if final.weighted else -1))
                sorter.write(back, sizes[0], draft.path / (REVERSE_PREFIX + edge), counts, task.advance)
        draft.details |= _details(mapped, layout, merge, counts, written)
    return compiler.store.open("edges", fingerprint)


@dataclass(frozen=True)
class Mapped:
    """The rows of an edge type with node indices in place of external ids."""

    compiler: Compiler
    signal: Signal
    rows: EdgeRows
    src: Artefact
    dst: Artefact

    @property
    def what(self) -> str:
        return f"edge type {self.signal.name!r}"

    def _joined(self) -> ir.Table:
        """`rows` with `src_key`, `dst_key` and, where known, `src_index`, `dst_index`."""
        rows, edge = self.rows.table, self.signal.definition
        others = [column for column in rows.columns if column not in ("src", "dst")]
        keyed = rows.select(
            *others,
            src_key=as_key(rows.src, key_type_of(self.src), f"key {edge.src.key!r} of {self.what}", edge.src.node),
            dst_key=as_key(rows.dst, key_type_of(self.dst), f"key {edge.dst.key!r} of {self.what}", edge.dst.node),
        )
        for side, nodes in (("src", self.src), ("dst", self.dst)):
            known = self._known(nodes, side)
            keyed = keyed.left_join(known, keyed[f"{side}_key"] == known[f"{side}_id"]).drop(f"{side}_id")
        return keyed

    def _known(self, nodes: Artefact, side: str) -> ir.Table:
        """`<side>_id` and `<side>_index` of every node, with OPTED_OUT for those that left."""
        ids = with_opted_out(self.compiler, nodes, ibis.literal(csc.OPTED_OUT, "int32"))
        return ids.select(ids.id.name(f"{side}_id"), ids.index.name(f"{side}_index"))

    def batches(self, layout: Layout) -> Iterator[Batch]:
        """Batches of dst, src and the layout's other columns; csc's negative codes stand for missing nodes."""
        joined = self._joined()
        columns: dict[str, ir.Value] = {}
        for side in ("dst", "src"):
            missing = ibis.ifelse(joined[f"{side}_key"].isnull(), csc.NULL_KEY, csc.UNKNOWN).cast("int32")
            columns[side] = joined[f"{side}_index"].fill_null(missing)
        if layout.dated:
            columns["time"] = joined.time.fill_null(csc.NULL_TIME)
        if layout.weighted:
            columns["weight"] = joined.weight.fill_null(float("nan"))
        columns |= {f"label{index}": joined[f"label{index}"] for index in range(len(layout.labels))}
        for batch in self.compiler.engine.batches(joined.select(**columns), self.what):
            yield tuple(_numpy(column) for column in batch.columns)

    def check(self, counts: Any) -> None:
        """Refuse rows that the declaration does not allow; G015, G018, G021."""
        count = dict(zip(csc.COUNTS, counts.tolist(), strict=True))
        if count["bad_label"]:
            raise GraphError(
                "G021",
                f"{count['bad_label']} labels of {self.what} are numbers other than 0 and 1",
                hint="derive a boolean in a `sql:` source, such as `rating >= 4 AS liked`",
            )
        if count["bad_weight"]:
            raise GraphError("G018", f"{count['bad_weight']} weights of {self.what} are infinite")
        edge = self.signal.definition
        for side, end in (("src", edge.src), ("dst", edge.dst)):
            unknown = count[f"unknown_{side}"]
            if unknown and end.unknown != "drop":
                examples = ", ".join(self._unknown(side))
                raise GraphError(
                    "G015",
                    f"{unknown} edges of {self.what} have a {side} that is no known {end.node}, such as {examples}",
                    hint="set `unknown: drop` or `unknown: create` on that end, or complete the node's source",
                )

    def _unknown(self, side: str) -> list[str]:
        """Pseudonyms of some unknown ids."""
        joined = self._joined()
        key = joined[f"{side}_key"]
        unknown = joined.filter(key.notnull() & joined[f"{side}_index"].isnull()).select(key=key)
        found = self.compiler.engine.fetch(unknown.order_by("key").limit(16 * _EXAMPLES), self.what)
        distinct = list(dict.fromkeys(found.column("key").to_pylist()))
        return self.compiler.pseudonymiser.pseudonyms(distinct[:_EXAMPLES])


def _numpy(column: pa.Array[Any]) -> Any:
    array = column.to_numpy(zero_copy_only=False)
    return array if array.flags.writeable else np.asarray(array)


def _stored_batches(folder: Path, layout: Layout) -> Iterator[Batch]:
    """The finished edges of a folder, a piece at a time, with source and destination exchanged."""
    indptr = np.load(folder / "indptr.npy", mmap_mode="r")
    names = ["indices", *(["timestamps"] if layout.dated else []), *(["weights"] if layout.weighted else [])]
    names += [f"label.{label}" for label in layout.labels]
    for low in range(0, int(indptr[-1]), _REVERSE_ROWS):
        high = min(low + _REVERSE_ROWS, int(indptr[-1]))
        # mapped anew for each piece: pages of earlier pieces do not stay in this process
        source, *rest = (np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[low:high]) for name in names)
        target = np.empty(high - low, np.int32)
        csc.expand(indptr, low, high, target)
        yield (source, target, *rest)


def _details(mapped: Mapped, layout: Layout, merge: Merge, counts: Any, written: Written) -> dict[str, Any]:
    edge, count = mapped.signal.definition, dict(zip(csc.COUNTS, counts.tolist(), strict=True))
    duplicates = written.rows - written.edges
    return {
        "edge": mapped.signal.name,
        "src": edge.src.node,
        "dst": edge.dst.node,
        "kind": edge.kind,
        "reverse": edge.reverse,
        "edges": written.edges,
        "dated": layout.dated,
        "weighted": merge.how >= 0,
        "labels": list(layout.labels),
        "newest": written.newest,
        "rows": mapped.rows.read,
        "null_weights": count["null_weight"],
        "dropped": {
            **mapped.rows.dropped,
            **{reason: count[reason] for reason in csc.REASONS},
            "duplicate": duplicates,
        },
    }
