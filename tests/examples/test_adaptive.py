"""The example of the adaptive fan-out, on a market of two thousand nodes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "adaptive"
SIZE = {"nodes": 2_000, "edges": 10_000, "reads": 20_000, "saves": 3_000}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adaptive_run", EXAMPLE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module


def test_runs_are_made_once_compared_and_drawn(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "QUICK", SIZE)
    arguments = ["--quick", "--seeds", "1", "--folder", str(tmp_path)]
    example.main(arguments)
    text = capsys.readouterr().out
    assert all(f"| {strategy} | {mode} |" in text for strategy in example.STRATEGIES for mode in example.MODES)
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "quick").glob("*.json")}
    assert len(made) == 4
    assert all((tmp_path / "quick" / f"{strategy}.svg").exists() for strategy in example.STRATEGIES)
    sides = {mode: json.loads((tmp_path / "quick" / f"uniform-{mode}-1.json").read_text()) for mode in example.MODES}
    assert sides["fixed"]["steps"] == sides["adaptive"]["steps"]
    assert sides["fixed"]["edges"] > sides["adaptive"]["edges"]
    assert sides["adaptive"]["fan_out"][0]["fan_out"] == 2
    assert sides["adaptive"]["fan_out"][-1]["fan_out"] == max(example.SETTINGS["fan_outs"])
    example.main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "quick").glob("*.json")} == made
    assert [row["strategy"] for row in told["rows"]] == list(example.STRATEGIES)


def test_the_market_has_a_signal_and_times(example: Any) -> None:
    market = example.Market(**SIZE, seed=3)
    reads = market.edges_named("reads")
    assert reads.timestamps is not None
    texts = market.features("job")[0].values
    assert texts is not None
    by_member = market.edges_named("rev_reads")
    counted = np.flatnonzero(np.diff(by_member.indptr) >= 8)

    def spread(neighbours: Any) -> float:
        of = [texts[neighbours[by_member.indptr[v] : by_member.indptr[v + 1]]].mean(0) for v in counted]
        return float(np.stack(of).std())

    shuffled = np.random.default_rng(0).permutation(by_member.indices)
    assert spread(by_member.indices) > 1.2 * spread(shuffled)  # what a member reads has something in common
    again = example.Market(**SIZE, seed=3).edges_named("saves")
    assert np.array_equal(again.indices, market.edges_named("saves").indices)


def test_the_interval_is_students(example: Any) -> None:
    mean, low, high = example.interval([0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.2 - 4.3027 * 0.1 / 3**0.5, 0.2 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)
    assert example.interval([0.1]) == (0.1, float("-inf"), float("inf"))
