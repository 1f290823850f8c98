"""An input larger than the memory limit compiles, in a process whose peak stays near the limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS, LIMIT_MB = 5_000_000, 64

PROGRAM = """
import json, resource, sys
from pathlib import Path
from star_platform.signals.model import FileSource
from tests.graph.world import World

folder, size = Path(sys.argv[1]), sys.argv[2]
world = World(folder / size, memory_limit="{limit}MB", threads=1)
world.sources = {{name: FileSource(path=f"../{{size}}-{{name}}.parquet") for name in ("people", "views")}}
world.node("person", "people", "id", created_at="made").node("page")
ends = ("person", "a"), ("page", "b")
world.edge("views", "views", *ends, timestamp="t", src_unknown="create", dst_unknown="create")
assert world.graph().manifest["edges"]["views"]["edges"] > 0
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def tables(folder: Path, size: str, rows: int) -> int:
    """People, and views by them and by strangers; returns bytes of the views as rows in memory."""
    folder.joinpath(size).mkdir()
    connection = duckdb.connect(config={"preserve_insertion_order": False})
    person, page = "lpad((hash(i) % {n})::VARCHAR, 20, 'p')", "lpad((hash(-i) % 1000)::VARCHAR, 30, 'x')"
    connection.execute(
        f"COPY (SELECT {person.format(n=rows // 10)} AS id, now()::TIMESTAMP AS made FROM range({rows // 10}) r(i)) "
        f"TO '{folder / size}-people.parquet'"
    )
    connection.execute(
        f"COPY (SELECT {person.format(n=rows // 8)} AS a, {page} AS b, "
        f"TIMESTAMP '2024-01-01' + to_seconds((hash(i) % 1000000)::BIGINT) AS t FROM range({rows}) r(i)) "
        f"TO '{folder / size}-views.parquet'"
    )
    connection.close()
    return rows * (20 + 30 + 8)


def peak_mb(folder: Path, size: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(limit=LIMIT_MB), str(folder), size],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return float(json.loads(done.stdout.splitlines()[-1]))


def test_an_input_larger_than_the_memory_limit(tmp_path: Path) -> None:
    """Twice the rows, hardly more memory: what grows with the input is on disk."""
    half_mb, whole_mb = (tables(tmp_path, size, rows) / 1e6 for size, rows in (("half", ROWS // 2), ("whole", ROWS)))
    assert half_mb > 2 * LIMIT_MB
    half, whole = peak_mb(tmp_path, "half"), peak_mb(tmp_path, "whole")
    assert whole - half < 0.3 * (whole_mb - half_mb), (half, whole)
