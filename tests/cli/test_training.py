"""`train`: settings in words, presets, and a model that the next release finds in the store."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from star_platform.cli.app import main
from star_platform.cli.training_text import explain_text, size
from star_platform.errors import DependencyMissing, TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.explained import GROUPS, MEANS, SECTIONS, explained
from star_platform.gnn.plots import plot_history, read_history
from star_platform.gnn.presets import PRESETS
from star_platform.gnn.step_size import GraphCounts, step_size
from star_platform.project import Project
from star_platform.project.training import Sizes, with_preset
from tests.release.conftest import make_project

GOLDEN = Path(__file__).parent / "golden" / "train_explain.txt"
COUNTS = GraphCounts(
    nodes={"member": 1000, "job": 100},
    edges={
        ("member", "applies", "job"): 20_000,
        ("job", "rev_applies", "member"): 20_000,
        ("member", "knows", "member"): 5_000,
    },
    columns={"member": 32, "job": 384},
)
GIVEN = {
    "preset": "star-multiplier-2",
    "batch_size": 256,
    "lr": 0.001,
    "adaptive": {"enabled": True, "tolerance": 0.005},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project whose model was trained, and that has no release."""
    project = make_project(tmp_path_factory.mktemp("train") / "market")
    assert main(["train", "--project", str(project.root), "--plot", str(project.root / "curves.png")]) == 0
    return project.root


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


# --- explain ----------------------------------------------------------------------------------------------------------


def test_the_text_is_the_golden_one() -> None:
    """When this fails and the new text is better: write it into the file."""
    config = TrainingConfig.model_validate(GIVEN)
    seeds = {"member": 256, "job": 256 + 512}
    sizes = Sizes("r3", COUNTS, {"applies": step_size(config, COUNTS, seeds)}, 59)
    text = explain_text("market", config, explained(config, GIVEN), sizes) + "\n"
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_explain_reads_star_yaml_and_imports_no_torch(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "market")]) == 0
    file = tmp_path / "market" / "star.yaml"
    file.write_text(file.read_text() + "training: {dim: 64, preset: star-mean, sequence: {activities: 10}}\n")
    script = (
        "import json, sys\n"
        "from star_platform.cli.app import main\n"
        "code = main(['train', '--explain', '--json', '--project', sys.argv[1]])\n"
        "print(json.dumps([code, sorted(set(sys.modules) & {'torch', 'feast', 'dgl', 'ibis'})]), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "market")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]
    told = json.loads(done.stdout)
    assert told["preset"] == "star-mean"
    settings = told["settings"]
    assert {key: settings[key]["origin"] for key in ("dim", "encoder", "seed")} == {
        "dim": "star.yaml",
        "encoder": "preset",
        "seed": "default",
    }
    assert settings["sequence.activities"] == {
        "value": 10,
        "origin": "star.yaml",
        "means": "latest interactions read per node",
        "group": "encoder",
    }
    assert settings["sequence.tokens"]["origin"] == "default"
    assert told["graph"] is None


def test_a_preset_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path)]) == 0
    capsys.readouterr()
    before = (tmp_path / "star.yaml").read_bytes()
    told = json.loads(said(capsys, "train", "--explain", "--json", "--preset", "star-dual", "--project", str(tmp_path)))
    assert told["settings"]["towers"] == {
        "value": "dual",
        "origin": "preset",
        "means": "layers of their own for source and destination",
        "group": "encoder",
    }
    assert (tmp_path / "star.yaml").read_bytes() == before
    assert main(["train", "--explain", "--preset", "star-dul", "--project", str(tmp_path)]) == 64
    assert "U022" in capsys.readouterr().err


def test_what_star_yaml_sets_stays_beside_a_preset_of_the_command_line(tmp_path: Path) -> None:
    text = "apiVersion: star/v1\nproject: market\ntraining: {preset: tiny, dim: 100, adaptive: {grow: 7}}\n"
    (tmp_path / "star.yaml").write_text(text)
    config = with_preset(Project.open(tmp_path), "star-mean").file.training
    assert (config.preset, config.dim, config.adaptive.grow, config.encoder) == ("star-mean", 100, 7, "mean")
    assert config.batch_size == PRESETS["star-mean"].settings["batch_size"]


def test_a_preset_that_contradicts_star_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "star.yaml").write_text("apiVersion: star/v1\nproject: market\ntraining: {dim: 32, heads: 16}\n")
    assert main(["train", "--explain", "--preset", "star-ppr-50-5", "--project", str(tmp_path)]) == 0
    (tmp_path / "star.yaml").write_text("apiVersion: star/v1\nproject: market\ntraining: {heads: 16}\n")
    assert main(["train", "--explain", "--preset", "star-dual", "--project", str(tmp_path)]) == 64
    assert "dim 200 is not a multiple of heads 16" in capsys.readouterr().err


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "train", "--presets")
    assert all(f"{name}\n" in text for name in PRESETS)
    listed = json.loads(said(capsys, "train", "--presets", "--json"))["presets"]
    assert [item["preset"] for item in listed] == list(PRESETS)


def test_every_setting_is_explained_once() -> None:
    keys = [key for group in GROUPS.values() for key in group]
    assert sorted(keys) == sorted(set(TrainingConfig.model_fields) - {"preset"})
    explained_keys = set()
    for key in keys:
        section = TrainingConfig.model_fields[key].annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert key in SECTIONS
            explained_keys |= {f"{key}.{name}" for name in section.model_fields}
        else:
            explained_keys.add(key)
    assert set(MEANS) == explained_keys


def test_every_choice_has_words() -> None:
    for key, field in TrainingConfig.model_fields.items():
        words = MEANS.get(key)
        if isinstance(words, dict):
            choices = set(get_args(field.annotation)) or {True, False}
            assert set(words) == choices, key


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_sizes_by_hand() -> None:
    config = TrainingConfig(dim=10, heads=2, fan_outs=(30,), encoder="attention", precision="float32")
    size = step_size(config, COUNTS, {"member": 10, "job": 10})
    # a member has 20 jobs and 5 members, a job 200 members of which 30 are drawn
    assert [(hop.items, hop.edges) for hop in size.hops] == [(20, 10 * 25 + 10 * 30), (20 + 550, 0)]
    inputs = 2 * 10 * ((10 + 10 * 5 + 300) * 32 + (10 + 200) * 384)
    layer = 2 * 20 * (100 + 100 + 300) + 4 * 550 * 2 * 10
    assert size.flops == 3 * (inputs + layer)


def test_a_fan_out_of_each_relation_and_its_own_limit() -> None:
    config = TrainingConfig(budget="per-relation", fan_outs=({"rev_applies": 5, "knows": 1},))
    assert [hop.edges for hop in step_size(config, COUNTS, {"member": 10}).hops] == [60, 0]


def test_at_one_moment_a_node_is_met_once() -> None:
    config = TrainingConfig(moment="step", fan_outs=(1000, 1000))
    last = step_size(config, COUNTS, {"member": 100_000, "job": 100_000}).hops[-1]
    assert last.items <= 1100
    assert last.items == pytest.approx(1100, rel=0.01)


def test_wider_layers_cost_more() -> None:
    cost = [
        step_size(TrainingConfig(**more), COUNTS, {"member": 100}).flops
        for more in ({"encoder": "mean"}, {}, {"multiplier": 2}, {"multiplier": 2, "towers": "dual"})
    ]
    assert cost == sorted(set(cost))


def test_sizes_are_readable() -> None:
    assert [size(*args) for args in ((999, 1000, "FLOP"), (3.4e9, 1000, "FLOP"), (120 << 20, 1024, "B"))] == [
        "999 FLOP",
        "3.4 GFLOP",
        "120 MB",
    ]


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_model_is_trained_drawn_and_kept(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, "train", "--json", "--project", str(trained)))
    assert told["reused"] is True
    assert told["built"] == []
    assert set(told["validation_auc_by_objective"]) == {"apply", "inmail-accepted", "save-not-dismiss"}
    assert 0 < told["validation_auc"] < 1
    assert Path(told["history"]).is_file()
    assert (trained / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert (trained / "curves.svg").read_text().lstrip().startswith("<?xml")


def test_there_is_no_release_and_the_next_one_reuses_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project.open(trained)
    assert project.releases() == ()
    actions = {stage.name: stage.action for stage in project.plan().plan.stages}
    assert actions["train"] == actions["graph"] == "reuse"
    assert actions["embed"] == "build"
    text = said(capsys, "train", "--project", str(trained))
    assert "the model was in the store" in text


def test_another_preset_is_another_model_on_the_same_graph(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--json", "--preset", "graphsage", "--project", str(trained)]
    told = json.loads(said(capsys, *arguments))
    assert told["built"] == ["train"]
    config = json.loads((Path(told["model"]) / "config.json").read_text())["training"]
    assert (config["encoder"], config["dim"]) == ("mean", 16)
    assert "preset" not in config


# --- curves -----------------------------------------------------------------------------------------------------------


def history(**more: Any) -> dict[str, Any]:
    entries = [
        {
            "epoch": at / 4,
            "auc": 1 - math.exp(-at),
            "auc_by_objective": {"a": 0.6, "b": 0.7},
            "train_loss": {"a": 1 / at},
        }
        for at in range(1, 6)
    ]
    return {"validations": [{**entry, **more} for entry in entries]}


@pytest.mark.parametrize(
    "more",
    [{}, {"fan_outs": [10, {"views": 5}]}, {"shares": {"sample": 0.1, "gather": 0.1, "compute": 0.8, "wait": 0.0}}],
    ids=["plain", "fan-outs", "shares"],
)
def test_curves_are_drawn_from_what_there_is(tmp_path: Path, more: dict[str, Any]) -> None:
    png, svg = plot_history(history(**more), tmp_path / "sub" / "curves.pdf")
    assert (png.suffix, svg.suffix) == (".png", ".svg")
    text = svg.read_text()
    assert all(part in text for part in ("<svg", "</svg>"))
    first = png.read_bytes(), svg.read_bytes()
    plot_history(history(**more), tmp_path / "sub" / "curves.pdf")
    assert (png.read_bytes(), svg.read_bytes()) == first


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyMissing) as caught:
        plot_history(history(), tmp_path / "curves.png")
    assert caught.value.code == "D040"


@pytest.mark.parametrize("text", [None, "{", '{"validations": []}', "[]"])
def test_a_history_that_cannot_be_drawn(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "history.json").write_text(text)
    with pytest.raises(TrainingError) as caught:
        read_history(tmp_path)
    assert caught.value.code == "M036"
