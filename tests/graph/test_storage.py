"""Opening a compiled graph, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from star_platform.errors import ArtefactError, DependencyMissing, GraphError
from star_platform.graph.storage import EdgeType, FeatureArray, open_graph
from star_platform.registry.artefacts import read_artefact
from star_platform.signals.model import IdFeature, LinkPrediction, NumericFeature, Weight

from .world import World, micros


@pytest.fixture
def market(world: World) -> World:
    world.write("members", {"id": ["a", "b", "c"], "age": [1.0, 2.0, None]})
    world.write("jobs", {"id": [10, 20]})
    rows = {"m": ["a", "b", "a"], "j": [20, 20, 10], "t": micros([3, 2, 1]), "w": [1.0, 2.0, 3.0], "l": [1, 0, None]}
    world.write("views", rows)
    world.node("member", "members", "id").node("job", "jobs", "id")
    world.edge("views", "views", ("member", "m"), ("job", "j"), timestamp="t", weight=Weight(column="w"))
    world.add("objective", "o", LinkPrediction(kind="link-prediction", edge="views", label="l"))
    world.add("feature", "member.age", NumericFeature(kind="numeric", source="members", key="id", columns=("age",)))
    return world.add("feature", "member.own", IdFeature(kind="id", dim=3))


def test_a_graph_answers_what_it_holds(market: World) -> None:
    graph = market.graph()
    assert graph.node_types == ("job", "member")
    assert graph.edge_types == (EdgeType("job", "rev_views", "member"), EdgeType("member", "views", "job"))
    assert EdgeType("member", "views", "job").reversed == EdgeType("job", "rev_views", "member")
    assert graph.num_nodes("member") == 3
    assert graph.created_at("member") is None
    assert [feature.name for feature in graph.features("member")] == ["age", "own"]
    assert graph.features("job") == ()
    edges = graph.edges(EdgeType("member", "views", "job"))
    assert (edges.indptr.dtype, edges.indices.dtype) == (np.int64, np.int32)
    assert edges.timestamps is not None
    assert edges.weights is not None
    assert (edges.timestamps.dtype, edges.weights.dtype) == (np.int64, np.float32)
    assert edges.labels["l"].tolist() == [-1, 0, 1]
    assert not edges.indices.flags.writeable
    assert graph.manifest["edges"]["rev_views"]["reverse_of"] == "views"


def test_files_are_links_to_the_parts_and_all_are_in_the_manifest(market: World) -> None:
    graph = market.graph()
    part = market.edges("views").path / "views" / "indices.npy"
    assert (graph.path / "edges" / "views" / "indices.npy").samefile(part)
    artefact = read_artefact(graph.path)
    market.store.verify(artefact)
    on_disk = {p.relative_to(graph.path).as_posix() for p in graph.path.rglob("*") if p.is_file()}
    assert set(artefact.files) == on_disk - {"manifest.json"}


def test_opening_takes_milliseconds(market: World) -> None:
    path = market.graph().path
    open_graph(path)
    start = time.process_time()
    for _ in range(20):
        open_graph(path).edges_named("views")
    assert (time.process_time() - start) / 20 < 0.02


def test_wrong_names_are_explained(market: World) -> None:
    graph = market.graph()
    for ask in (
        lambda: graph.num_nodes("company"),
        lambda: graph.edges_named("likes"),
        lambda: graph.edges(EdgeType("job", "views", "member")),
        lambda: graph.features("x"),
    ):
        with pytest.raises(GraphError) as error:
            ask()
        assert error.value.code == "G031"
        assert error.value.hint


def test_other_folders_and_damaged_graphs(market: World) -> None:
    graph = market.graph()
    with pytest.raises(GraphError):
        open_graph(market.nodes("job").path)
    with pytest.raises(ArtefactError):
        open_graph(market.root / "nowhere")
    indices = graph.path / "edges" / "views" / "indices.npy"
    indices.write_bytes(indices.read_bytes()[:100])
    with pytest.raises(GraphError) as error:
        graph.edges_named("views")
    assert error.value.code == "G030"


def test_to_dgl(market: World) -> None:
    pytest.importorskip("dgl")
    graph = market.graph()
    made = graph.to_dgl(features=True)
    assert {t: made.num_nodes(t) for t in made.ntypes} == {"job": 2, "member": 3}
    for edge_type in graph.edge_types:
        edges = graph.edges(edge_type)
        src, dst = made.edges(etype=tuple(edge_type), order="eid")
        assert src.tolist() == edges.indices.tolist()
        assert dst.tolist() == edges.destinations().tolist()
        assert made.edges[tuple(edge_type)].data["time"].tolist() == np.asarray(edges.timestamps).tolist()
        assert made.edges[tuple(edge_type)].data["weight"].tolist() == np.asarray(edges.weights).tolist()
        assert made.edges[tuple(edge_type)].data["label.l"].tolist() == edges.labels["l"].tolist()
    assert made.idtype.itemsize == 8
    assert made.nodes["member"].data["age"].shape == (3, 2)
    assert "own" not in made.nodes["member"].data


def test_without_dgl_the_extra_is_named(market: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(DependencyMissing) as error:
        market.graph().to_dgl()
    assert error.value.hint is not None
    assert "star-platform[dgl]" in error.value.hint


def test_a_graph_without_dates_has_no_as_of(make_world: Callable[..., World]) -> None:
    world = make_world("undated")
    world.write("things", {"id": [1]})
    assert world.node("thing", "things", "id").graph().as_of == 0


def test_a_version_without_a_value_ends_the_one_before() -> None:
    """A text that was emptied is missing from then on; it is not a row of zeros that looks like a text."""
    feature = FeatureArray(
        node="member",
        name="headline",
        kind="text",
        dim=1,
        values=np.array([[1.0], [0.0]], np.float32),
        indptr=np.array([0, 2]),
        valid_from=np.array([10, 20]),
        present=np.array([True, False]),
    )
    nodes = np.zeros(4, np.int64)
    assert feature.rows(nodes, np.array([10, 11, 20, 21])).tolist() == [-1, 0, 0, -1]
    assert feature.rows(nodes[:1]).tolist() == [-1]
