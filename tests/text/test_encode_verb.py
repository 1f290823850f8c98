"""`text encode`: counts, files, ranks that share the texts out, and that a release finds the vectors."""

from __future__ import annotations

import hashlib
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

from star_platform.cli.app import main
from star_platform.errors import TextError
from star_platform.project import Project
from star_platform.text.filling import Share
from star_platform.text.normalise import normalise
from tests.release.conftest import make_project

PROGRAM = "import sys; from star_platform.cli.app import main; sys.exit(main())"
FEATURES = ["job.description", "member.headline"]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A project whose texts were encoded by one process, with tables."""
    project = make_project(tmp_path_factory.mktemp("encode") / "market")
    file = project.root / "star.yaml"
    content = file.read_text().replace("{encoder: tfidf-svd, dim: 16}", f"{{encoder: {tiny_bert}}}")
    file.write_text(content)
    assert _verb(project.root, "--out", str(project.root / "tables"))["features"]
    return project.root


def _verb(root: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """What `text encode --json` says, run as a process of its own."""
    command = [sys.executable, "-c", PROGRAM, "text", "encode", "--json", "--project", str(root), *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _without_vectors(root: Path, target: Path) -> Path:
    """A copy of the project that has its compiled texts, but no vector."""
    shutil.copytree(root, target)
    for path in (target / ".star").rglob("*"):
        if path.is_dir() and path.name in ("text", "text-cache"):
            shutil.rmtree(path)
    return target


def _values(root: Path) -> dict[str, bytes]:
    plan = Project.open(root).plan()
    stages = [stage for stage in plan.plan.stages if stage.kind == "text"]
    store = Project.open(root).store
    return {
        str(stage.subject): (store.open("text", stage.fingerprint).path / "values.npy").read_bytes() for stage in stages
    }


def test_the_table_says_whose_text_when_and_its_vector(encoded: Path) -> None:
    project = Project.open(encoded)
    names = sorted(path.stem for path in (encoded / "tables").glob("*.parquet"))
    assert names == FEATURES
    stages = {stage.name: stage for stage in project.plan().plan.stages}
    for name in names:
        table = pq.read_table(encoded / "tables" / f"{name}.parquet")
        assert table.column_names == ["key", "valid_from", "md5", "vector"]
        made = {kind: project.store.open(kind, stages[f"{kind}/{name}"].fingerprint) for kind in ("texts", "text")}
        texts = pq.read_table(made["texts"].path / "texts.parquet").column("text").to_pylist()
        clean = [normalise(text or "") for text in texts]
        expected = [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() if text else None for text in clean]
        assert table.column("md5").to_pylist() == expected
        values = np.load(made["text"].path / "values.npy")
        for i in (0, len(texts) // 2, len(texts) - 1):
            vector = table.column("vector")[i].as_py()
            assert vector is None if not clean[i] else np.array_equal(np.float32(vector), values[i])
    keys = pq.read_table(encoded / "tables" / "member.headline.parquet").column("key")
    ids = pq.read_table(project.store.open("nodes", stages["nodes/member"].fingerprint).path / "ids.parquet")
    assert set(keys.to_pylist()) == set(ids.column("id").to_pylist())


def test_a_second_run_encodes_nothing(encoded: Path) -> None:
    again = _verb(encoded)["features"]
    assert [item["feature"] for item in again] == FEATURES
    for item in again:
        assert (item["encoded"], item["cached"], item["skipped_share"]) == (0, item["texts"], 1.0)


def test_the_release_finds_the_vectors(encoded: Path) -> None:
    plan = Project.open(encoded).plan().plan
    assert {stage.action for stage in plan.stages if stage.kind == "text"} == {"reuse"}


def test_ranks_are_one_process_bit_for_bit(encoded: Path, tmp_path: Path) -> None:
    """Three processes at once, each told its rank as torchrun tells it; then one that only looks up."""
    root = _without_vectors(encoded, tmp_path / "market")
    command = [sys.executable, "-c", PROGRAM, "text", "encode", "--json", "--project", str(root)]
    processes = [
        subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "3"}, stdout=subprocess.PIPE)
        for rank in range(3)
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    one = {item["feature"]: item for item in _verb(root)["features"]}
    for place, name in enumerate(FEATURES):
        shares = [entry["features"][place] for entry in said]
        assert all(share["encoded"] > 0 for share in shares)
        # some headlines are descriptions too, which the same rank has by then
        assert sum(share["encoded"] + share["cached"] for share in shares) == one[name]["texts"]
        assert one[name]["encoded"] == 0
    assert _values(root) == _values(encoded)


def test_a_changed_text_costs_one_encode(encoded: Path, tmp_path: Path) -> None:
    root = tmp_path / "market"
    shutil.copytree(encoded, root)
    path = root / "data" / "jobs.parquet"
    table = pq.read_table(path)
    texts = table.column("description").to_pylist()
    texts[0] = "keeper of a lighthouse"
    pq.write_table(table.set_column(table.column_names.index("description"), "description", pa.array(texts)), path)
    encoded_now = {item["feature"]: item["encoded"] for item in _verb(root)["features"]}
    assert encoded_now == {"job.description": 1, "member.headline": 0}


def test_a_rank_that_is_none_is_told(encoded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", "encode", "--rank", "3", "--ranks", "3", "--project", str(encoded)]) == 1
    assert "T013" in capsys.readouterr().err
    with pytest.raises(TextError):
        Share(-1, 2)


def test_shares_cover_every_text_once() -> None:
    keys = np.random.default_rng(0).integers(0, 256, (1000, 16), np.uint8)
    masks = np.stack([Share(rank, 7).of(keys) for rank in range(7)])
    assert (masks.sum(0) == 1).all()
    assert masks.sum(1).min() > 100
