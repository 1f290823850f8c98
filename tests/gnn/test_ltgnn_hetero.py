"""LTGNN over typed, dated, featured graphs: gradients, time, training, serving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from star_platform.errors import TrainingError
from star_platform.gnn.config import LtgnnConfig, TrainingConfig
from star_platform.gnn.ltgnn.encoder import Field, LtgnnEncoder, Nodes
from star_platform.gnn.ltgnn.hetero import LtgnnModel, LtgnnTrainer, load, reader_of, train
from star_platform.gnn.ltgnn.matrix import Workers
from star_platform.gnn.ltgnn.serving import LtgnnEmbedder
from star_platform.gnn.ltgnn.typed import TypedEdges, edge_groups
from star_platform.gnn.ltgnn.windows import BEGINNING, snapshot_of
from star_platform.gnn.model_io import CONFIG, WEIGHTS
from star_platform.gnn.trainer import HISTORY
from star_platform.graph.storage import EdgeArrays, EdgeType, Graph
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import DAY, FAST, JOBS, MEMBERS, START, applied, planted_graph, views
from tests.gnn.test_training import KillAfter, Killed

SHORT = FAST.model_copy(update={"encoder": "ltgnn", "max_epochs": 2, "validate_every": 0.5, "batch_size": 64})
ALPHA = 0.45


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("planted") / "graph")


def run(graph: Graph, folder: Path, config: TrainingConfig = SHORT, **objectives: object) -> dict[str, object]:
    out = folder / "model"
    out.mkdir(parents=True)
    return train(graph, objectives or {"views": views()}, config, folder / "work", out)  # type: ignore[arg-type]


def content(folder: Path) -> list[bytes]:
    return [(folder / "model" / name).read_bytes() for name in (WEIGHTS, CONFIG, HISTORY)]


# --- what a moment sees ---------------------------------------------------------------------------------------------


def edges(
    name: EdgeType, src: list[int], dst: list[int], nodes: int, times: list[int] | None, weights=None
) -> EdgeArrays:
    order = np.lexsort((src, times if times is not None else src, dst))
    counts = np.bincount(dst, minlength=nodes)
    return EdgeArrays(
        name,
        np.concatenate([[0], np.cumsum(counts)]),
        np.array(src, np.int32)[order],
        None if times is None else np.array(times)[order],
        None if weights is None else np.array(weights, np.float32)[order],
        {},
    )


def small() -> TypedEdges:
    """Two node types, a dated edge type and an undated one; neither has its reverse."""
    sees = edges(EdgeType("a", "sees", "b"), [0, 1, 1, 2], [0, 0, 1, 1], 2, [10, 20, 30, 40], [1.0, 3.0, 1.0, 7.0])
    has = edges(EdgeType("a", "has", "b"), [0, 2], [1, 0], 2, None)
    return TypedEdges({"a": 3, "b": 2}, [sees, has])


def dense(starts: np.ndarray, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros((len(starts) - 1,) * 2)
    np.add.at(out, (np.repeat(np.arange(len(starts) - 1), np.diff(starts)), indices), values)
    return out


def test_a_moment_sees_what_is_strictly_before_it_both_ways_with_typed_weights() -> None:
    found = small()
    assert [group.relation for group in found.groups] == ["has", "sees"]
    moment = found.at(30)
    strengths = np.array([0.5, 2.0])
    matrix, shares = moment.weighted(strengths)
    plain = np.eye(5)
    for a, b, weight in ((0, 0, 2.0), (1, 0, 2.0 * np.log2(4.0)), (0, 1, 0.5), (2, 0, 0.5)):
        plain[a, 3 + b] += weight
        plain[3 + b, a] += weight
    degree = plain.sum(axis=1)
    expected = plain / np.sqrt(np.outer(degree, degree))
    forward = matrix.forward
    np.testing.assert_allclose(dense(forward.indptr, forward.indices, forward.values), expected, atol=1e-6)
    np.testing.assert_allclose(shares[:, 0], np.array([0.5, 0.0, 0.5, 0.5, 0.5]) / degree, atol=1e-6)
    assert matrix.backward is matrix.forward
    assert len(found.at(31).indices) == len(moment.indices) + 2
    assert len(found.at(BEGINNING).indices) == 5 + 4  # the nodes themselves, and what has no date


def test_undated_edges_between_supervised_node_types_are_left_out(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path / "graph")
    writer.node("job", ["x", "y"])
    writer.node("member", ["m", "n"])
    writer.edge("member-views-job", "member", "job", ([0, 1], [0, 1]), [5, 6])
    writer.edge("member-wants-job", "member", "job", ([0], [1]))
    graph = writer.finish("undated")
    supervised = [graph.edges_named("member-views-job").type]
    assert [group.relation for group in edge_groups(graph, supervised)] == ["member-views-job"]
    assert [group.relation for group in TypedEdges.of(graph, supervised).groups] == ["member-views-job"]
    assert [group.relation for group in edge_groups(graph)] == ["member-views-job", "member-wants-job"]


# --- the gradient ---------------------------------------------------------------------------------------------------


class Given(torch.nn.Module):
    """Instead of an input encoder: free vectors."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(rows, dim))

    def forward(self, places: Tensor) -> Tensor:
        return self.table[places]


def test_sweeps_give_the_implicit_gradient_of_inputs_and_edge_weights() -> None:
    torch.manual_seed(0)
    typed = small()
    config = TrainingConfig(dim=4, heads=2, dropout=0.0, ltgnn=LtgnnConfig(alpha=ALPHA, neighbours=50))
    encoder = LtgnnEncoder({"a": [], "b": []}, 2, 1, config)
    encoder.inputs = torch.nn.ModuleList([Given(3, 4), Given(2, 4)])
    assert all(torch.equal(each.weight, torch.eye(4)) for each in encoder.maps)  # type: ignore[union-attr]
    for each in encoder.maps:
        each.bias.data.zero_()  # type: ignore[union-attr]
    encoder.moments.fill_(100)  # type: ignore[operator]
    with torch.no_grad():
        encoder.edge_weights.copy_(torch.tensor([0.3, 1.2]))
    encoder.attach(Field(typed, lambda node, rows, moment: torch.from_numpy(rows), Workers(1)))  # type: ignore[arg-type, return-value]
    wanted = torch.randn(5, 4, dtype=torch.float64)
    nodes = Nodes(
        inputs=(torch.arange(3), torch.arange(2)),  # type: ignore[arg-type]
        blocks=(),
        slices=((0, 3, 5),),
        seeds=torch.arange(5),
        gids=torch.arange(5),
    )
    encoder.train()
    for _ in range(80):
        encoder.zero_grad()
        out = encoder(nodes)
        ((out.double() - wanted) ** 2).sum().backward()

    moment = typed.at(100)
    theta = encoder.edge_weights.detach().double().requires_grad_()
    tables = [given.table.detach().double().requires_grad_() for given in encoder.inputs]  # type: ignore[union-attr]
    strengths = torch.cat([torch.nn.functional.softplus(theta), torch.ones(1, dtype=torch.float64)])
    rows = np.repeat(np.arange(5), np.diff(moment.starts))
    values = strengths[torch.from_numpy(moment.groups.astype(np.int64))] * torch.from_numpy(moment.raw).double()
    plain = torch.zeros(5, 5, dtype=torch.float64).index_put(
        (torch.from_numpy(rows), torch.from_numpy(moment.indices).long()), values, accumulate=True
    )
    root = plain.sum(dim=1).rsqrt()
    operator = torch.eye(5).double() - (1 - ALPHA) * root[:, None] * plain * root[None, :]
    exact = ALPHA * torch.linalg.solve(operator, torch.cat(tables))
    ((exact - wanted) ** 2).sum().backward()

    np.testing.assert_allclose(out.detach().numpy(), exact.detach().numpy(), atol=1e-5)
    for given, table in zip(encoder.inputs, tables, strict=True):
        np.testing.assert_allclose(given.table.grad.numpy(), table.grad.numpy(), atol=1e-4)  # type: ignore[union-attr]
    assert encoder.edge_weights.grad is not None
    assert theta.grad is not None
    assert theta.grad.abs().min() > 1e-2  # it says something
    np.testing.assert_allclose(encoder.edge_weights.grad.numpy(), theta.grad.numpy(), atol=2e-4)


# --- time -----------------------------------------------------------------------------------------------------------


def test_no_step_propagates_an_edge_of_its_own_examples_or_a_later_one(graph: Graph) -> None:
    trainer = LtgnnTrainer(graph, {"views": views("in-batch"), "applied": applied(0.5)}, SHORT)
    moments = trainer.reader.moments
    assert len(moments) <= 16
    assert (np.diff(moments) > 0).all()
    learned = 0
    for number, schedule in enumerate(trainer.training._schedules):
        for key in schedule.epoch(number):
            maker = schedule._makers[key.objective]
            times = maker.examples.times[key.examples]
            nodes = trainer.training.make(key).trees
            assert moments[nodes.snapshot] <= times.min()
            assert moments[nodes.snapshot] > BEGINNING  # it does see history
            learned += len(times) if key.objective == "views" else 0
    whole = trainer.tasks.links["views"].train
    assert learned == len(whole)
    assert 0.6 < learned / (whole.times < trainer.tasks.validation_start).sum() <= 1.0
    for key in trainer.validating.validation(10_000):
        nodes = trainer.validating.make(key).trees
        times = trainer.validating._makers[key.objective].examples.times[key.examples]  # type: ignore[attr-defined]
        assert trainer.tasks.validation_start <= moments[nodes.snapshot] <= times.min()


def test_a_history_without_later_examples_is_refused(graph: Graph) -> None:
    from star_platform.gnn.ltgnn import windows
    from star_platform.gnn.tasks import Tasks

    tasks = Tasks.of(graph, {"views": views()}, SHORT)
    empty = {name: part.train.take(slice(0)) for name, part in tasks.links.items()}
    links = {name: type(part)(**{**vars(part), "train": empty[name]}) for name, part in tasks.links.items()}
    with pytest.raises(TrainingError) as error:
        windows.moments(type(tasks)(**{**vars(tasks), "links": links}), graph.as_of)
    assert error.value.code == "M034"


def test_snapshot_is_the_latest_that_is_not_after() -> None:
    found = snapshot_of(np.array([BEGINNING, 10, 20]), np.array([-5, 9, 10, 19, 20, 99]))
    assert found.tolist() == [0, 0, 1, 1, 2, 2]


def test_later_edges_change_nothing_that_was_served_before(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path)
    at = START + 20 * DAY
    more = planted_graph(tmp_path / "more", extra=300, at=at)
    indices = np.arange(JOBS)
    found = []
    for each in (graph, more):
        model = load(tmp_path / "model", graph)
        embedder = LtgnnEmbedder(each, model)
        early = embedder.vectors("job", indices, np.full(JOBS, at))
        late = embedder.vectors("job", indices, np.full(JOBS, graph.as_of + 1))
        found.append((early, late))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert np.abs(found[0][1] - found[1][1]).max() > 1e-3


def test_walks_bring_nodes_along_that_no_example_names_and_stay_before_the_moment(graph: Graph) -> None:
    trainer = LtgnnTrainer(graph, {"views": views("in-batch")}, SHORT)
    first, last = (int(at) for at in trainer.reader.adjacency.offsets[2:4])  # topics are the third node type
    met = set()
    for key in trainer.training.epoch(0):
        nodes = trainer.training.make(key).trees
        met |= set(nodes.gids.numpy()[nodes.slices[0][2] : nodes.slices[0][3]].tolist())
        assert (nodes.gids.diff() > 0).all()
    assert met == set(range(first, last))
    typed = small()
    came_by = typed.walks(np.zeros(400, np.int64), 30, 1, key=5)  # node a0 sees b0 at 10, has b1, never a later edge
    assert set(came_by.ravel().tolist()) == {3, 4}
    assert set(typed.walks(np.array([1] * 200), 20, 1, key=5).ravel().tolist()) == {1}  # nothing yet: it stays
    assert 120 < (came_by == 3).sum() < 280


# --- training and serving -------------------------------------------------------------------------------------------


def test_the_graph_is_learned_from(graph: Graph, tmp_path: Path) -> None:
    longer = SHORT.model_copy(update={"max_epochs": 20, "validate_every": 1.0, "patience": 20})
    found = run(graph, tmp_path, longer)
    assert float(found["validation_auc"]) > 0.75  # type: ignore[arg-type]
    model = load(tmp_path / "model", graph)
    assert not torch.equal(model.field_encoder.strengths, torch.ones(len(model.spec.relations)))
    assert (model.field_encoder.strengths > 0).all()


def test_same_seed_same_bytes_and_a_killed_run_resumes_to_them(graph: Graph, tmp_path: Path) -> None:
    objectives = {"views": views(), "applied": applied(0.5)}
    run(graph, tmp_path / "whole", **objectives)
    out = tmp_path / "killed" / "model"
    out.mkdir(parents=True)
    for steps in (4, 20):
        torch.manual_seed(steps)  # whatever the process did before
        with pytest.raises(Killed):
            train(graph, objectives, SHORT, tmp_path / "killed" / "work", out, KillAfter(steps))  # type: ignore[arg-type]
    train(graph, objectives, SHORT, tmp_path / "killed" / "work", out)  # type: ignore[arg-type]
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    run(graph, tmp_path / "other", SHORT.model_copy(update={"seed": 1}), **objectives)
    assert content(tmp_path / "other")[0] != content(tmp_path / "whole")[0]


def test_served_vectors_are_those_of_validation_finite_and_the_same_however_asked(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path, SHORT.model_copy(update={"decoder": "cosine"}))
    model = load(tmp_path / "model", graph)
    embedder = LtgnnEmbedder(graph, model)
    reader = reader_of(graph, model)
    moments = np.asarray(reader.moments)
    indices = np.array([5, 0, 5, MEMBERS - 1])  # the last member has no view
    times = np.array([moments[-1], moments[2] + 1, moments[2], moments[-1] + 10 * DAY])
    found = embedder.vectors("member", indices, times)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-4
    for place in range(4):
        alone = embedder.vectors("member", indices[place : place + 1], times[place : place + 1])
        np.testing.assert_array_equal(alone[0], found[place])
    seen = reader.read(reader.gids("member", indices[:1]), times[:1], step=0)
    with torch.inference_mode():
        np.testing.assert_array_equal(model(seen).numpy(), found[:1])
    parts = list(embedder.batches("member", indices, times, size=3))
    assert [rows for rows, _ in parts] == [slice(0, 3), slice(3, 4)]


def test_a_model_of_another_graph_or_a_damaged_one_is_refused(graph: Graph, tmp_path: Path) -> None:
    run(graph, tmp_path)
    other = planted_graph(tmp_path / "other", seed=3)
    with pytest.raises(TrainingError) as error:
        load(tmp_path / "model", other)
    assert error.value.code == "M009"
    model = load(tmp_path / "model", graph)
    fewer = GraphWriter(tmp_path / "fewer")
    fewer.node("job", ["x"])
    fewer.node("member", ["m"])
    fewer.edge("member-views-job", "member", "job", ([0], [0]), [5])
    with pytest.raises(TrainingError) as error:
        LtgnnEmbedder(fewer.finish("fewer"), model)
    assert error.value.code == "M009"
    (tmp_path / "model" / WEIGHTS).write_bytes(b"short")
    with pytest.raises(TrainingError) as error:
        load(tmp_path / "model", graph)
    assert error.value.code == "M008"
    assert isinstance(model, LtgnnModel)
