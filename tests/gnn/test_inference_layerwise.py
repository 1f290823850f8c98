"""Layer-wise inference beside a dense reference, beside sampling with a fan-out beyond every degree, and killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from star_platform.gnn import layerwise, neighbourhoods
from star_platform.gnn.config import SequenceConfig, TrainingConfig
from star_platform.gnn.inference import Embedder, embed, embed_some
from star_platform.gnn.layerwise import Layerwise
from star_platform.gnn.model_io import Model, ModelSpec, new_model, save_model
from star_platform.gnn.neighbourhoods import Neighbourhoods
from star_platform.gnn.trees import TreeReader
from star_platform.graph.adjacency import UNDATED, Adjacency
from star_platform.graph.storage import Graph
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import DAY, FAST, START, planted_graph

MOMENT = START + 20 * DAY


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Dated and undated edges, weights, a node type without edges, and one with a hub."""
    rng = np.random.default_rng(5)
    writer = GraphWriter(tmp_path_factory.mktemp("layers") / "graph")
    writer.node("job", [f"j{i}" for i in range(40)])
    writer.node("lonely", list(range(7)))
    writer.node("member", list(range(60)))
    writer.node("skill", [f"s{i}" for i in range(12)], "attribute")
    views = rng.integers(60, size=400), rng.integers(40, size=400)
    writer.edge("member-views-job", "member", "job", views, START + rng.integers(30 * DAY, size=400), rng.random(400))
    writer.edge("job-skill", "job", "skill", (np.arange(40), np.arange(40) % 3))
    writer.edge(
        "follows",
        "member",
        "member",
        (rng.integers(60, size=90), rng.integers(9, size=90)),
        START + rng.integers(30 * DAY, size=90),
    )
    writer.feature("skill.id_embedding", "id", dim=8)
    writer.feature("member.profile", "numeric", rng.normal(size=(60, 3)))
    writer.feature("job.text", "text", rng.normal(size=(40, 6)), present=np.arange(40) % 7 > 0)
    writer.feature("job.level", "categorical", np.arange(40) % 4, dim=4)
    writer.feature("lonely.x", "numeric", rng.normal(size=(7, 2)))
    return writer.finish("layers")


def config(**more: object) -> TrainingConfig:
    return FAST.model_copy(update={"fan_outs": (1000, 1000), "inference": "layer-wise", **more})


def model_of(graph: Graph, settings: TrainingConfig) -> Model:
    """Untrained, with every parameter moved away from its start, so that no term of a layer is zero."""
    reader = TreeReader(graph, settings)
    spec = ModelSpec(
        graph.content_hash, reader.inputs.specs, reader.relations, reader.weighted, {}, activities=reader.activities
    )
    model = new_model(spec, settings)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def layer_wise(graph: Graph, model: Model, work: Path, moment: int = MOMENT, gids: np.ndarray | None = None):
    work.mkdir(parents=True, exist_ok=True)
    return np.array(Embedder(graph, model).layerwise(moment, gids, "model", work))


def edges_of(graph: Graph, moment: int, window: int | None) -> list[tuple[int, int, int, int, float]]:
    """(source, destination, relation, age or -1, weight) of every valid edge, one at a time, from the stored files."""
    adjacency, found = Adjacency.of(graph), []
    for relation, name in enumerate(adjacency.relation_names):
        edges = graph.edges(name)
        sources = adjacency.gids(name.src, edges.indices)
        targets = adjacency.gids(name.dst, edges.destinations())
        for e in range(edges.num_edges):
            time = UNDATED if edges.timestamps is None else int(edges.timestamps[e])
            valid = time == UNDATED or (time < moment and (window is None or time >= moment - window))
            if valid:
                weight = 1.0 if edges.weights is None else float(edges.weights[e])
                age = -1 if time == UNDATED else moment - time
                found.append((int(sources[e]), int(targets[e]), relation, age, weight))
    return found


def dense_layer(layer: torch.nn.Module, x: torch.Tensor, edges: list, types: np.ndarray) -> torch.Tensor:
    """The formula of gnn/attention.py for all nodes at once, with [nodes, nodes] masks per edge, in float64."""
    p = {name: value.detach().double() for name, value in layer.named_parameters()}
    t = torch.as_tensor(types)
    out = torch.einsum("nd,ndo->no", x, p["own.weight"][t]) + p["bias"][t]
    if edges:
        source, target, relation = (torch.tensor([edge[i] for edge in edges]) for i in range(3))
        age = torch.tensor([np.log1p(max(edge[3], 0) / 3.6e9) for edge in edges])
        weight = torch.tensor([np.log1p(edge[4]) for edge in edges])
        heads, inner = p["terms"].shape[2], p["query.weight"].shape[2]
        width = inner // heads
        query = torch.einsum("nd,ndo->no", x, p["query.weight"][t]).view(len(x), heads, width)
        message = x[source] + p["rho"][relation]
        keys, values = (message @ p["key_value"]).view(len(message), 2, heads, width).unbind(1)
        terms = p["terms"] * layer.used.double()
        score = (query[target] * keys).sum(2) * width**-0.5 + terms[1, relation]
        score = score + terms[2, relation] * age[:, None] + terms[3, relation] * weight[:, None]
        into = torch.nn.functional.one_hot(target, len(x)).double()  # [edges, nodes]
        powers = score.exp()
        shares = powers / (into @ (into.T @ powers))
        mixed = torch.einsum("en,ehw->nhw", into, (shares * terms[0, relation])[..., None] * values)
        out = out + torch.einsum("nd,ndo->no", mixed.reshape(len(x), -1), p["output.weight"][t])
    if layer.last:
        return out
    normed = torch.nn.functional.layer_norm(out, out.shape[1:], p["norm.weight"], p["norm.bias"])
    return torch.nn.functional.leaky_relu(normed, 0.2)


def dense(graph: Graph, model: Model, moment: int) -> np.ndarray:
    adjacency, reader = Adjacency.of(graph), TreeReader(graph, model.config, model.spec.inputs)
    parts, types = [], []
    for place, node in enumerate(adjacency.node_types):
        count = graph.num_nodes(node)
        inputs = reader.inputs.read(node, np.arange(count), np.full(count, moment))
        parts.append(model.encoder.inputs[place](inputs).detach().double())
        types += [place] * count
    edges = edges_of(graph, moment, model.config.window_us)
    towers = []
    for tower in model.encoder.towers:
        x = torch.cat(parts)
        for layer in tower:
            x = dense_layer(layer, x, edges if model.config.hops else [], np.array(types))
        towers.append(x)
    out = torch.stack([towers[model.encoder.tower_of[t]][i] for i, t in enumerate(types)])
    return torch.nn.functional.normalize(out, dim=1).numpy() if model.encoder.cosine else out.numpy()


CASES = {
    "joint": {},
    "per relation": {"budget": "per-relation"},
    "window": {"window": "9d"},
    "cosine, without ages": {"decoder": "cosine", "age_encoding": False},
    "three hops": {"fan_outs": (1000, 1000, 1000)},
    "no hops": {"fan_outs": ()},
    "small chunks": {},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_a_dense_reference(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    if case == "small chunks":
        monkeypatch.setattr(neighbourhoods, "CHUNK_EDGES", 17)
        monkeypatch.setattr(neighbourhoods, "CHUNK_NODES", 5)
        monkeypatch.setattr(layerwise, "CHUNK_NODES", 5)
    model = model_of(graph, config(**CASES[case]))
    found = layer_wise(graph, model, tmp_path / "work")
    expected = dense(graph, model, MOMENT)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_two_towers_each_over_its_own_layers(graph: Graph, tmp_path: Path) -> None:
    from star_platform.gnn.encoder import Encoder

    settings = config(towers="dual")
    model = model_of(graph, settings)
    spec = model.spec
    torch.manual_seed(8)
    model.encoder = Encoder(spec.inputs, len(spec.relations), settings, weighted=spec.weighted, towers=(0, 1, 0, 1))
    model.eval()
    found = layer_wise(graph, model, tmp_path / "work")
    np.testing.assert_allclose(found, dense(graph, model, MOMENT), rtol=1e-5, atol=1e-5)
    some = np.array([3, 41, 60, 118])
    np.testing.assert_allclose(
        layer_wise(graph, model, tmp_path / "some", gids=some)[some], found[some], rtol=1e-5, atol=1e-6
    )


SOME = {"member-views-job": 900, "rev_member-views-job": 900, "job-skill": 900}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"budget": "per-relation"},
        {"encoder": "mean"},
        {"target_in_attention": True},
        {"window": "9d"},
        {"strategy": "latest"},
        {"sequence": SequenceConfig(activities=5, heads=2, tokens=2)},
        {"sequence": SequenceConfig(activities=3, heads=2), "decoder": "cosine"},
        {"strategy": "weighted", "window": "20d"},
        {"budget": "per-relation", "fan_outs": (SOME, 900)},
        {"budget": "per-relation", "fan_outs": ({"rev_job-skill": 900, "follows": 900}, SOME)},
    ],
)
def test_equals_sampling_with_a_fan_out_beyond_every_degree(graph: Graph, tmp_path: Path, more: dict) -> None:
    model = model_of(graph, config(**more))
    embedder, found = Embedder(graph, model), layer_wise(graph, model, tmp_path / "work")
    for node, rows in embedder.by_type(found):
        count = graph.num_nodes(node)
        sampled = embedder.vectors(node, np.arange(count), np.full(count, MOMENT))
        np.testing.assert_allclose(rows, sampled, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_both_are_equally_far_from_float32(graph: Graph, tmp_path: Path) -> None:
    model = model_of(graph, config(precision="bf16"))
    embedder, found = Embedder(graph, model), layer_wise(graph, model, tmp_path / "work")
    exact = dense(graph, model, MOMENT)
    scale = np.abs(exact).max()
    assert 1e-5 * scale < np.abs(found - exact).max() < 0.1 * scale
    for node, rows in embedder.by_type(found):
        count = graph.num_nodes(node)
        sampled = embedder.vectors(node, np.arange(count), np.full(count, MOMENT))
        np.testing.assert_allclose(rows, sampled, rtol=0.05, atol=0.05 * scale)


def test_what_comes_later_changes_nothing(tmp_path: Path) -> None:
    early = planted_graph(tmp_path / "early")
    later = planted_graph(tmp_path / "later", extra=300, at=MOMENT)
    model = model_of(early, config())
    before = layer_wise(early, model, tmp_path / "work-early")
    assert np.array_equal(layer_wise(later, model, tmp_path / "work-later"), before)
    assert not np.array_equal(layer_wise(later, model, tmp_path / "work-after", MOMENT + 1), before)


@pytest.mark.parametrize("node", ["job", "skill"])
def test_some_nodes_are_what_they_are_among_all(graph: Graph, tmp_path: Path, node: str) -> None:
    model = model_of(graph, config())
    embedder, every = Embedder(graph, model), layer_wise(graph, model, tmp_path / "all")
    gids = embedder.reader.gids(node, np.array([0, 3, 7]))
    some = layer_wise(graph, model, tmp_path / "some", gids=gids)
    np.testing.assert_allclose(some[gids], every[gids], rtol=1e-5, atol=1e-6)
    first = Neighbourhoods(embedder.reader.adjacency, MOMENT).with_sources(gids)
    touched = np.flatnonzero(np.load(tmp_path / "some" / "inputs.npy").any(axis=1))
    assert set(first) <= set(touched)
    assert len(touched) < len(every), "nodes that nobody needs are not computed"


class Killed(Exception):
    pass


def dies_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """The process ends right after the ledger was written that often; what was computed since is lost."""
    write, left = layerwise._Ledger.write, iter(range(writes))

    def dying(self: layerwise._Ledger, step: int, piece: int) -> None:
        write(self, step, piece)
        if next(left, None) is None:
            raise Killed

    monkeypatch.setattr(layerwise._Ledger, "write", dying)


@pytest.mark.parametrize("writes", [0, 3, 11, 12, 13, 30, 41])
def test_a_killed_run_ends_with_the_same_bytes(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    monkeypatch.setattr(neighbourhoods, "CHUNK_NODES", 9)
    monkeypatch.setattr(layerwise, "CHUNK_NODES", 9)
    monkeypatch.setattr(layerwise, "FLUSH_SECONDS", -1.0)
    model = model_of(graph, config())
    undisturbed = layer_wise(graph, model, tmp_path / "undisturbed")
    with monkeypatch.context() as killing:
        dies_after(killing, writes)
        with pytest.raises(Killed):
            layer_wise(graph, model, tmp_path / "killed")
    finished = json.loads((tmp_path / "killed" / "progress.json").read_text())["step"]
    counted: list[str] = []
    inner = Layerwise._run
    monkeypatch.setattr(
        Layerwise, "_run", lambda self, step, *rest: (counted.append(step.name), inner(self, step, *rest))[1]
    )
    assert layer_wise(graph, model, tmp_path / "killed").tobytes() == undisturbed.tobytes()
    assert len(counted) == 5 - finished, "finished steps are not repeated"
    assert layer_wise(graph, model, tmp_path / "killed").tobytes() == undisturbed.tobytes()


def test_a_folder_of_other_work_is_begun_anew(graph: Graph, tmp_path: Path) -> None:
    model = model_of(graph, config())
    first = layer_wise(graph, model, tmp_path / "work", MOMENT)
    other = layer_wise(graph, model, tmp_path / "work", MOMENT - 5 * DAY)
    assert not np.array_equal(first, other)
    assert np.array_equal(layer_wise(graph, model, tmp_path / "fresh", MOMENT - 5 * DAY), other)


def test_chunks_end_before_they_have_too_many_edges(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Neighbourhoods(Adjacency.of(graph), MOMENT)
    nodes = np.arange(Adjacency.of(graph).num_nodes)
    degrees = near.degrees(nodes)
    monkeypatch.setattr(neighbourhoods, "CHUNK_EDGES", 10)
    cuts = near.chunks(nodes)
    assert [cut.start for cut in cuts[1:]] == [cut.stop for cut in cuts[:-1]]
    assert (cuts[0].start, cuts[-1].stop) == (0, len(nodes))
    assert all(degrees[cut].sum() <= 10 or cut.stop - cut.start == 1 for cut in cuts)
    assert any(degrees[cut].sum() > 10 for cut in cuts), "a node with more is a chunk of its own"


def test_of_scored_neighbours_only_the_newest_snapshot_counts(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path / "graph")
    writer.node("member", [1, 2, 3, 4])
    pairs = np.array([[1, 0], [2, 0], [3, 0], [2, 0], [0, 3]])
    writer.edge("ppr", "member", "member", (pairs[:, 0], pairs[:, 1]), [10, 10, 20, 20, 10])
    adjacency = Adjacency.of(writer.finish("ppr"))
    nodes = np.array([0])

    def sources(moment: int) -> list[int]:
        block = Neighbourhoods(adjacency, moment, newest_only=True).block(nodes)
        kept = block.relations == adjacency.relation_names.index(adjacency.relation_names[0])
        return sorted(block.neighbours[kept].tolist())

    assert sources(21) == [2, 3]
    assert sources(20) == [1, 2]
    assert sources(10) == []


def test_a_hub_with_a_million_neighbours(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path / "graph")
    count = 1_000_000
    writer.node("job", [1, 2])
    writer.node("member", np.arange(count).tolist())
    writer.edge("views", "member", "job", (np.arange(count), np.zeros(count)), START + np.arange(count))
    adjacency = Adjacency.of(writer.finish("hub"))
    near = Neighbourhoods(adjacency, START + count)
    cuts = near.chunks(np.arange(2))
    assert [cut.stop - cut.start for cut in cuts] == [1, 1]
    block = near.block(np.array([0]))
    assert np.array_equal(np.sort(block.neighbours), np.arange(2, count + 2))


# --- as releases use it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [True, False])
@pytest.mark.parametrize("inference", ["layer-wise", "sampled"])
def test_embed_writes_a_file_per_node_type(graph: Graph, tmp_path: Path, inference: str, work: bool) -> None:
    model = model_of(graph, config(inference=inference))
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", model, model.state_dict())
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    details = embed(
        graph, tmp_path / "model", tmp_path / "out", at=MOMENT, work_dir=tmp_path / "work" if work else None
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "job.npy",
        "lonely.npy",
        "member.npy",
        "skill.npy",
    ]
    expected = dict(Embedder(graph, model).by_type(layer_wise(graph, model, tmp_path / "beside")))
    for node, rows in expected.items():
        found = np.load(tmp_path / "out" / f"{node}.npy")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-5)
        assert details["nodes"][node]["count"] == len(rows)
        assert details["nodes"][node]["norm"]["max"] == pytest.approx(np.linalg.norm(rows, axis=1).max(), rel=1e-4)
    assert details["nodes"]["lonely"]["coverage"] == 0.0
    assert (details["at"], details["dim"], details["dtype"]) == (MOMENT, 16, "float32")
    used = {path.name for path in (tmp_path / "work").iterdir()}
    assert used == ({"inputs.npy", "progress.json", "vectors.npy"} if work and inference == "layer-wise" else set())


@pytest.mark.parametrize("inference", ["layer-wise", "sampled"])
def test_some_entities_in_any_order(graph: Graph, tmp_path: Path, inference: str) -> None:
    model = model_of(graph, config(inference=inference))
    expected = dict(Embedder(graph, model).by_type(layer_wise(graph, model, tmp_path / "beside")))["member"]
    wanted = np.array([7, 3, 59, 3, 0])
    (tmp_path / "work").mkdir()
    found = embed_some(graph, model, "model", "member", wanted, MOMENT, tmp_path / "work")
    np.testing.assert_allclose(found, expected[wanted], rtol=1e-5, atol=1e-5)
