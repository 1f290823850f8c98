from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.split import objective_examples, split
from star_platform.graph.storage import Graph
from star_platform.signals.model import LinkPrediction, Negatives
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import applied, planted_graph, views

CONFIG = TrainingConfig()


def test_parts_lie_apart_in_time_and_share_boundaries(tmp_path: Path) -> None:
    parts = split(planted_graph(tmp_path), {"views": views(), "applied": applied()}, CONFIG)
    assert len({(part.validation_start, part.test_start) for part in parts.values()}) == 1
    for part in parts.values():
        assert part.train.times.max() < part.validation_start <= part.validation.times.min()
        assert part.validation.times.max() < part.test_start <= part.test.times.min()
        total = len(part.train) + len(part.validation) + len(part.test)
        assert len(part.train) / total == pytest.approx(0.75, abs=0.02)
        assert len(part.validation) / total == pytest.approx(0.10, abs=0.02)
        assert (np.diff(part.train.times) >= 0).all()


def repeated(tmp_path: Path) -> GraphWriter:
    writer = GraphWriter(tmp_path)
    writer.node("a", [0, 1])
    writer.node("b", [0, 1], created_at=np.zeros(2))
    pairs = ([0, 0, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0])
    writer.edge("sees", "a", "b", pairs, [5, 10, 20, 30, 40, 50], labels={"good": [1, 0, -1, 1, 0, 1]})
    writer.edge("hides", "a", "b", ([0], [1]), [3])
    writer.edge("turns", "b", "a", ([0], [1]), [3])
    writer.edge("has", "a", "b", ([0], [1]))
    return writer


def objective(**fields: object) -> LinkPrediction:
    return LinkPrediction.model_validate({"kind": "link-prediction", "edge": "sees", **fields})


def everything(part: object) -> list[tuple[int, int, int, float]]:
    return [
        (int(s), int(d), int(t), float(y))
        for one in (part.train, part.validation, part.test)  # type: ignore[attr-defined]
        for s, d, t, y in zip(one.src, one.dst, one.times, one.labels, strict=True)
    ]


def test_only_the_first_of_repeated_pairs_is_an_example(tmp_path: Path) -> None:
    graph = repeated(tmp_path).finish()
    first = everything(split(graph, {"o": objective()}, CONFIG)["o"])
    assert first == [(0, 0, 5, 1), (0, 1, 10, 1), (1, 0, 20, 1), (1, 1, 40, 1)]
    config = CONFIG.model_copy(update={"repeats": "all"})
    assert len(everything(split(graph, {"o": objective()}, config)["o"])) == 6


def test_unknown_labels_are_no_examples_and_labels_pick_positives(tmp_path: Path) -> None:
    graph = repeated(tmp_path).finish()
    labelled = objective(label="good", negatives=Negatives(kind="labelled"))
    assert everything(split(graph, {"o": labelled}, CONFIG)["o"]) == [
        (0, 0, 5, 1), (0, 1, 10, 0), (1, 1, 40, 0), (1, 0, 50, 1),
    ]  # fmt: skip
    drawn = everything(split(graph, {"o": objective(label="good")}, CONFIG)["o"])
    assert drawn == [(0, 0, 5, 1), (1, 0, 50, 1)]


def test_negatives_of_another_edge(tmp_path: Path) -> None:
    graph = repeated(tmp_path).finish()
    found = everything(split(graph, {"o": objective(negatives={"edge": "hides"})}, CONFIG)["o"])
    assert (0, 1, 3, 0.0) in found
    assert sum(label for *_, label in found) == 4


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"edge": "has"}, "M002"),
        ({"label": "absent"}, "M003"),
        ({"negatives": {"edge": "turns"}}, "M004"),
    ],
)
def test_objectives_that_cannot_be_split(tmp_path: Path, fields: dict[str, object], code: str) -> None:
    graph = repeated(tmp_path).finish()
    with pytest.raises(TrainingError) as error:
        split(graph, {"o": objective(**fields)}, CONFIG)
    assert error.value.code == code


def met(tmp_path: Path, created_at: np.ndarray | None = None) -> Graph:
    writer = GraphWriter(tmp_path)
    writer.node("a", list(range(3)))
    writer.node("b", list(range(4)), created_at=created_at)
    writer.edge("sees", "a", "b", ([0, 1, 2, 0, 1], [0, 1, 0, 2, 2]), [5, 7, 9, 11, 13])
    writer.edge("sent", "b", "a", ([1], [0]), [2])
    return writer.finish()


def test_a_first_meeting_is_no_positive_where_nothing_unmet_is_a_negative(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"test_share": 0.0})
    found = everything(split(met(tmp_path), {"o": objective()}, config)["o"])
    assert [row[:3] for row in found] == [(1, 1, 7), (2, 0, 9), (1, 2, 13)]
    in_batch = split(met(tmp_path / "in-batch"), {"o": objective(negatives={"kind": "in-batch"})}, config)["o"]
    assert len(everything(in_batch)) == 5
    declared = met(tmp_path / "declared", np.zeros(4))
    assert len(everything(split(declared, {"o": objective()}, config)["o"])) == 5


def test_what_is_judged_keeps_first_meetings(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"test_share": 0.4, "validation_share": 0.3})
    part = split(met(tmp_path), {"o": objective()}, config)["o"]
    assert part.test_start <= 13
    late = objective_examples(met(tmp_path / "2"), objective(), config)
    assert len(part.test) == int((late.times >= part.test_start).sum())


def test_examples_are_kept_where_nobody_was_met_before(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("a", [0, 1])
    writer.node("b", [0, 1])
    writer.edge("sees", "a", "b", ([0, 1], [0, 1]), [1, 2])
    assert len(everything(split(writer.finish(), {"o": objective()}, CONFIG)["o"])) == 2


def test_no_objective_at_all(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="M001"):
        split(repeated(tmp_path).finish(), {}, CONFIG)
