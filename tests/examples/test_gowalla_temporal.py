"""Temporal against uniform sampling on the check-ins of a few users: the way, not the figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gowalla_temporal" / "run.py"
USERS = 120


def call(out: Path, data: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--users", str(USERS), "--epochs", "1", "--seeds", "1", "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "STAR_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("gowalla") / "out"
    call(folder, real_data)
    return folder


def runs(out: Path) -> dict[str, dict[str, Any]]:
    paths = sorted((out / "runs" / f"{USERS}-users").glob("*/run.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return {run["variant"]: run for run in found}


@pytest.mark.real_data
def test_the_graph_holds_what_the_files_say(out: Path, real_data: Path) -> None:
    from star_platform.graph.storage import open_graph

    raw = real_data / "gowalla-temporal"
    visits: set[tuple[int, int, int]] = set()
    for part in ("train", "test"):
        lines = (raw / f"{part}.txt").read_text().splitlines(), (raw / f"time_{part}.txt").read_text().splitlines()
        for places, times in zip(*lines, strict=True):
            user, *rest = map(int, places.split())
            if user < USERS:
                visits |= {(user, *pair) for pair in zip(rest, map(int, times.split()[1:]), strict=True)}
    (folder,) = (out / "artefacts" / "graph").iterdir()
    graph = open_graph(folder)
    edges = graph.edges_named("user-visits-place")
    users, places = (np.array(graph.ids(node).to_pylist(), dtype=np.int64) for node in ("user", "place"))
    assert edges.timestamps is not None
    found = zip(
        users[edges.indices].tolist(),
        places[edges.destinations()].tolist(),
        (np.asarray(edges.timestamps) // 1_000_000).tolist(),
        strict=True,
    )
    assert set(found) == visits
    created, first = graph.created_at("place"), np.full(len(places), np.iinfo(np.int64).max)
    np.minimum.at(first, edges.destinations(), np.asarray(edges.timestamps))
    assert created is not None
    np.testing.assert_array_equal(created, first - first % 86_400_000_000)


@pytest.mark.real_data
def test_all_are_judged_on_the_same_later_examples(out: Path) -> None:
    found = runs(out)
    assert found.keys() == {"base", "uniform", "uniform, timeless"}
    assert {name: run["settings"]["strategy"] for name, run in found.items()} == {
        "base": "latest",
        "uniform": "uniform",
        "uniform, timeless": "uniform",
    }
    parts = [run["training"]["objectives"] for run in found.values()]
    assert parts[0] == parts[1] == parts[2]
    assert {run["training"]["test_start"] for run in found.values()} == {found["base"]["training"]["test_start"]}
    table = json.loads((out / "runs" / f"{USERS}-users" / "table.json").read_text(encoding="utf-8"))
    (visit,) = table["objectives"].values()
    assert visit["positives"] > 500
    assert visit["members"] > USERS / 2
    values = [row["auc"]["value"] for row in visit["variants"].values()]
    assert len(set(values)) == 3  # the timeless one has learned something else
    assert values[0] > 0.6


@pytest.mark.real_data
def test_a_second_call_trains_nothing(out: Path, real_data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("run.json")}
    assert len(before) == 3
    said = call(out, real_data).stdout
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("run.json")} == before
    assert "validation AUC" not in said
    assert "| uniform, timeless |" in said


def test_without_the_data_it_says_where_it_looked(tmp_path: Path) -> None:
    done = call(tmp_path / "out", tmp_path, check=False)
    assert done.returncode != 0
    assert str(tmp_path / "gowalla-temporal") in done.stderr
