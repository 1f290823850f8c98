"""Derived edges of a compiled graph: what is known when, how they are stored, and what is drawn from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_platform.errors import GraphError
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.densify import DensifySpec
from star_platform.graph.derive import DerivedSpec, derive, snapshot_moments
from star_platform.graph.derived import (
    ExtendedGraph,
    declared_edge_types,
    identity,
    open_extended,
    ppr_edge_types,
    ppr_edges,
    with_derived,
)
from star_platform.graph.ppr import PprSpec, WalkEdges, channel_edges, top_neighbours, walkable
from star_platform.graph.sampling import NeighbourSampler
from star_platform.graph.storage import EdgeType, Graph, open_graph
from star_platform.registry.artefacts import ArtefactStore
from star_platform.signals.model import VectorFeature
from tests.gnn.graphs import GraphWriter
from tests.graph.world import World, content, micros

MOMENTS = (30, 60, 101)
SPEC = DerivedSpec(MOMENTS, ppr=PprSpec(epsilon=1e-6, top_k=6))
MEMBERS, JOBS, SKILLS = 24, 10, 4
Views = tuple[np.ndarray, np.ndarray, np.ndarray]


def some_views(seed: int = 0, count: int = 80) -> Views:
    rng = np.random.default_rng(seed)
    return rng.integers(0, MEMBERS, count), rng.integers(0, JOBS, count), rng.integers(0, 100, count)


def write_graph(folder: Path, views: Views, *, created: np.ndarray | None = None, name: str = "views") -> Graph:
    """The last six members view nothing, and have no skill: only their vectors tell something about them."""
    rng = np.random.default_rng(9)
    writer = GraphWriter(folder)
    writer.node("member", list(range(MEMBERS)), created_at=created)
    writer.node("job", list(range(JOBS)))
    writer.node("skill", list(range(SKILLS)), kind="attribute")
    members, jobs, times = views
    writer.edge(name, "member", "job", (members % (MEMBERS - 6), jobs), times=times)
    writer.edge("needs", "job", "skill", (np.arange(JOBS), np.arange(JOBS) % SKILLS))
    writer.edge("has", "member", "skill", (np.arange(MEMBERS - 6), np.arange(MEMBERS - 6) % SKILLS))
    writer.feature("member.vector", "vector", rng.normal(size=(MEMBERS, 4)))
    return writer.finish()


def store_derived(graph: Graph, folder: Path, spec: DerivedSpec = SPEC, **more: Any) -> Path:
    """The folder of the artefact."""
    store = ArtefactStore(folder)
    with store.create("derive", "fingerprint") as draft:
        draft.details.update(derive(graph, spec, draft.path, **more))
    return store.open("derive", "fingerprint").path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return write_graph(tmp_path_factory.mktemp("derived") / "graph", some_views())


@pytest.fixture(scope="module")
def extended(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return with_derived(graph, store_derived(graph, tmp_path_factory.mktemp("derived-store")))


def neighbours(graph: Graph, moment: int) -> dict[tuple[str, int], list[tuple[str, int, float]]]:
    """What a graph holds of one moment: per node its neighbours, best first."""
    found: dict[tuple[str, int], list[tuple[str, int, float]]] = {}
    for name in ppr_edge_types(graph):
        edges = graph.edges(name)
        assert edges.timestamps is not None
        assert edges.weights is not None
        for v, e in zip(edges.destinations().tolist(), range(edges.num_edges), strict=True):
            if edges.timestamps[e] == moment - 1:
                found.setdefault((name.dst, v), []).append((name.src, int(edges.indices[e]), float(edges.weights[e])))
    return {node: sorted(rows, key=lambda row: (-row[2], row[:2])) for node, rows in found.items()}


# --- what is known when -----------------------------------------------------------------------------------------------


def test_each_moment_holds_the_scores_of_a_graph_that_ends_there(tmp_path: Path, extended: Graph) -> None:
    members, jobs, times = some_views()
    for moment in MOMENTS:
        earlier = times < moment
        cut = write_graph(tmp_path / f"graph-{moment}", (members[earlier], jobs[earlier], times[earlier]))
        counts = {node: cut.num_nodes(node) for node in cut.node_types}
        adjacency = walkable(
            counts, {name: cut.edges(name) for name in cut.edge_types}, channel_edges(cut.edge_types, None)
        )
        seeds = np.arange(adjacency.num_nodes)
        assert SPEC.ppr is not None
        top = top_neighbours(WalkEdges(adjacency).at(10**9), seeds, SPEC.ppr, threads=1)
        names = [(node, i) for node in adjacency.node_types for i in range(counts[node])]
        found = neighbours(extended, moment)
        for seed in seeds:
            expected = [
                (*names[node], float(score))
                for node, score in zip(top.nodes[seed], top.scores[seed], strict=True)
                if node >= 0
            ]
            assert found.get(names[seed], []) == sorted(expected, key=lambda row: (-row[2], row[:2]))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_edge_at_or_after_a_moment_changes_its_scores(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Later edges are moved elsewhere and new ones injected, some in the very microsecond of the moment."""
    folder = tmp_path_factory.mktemp("future")
    moment = data.draw(st.sampled_from(MOMENTS))
    seed = data.draw(st.integers(0, 100))
    members, jobs, times = some_views(seed)
    rng = np.random.default_rng(seed + 1)
    late = times >= moment
    moved = np.where(late, rng.integers(0, MEMBERS, len(members)), members)
    injected = data.draw(st.lists(st.tuples(st.integers(0, MEMBERS - 1), st.integers(0, JOBS - 1)), min_size=1))
    more, others = np.array(injected).T
    after = np.full(len(more), moment) + rng.integers(0, 2, len(more))
    spec = DerivedSpec(MOMENTS, ppr=SPEC.ppr, densify=DensifySpec(2, low=0.5, high=0.5), threads=1)
    one = write_graph(folder / "one", (members, jobs, times))
    two = write_graph(folder / "two", tuple(map(np.concatenate, ((moved, more), (jobs, others), (times, after)))))
    graphs = [with_derived(each, store_derived(each, folder / f"store-{n}", spec)) for n, each in enumerate((one, two))]
    for earlier in (each for each in MOMENTS if each <= moment):
        assert neighbours(graphs[0], earlier) == neighbours(graphs[1], earlier)
    similar = [known_similar(each, moment) for each in graphs]
    assert similar[0] == similar[1]


def known_similar(graph: Graph, moment: int) -> list[tuple[int, int, int, float]]:
    """What a reader at `moment` sees."""
    edges = graph.edges_named("similar_member")
    assert edges.timestamps is not None
    assert edges.weights is not None
    columns = (edges.destinations(), edges.indices, edges.timestamps, edges.weights)
    return [row for row in zip(*(column.tolist() for column in columns), strict=True) if row[2] < moment]


def test_nodes_have_no_neighbours_before_they_exist(tmp_path: Path) -> None:
    created = np.where(np.arange(MEMBERS) % 2, 45, np.iinfo(np.int64).min)
    made = write_graph(tmp_path / "graph", some_views(), created=created)
    found = with_derived(made, store_derived(made, tmp_path / "store"))
    early, late = neighbours(found, 30), neighbours(found, 60)
    absent = {("member", v) for v in range(1, MEMBERS, 2)}
    assert not absent & set(early)
    assert not absent & {row[:2] for rows in early.values() for row in rows}
    assert absent & set(late)
    assert absent & {row[:2] for rows in late.values() for row in rows}


def test_moments_follow_the_split() -> None:
    times = np.arange(1000, 2000)
    moments = snapshot_moments(times, 2000, 2100, 2300, 4)
    assert moments == (1333, 1666, 2000, 2100, 2301)
    assert snapshot_moments(times, 2000, 2100, 2300, 3) == (1499, 2000, 2100, 2301)
    assert snapshot_moments(times, 2000, 2100, 2300, 1) == (1499, 2100, 2301), "training sees one at least"
    assert snapshot_moments(times, 2000, 2301, 2300, 3) == (1499, 2000, 2301), "no test: it starts when all is over"
    assert snapshot_moments(np.array([5, 5, 5]), 6, 7, 7, 4) == (5, 6, 7, 8)


# --- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("time", "moment"), [(30, 30), (59, 30), (60, 60), (100, 60), (101, 101), (5000, 101)])
@pytest.mark.parametrize("k", [1, 3])
def test_the_latest_are_the_best_of_the_newest_moment(extended: Graph, time: int, moment: int, k: int) -> None:
    """Of all node types together, though they lie in edge types of their own."""
    adjacency = ppr_edges(extended)
    sampler = NeighbourSampler(adjacency, [k], "latest", layout="ragged")
    best = neighbours(extended, moment)
    full = sorted(node for node, rows in best.items() if len(rows) >= k)
    assert len(full) > 20
    for node, index in full:
        sample = sampler.sample(adjacency.gids(node, [index]), np.array([time]), 0)
        block = sample.blocks[0]
        sources = sample.nodes[block.neighbours]
        relations = [adjacency.relation_names[r] for r in block.relations]
        drawn = [
            (name.src, int(gid - adjacency.gids(name.src, [0])[0]))
            for gid, name in zip(sources, relations, strict=True)
        ]
        assert block.weights is not None
        scores = sorted(block.weights.tolist(), reverse=True)
        assert scores == [row[2] for row in best[node, index][:k]]
        assert all(row in {each[:2] for each in best[node, index] if each[2] >= scores[-1]} for row in drawn)


def test_nothing_is_drawn_before_the_first_moment(extended: Graph) -> None:
    adjacency = ppr_edges(extended)
    sampler = NeighbourSampler(adjacency, [5], "latest", layout="ragged")
    sample = sampler.sample(np.arange(adjacency.num_nodes), np.full(adjacency.num_nodes, MOMENTS[0] - 1), 0)
    assert not len(sample.blocks[0].neighbours)


def test_ppr_edges_need_ppr(graph: Graph, extended: Graph) -> None:
    with pytest.raises(GraphError) as caught:
        ppr_edges(graph)
    assert caught.value.code == "G068"
    assert ppr_edges(extended) is ppr_edges(extended), "built once"
    split = ppr_edges(extended, "per-relation")
    assert len(split.edges) == len(ppr_edges(extended).edges)


# --- storage ----------------------------------------------------------------------------------------------------------


def test_an_extended_graph_is_a_graph(graph: Graph, extended: Graph) -> None:
    names = ppr_edge_types(extended)
    assert isinstance(extended, ExtendedGraph)
    assert (
        extended.declared_edge_types == declared_edge_types(extended) == declared_edge_types(graph) == graph.edge_types
    )
    assert set(extended.edge_types) == {*graph.edge_types, *names}
    assert EdgeType("job", "ppr__job__member", "member") in names
    assert {str(extended.edge_kind(name)) for name in names} == {"derived"}
    assert extended.edge_kind(EdgeType("member", "views", "job")) == "interaction"
    assert (extended.as_of, extended.node_types) == (graph.as_of, graph.node_types)
    assert len({extended.content_hash, graph.content_hash}) == len({extended.fingerprint, graph.fingerprint}) == 2
    for name in names:
        edges = extended.edges(name)
        assert edges.num_edges == extended.manifest["edges"][name.relation]["edges"]
        assert edges.timestamps is not None
        assert edges.weights is not None
        order = np.lexsort((edges.weights, edges.timestamps, edges.destinations()))
        assert (order == np.arange(edges.num_edges)).all()
    joint = Adjacency.of(extended)
    assert len(joint.edges) == len(Adjacency.of(graph).edges) + len(ppr_edges(extended).edges)
    assert np.array_equal(extended.edges_named("views").indices, graph.edges_named("views").indices)


def test_the_same_bytes_every_time(tmp_path: Path, graph: Graph) -> None:
    spec = DerivedSpec(MOMENTS, ppr=SPEC.ppr, densify=DensifySpec(3), threads=1)
    one = store_derived(graph, tmp_path / "one", spec)
    two = store_derived(graph, tmp_path / "two", DerivedSpec(MOMENTS, spec.ppr, spec.densify, threads=3))
    assert content(one) == content(two)
    again = store_derived(with_derived(graph, one), tmp_path / "again", spec)
    assert {**content(again), "manifest.json": b""} == {**content(one), "manifest.json": b""}, "of declared edges only"


def test_derived_edges_of_another_graph_are_refused(tmp_path: Path, graph: Graph) -> None:
    folder = store_derived(graph, tmp_path / "store")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["details"]["base"] = "another"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GraphError) as caught:
        with_derived(graph, folder)
    assert caught.value.code == "G067"
    with pytest.raises(GraphError) as caught:
        with_derived(graph, graph.path)
    assert caught.value.code == "G067"


def test_a_new_cohort_leaves_them_valid(tmp_path: Path, graph: Graph) -> None:
    shutil.copytree(graph.path, tmp_path / "graph")
    manifest = json.loads((tmp_path / "graph" / "manifest.json").read_text())
    manifest["files"]["cohorts/age/codes.npy"] = {"bytes": 1, "sha256": "new"}
    (tmp_path / "graph" / "manifest.json").write_text(json.dumps(manifest))
    other = open_extended(tmp_path / "graph", store_derived(graph, tmp_path / "store"))
    assert identity(other) == identity(graph)
    assert other.content_hash != graph.content_hash
    assert open_graph(other.path).content_hash == graph.content_hash, "a model fits its graph whatever the cohorts"
    manifest["files"]["nodes/job/ids.parquet"]["sha256"] = "new"
    (tmp_path / "graph" / "manifest.json").write_text(json.dumps(manifest))
    assert identity(open_extended(tmp_path / "graph", None)) != identity(graph)


def test_a_declared_edge_type_may_not_have_a_derived_name(tmp_path: Path) -> None:
    made = write_graph(tmp_path / "graph", some_views(), name="ppr__job__job")
    with pytest.raises(GraphError) as caught:
        derive(made, SPEC, tmp_path)
    assert caught.value.code == "G069"


class _Killed(Exception):
    pass


class _Watch:
    """Counts what it is told, and dies in the task whose turn it is."""

    def __init__(self, survives: int = 10**9) -> None:
        self.titles: list[str] = []
        self.done = 0
        self._survives = survives

    def line(self, text: str) -> None:
        """Nothing is said."""

    def note(self, **figures: float | str) -> None:
        """Nothing is noted."""

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if len(self.titles) > self._survives:
            raise _Killed

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[_Watch]:
        self.titles.append(f"{name} {total} {unit}")
        yield self


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, graph: Graph) -> None:
    spec = DerivedSpec(MOMENTS, ppr=SPEC.ppr, densify=DensifySpec(3), threads=1)
    whole = _Watch()
    expected = store_derived(graph, tmp_path / "whole", spec, progress=whole)
    total = MEMBERS + JOBS + SKILLS
    assert [title for title in whole.titles if title.startswith("ppr")] == [
        f"ppr {number}/3 {total} nodes" for number in (1, 2, 3)
    ]
    assert [title.split()[0] for title in whole.titles] == ["densify"] * 3 + ["ppr"] * 3
    killed = _Watch(survives=4)
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    with pytest.raises(_Killed):
        store_derived(graph, store, spec, progress=killed, work_dir=work)
    assert ArtefactStore(store).find("derive", "fingerprint") is None
    again = _Watch()
    assert content(store_derived(graph, store, spec, progress=again, work_dir=work)) == content(expected)
    assert [title.split()[:2] for title in again.titles] == [["ppr", "2/3"], ["ppr", "3/3"]]


# --- channels and newcomers -------------------------------------------------------------------------------------------


def test_channels_are_edge_types_of_their_own(tmp_path: Path, graph: Graph) -> None:
    spec = DerivedSpec((60,), ppr=PprSpec(top_k=5, channels=(("views",), ("rev_has", "needs"))))
    found = with_derived(graph, store_derived(graph, tmp_path / "store", spec))
    names = {name.relation for name in ppr_edge_types(found)}
    first, second = ({name for name in names if name.startswith(f"ppr_{n}__")} for n in (0, 1))
    assert first | second == names
    assert first == {f"ppr_0__{src}__{dst}" for src in ("job", "member") for dst in ("job", "member")}
    assert "ppr_1__skill__member" in second
    assert found.edges_named("ppr_0__job__job").num_edges
    unknown = DerivedSpec((60,), ppr=PprSpec(channels=(("view",),)))
    with pytest.raises(GraphError) as caught:
        derive(graph, unknown, tmp_path)
    assert caught.value.code == "G065"


def test_edge_types_do_not_depend_on_what_is_found(tmp_path: Path, graph: Graph, extended: Graph) -> None:
    """A model's relations are those of its graph: data alone must not take one away."""
    nothing = write_graph(tmp_path / "graph", tuple(np.empty(0, dtype=int) for _ in range(3)))
    spec = DerivedSpec((5,), ppr=SPEC.ppr, densify=DensifySpec(2, nodes=("member",)))
    found = with_derived(nothing, store_derived(nothing, tmp_path / "store", spec))
    assert ppr_edge_types(found) == ppr_edge_types(extended)
    assert len(ppr_edge_types(found)) == 9
    for name in ("similar_member", "ppr__member__member"):
        edges = found.edges_named(name)
        assert edges.weights is not None
        assert found.manifest["edges"][name]["edges"] == edges.num_edges == len(edges.weights)
    assert not found.edges_named("similar_member").num_edges
    assert found.edges_named("ppr__skill__member").num_edges
    assert len(Adjacency.of(found).edges)


def test_newcomers_have_neighbours_through_similar_nodes(tmp_path: Path, graph: Graph, extended: Graph) -> None:
    spec = DerivedSpec(MOMENTS, ppr=SPEC.ppr, densify=DensifySpec(2, low=0.3, high=0.5))
    found = with_derived(graph, store_derived(graph, tmp_path / "store", spec))
    newcomers = {("member", v) for v in range(MEMBERS - 6, MEMBERS)}
    assert not newcomers & set(neighbours(extended, 101))
    received = {("member", v) for v, _, _, _ in known_similar(found, 101)}
    assert len(newcomers & received) >= 4
    assert newcomers & received <= set(neighbours(found, 101))
    assert found.edges_named("similar_member").type == ("member", "similar_member", "member")
    assert not any(name.relation.startswith("similar_") for name in ppr_edge_types(found))


def test_a_graph_compiled_from_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    world = World(tmp_path)
    count = 60
    world.write("members", {"member": list(range(10)), "v": rng.normal(size=(10, 3)).tolist()})
    when = micros((10**15 + rng.integers(0, 10**6, count)).tolist())
    world.write("views", {"m": rng.integers(0, 7, count), "j": rng.integers(0, 5, count), "at": when})
    world.node("member", "members", "member").node("job")
    world.edge("views", "views", ("member", "m"), ("job", "j"), timestamp="at", dst_unknown="create")
    world.add("feature", "member.v", VectorFeature(kind="vector", source="members", key="member", column="v"))
    graph = world.graph()
    moments = (10**15 + 500_000, graph.as_of + 1)
    spec = DerivedSpec(moments, ppr=PprSpec(top_k=3), densify=DensifySpec(2, low=0.3, high=0.5))
    found = with_derived(graph, store_derived(graph, tmp_path / "derived", spec))
    assert {name.relation for name in found.edge_types} - {name.relation for name in graph.edge_types} == {
        "similar_member",
        *(f"ppr__{src}__{dst}" for src in ("job", "member") for dst in ("job", "member")),
    }
    rows = [neighbours(found, moment) for moment in moments]
    assert len(rows[1]) == 10 + graph.num_nodes("job"), "the three who viewed nothing are similar to some who did"
    assert all(len(each) == 3 for each in rows[1].values())
