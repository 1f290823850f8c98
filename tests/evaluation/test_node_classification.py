"""Node classification from training to the report, on members whose class shows in what they view only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.render import render
from star_platform.evaluation.report import evaluate, gate_failures
from star_platform.gnn.inference import Embedder
from star_platform.gnn.model_io import load_model
from star_platform.gnn.trainer import train
from star_platform.graph.storage import Graph
from star_platform.signals.model import LinkPrediction, NodeClassification, Objective
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import FAST

MEMBERS, JOBS, VIEWS = 300, 30, 2400
OBJECTIVES: dict[str, Objective] = {
    "view": LinkPrediction(kind="link-prediction", edge="views"),
    "kind": NodeClassification(kind="node-classification", node="member", feature="member.kind"),
}
CONFIG = EvaluationConfig(resamples=200, negatives=5, baselines=("popularity", "no-graph"))
TRAINING = FAST.model_copy(update={"max_epochs": 6, "batch_size": 64})


def marketplace(path: Path, shuffled: bool = False) -> Graph:
    """Members of kind 1, 2 or 3 view jobs of their kind; for a tenth of them nobody knows it (code 0)."""
    rng = np.random.default_rng(0)
    writer = GraphWriter(path)
    writer.node("job", list(range(JOBS)), created_at=np.zeros(JOBS))
    writer.node("member", [f"m{i}" for i in range(MEMBERS)])
    kinds = rng.integers(1, 4, size=MEMBERS)
    src = rng.integers(MEMBERS, size=VIEWS)
    dst = np.where(
        rng.random(VIEWS) < 0.9,
        kinds[src] - 1 + 3 * rng.integers(JOBS // 3, size=VIEWS),
        rng.integers(JOBS, size=VIEWS),
    )
    writer.edge("views", "member", "job", (src, dst), np.sort(rng.integers(10**12, 10**13, size=VIEWS)))
    known = np.where(rng.random(MEMBERS) < 0.9, kinds, 0)
    writer.feature(
        "member.kind", "categorical", np.random.default_rng(1).permutation(known) if shuffled else known, dim=4
    )
    writer.feature("member.size", "numeric", rng.normal(size=(MEMBERS, 2)))
    writer.feature("job.id", "id", dim=8)
    return writer.finish(f"classified-{shuffled}")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path, dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("judged")
    graph = marketplace(folder / "graph")
    (folder / "model").mkdir()
    details = train(graph, OBJECTIVES, TRAINING, folder / "work", folder / "model")
    report = evaluate(graph, folder / "model", OBJECTIVES, CONFIG, folder / "evaluation")
    return graph, folder / "model", details, report


def test_both_kinds_of_objectives_are_learned(judged: Any) -> None:
    details = judged[2]
    assert details["validation_auc_by_objective"]["kind"] > 0.8
    assert details["objectives"]["kind"]["split_by"] == "hash"
    assert details["objectives"]["kind"]["classes"] == 3


def test_the_label_is_no_input(judged: Any, tmp_path: Path) -> None:
    """Vectors are the same whatever the labels say."""
    graph, model_dir = judged[:2]
    model = load_model(model_dir, graph)
    assert "kind" not in [spec.name for spec in model.spec.inputs["member"]]
    other = marketplace(tmp_path / "other", shuffled=True)
    members, moments = np.arange(MEMBERS), np.full(MEMBERS, graph.as_of + 1)
    one, same = (Embedder(each, model).vectors("member", members, moments) for each in (graph, other))
    np.testing.assert_array_equal(one, same)


def test_the_report_shows_it_beside_the_majority_and_the_features_alone(judged: Any) -> None:
    found = judged[3]["classification"]["objectives"]["kind"]
    assert found["test"]["scored"] == judged[2]["objectives"]["kind"]["test"] > 20
    assert found["methods"]["release"]["accuracy"]["value"] > 0.7
    for method in ("majority", "no-graph"):
        assert found["differences"][method]["accuracy"]["low"] > 0
        assert found["differences"][method]["macro_auc"]["low"] > 0
    assert list(judged[3]["objectives"]) == ["view"]
    text = render(judged[3])
    assert "kind: member.kind, 3 classes" in text
    assert "release - majority" in text


def test_the_report_repeats_itself_and_the_gate_asks_links(judged: Any, tmp_path: Path) -> None:
    graph, model_dir, _, report = judged
    config = CONFIG.model_copy(update={"baselines": ()})
    again = evaluate(graph, model_dir, OBJECTIVES, config, tmp_path)
    one, other = (each["classification"]["objectives"]["kind"]["methods"]["release"] for each in (again, report))
    assert json.dumps(one, allow_nan=False) == json.dumps(other, allow_nan=False)
    assert gate_failures(again, CONFIG.gate) == []


def test_a_project_may_classify_nodes_only(tmp_path: Path) -> None:
    graph = marketplace(tmp_path / "graph")
    only = {"kind": OBJECTIVES["kind"]}
    (tmp_path / "model").mkdir()
    details = train(graph, only, TRAINING.model_copy(update={"max_epochs": 8}), tmp_path / "work", tmp_path / "model")
    assert details["validation_auc"] > 0.8
    config = CONFIG.model_copy(update={"baselines": ("no-graph",)})
    report = evaluate(graph, tmp_path / "model", only, config, tmp_path / "evaluation")
    assert report["objectives"] == {}
    assert report["classification"]["objectives"]["kind"]["methods"]["release"]["accuracy"]["value"] > 0.6
    assert "macro AUC" in render(report)


def test_an_objective_of_weight_0_is_neither_trained_nor_judged(tmp_path: Path) -> None:
    graph = marketplace(tmp_path / "graph")
    off = {**OBJECTIVES, "kind": OBJECTIVES["kind"].model_copy(update={"weight": 0.0})}
    (tmp_path / "model").mkdir()
    train(graph, off, TRAINING.model_copy(update={"max_epochs": 1}), tmp_path / "work", tmp_path / "model")
    report = evaluate(graph, tmp_path / "model", off, CONFIG.model_copy(update={"baselines": ()}), tmp_path / "eval")
    assert "classification" not in report
