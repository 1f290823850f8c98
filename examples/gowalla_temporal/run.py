"""Temporal against uniform sampling on Gowalla's check-ins, judged on later ones; README.md has the table.

Everything is kept under `--out`: a run that was killed goes on, and a second one only prints the table.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "ablation"))

from runs import Study, compile_project, run_all  # noqa: E402
from table import pooled, write  # noqa: E402
from variants import Variant  # noqa: E402

from star_platform.graph.storage import ALWAYS, Graph  # noqa: E402
from star_platform.project import Project  # noqa: E402

SHARED = HERE.parents[2] / "shared" / "data"
MICROSECONDS = 1_000_000
TABLES = ("check_ins", "kinds")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--users", type=int, help="read this many users only, to see that it works")
    parser.add_argument("--epochs", type=int, help="instead of what star.yaml says")
    parser.add_argument("--out", type=Path, default=HERE / ".star")
    given = parser.parse_args(arguments)
    study = open_study(given.out, given.users, given.epochs)
    run_all(study, VARIANTS, given.seeds)
    write(pooled(study, VARIANTS, given.seeds), study.folder)


def open_study(out: Path, users: int | None = None, epochs: int | None = None) -> Study:
    """The compiled project, and how its runs are trained and judged; nothing is trained yet."""
    name = "all" if users is None else f"{users}-users"
    data = out.resolve() / "data" / name
    prepare(Path(os.environ.get("STAR_DATA", SHARED)) / "gowalla-temporal", data, users)
    file = Project.open(HERE).file
    changes = {"variables": {"data": str(data)}, "artefacts": str(out.resolve() / "artefacts")}
    training = file.training.model_copy(update={} if epochs is None else {"max_epochs": epochs})
    graph, objectives = compile_project(Project(HERE, file.model_copy(update=changes)))
    return Study(graph, objectives, training, file.evaluation, out.resolve() / "runs" / name)


def timeless(graph: Graph) -> Graph:
    """The same graph, in which every place was always there: negatives come from the future as well."""
    return _Timeless(graph)


class _Timeless(Graph):
    def __init__(self, graph: Graph) -> None:
        vars(self).update(vars(copy.copy(graph)))

    def created_at(self, node: str) -> np.ndarray | None:
        created = super().created_at(node)
        return None if created is None else np.full_like(created, ALWAYS)


VARIANTS = (
    Variant("base", "latest neighbours, negatives that existed then", {"strategy": "latest"}),
    Variant("uniform", "sampler: any earlier neighbours", {"strategy": "uniform"}),
    Variant("uniform, timeless", "the same, and negatives of any time", {"strategy": "uniform"}, timeless),
)


# --- the raw files ----------------------------------------------------------------------------------------------------


def prepare(source: Path, target: Path, users: int | None) -> None:
    """Write `check_ins.parquet` and `kinds.parquet`, once; training and test files together, the split is ours."""
    if all((target / f"{name}.parquet").exists() for name in TABLES):
        return
    if not source.is_dir():
        raise SystemExit(f"there is no data in {source}: set STAR_DATA to the folder above it")
    target.mkdir(parents=True, exist_ok=True)
    parts = [read_check_ins(source, part, users) for part in ("train", "test")]
    user, place, seconds = (np.concatenate([part[column] for part in parts]) for column in range(3))
    moments = pa.array(seconds * MICROSECONDS, pa.timestamp("us", tz="UTC"))
    _put(pa.table({"user_id": user, "place_id": place, "visited_at": moments}), target / "check_ins.parquet")
    kinds = np.loadtxt(source / "cat.txt", dtype=np.int64)
    kinds = kinds[np.isin(kinds[:, 0], place)]
    _put(pa.table({"place_id": kinds[:, 0], "category_id": kinds[:, 1]}), target / "kinds.parquet")


def read_check_ins(source: Path, part: str, users: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, place and Unix second of every check-in of a file and its file of times, which agree line by line."""
    found: list[np.ndarray] = []
    with (source / f"{part}.txt").open() as places, (source / f"time_{part}.txt").open() as times:
        for one, other in zip(places, times, strict=True):
            row, moments = (np.array(line.split(), dtype=np.int64) for line in (one, other))
            if len(row) != len(moments) or row[0] != moments[0]:
                raise SystemExit(f"{part}.txt and time_{part}.txt disagree about user {row[0]}")
            if users is None or row[0] < users:
                found.append(np.stack([np.full(len(row) - 1, row[0]), row[1:], moments[1:]]))
    user, place, seconds = np.concatenate(found, axis=1)
    return user, place, seconds


def _put(table: pa.Table, path: Path) -> None:
    draft = path.with_suffix(".partial")
    pq.write_table(table, draft)
    draft.replace(path)


if __name__ == "__main__":
    main()
