"""The example of the public benchmark, on its first users."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gowalla" / "run.py"

pytestmark = pytest.mark.real_data


def run(what: str, data: Path, folder: Path, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    size = ["--users", "1500", "--threads", "1", "--json"]
    command = [
        sys.executable,
        str(EXAMPLE),
        what,
        "--data",
        str(data / "gowalla"),
        "--folder",
        str(folder),
        *size,
        *more,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def results(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_one_seed_learns_and_is_not_trained_again(tmp_path: Path, real_data: Path) -> None:
    (first,) = results(run("test", real_data, tmp_path, "--seeds", "0", "--epochs", "20"))
    found = first["parts"]["test"]
    assert found["users"] == 1500
    assert found["recall"] > 0.04  # of 40,981 items: by chance 0.0005
    assert found["ndcg"] > 0.03
    kept = tmp_path / "test" / "seed-0" / "result.json"
    changed = kept.stat().st_mtime_ns
    assert results(run("test", real_data, tmp_path, "--seeds", "0", "--epochs", "20")) == [first]
    assert kept.stat().st_mtime_ns == changed
    other = run("test", real_data, tmp_path, "--seeds", "0", "--epochs", "19", check=False)
    assert other.returncode != 0
    assert "other settings" in other.stderr


def test_tuning_cuts_the_last_pairs_of_every_user_off(tmp_path: Path) -> None:
    lists = {"train_minus_valid": ["0 9 3 7 1 8 2 6 5", "1 4 0"], "valid": ["0 4", "1 2"], "test": ["0 0", "1 1"]}
    for name, lines in lists.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    early, later = runpy.run_path(str(EXAMPLE))["earlier_and_later"](tmp_path, 2)
    assert later.users.tolist() == [0, 1]
    assert later.items.tolist() == [5, 0]
    assert early.items.tolist() == [1, 2, 3, 6, 7, 8, 9, 4]


def test_without_the_data_it_says_where_it_looked(tmp_path: Path, real_data: Path) -> None:
    done = run("test", tmp_path, tmp_path, check=False)
    assert done.returncode != 0
    assert str(tmp_path) in done.stderr
