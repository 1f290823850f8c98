"""Tables to graph: 30 M edges of 8 types with string ids in Parquet, to sorted CSC arrays on disk.

`python -m benchmarks.compile [--quick]` runs, back to back and each in a process of its own:

    ours     `star_platform.graph`: build_nodes, build_edges, assemble_graph, with checksums, manifest and fsync
    sql      plain DuckDB SQL that writes the same arrays: DISTINCT ids, two joins and ORDER BY per edge type,
             `np.save`; same threads and memory limit, unordered scans allowed, no checksums. Its arrays must equal
             ours bit for bit.
    pandas   the same edges in the same order as a DGL graph: `merge` on the ids of both ends, `sort_values`,
             `dgl.heterograph`, its CSC; nothing is written

Imports and compilation of kernels are not timed, in any of the three; peaks are those of the whole process. Edges are
not deduplicated and have no reverses, which spares the SQL its DISTINCT and its second sort.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._harness import in_subprocess, ratio, report, spread

EDGES = 30_000_000
QUICK_EDGES = 10_000_000
THREADS, MEMORY = 2, "1GB"
NODES = {"company": 40_000, "job": 320_000, "member": 800_000, "recruiter": 50_000, "skill": 42_000, "title": 25_000}
"""Node types at full size; 1.28 M nodes."""
RELATIONS: dict[str, tuple[str, str, float, bool]] = {  # name: source, destination, share of the edges, dated
    "member-applies-job": ("member", "job", 0.25, True),
    "member-saves-job": ("member", "job", 0.08, True),
    "recruiter-messages-member": ("recruiter", "member", 0.06, True),
    "job-has-title": ("job", "title", 0.06, False),
    "job-at-company": ("job", "company", 0.06, False),
    "job-needs-skill": ("job", "skill", 0.24, False),
    "member-at-company": ("member", "company", 0.08, False),
    "member-has-skill": ("member", "skill", 0.17, False),
}
START = "TIMESTAMP '2024-01-01'"


def generate(folder: Path, edges: int) -> None:
    """Parquet tables of nodes and edges: string ids, skewed degrees, rows in no order."""
    import duckdb

    con = duckdb.connect(config={"threads": THREADS, "memory_limit": "2GB", "temp_directory": str(folder / "tmp")})
    scale = edges / EDGES
    sizes = {node: max(100, int(count * scale)) for node, count in NODES.items()}
    for node, count in sizes.items():
        con.execute(
            f"COPY (SELECT '{node[0]}' || lpad(i::VARCHAR, 9, '0') AS id FROM range({count}) t(i) ORDER BY hash(i)) "
            f"TO '{folder / node}.parquet'"
        )
    for relation, (src, dst, share, dated) in RELATIONS.items():
        ends = _skewed(relation, src, sizes[src]), _skewed(relation, dst, sizes[dst])
        when = f", {START} + to_seconds((hash(i, '{relation}t') % 15552000)::BIGINT) AS at" if dated else ""
        con.execute(
            f"COPY (SELECT {ends[0]} AS src, {ends[1]} AS dst{when} FROM range({int(edges * share)}) t(i)) "
            f"TO '{folder / relation}.parquet'"
        )


def _skewed(relation: str, node: str, size: int) -> str:
    """An id of a node type with power-law degrees; hash() makes the table the same on every run."""
    unit = f"(hash(i, '{relation}', '{node}') % 1000003) / 1000003.0"
    return f"'{node[0]}' || lpad((hash(floor(pow({unit}, 3) * {size})::BIGINT, '{node}') % {size})::VARCHAR, 9, '0')"


# --- the three ways ---------------------------------------------------------------------------------------------------


def ours(data: Path, out: Path) -> Callable[[], None]:
    from star_platform.errors import Place
    from star_platform.graph.compile import Compiler, GraphParts, assemble_graph, build_edges, build_nodes
    from star_platform.graph.engine import Engine
    from star_platform.graph.privacy import Pseudonymiser
    from star_platform.planning.spec import GraphSpec, Signal
    from star_platform.registry.artefacts import ArtefactStore
    from star_platform.signals.model import Edge, Endpoint, FileSource, Node

    sources = {name: FileSource(path=f"{name}.parquet") for name in (*NODES, *RELATIONS)}

    def signal(kind: Any, name: str, definition: Any) -> Signal:
        return Signal(kind, name, definition, sources, "benchmark", "benchmark", Place("benchmark.yaml", 1, 1))

    signals = [signal("node", node, Node(kind="entity", source=node, key="id")) for node in NODES]
    for name, (src, dst, _, dated) in RELATIONS.items():
        edge = Edge(
            kind="interaction" if dated else "attribute",
            source=name,
            src=Endpoint(node=src, key="src"),
            dst=Endpoint(node=dst, key="dst"),
            timestamp="at" if dated else None,
            dedupe="none",
            reverse=False,
        )
        signals.append(signal("edge", name, edge))
    spec = GraphSpec({entry.key: entry for entry in signals})

    def compile_all(data: Path, out: Path) -> None:
        with Engine({}, {}, data, temp_dir=out / "tmp", memory_limit=MEMORY, threads=THREADS) as engine:
            compiler = Compiler(spec, engine, ArtefactStore(out / "store"), Pseudonymiser(bytes(32)))
            nodes = {node: build_nodes(compiler, node, node) for node in NODES}
            edges = {
                name: build_edges(compiler, name, nodes[src], nodes[dst], name)
                for name, (src, dst, _, _) in RELATIONS.items()
            }
            assemble_graph(compiler, GraphParts(nodes=nodes, edges=edges), "graph")

    warm = out / "warm"
    warm.mkdir(parents=True)
    generate(warm, 10_000)
    compile_all(warm, warm)
    return lambda: compile_all(data, out)


def sql(data: Path, out: Path) -> Callable[[], None]:
    import duckdb
    import numpy as np

    def compile_all() -> None:
        con = duckdb.connect(
            config={
                "threads": THREADS,
                "memory_limit": MEMORY,
                "temp_directory": str(out / "tmp"),
                "preserve_insertion_order": False,
            }
        )
        sizes = {}
        for node in NODES:
            folder = out / "nodes" / node
            folder.mkdir(parents=True)
            con.execute(
                f"CREATE TABLE {node} AS SELECT id, (row_number() OVER (ORDER BY id) - 1)::INTEGER AS index "
                f"FROM (SELECT DISTINCT id FROM '{data / node}.parquet')"
            )
            con.execute(f"COPY (SELECT id FROM {node} ORDER BY index) TO '{folder / 'ids.parquet'}'")
            sizes[node] = con.execute(f"SELECT count(*) FROM {node}").fetchall()[0][0]
        for name, (src, dst, _, dated) in RELATIONS.items():
            folder = out / "edges" / name
            folder.mkdir(parents=True)
            time_column = ", epoch_us(e.at) AS t" if dated else ""
            arrays = con.execute(
                f"SELECT d.index AS d, s.index AS s{time_column} FROM '{data / name}.parquet' e "
                f"JOIN {src} s ON e.src = s.id JOIN {dst} d ON e.dst = d.id ORDER BY d{', t' if dated else ''}, s"
            ).fetchnumpy()
            degrees = np.bincount(arrays["d"], minlength=sizes[dst])
            np.save(folder / "indptr.npy", np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64))
            np.save(folder / "indices.npy", np.asarray(arrays["s"]))
            if dated:
                np.save(folder / "timestamps.npy", np.asarray(arrays["t"]))
        con.close()

    return compile_all


def pandas(data: Path, _: Path) -> Callable[[], None]:
    import dgl
    import pandas as pd
    import torch

    def compile_all() -> None:
        ids = {}
        for node in NODES:
            table = pd.read_parquet(data / f"{node}.parquet").drop_duplicates("id").sort_values("id")
            ids[node] = table.assign(index=range(len(table)))
        tables = {name: pd.read_parquet(data / f"{name}.parquet") for name in RELATIONS}
        edges, times = {}, {}
        for name, (src, dst, _, dated) in RELATIONS.items():
            merged = tables.pop(name).merge(ids[src], left_on="src", right_on="id")
            merged = merged.merge(ids[dst], left_on="dst", right_on="id", suffixes=("_src", "_dst"))
            merged = merged.sort_values(["index_dst", *(["at"] if dated else []), "index_src"])
            ends = merged["index_src"].to_numpy(), merged["index_dst"].to_numpy()
            edges[src, name, dst] = (torch.from_numpy(ends[0]), torch.from_numpy(ends[1]))
            if dated:
                times[src, name, dst] = torch.from_numpy(merged["at"].astype("int64").to_numpy())
        graph = dgl.heterograph(edges, {node: len(table) for node, table in ids.items()})
        for edge_type, values in times.items():
            graph.edges[edge_type].data["time"] = values
        graph.create_formats_()

    return compile_all


WAYS = {"ours": ours, "sql": sql, "pandas": pandas}


def one(way: str, data: Path) -> dict[str, Any]:
    """Run one way in this process: seconds, peak memory, and a digest of the arrays it wrote."""
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        out = Path(folder)
        run = WAYS[way](data, out)
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        graph = out / "store" / "graph" / "graph" if way == "ours" else out
        arrays = sorted(graph.glob("edges/*/*.npy"))
        digest = hashlib.sha256()
        for path in arrays:
            digest.update(str(path.relative_to(graph)).encode() + path.read_bytes())
        return {"seconds": seconds, "peak_gb": peak, "arrays": digest.hexdigest() if arrays else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 M edges, under 50 seconds")
    parser.add_argument("--without-pandas", action="store_true", help="leave out the slow one")
    parser.add_argument("--run", nargs=2, metavar=("WAY", "DATA"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(one(arguments.run[0], Path(arguments.run[1]))))
        return
    edges = QUICK_EDGES if arguments.quick else EDGES
    rounds = {"ours": 2 if arguments.quick else 5, "sql": 2 if arguments.quick else 5, "pandas": 1}
    if not arguments.quick:
        rounds["pandas"] = 2
    if arguments.without_pandas:
        rounds["pandas"] = 0
    folder = Path(tempfile.mkdtemp(prefix="star-compile-"))
    try:
        data = folder / "data"
        data.mkdir()
        print(f"writing {edges:,} edges of {len(RELATIONS)} types", flush=True)
        generate(data, edges)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for turn in range(max(rounds.values())):
            for way in WAYS:
                if turn < rounds[way]:
                    result = in_subprocess("benchmarks.compile", "--run", way, str(data))
                    found[way].append(result)
                    print(f"{way:7} {result['seconds']:7.2f} s {result['peak_gb']:5.2f} GB", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len({result["arrays"] for way in ("ours", "sql") for result in found[way]}) != 1:
        raise SystemExit("the SQL did not write the same arrays")
    seconds = {way: [result["seconds"] for result in results] for way, results in found.items() if results}
    others = [way for way in ("pandas", "sql") if way in seconds]
    report(
        "compile",
        ratios={f"vs_{way}": round(ratio(seconds[way], seconds["ours"]), 3) for way in others},
        spread={f"vs_{way}": spread(seconds[way], seconds["ours"][: len(seconds[way])]) for way in others},
        figures={
            "peak_gb": round(max(result["peak_gb"] for result in found["ours"]), 3),
            **{f"peak_gb_{way}": round(max(r["peak_gb"] for r in found[way]), 3) for way in others},
            **{f"seconds_{way}": [round(value, 2) for value in values] for way, values in seconds.items()},
        },
        cases={"edges": edges, "edge_types": len(RELATIONS), "nodes": sum(NODES.values()), "rounds": rounds},
    )


if __name__ == "__main__":
    main()
