"""Who something dated happened to, against a loop over every edge and version."""

from __future__ import annotations

import numpy as np
import pytest

from star_platform.graph.changes import beside, changed_since
from star_platform.graph.storage import Graph
from tests.gnn.graphs import GraphWriter


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    rng = np.random.default_rng(3)
    writer = GraphWriter(tmp_path_factory.mktemp("changes") / "graph")
    writer.node("job", list(range(25)))
    writer.node("member", list(range(30)))
    writer.node("skill", list(range(4)), "attribute")
    writer.edge(
        "views", "member", "job", (rng.integers(30, size=60), rng.integers(20, size=60)), rng.integers(100, size=60)
    )
    writer.edge("has", "member", "skill", (np.arange(30), np.arange(30) % 4))
    counts = rng.integers(0, 3, size=30)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    times = np.concatenate([np.sort(rng.integers(100, size=n)) for n in counts])
    writer.versions("member.headline", "text", indptr, times, rng.normal(size=(len(times), 3)))
    return writer.finish("changes")


def by_loop(graph: Graph, node: str, moment: int) -> set[int]:
    found = set()
    for name in graph.edge_types:
        edges = graph.edges(name)
        if name.dst == node and edges.timestamps is not None:
            for target, time in zip(edges.destinations(), edges.timestamps, strict=True):
                if time >= moment:
                    found.add(int(target))
    for feature in graph.features(node):
        for i in range(graph.num_nodes(node)):
            if (
                feature.indptr is not None
                and (feature.valid_from[feature.indptr[i] : feature.indptr[i + 1]] >= moment).any()
            ):
                found.add(i)
    return found


@pytest.mark.parametrize("node", ["job", "member", "skill"])
@pytest.mark.parametrize("moment", [0, 40, 80, 97, 98, 99, 100])
def test_changed_since(graph: Graph, node: str, moment: int) -> None:
    expected = by_loop(graph, node, moment)
    assert set(np.flatnonzero(changed_since(graph, node, moment)).tolist()) == expected
    assert expected or node == "skill" or moment >= 97


def test_edge_types_that_do_not_count(graph: Graph) -> None:
    assert not changed_since(graph, "job", 0, []).any()
    assert changed_since(graph, "job", 0).any()


def test_beside(graph: Graph) -> None:
    changed = {node: np.zeros(graph.num_nodes(node), dtype=bool) for node in graph.node_types}
    changed["skill"][2] = True
    assert np.flatnonzero(beside(graph, "member", changed)).tolist() == [2, 6, 10, 14, 18, 22, 26]
    assert not beside(graph, "job", changed).any()
    changed["member"][5] = True
    views = graph.edges_named("views")
    expected = np.unique(views.destinations()[views.indices == 5])
    assert np.array_equal(np.flatnonzero(beside(graph, "job", changed)), expected)
