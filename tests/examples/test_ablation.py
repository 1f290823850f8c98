"""The ablation table on a small project: that runs differ in what they claim to, are kept, and are pooled rightly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.evaluation.auc import auc
from tests.text.tiny import WORDS, save_tiny_bert

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ablation" / "run.py"
pytestmark = pytest.mark.slow

VARIANTS = ("mean", "latest", "ppr", "per relation, thin", "densified", "no ids", "entity ids")
DAY = 86_400_000_000

STAR = """\
apiVersion: star/v1
project: shop
variables: {data: data}
"""
BRANCH = """\
apiVersion: star/v1
branch: visits
owner: shop@example.com
description: Who visited what.
status: ready
sources:
  people: {path: "${data}/people.parquet"}
  things: {path: "${data}/things.parquet"}
  visits: {path: "${data}/visits.parquet"}
nodes:
  kind: {kind: attribute}
  person: {kind: entity, source: people, key: person_id}
  thing: {kind: entity, source: things, key: thing_id}
edges:
  person-visits-thing:
    kind: interaction
    source: visits
    src: {node: person, key: person_id}
    dst: {node: thing, key: thing_id}
    timestamp: visited_at
  thing-is-of-kind:
    kind: attribute
    source: things
    src: {node: thing, key: thing_id}
    dst: {node: kind, key: kind, unknown: create}
features:
  kind.id: {kind: id, dim: 8}
  thing.content: {kind: vector, source: things, key: thing_id, column: content}
objectives:
  visit: {kind: link-prediction, edge: person-visits-thing, negatives: {kind: uniform}}
"""


def make_project(folder: Path, people: int = 150, things: int = 60, visits: int = 2500) -> Path:
    """People who visit things of mostly one kind, over a hundred days."""
    rng = np.random.default_rng(5)
    (folder / "signal_branches").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "star.yaml").write_text(STAR, encoding="utf-8")
    (folder / "signal_branches" / "visits.yaml").write_text(BRANCH, encoding="utf-8")
    kinds = np.arange(things) % 5
    content = np.eye(5, dtype=np.float32)[kinds] + rng.normal(0, 0.3, (things, 5)).astype(np.float32)
    who = rng.integers(people, size=visits)
    liked = np.where(rng.random(visits) < 0.8, who % 5, rng.integers(5, size=visits))
    what = liked + 5 * rng.integers(things // 5, size=visits)
    when = np.sort(rng.integers(100 * DAY, size=visits)) + 20_000 * DAY
    tables = {
        "people": {"person_id": np.arange(people)},
        "things": {"thing_id": np.arange(things), "kind": [f"k{kind}" for kind in kinds], "content": list(content)},
        "visits": {"person_id": who, "thing_id": what, "visited_at": pa.array(when, pa.timestamp("us", tz="UTC"))},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / "data" / f"{name}.parquet")
    return folder


def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    make_project(folder / "shop")
    table(folder, *VARIANTS)
    return folder


def table(work: Path, *variants: str) -> dict[str, Any]:
    """The table of two seeds, trained for an epoch where it is not yet."""
    call(
        *("--project", str(work / "shop"), "--out", str(work / "out")),
        *("--seeds", "2", "--epochs", "1", "--only", *variants),
    )
    found: dict[str, Any] = json.loads((work / "out" / "shop" / "table.json").read_text(encoding="utf-8"))
    return found


def runs(work: Path) -> dict[tuple[str, int], Path]:
    paths = (work / "out" / "shop").glob("*/run.json")
    found = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {(run["variant"], run["seed"]): folder for folder, run in found.items()}


def test_a_run_differs_from_the_base_in_its_factor_alone(work: Path) -> None:
    settings = {
        key: json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
        for key, folder in runs(work).items()
    }
    assert settings.keys() == {(name, seed) for name in ("base", *VARIANTS) for seed in (0, 1)}
    differing = {
        name: {key for key, value in settings[name, 1].items() if value != settings["base", 1][key]}
        for name in VARIANTS
    }
    assert differing == {
        "mean": {"encoder"},
        "latest": {"strategy"},
        "ppr": {"strategy"},
        "per relation, thin": {"budget", "fan_outs"},
        "densified": {"densify"},
        "no ids": set(),
        "entity ids": set(),
    }
    assert settings["base", 0] == settings["base", 1] | {"seed": 0}


def test_models_are_shown_what_a_variant_says(work: Path) -> None:
    found = {
        name: json.loads((runs(work)[name, 0] / "config.json").read_text(encoding="utf-8"))
        for name in ("base", "ppr", "densified", "no ids", "entity ids")
    }
    ids = {
        name: sorted(node for node, specs in each["inputs"].items() if any(spec["kind"] == "id" for spec in specs))
        for name, each in found.items()
    }
    assert ids["base"] == ["kind"]
    assert ids["no ids"] == []
    assert ids["entity ids"] == ["kind", "person", "thing"]
    relations = {name: {relation for _, relation, _ in each["relations"]} for name, each in found.items()}
    assert relations["densified"] - relations["base"] == {"similar_thing"}
    assert relations["ppr"] >= {"ppr__thing__person"}
    assert not relations["ppr"] & relations["base"]


def test_differences_are_paired_by_seed_and_member(work: Path) -> None:
    found = table(work, *VARIANTS)
    (visit,) = found["objectives"].values()
    rows = visit["variants"]
    assert rows.keys() == {"base", *VARIANTS}
    assert "auc_difference" not in rows["base"]
    labels = np.concatenate([np.ones(visit["positives"]), np.zeros(visit["positives"] * found["negatives"])])
    folders = runs(work)
    for name in VARIANTS:
        single = []
        for seed in (0, 1):
            values = []
            for variant in (name, "base"):
                with np.load(folders[variant, seed] / "scores.npz") as scores:
                    values.append(auc(labels, scores["visit/pairs"]))
            assert rows[name]["auc"]["by_seed"][str(seed)] == pytest.approx(values[0])
            single.append(values[0] - values[1])
        difference = rows[name]["auc_difference"]
        assert difference["value"] == pytest.approx(np.mean(single))
        assert difference["spread"] == pytest.approx(np.std(single, ddof=1))
        assert difference["low"] <= difference["value"] <= difference["high"]
        wide = rows[name]["auc"]["high"] - rows[name]["auc"]["low"]
        assert difference["high"] - difference["low"] < 2 * wide


def test_a_second_call_trains_nothing_and_a_killed_one_goes_on(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "work"
    shutil.copytree(work, copy)
    before = {key: (path / "run.json").stat().st_mtime_ns for key, path in runs(copy).items()}
    first = table(copy, *VARIANTS)
    assert {key: (path / "run.json").stat().st_mtime_ns for key, path in runs(copy).items()} == before
    killed = runs(copy)["mean", 1]
    (killed / "run.json").unlink()
    (killed / "scores.npz").write_bytes(b"half")
    again = table(copy, *VARIANTS)
    assert (killed / "run.json").stat().st_mtime_ns != before["mean", 1]
    assert again["objectives"] == first["objectives"]
    text = (copy / "out" / "shop" / "table.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in ("base", *VARIANTS))


def test_a_variant_that_is_not_there_is_told(work: Path) -> None:
    done = call("--project", str(work / "shop"), "--out", str(work / "out"), "--only", "bigger", check=False)
    assert done.returncode != 0
    assert "no variant 'bigger'" in done.stderr
    assert "per relation" in done.stderr


def test_an_encoder_inside_is_compared_with_one_before(tmp_path: Path) -> None:
    """Frozen inside it makes the model of `embedding`; trained along, another one that keeps its adapter."""
    shop = make_project(tmp_path / "shop", visits=1200)
    bert = tmp_path / "bert"
    bert.mkdir()
    save_tiny_bert(bert)
    (shop / "star.yaml").write_text(f"{STAR}text: {{encoder: {bert}}}\n", encoding="utf-8")
    things = pq.read_table(shop / "data" / "things.parquet")
    said = [f"we hire {WORDS[10 + number % 5]} number {number}" for number in range(things.num_rows)]
    pq.write_table(things.append_column("said", pa.array(said)), shop / "data" / "things.parquet")
    branch = shop / "signal_branches" / "visits.yaml"
    feature = "  thing.said: {kind: text, source: things, key: thing_id, columns: [said]}\n"
    branch.write_text(BRANCH.replace("objectives:", f"{feature}objectives:"), encoding="utf-8")
    call("--project", str(shop), "--out", str(tmp_path / "out"), "--seeds", "1", "--text-modes")

    folder = tmp_path / "out" / "shop-text-modes"
    found = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    rows = found["objectives"]["visit"]["variants"]
    names = ["embedding", "embedding, small", "embedding, wide", "frozen", "co-train", "co-train, small"]
    assert sorted(rows) == sorted(names)
    assert rows["frozen"]["auc"]["value"] == pytest.approx(rows["embedding"]["auc"]["value"], abs=0.02)
    kept = {path.parent.parent.name.rpartition("-0-")[0] for path in folder.glob("*/text/adapter_model.safetensors")}
    assert kept == {"co-train", "co-train-small"}
