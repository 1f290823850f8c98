"""`text finetune` on a small project: from branches to an adapter that a release can name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from star_platform.cli.app import main
from star_platform.project import Project
from star_platform.project.finetuning import compile_stages, settings, source, stages

from .worlds import KINDS

BRANCH = """\
apiVersion: star/v1
branch: market
owner: jobs@example.com
description: Members who apply to jobs, and what they skip.
status: ready
sources:
  jobs: {path: "data/jobs.parquet"}
  members: {path: "data/members.parquet"}
  applies: {path: "data/applies.parquet"}
  skips: {path: "data/skips.parquet"}
nodes:
  job: {kind: entity, source: jobs, key: job_id}
  member: {kind: entity, source: members, key: member_id}
edges:
  applies:
    kind: interaction
    source: applies
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: at
  skips:
    kind: interaction
    source: skips
    src: {node: job, key: job_id}
    dst: {node: member, key: member_id}
    timestamp: at
features:
  job.title: {kind: text, source: jobs, key: job_id, columns: [title]}
  member.headline: {kind: text, source: members, key: member_id, columns: [headline], valid_from: since}
objectives:
  apply: {kind: link-prediction, edge: applies, negatives: {kind: uniform}}
"""
STAR_YAML = """\
apiVersion: star/v1
project: market
engine: {{memory_limit: 500MB, threads: 1}}
evaluation: {{resamples: 100}}
text:
  encoder: {encoder}
  finetune:
    document: {{feature: job.title, prompt: "passage: ", max_tokens: 16}}
    profile: {{feature: member.headline, prompt: "query: ", max_tokens: 12}}
    positives: applies
    negatives: {negatives}
    split: {{validation_share: 0.25}}
    batch: {{size: 32, micro: 8}}
    lr: 0.01
    precision: float32
"""
DAY = np.timedelta64(1, "D")
START = np.datetime64("2026-01-01T00:00:00", "us")


@pytest.fixture
def market(tmp_path: Path, tiny_bert: Path) -> Path:
    """Thirty members who change their kind of work on day 10; they apply to the kind of the day."""
    rng = np.random.default_rng(0)
    job, member = rng.integers(0, 4, 40), rng.integers(0, 4, 30)
    (tmp_path / "data").mkdir()
    (tmp_path / "signal_branches").mkdir()
    (tmp_path / "signal_branches" / "market.yaml").write_text(BRANCH)
    headlines: list[tuple[int, Any, str]] = []
    rows: dict[str, list[tuple[int, int, Any]]] = {"applies": [], "skips": []}
    for m, kind in enumerate(member.tolist()):
        other = (kind + 1) % 4
        headlines += [(m, START, f"senior {KINDS[kind]}"), (m, START + 10 * DAY, f"senior {KINDS[other]}")]
        for day in range(1, 20):
            now = kind if day < 10 else other
            for name, fits in (("applies", job == now), ("skips", job != now)):
                chosen = int(rng.choice(np.flatnonzero(fits)))
                rows[name].append((m, chosen, START + day * DAY + np.timedelta64(m, "m")))
    titles = pa.table({"job_id": np.arange(40), "title": [f"we hire a {KINDS[kind]}" for kind in job]})
    pq.write_table(titles, tmp_path / "data" / "jobs.parquet")
    columns = zip(*headlines, strict=True)
    pq.write_table(
        pa.table(dict(zip(("member_id", "since", "headline"), columns, strict=True))),
        tmp_path / "data" / "members.parquet",
    )
    for name, found in rows.items():
        table = dict(zip(("member_id", "job_id", "at"), zip(*found, strict=True), strict=True))
        pq.write_table(pa.table(table), tmp_path / "data" / f"{name}.parquet")
    write(tmp_path, tiny_bert)
    return tmp_path


def write(root: Path, encoder: Path | str, negatives: str = "{edge: skips}") -> None:
    (root / "star.yaml").write_text(STAR_YAML.format(encoder=encoder, negatives=negatives))


def test_the_verb_makes_an_adapter_that_star_yaml_can_name(
    market: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["text", "finetune", "--project", str(market), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema_version"] == 1
    data = told["data"]
    assert data["split"]["by"] == "time"
    assert data["point_in_time"] == {"document": False, "profile": True}
    assert data["dropped_without"] == {"document": 0, "request": 0, "resume": 0}
    gain, tuned = told["validation"]["gain"], told["validation"]["finetuned"]
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert tuned["interval"]["low"] < tuned["auc"] < tuned["interval"]["high"]
    folder = Path(told["adapter"])
    assert folder.parent == market / "adapters"

    assert main(["text", "finetune", "--project", str(market)]) == 0  # again: the same bytes, so the same place
    printed = capsys.readouterr().out
    assert f"adapter         {folder}" in printed
    lines = printed[printed.index("text:\n") :]
    text = YAML(typ="safe", pure=True).load(lines)["text"]
    assert text == {
        "adapter": f"./adapters/{folder.name}",
        "prompts": {"job.title": "passage: ", "member.headline": "query: "},
        "limits": {"job.title": 16, "member.headline": 12},
    }
    given = YAML(typ="safe", pure=True).load((market / "star.yaml").read_text())
    given["text"] |= text
    with (market / "star.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(given, file)
    project = Project.open(market)
    assert project.encoder.describe()["encoder_kind"] == "encoder"
    bare = project.file.text.model_copy(update={"finetune": None})
    same = Project(market, project.file.model_copy(update={"text": bare}))
    assert same.encoder.fingerprint == project.encoder.fingerprint  # a release reads the adapter, not the section

    assert main(["text", "finetune", "--project", str(market), "--verify", str(folder)]) == 0
    assert "served as trained" in capsys.readouterr().out
    np.save(folder / "probe.npy", -np.load(folder / "probe.npy"))
    assert main(["text", "finetune", "--project", str(market), "--verify", str(folder)]) == 1
    assert "T027" in capsys.readouterr().err


def test_actions_have_the_text_of_their_day(market: Path, tiny_bert: Path) -> None:
    """An edge that points from job to member is turned round; a headline of later never reaches an action."""
    project = Project.open(market)
    config = settings(project)
    made = compile_stages(project, stages(config), config)
    found = source(config, made)
    actions, texts = found.actions, found.texts["profile"]
    assert int(actions.labels.sum()) == 30 * 19
    assert (np.bincount(actions.members[~actions.labels]) == 19).all()
    rows = texts.rows_at(actions.members, actions.times)
    second = START.astype(np.int64) + 10 * 86_400_000_000
    assert (texts.valid_from[rows] <= actions.times).all()
    assert ((texts.valid_from[rows] == second) == (actions.times >= second)).all()
    headlines = [text for part in texts.read(np.arange(len(texts.present))) for text in part]
    titles = [text for part in found.texts["document"].read(np.arange(40)) for text in part]
    for row, job, label in zip(rows.tolist(), actions.documents.tolist(), actions.labels.tolist(), strict=True):
        assert (headlines[row].split()[1] == titles[job].split()[3]) == label


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("positives: applies", "positives: aplies"), "T021", "there are applies, skips"),
        (("job.title,", "job.name,"), "T021", "job.title"),
        (("{edge: skips}", "{label: liked}"), "T021", "labels are compiled where an objective reads them"),
        (("  finetune:", "  unused:"), "", "unused"),
    ],
)
def test_wrong_names_are_told(
    change: tuple[str, str], code: str, said: str, market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = market / "star.yaml"
    file.write_text(file.read_text().replace(*change))
    assert main(["text", "finetune", "--project", str(market)]) != 0
    told = capsys.readouterr().err
    assert code in told
    assert said in told


def test_what_cannot_be_tuned_is_told(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(market, "tfidf-svd")
    assert main(["text", "finetune", "--project", str(market)]) == 1
    assert "T020" in capsys.readouterr().err
    (market / "star.yaml").write_text("apiVersion: star/v1\nproject: market\n")
    assert main(["text", "finetune", "--project", str(market)]) == 1
    assert "T028" in capsys.readouterr().err


def test_processes_of_torchrun_share_the_steps(market: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "star_platform.cli.app", "text", "finetune", "--project", str(market), "--json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["validation"]["rows"] > 0  # said once
    (folder,) = (market / "adapters").iterdir()
    assert main(["text", "finetune", "--project", str(market), "--verify", str(folder)]) == 0


def test_every_code_has_its_page() -> None:
    from star_platform.cli.explain import all_pages
    from star_platform.text.finetune.error_pages import ERROR_PAGES

    pages = all_pages()
    room = Path(__file__).parents[3] / "star_platform"
    files = [*(room / "text" / "finetune").glob("*.py"), room / "project" / "finetuning.py"]
    raised = {
        code
        for code in ERROR_PAGES
        if any(f'"{code}",' in path.read_text() for path in files if path.name != "error_pages.py")
    }
    assert raised == set(ERROR_PAGES)
    assert all(pages[code] == page for code, page in ERROR_PAGES.items())
