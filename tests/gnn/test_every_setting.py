"""Each setting of the encoder trains on the planted market, learns something, and gives every node a vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from star_platform.gnn import runtime
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.inference import embed
from star_platform.gnn.model_io import load_model
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.trainer import HISTORY, Trainer, train
from star_platform.graph.storage import Graph
from tests.gnn.planted import FAST, applied, planted_graph, views

SHORT = FAST.model_copy(update={"max_epochs": 3, "fan_outs": (6, 3)})

SETTINGS: dict[str, dict[str, Any]] = {
    "mean": {"encoder": "mean"},
    "multiplier": {"multiplier": 2},
    "target": {"target_in_attention": True},
    "dual": {"towers": "dual"},
    "batch norm": {"norm": "batch"},
    "cosine": {"decoder": "cosine", "loss": "softmax"},
    "hadamard": {"decoder": "hadamard"},
    "mlp": {"decoder": "mlp"},
    "window": {"window": "10d"},
    "by edge type": {"budget": "per-relation", "fan_outs": ({"member-views-job": 4, "rev_member-views-job": 2}, 2)},
    "moment of the step": {"moment": "step"},
    "bf16": {"precision": "bf16"},
    "bf16 mean": {"precision": "bf16", "encoder": "mean"},
    "hashed ids": {"id_buckets": 3},
    "sparse ids": {"id_optimizer": "sparse"},
    "aggregation": {"gradient_batches": 3},
    "uncertainty": {"objective_weights": "uncertainty"},
    "grouping": {"grouping": True},
    "activities": {"sequence": {"activities": 6, "heads": 2, "long_term": 2}},
    "adaptive": {"adaptive": {"enabled": True, "start": 1, "grow": 2}, "validate_every": 0.25},
    "ltgnn": {"encoder": "ltgnn"},
    "mlp init": {"mlp_init": 2},
    "no ages": {"age_encoding": False, "activity": False},
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("planted") / "graph")


@pytest.mark.parametrize("name", SETTINGS)
def test_it_trains_scores_and_embeds(graph: Graph, tmp_path: Path, name: str) -> None:
    config = type(SHORT).model_validate({**SHORT.model_dump(), **SETTINGS[name]})
    (tmp_path / "model").mkdir()
    details = train(graph, {"views": views(), "applied": applied()}, config, tmp_path / "work", tmp_path / "model")
    assert len(details["timing"]) == details["validations"]
    history = json.loads((tmp_path / "model" / HISTORY).read_text())["validations"]
    assert history[-1]["train_loss"]["views"] < history[0]["train_loss"]["views"]
    vectors = embed_all(graph, tmp_path)
    assert all(np.isfinite(found).all() and found.std() > 0 for found in vectors.values())
    scores = Scorer(graph, tmp_path / "model").score(
        "views", np.array([0, 1, 2]), np.array([3, 4, 5]), np.full(3, graph.as_of)
    )
    assert np.isfinite(scores).all()
    if name == "adaptive":
        grown = [entry["fan_out"] for entry in history]
        assert grown == sorted(grown)
        assert grown[0] == 1
        assert grown[-1] == 6
    if name == "uncertainty":
        assert set(details["learned_weights"]) == {"views", "applied"}
        assert all(weight != 1.0 for weight in details["learned_weights"].values())


def embed_all(graph: Graph, folder: Path) -> dict[str, np.ndarray]:
    (folder / "vectors").mkdir()
    embed(graph, folder / "model", folder / "vectors")
    return {node: np.load(folder / "vectors" / f"{node}.npy") for node in graph.node_types}


def test_bfloat16_is_near_float32(graph: Graph) -> None:
    def loss(precision: str) -> float:
        config = SHORT.model_copy(update={"precision": precision, "dropout": 0.0, "id_dropout": 0.0})
        trainer = Trainer(graph, {"views": views()}, config)
        return float(trainer.loss(trainer.training.make(trainer.training.epoch(0)[0])).detach())

    assert loss("bf16") == pytest.approx(loss("float32"), rel=0.02)
    assert loss("bf16") != loss("float32")


def test_towers_are_chosen_by_the_side_of_the_objectives(graph: Graph) -> None:
    trainer = Trainer(graph, {"views": views()}, SHORT.model_copy(update={"towers": "dual"}))
    sides = dict(zip(graph.node_types, trainer.model.encoder.tower_of, strict=True))
    assert sides == {"job": 1, "member": 0, "topic": 0}
    batch = trainer.training.make(trainer.training.epoch(0)[0])
    trainer.loss(batch).backward()
    first, second = (list(tower.parameters()) for tower in trainer.model.encoder.towers)
    assert all(p.grad is not None for p in (*first, *second))
    before = trainer.model.eval()(batch.trees).detach().clone()
    with torch.no_grad():
        for parameter in second:
            parameter.zero_()
    after = trainer.model(batch.trees)
    n = batch.size
    assert torch.equal(before[:n], after[:n])  # members do not depend on the tower of jobs
    assert not torch.equal(before[n:], after[n:])


def test_a_dual_model_survives_its_files(graph: Graph, tmp_path: Path) -> None:
    config = SHORT.model_copy(update={"towers": "dual", "max_epochs": 1, "decoder": "mlp"})
    train(graph, {"views": views()}, config, tmp_path / "work", _made(tmp_path / "model"))
    model = load_model(tmp_path / "model", graph)
    assert len(model.encoder.towers) == 2
    assert model.config == config


def test_a_group_of_batches_moves_the_weights_once(graph: Graph) -> None:
    trainer = Trainer(graph, {"views": views()}, SHORT.model_copy(update={"gradient_batches": 3}))
    keys = trainer.training.epoch(0)[:3]
    weight = trainer.model.encoder.towers[0][0].bias
    before = weight.detach().clone()
    for place, key in enumerate(keys):
        trainer._step(trainer.training.make(key), share=1 / 3, first=place == 0, last=place == 2)
        assert torch.equal(before, weight) == (place < 2)


def test_settings_that_do_not_go_together_are_refused() -> None:
    for wrong, told in (
        ({"encoder": "ltgnn", "mlp_init": 1}, "ltgnn"),
        ({"encoder": "ltgnn", "adaptive": {"enabled": True}}, "ltgnn"),
        ({"fan_outs": ({"a": 3},)}, "per-relation"),
        ({"fan_outs": (0,)}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=told):
            TrainingConfig.model_validate(wrong)


def test_a_device_is_chosen_by_name() -> None:
    assert runtime.device_of("cpu").type == "cpu"
    assert runtime.device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
