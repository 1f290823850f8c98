"""Edges between similar nodes: who gives, who receives, and what is known at a moment."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import DependencyMissing, GraphError
from star_platform.graph import densify
from star_platform.graph.densify import DensifySpec, Similar, content_types, degrees, joined, similar
from star_platform.graph.storage import Graph
from tests.gnn.graphs import GraphWriter

MEMBERS, JOBS, DIM = 120, 20, 8


def random_graph(folder: Path, seed: int = 0, *, created: np.ndarray | None = None) -> Graph:
    """Members with a fixed vector and a versioned text, who view jobs: a few of them most of the time."""
    rng = np.random.default_rng(seed)
    writer = GraphWriter(folder)
    writer.node("member", list(range(MEMBERS)), created_at=created)
    writer.node("job", list(range(JOBS)))
    writer.node("skill", list(range(3)), kind="attribute")
    views = 400
    viewers = (MEMBERS * rng.random(views) ** 3).astype(int)
    writer.edge("views", "member", "job", (viewers, rng.integers(0, JOBS, views)), times=rng.integers(0, 100, views))
    writer.edge("has", "member", "skill", (np.arange(MEMBERS), np.arange(MEMBERS) % 3))
    present = rng.random(MEMBERS) < 0.9
    writer.feature("member.vector", "vector", rng.normal(size=(MEMBERS, DIM)), present=present)
    versions = rng.integers(0, 3, MEMBERS)
    indptr = np.concatenate([[0], np.cumsum(versions)])
    valid_from = np.concatenate([np.sort(rng.integers(0, 100, count)) for count in versions])
    writer.versions("member.text", "text", indptr, valid_from, rng.normal(size=(indptr[-1], DIM)))
    writer.feature("skill.vector", "vector", rng.normal(size=(3, DIM)))
    return writer.finish()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return random_graph(tmp_path_factory.mktemp("densify") / "graph")


def expected(graph: Graph, moment: int, spec: DensifySpec) -> set[tuple[int, int]]:
    """(dst, src) by the definition, one node at a time."""
    rev = graph.edges_named("rev_views")
    degree = np.array([int((rev.timestamps[rev.indptr[v] : rev.indptr[v + 1]] < moment).sum()) for v in range(MEMBERS)])
    vector, text = (next(f for f in graph.features("member") if f.name == name) for name in ("vector", "text"))
    rows = np.zeros((MEMBERS, 2 * DIM))
    for v in range(MEMBERS):
        if vector.present[v]:
            rows[v, :DIM] = vector.values[v] / np.linalg.norm(vector.values[v])
        versions = [r for r in range(text.indptr[v], text.indptr[v + 1]) if text.valid_from[r] < moment]
        if versions:
            rows[v, DIM:] = text.values[versions[-1]] / np.linalg.norm(text.values[versions[-1]])
    norm = np.linalg.norm(rows, axis=1)
    ordered = np.sort(degree)
    low, high = (
        ordered[int(np.floor(spec.low * (MEMBERS - 1)))],
        max(1, ordered[int(np.ceil(spec.high * (MEMBERS - 1)))]),
    )
    givers = [v for v in range(MEMBERS) if degree[v] >= high and norm[v] > 0]
    found = set()
    for v in range(MEMBERS):
        if degree[v] <= low and norm[v] > 0:
            cosines = [(-(rows[v] @ rows[u]) / norm[v] / norm[u], u) for u in givers if u != v]
            found |= {(v, u) for cosine, u in sorted(cosines)[: spec.neighbours] if cosine < 0}
    return found


@pytest.mark.parametrize("moment", [20, 60, 101])
@pytest.mark.parametrize("spec", [DensifySpec(3), DensifySpec(50), DensifySpec(2, low=0.6, high=0.4)])
def test_the_edges_are_those_of_the_definition(graph: Graph, moment: int, spec: DensifySpec) -> None:
    found = similar(graph, "member", moment, spec)
    pairs = list(zip(found.dst.tolist(), found.src.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected(graph, moment, spec)
    assert ((found.similarity > 0) & (found.similarity <= 1)).all()
    assert (np.lexsort((found.similarity, found.dst)) == np.arange(len(pairs))).all()


def test_weights_are_cosines(graph: Graph) -> None:
    found = similar(graph, "member", 101, DensifySpec(4))
    content = densify.Content(densify.dense_features(graph, "member"), 101)
    one, other = content.rows(found.dst), content.rows(found.src)
    assert found.similarity == pytest.approx((one * other).sum(axis=1), abs=1e-6)
    assert np.linalg.norm(one, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_nothing_at_or_after_the_moment_counts(tmp_path: Path) -> None:
    """Degrees and versions of the moment itself are not yet known; a microsecond later they are."""
    writer = GraphWriter(tmp_path / "graph")
    writer.node("member", ["a", "b", "c"])
    writer.node("job", ["j"])
    writer.edge("views", "member", "job", ([0, 0, 1, 1, 1], [0] * 5), times=[1, 2, 10, 10, 10])
    same = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.1]]
    writer.versions("member.text", "text", [0, 1, 2, 4], [0, 0, 0, 10], same)
    graph = writer.finish()
    assert degrees(graph, "member", 10).tolist() == [2, 0, 0]
    assert degrees(graph, "member", 11).tolist() == [2, 3, 0]
    spec = DensifySpec(1, low=0.4, high=1.0)
    before, after = similar(graph, "member", 10, spec), similar(graph, "member", 11, spec)
    assert list(zip(before.dst, before.src, strict=True)) == [(1, 0)], "c is at a right angle to a"
    assert list(zip(after.dst, after.src, strict=True)) == [(2, 1)]


def test_nodes_take_part_once_they_exist(tmp_path: Path) -> None:
    created = np.where(np.arange(MEMBERS) % 2, 60, np.iinfo(np.int64).min)
    graph = random_graph(tmp_path / "graph", created=created)
    found = similar(graph, "member", 60, DensifySpec(5, low=1.0, high=0.0))
    assert len(found.dst)
    assert not (found.dst % 2).any()
    assert not (found.src % 2).any()
    later = similar(graph, "member", 61, DensifySpec(5, low=1.0, high=0.0))
    assert (later.dst % 2).any()
    assert (later.src % 2).any()


def test_an_index_finds_nearly_the_same_and_the_same_twice(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("usearch")
    spec = DensifySpec(5, low=1.0, high=0.5)
    exact = similar(graph, "member", 101, spec)
    monkeypatch.setattr(densify, "EXACT_CANDIDATES", 0)
    one, two = (similar(graph, "member", 101, spec) for _ in range(2))
    for name in ("dst", "src", "similarity"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    pairs = [set(zip(each.dst.tolist(), each.src.tolist(), strict=True)) for each in (exact, one)]
    assert len(pairs[0] & pairs[1]) > 0.95 * len(pairs[0])
    assert all(dst != src for dst, src in pairs[1])


def test_without_the_package_the_error_names_the_extra(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densify, "EXACT_CANDIDATES", 0)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(DependencyMissing, match="usearch") as caught:
        similar(graph, "member", 101, DensifySpec(5))
    assert caught.value.code == "D030"
    assert "star-platform[ann]" in str(caught.value)


def test_which_node_types(graph: Graph) -> None:
    assert content_types(graph, DensifySpec(1)) == ["member"], "jobs have no content, skills are attributes"
    assert content_types(graph, DensifySpec(1, nodes=("skill", "member"))) == ["member", "skill"]
    assert not len(similar(graph, "skill", 101, DensifySpec(1)).dst), "nobody interacts with a skill"
    for name, said in (("job", "no text and no vector"), ("membr", "'member'")):
        with pytest.raises(GraphError) as caught:
            content_types(graph, DensifySpec(1, nodes=(name,)))
        assert caught.value.code == "G066"
        assert said in str(caught.value)


def test_an_edge_is_dated_before_the_first_moment_that_found_it() -> None:
    def found(*rows: tuple[int, int, float]) -> Similar:
        dst, src, similarity = zip(*rows, strict=True)
        return Similar(np.array(dst), np.array(src), np.array(similarity, dtype=np.float32))

    edges = joined(
        "member", 4, [(10, found((0, 2, 0.5), (0, 3, 0.75))), (20, found((0, 1, 0.25), (0, 3, 0.5), (2, 1, 1)))]
    )
    assert edges.type == ("member", "similar_member", "member")
    assert edges.indptr.tolist() == [0, 3, 3, 4, 4]
    assert edges.indices.tolist() == [2, 3, 1, 1]
    assert edges.timestamps is not None
    assert edges.weights is not None
    assert edges.timestamps.tolist() == [9, 9, 19, 19]
    assert edges.weights.tolist() == [0.5, 0.75, 0.25, 1.0]
