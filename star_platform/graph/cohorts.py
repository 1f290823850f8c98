"""Cohorts: a code per node and the name of each code."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from star_platform.errors import GraphError
from star_platform.graph.features import write_codes
from star_platform.graph.inputs import Compiler
from star_platform.graph.values import node_rows, source_table
from star_platform.registry.artefacts import Artefact

MAX_GROUPS = 10_000


def build_cohort(compiler: Compiler, cohort: str, nodes: Artefact, fingerprint: str) -> Artefact:
    """Artefact `cohorts`: `codes.npy` int32[n], an index into the details' `names`, -1 where the group is unknown.

    Details: `cohort, node, names, rows, dropped`.

    Raises:
        GraphError: G010, G011, G014, G023 (too many groups), and what reading its source raises.
    """
    found = compiler.store.find("cohorts", fingerprint)
    if found is not None:
        return found
    signal = compiler.spec.signals["cohort", cohort]
    definition, engine = signal.definition, compiler.engine
    table = source_table(compiler, signal)
    text = engine.column(table, definition.source, definition.column).cast("string")
    rows = node_rows(compiler, signal, nodes, {"value": text})
    groups = rows.table.select("value").filter(lambda t: t.value.notnull()).distinct().order_by("value")
    names = engine.fetch(groups.limit(MAX_GROUPS + 1), rows.what)
    if len(names) > MAX_GROUPS:
        raise GraphError(
            "G023",
            f"cohort {cohort!r} has more than {MAX_GROUPS} groups",
            hint=f"is {definition.column!r} the right column? Group it in a `sql:` source",
        )
    with compiler.store.create("cohorts", fingerprint) as draft:
        vocabulary = draft.path / "vocabulary.parquet"
        pq.write_table(names, vocabulary)
        write_codes(compiler, rows, draft.path, vocabulary, "codes")
        vocabulary.unlink()
        (draft.path / "present.npy").unlink()
        codes = np.load(draft.path / "codes.npy", mmap_mode="r+")
        codes -= 1
        codes.flush()
        draft.details |= {
            "cohort": cohort,
            "node": definition.node,
            "names": names.column("value").to_pylist(),
            "rows": rows.rows,
            "dropped": dict(rows.dropped),
        }
    return compiler.store.open("cohorts", fingerprint)
