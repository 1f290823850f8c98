from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from star_platform.errors import TrainingError
from star_platform.gnn.config import AdaptiveConfig, TrainingConfig
from star_platform.gnn.inference import embed
from star_platform.gnn.model_io import CONFIG, WEIGHTS, load_model
from star_platform.gnn.trainer import HISTORY, Trainer, train
from star_platform.graph.storage import Graph
from tests.gnn.planted import DAY, FAST, JOBS, MEMBERS, START, applied, planted_graph, views

SHORT = FAST.model_copy(update={"max_epochs": 2})
FILES = (WEIGHTS, CONFIG, HISTORY)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("planted") / "graph")


def run(graph: Graph, folder: Path, config: TrainingConfig = SHORT, **objectives: object) -> dict[str, object]:
    out = folder / "model"
    out.mkdir(parents=True)
    return train(graph, objectives or {"views": views()}, config, folder / "work", out)  # type: ignore[arg-type]


def content(folder: Path) -> list[bytes]:
    return [(folder / "model" / name).read_bytes() for name in FILES]


def test_the_graph_beats_features_alone_on_a_planted_signal(graph: Graph, tmp_path: Path) -> None:
    longer = FAST.model_copy(update={"max_epochs": 15, "validate_every": 1.0})
    with_graph = run(graph, tmp_path / "graph", longer)
    features_only = run(graph, tmp_path / "none", longer.model_copy(update={"fan_outs": (), "activity": False}))
    assert float(with_graph["validation_auc"]) > 0.75  # type: ignore[arg-type]
    assert float(features_only["validation_auc"]) < 0.6  # type: ignore[arg-type]


def test_same_seed_same_bytes_and_another_seed_others(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path / "a")
    run(graph, tmp_path / "b")
    run(graph, tmp_path / "c", SHORT.model_copy(update={"seed": 1}))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a")[0] != content(tmp_path / "c")[0]


class Killed(BaseException):
    pass


class KillAfter:
    """A progress bar that ends the run in the middle of a step's bookkeeping."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[KillAfter]:
        yield self

    def advance(self, amount: int = 1) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def note(self, **figures: float | str) -> None:
        pass

    def line(self, text: str) -> None:
        pass


def test_a_killed_run_resumes_to_the_same_bytes(graph: Graph, tmp_path: Path) -> None:
    objectives = {"views": views("in-batch"), "applied": applied(0.5)}
    run(graph, tmp_path / "whole", **objectives)
    out = tmp_path / "killed" / "model"
    out.mkdir(parents=True)
    kills = 0
    for steps in (4, 9, 14):  # before the first checkpoint, after it, and in the second epoch
        torch.manual_seed(steps)  # whatever the process did before
        with pytest.raises(Killed):
            train(graph, objectives, SHORT, tmp_path / "killed" / "work", out, KillAfter(steps))
        kills += 1
    train(graph, objectives, SHORT, tmp_path / "killed" / "work", out)
    assert kills == 3
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_an_adaptive_run_resumes_to_the_same_bytes(graph: Graph, tmp_path: Path) -> None:
    adaptive = AdaptiveConfig(enabled=True, start=1, grow=3, tolerance=0.1)
    config = SHORT.model_copy(update={"adaptive": adaptive, "validate_every": 0.25})
    run(graph, tmp_path / "whole", config)
    out = tmp_path / "killed" / "model"
    out.mkdir(parents=True)
    for steps in (3, 6):
        with pytest.raises(Killed):
            train(graph, {"views": views()}, config, tmp_path / "killed" / "work", out, KillAfter(steps))
    train(graph, {"views": views()}, config, tmp_path / "killed" / "work", out)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path)
    other = SHORT.model_copy(update={"lr": 0.5})
    with pytest.raises(TrainingError, match="M007"):
        train(graph, {"views": views()}, other, tmp_path / "work", tmp_path / "model")
    checkpoint = tmp_path / "work" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="M007"):
        train(graph, {"views": views()}, SHORT, tmp_path / "work", tmp_path / "model")


def test_weight_zero_leaves_the_decoder_without_gradient(graph: Graph) -> None:
    trainer = Trainer(graph, {"views": views(), "applied": applied(0.0)}, SHORT)
    for key in trainer.training.epoch(0)[:3]:
        trainer._step(trainer.training.make(key))
        assert all(p.grad is None for p in trainer.model.decoder("applied").parameters())
        assert all(p.grad is not None for p in trainer.model.decoder("views").parameters())
    assert {key.objective for key in trainer.training.epoch(0)} == {"views"}
    with pytest.raises(TrainingError, match="M001"):
        Trainer(graph, {"views": views(weight=0.0)}, SHORT)


def test_objectives_are_interleaved_by_batch(graph: Graph) -> None:
    trainer = Trainer(graph, {"views": views(), "applied": applied()}, SHORT)
    names = [key.objective for key in trainer.training.epoch(0)]
    assert sum(one != other for one, other in pairwise(names)) >= 4
    for name, part in trainer.tasks.links.items():
        seen = np.concatenate([key.examples for key in trainer.training.epoch(1) if key.objective == name])
        assert np.array_equal(np.sort(seen), np.arange(len(part.train)))


def test_negatives_are_neither_known_nor_later_than_the_example(graph: Graph) -> None:
    trainer = Trainer(graph, {"views": views(), "batch": views("in-batch")}, SHORT)
    for name, part in trainer.tasks.links.items():
        train_pairs = set(zip(part.train.src.tolist(), part.train.dst.tolist(), strict=True))
        key = next(key for key in trainer.training.epoch(0) if key.objective == name)
        maker = trainer.training._makers[name]
        examples = part.train.take(key.examples)
        batch = maker.make(key)
        dst, times = examples.dst, examples.times
        if name != "batch":
            drawn = maker.draw(examples, key.step)
            dst, times = drawn.nodes, drawn.moments
        assert batch.allowed is not None
        for i, j in zip(*(side.tolist() for side in batch.allowed.numpy().nonzero()), strict=True):
            assert (int(examples.src[i]), int(dst[j])) not in train_pairs
            assert times[j] <= examples.times[i]
        assert 0.3 < float(batch.allowed.float().mean()) < 0.6


def test_every_node_gets_a_finite_vector_twice_the_same(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    details = embed(graph, tmp_path / "model", tmp_path / "one")
    assert embed(graph, tmp_path / "model", tmp_path / "two") == details
    for node in graph.node_types:
        vectors = np.load(tmp_path / "one" / f"{node}.npy")
        assert vectors.dtype == np.float32
        assert vectors.shape == (graph.num_nodes(node), SHORT.dim)
        assert np.isfinite(vectors).all()
        assert (tmp_path / "one" / f"{node}.npy").read_bytes() == (tmp_path / "two" / f"{node}.npy").read_bytes()
    assert details["nodes"]["member"]["coverage"] == pytest.approx((MEMBERS - 1) / MEMBERS)  # one never views anything
    assert details["nodes"]["job"]["count"] == graph.num_nodes("job")


def test_cosine_vectors_have_length_one(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path, SHORT.model_copy(update={"decoder": "cosine", "loss": "softmax"}))
    (tmp_path / "out").mkdir()
    details = embed(graph, tmp_path / "model", tmp_path / "out")
    for entry in details["nodes"].values():
        assert entry["norm"]["min"] == pytest.approx(1.0, abs=1e-5)
        assert entry["norm"]["max"] == pytest.approx(1.0, abs=1e-5)


def test_a_model_of_another_graph_or_a_damaged_one_is_refused(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path / "run")
    other = planted_graph(tmp_path / "other", seed=1)
    with pytest.raises(TrainingError, match="M009"):
        load_model(tmp_path / "run" / "model", other)
    weights = tmp_path / "run" / "model" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(TrainingError, match="M008"):
        load_model(tmp_path / "run" / "model", graph)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    graph = planted_graph(tmp_path / "graph")
    trainer = Trainer(graph, {"views": views()}, SHORT)
    with torch.no_grad():
        trainer.model.decoder("views").bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="M005"):
        trainer._step(trainer.training.make(trainer.training.epoch(0)[0]))


def test_drawn_negatives_existed_at_their_moment(tmp_path: Path) -> None:
    created = START + np.arange(JOBS) * DAY // 4
    created[:3] = START + 2 * DAY  # nothing exists before the third day
    graph = planted_graph(tmp_path / "graph", created_at=np.maximum(created, START + 2 * DAY))
    trainer = Trainer(graph, {"views": views()}, SHORT)
    for key in trainer.training.epoch(0):
        maker = trainer.training._makers["views"]
        found = maker.draw(maker.examples.take(key.examples), key.step)
        drawn, moments, alive = found.nodes, found.moments, found.exist
        assert np.array_equal(alive, moments >= START + 2 * DAY)
        assert (created[drawn[alive]] <= moments[alive]).all()
        allowed = maker.make(key).allowed
        assert allowed is not None
        assert not allowed.numpy()[:, ~alive].any()
