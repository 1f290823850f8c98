"""Node classification: examples, their moments and parts, batches, and the loss of a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from star_platform.errors import TrainingError
from star_platform.gnn.batches import Schedule, StepKey
from star_platform.gnn.classification import (
    ClassificationMaker,
    LabelSplit,
    NodeExamples,
    boundary_moments,
    check_classes,
    id_shares,
    label_features,
    split_labels,
)
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.model_io import Model
from star_platform.gnn.objectives import classification_logits, classification_loss
from star_platform.gnn.split import split
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import ALWAYS, Graph
from star_platform.signals.model import LinkPrediction, NodeClassification, Objective
from tests.gnn.graphs import GraphWriter

CONFIG = TrainingConfig()
SEES = LinkPrediction(kind="link-prediction", edge="sees")


def by(feature: str, node: str = "a") -> NodeClassification:
    return NodeClassification(kind="node-classification", node=node, feature=f"{node}.{feature}")


def world(path: Path, created_at: Any = None, n: int = 100) -> Graph:
    """n nodes `a` that see a `b` at times 0 ... n - 1; `level` has codes 0 ... 3, `rank` has versions."""
    writer = GraphWriter(path)
    writer.node("a", [f"a{i}" for i in range(n)], created_at=created_at)
    writer.node("b", [0, 1])
    writer.edge("sees", "a", "b", (np.arange(n), np.arange(n) % 2), np.arange(n))
    writer.feature("a.level", "categorical", np.arange(n) % 4, dim=4)
    writer.feature("a.size", "numeric", np.ones((n, 1)))
    # node 0: 1 then 1 then 2; node 1: nothing; node 2: 0 (missing) then 3; all others 1 at their own number
    codes, when, counts = [1, 1, 2, 0, 3, *[1] * (n - 3)], [5, 6, 7, 80, 90, *range(3, n)], [3, 0, 2, *[1] * (n - 3)]
    writer.versions("a.rank", "categorical", np.concatenate([[0], np.cumsum(counts)]), when, codes, dim=4)
    return writer.finish()


def parts(part: LabelSplit) -> list[NodeExamples]:
    return [part.train, part.validation, part.test]


def test_labels_are_no_inputs_even_with_weight_0() -> None:
    off = by("rank").model_copy(update={"weight": 0.0})
    assert label_features({"l": SEES, "c": by("level"), "o": off}) == {"a.level", "a.rank"}


def test_the_encoder_is_not_given_labels(tmp_path: Path) -> None:
    graph = world(tmp_path)
    objectives: dict[str, Objective] = {"l": SEES, "c": by("level")}
    assert [spec.name for spec in TreeReader(graph, CONFIG).inputs.specs["a"]] == ["level", "rank", "size", "activity"]
    reader = TreeReader(graph, CONFIG, labels=label_features(objectives))
    assert [spec.name for spec in reader.inputs.specs["a"]] == ["rank", "size", "activity"]


def test_link_predictions_are_divided_as_without_node_classification(tmp_path: Path) -> None:
    graph = world(tmp_path)
    alone, both = split(graph, {"l": SEES}, CONFIG), split(graph, {"l": SEES, "c": by("level")}, CONFIG)
    assert list(both) == ["l"]
    moments = alone["l"].validation_start, alone["l"].test_start
    assert (both["l"].validation_start, both["l"].test_start) == moments
    assert boundary_moments(graph, {"l": SEES, "c": by("level")}, CONFIG) == moments
    assert split(graph, {"c": by("level")}, CONFIG) == {}


def test_versions_are_predicted_when_they_become_true(tmp_path: Path) -> None:
    graph = world(tmp_path)
    (part,) = split_labels(graph, {"c": by("rank")}, CONFIG, (60, 85)).values()
    assert (part.by, part.num_classes, part.feature) == ("valid_from", 3, "a.rank")
    rows = [(int(t), int(v), int(c)) for e in parts(part) for v, t, c in zip(e.nodes, e.times, e.classes, strict=True)]
    assert rows == sorted(rows)
    assert [(t, c) for t, v, c in rows if v == 0] == [(5, 0), (7, 1)]  # what repeats teaches nothing new
    assert [(t, c) for t, v, c in rows if v == 2] == [(90, 2)]  # missing is no class
    assert part.train.times.max() < 60 <= part.validation.times.min()
    assert part.validation.times.max() < 85 <= part.test.times.min()


def test_lasting_labels_are_divided_by_creation_and_seen_when_their_part_ends(tmp_path: Path) -> None:
    graph = world(tmp_path, created_at=np.concatenate([[ALWAYS], np.arange(1, 100)]))
    (part,) = split_labels(graph, {"c": by("level")}, CONFIG, (60, 85)).values()
    assert (part.by, part.num_classes) == ("created_at", 3)
    for found, nodes, moment in zip(parts(part), ((0, 60), (60, 85), (85, 100)), (60, 85, 100), strict=True):
        wanted = [v for v in range(*nodes) if v % 4]
        assert found.nodes.tolist() == wanted
        assert set(found.times.tolist()) == {moment}
        assert found.classes.tolist() == [v % 4 - 1 for v in wanted]


@pytest.mark.parametrize("created", [None, "early", "seldom late"])
def test_otherwise_lasting_labels_are_divided_by_the_hash_of_the_id(tmp_path: Path, created: str | None) -> None:
    """Also where creation would leave nothing, or too little, to validate on."""
    dates = {None: None, "early": np.zeros(4000), "seldom late": np.where(np.arange(4000) % 30, 0, np.arange(4000))}
    graph = world(tmp_path, created_at=dates[created], n=4000)
    (part,) = split_labels(graph, {"c": by("level")}, CONFIG, (2400, 3400)).values()
    assert part.by == "hash"
    sizes = [len(each) for each in parts(part)]
    assert sum(sizes) == 3000
    assert np.array(sizes) / 3000 == pytest.approx([0.75, 0.10, 0.15], abs=0.02)
    nodes = np.concatenate([each.nodes for each in parts(part)])
    assert len(np.unique(nodes)) == 3000
    assert [set(each.times.tolist()) for each in parts(part)] == [{2400}, {3400}, {4000}]


def test_the_part_of_a_node_depends_on_its_id_alone() -> None:
    ids = pa.array([f"member-{i}" for i in range(1000)])
    shares = id_shares(ids)
    assert ((shares >= 0) & (shares < 1)).all()
    assert len(np.unique(shares)) == 1000
    assert id_shares(ids.slice(400, 20)).tolist() == shares[400:420].tolist()
    assert shares[:2].tolist() == pytest.approx(
        [0.1290717130485326, 0.21357932232723975], abs=1e-12
    )  # the same in every release


def test_without_links_boundaries_come_from_labels(tmp_path: Path) -> None:
    graph = world(tmp_path)
    validation_start, test_start = boundary_moments(graph, {"c": by("rank")}, CONFIG)
    assert 60 < validation_start < test_start < 99
    assert boundary_moments(graph, {"c": by("level")}, CONFIG) == (100, 100)


@pytest.mark.parametrize("feature", ["absent", "size"])
def test_labels_that_are_none(tmp_path: Path, feature: str) -> None:
    with pytest.raises(TrainingError, match="M013") as error:
        split_labels(world(tmp_path), {"c": by(feature)}, CONFIG, (60, 85))
    assert "a.level, a.rank" in str(error.value.hint)


def test_classes_that_cannot_be_learned(tmp_path: Path) -> None:
    (part,) = split_labels(world(tmp_path), {"c": by("rank")}, CONFIG, (4, 85)).values()
    with pytest.raises(TrainingError, match="M013"):
        check_classes("c", part)
    (part,) = split_labels(world(tmp_path / "2"), {"c": by("rank")}, CONFIG, (92, 92)).values()
    with pytest.raises(TrainingError, match="M006"):
        check_classes("c", part)


# --- batches and loss -------------------------------------------------------------------------------------------------


class Reader:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any, int]] = []

    def gids(self, node: str, indices: Any) -> Any:
        return indices + {"a": 0, "b": 500}[node]

    def read(self, gids: Any, times: Any, step: int, exclude: Any = None) -> Any:
        assert exclude is None
        self.asked.append((gids, times, step))
        return type("Trees", (), {"seeds": torch.arange(len(gids)), "gids": torch.from_numpy(gids)})()


def test_batches_hold_every_node_at_its_moment(tmp_path: Path) -> None:
    (part,) = split_labels(world(tmp_path), {"c": by("rank")}, CONFIG, (60, 85)).values()
    reader = Reader()
    maker = ClassificationMaker(cast(TreeReader, reader), "a", part.train, TrainingConfig(batch_size=16))
    seen = []
    for key in Schedule({"c": maker}, 0).epoch(0):
        batch = maker.make(key)
        assert (batch.kind, batch.labels, batch.allowed, batch.size) == ("classes", None, None, len(key.examples))
        assert batch.targets is not None
        gids, times, _ = reader.asked[-1]
        seen += list(zip(times.tolist(), gids.tolist(), batch.targets.tolist(), strict=True))
    wanted = zip(part.train.times.tolist(), part.train.nodes.tolist(), part.train.classes.tolist(), strict=True)
    assert sorted(seen) == sorted(wanted)


def test_moment_of_a_step(tmp_path: Path) -> None:
    (part,) = split_labels(world(tmp_path), {"c": by("rank")}, CONFIG, (60, 85)).values()
    reader = Reader()
    config = TrainingConfig(batch_size=16, moment="step")
    ClassificationMaker(cast(TreeReader, reader), "a", part.train, config).make(StepKey("c", np.array([7, 9]), 0))
    assert set(reader.asked[-1][1].tolist()) == {int(part.train.times[7])}


class Tiny(nn.Module):
    """An encoder whose vector of a node is a row of a table, and the heads of two objectives."""

    def __init__(self, splits: dict[str, LabelSplit]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(100, 8)
        self.heads = nn.ModuleDict({name: nn.Linear(8, part.num_classes) for name, part in splits.items()})

    def forward(self, trees: Any) -> Tensor:
        vectors: Tensor = self.table(trees.gids)
        return vectors

    def head(self, objective: str) -> nn.Module:
        return self.heads[objective]


def test_the_loss_is_cross_entropy_of_its_own_head(tmp_path: Path) -> None:
    objectives: dict[str, Objective] = {"b-level": by("level"), "a-rank": by("rank")}
    splits = split_labels(world(tmp_path), objectives, CONFIG, (60, 85))
    tiny = Tiny(splits)
    model = cast(Model, tiny)
    assert {name: head.out_features for name, head in tiny.heads.items()} == {"a-rank": 3, "b-level": 3}
    maker = ClassificationMaker(cast(TreeReader, Reader()), "a", splits["b-level"].train, CONFIG)
    batch = maker.make(StepKey("b-level", np.arange(20), 0))
    nodes = torch.from_numpy(splits["b-level"].train.nodes[:20])
    logits = tiny.heads["b-level"](tiny.table(nodes))
    assert torch.equal(classification_logits(model, batch, model(batch.trees)), logits)
    expected = -torch.log_softmax(logits, 1)[torch.arange(20), batch.targets].mean()
    loss = classification_loss(model, batch, model(batch.trees))
    assert torch.allclose(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in tiny.heads["a-rank"].parameters())
    assert tiny.table.weight.grad is not None
