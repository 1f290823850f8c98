"""Personalised PageRank: closed forms, invariants, and what a dense linear solve says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import GraphError
from star_platform.graph.ppr import (
    PprSpec,
    WalkEdges,
    WalkGraph,
    channel_edges,
    scores,
    top_neighbours,
    transposed,
    walkable,
)
from star_platform.graph.storage import ALWAYS, EdgeArrays, EdgeType

EXACT = 1e-12


def walk_graph(n: int, pairs: list[tuple[int, int]], *, directed: bool = False) -> WalkGraph:
    out: list[list[int]] = [[] for _ in range(n)]
    for a, b in pairs:
        out[a].append(b)
        if not directed:
            out[b].append(a)
    indptr = np.cumsum([0, *(len(each) for each in out)])
    return WalkGraph(indptr.astype(np.int64), np.array([v for each in out for v in each], dtype=np.int32))


def dense(walk: WalkGraph, seed: int, alpha: float) -> np.ndarray:
    """p = alpha (I - (1 - alpha) M)^-1 e_s; column u of M is where a walker at u goes, the seed if nowhere."""
    n = walk.num_nodes
    move = np.zeros((n, n))
    for u in range(n):
        targets = walk.neighbours[walk.indptr[u] : walk.indptr[u + 1]]
        for v in targets:
            move[v, u] += 1 / len(targets)
        if not len(targets):
            move[seed, u] = 1.0
    return np.linalg.solve(np.eye(n) - (1 - alpha) * move, alpha * np.eye(n)[seed])


def test_a_star_seen_from_its_centre() -> None:
    n, alpha = 7, 0.3
    walk = walk_graph(n + 1, [(0, leaf) for leaf in range(1, n + 1)])
    p, _ = scores(walk, 0, PprSpec(alpha=alpha, epsilon=EXACT))
    assert p[0] == pytest.approx(1 / (2 - alpha), abs=1e-9)
    assert p[1:] == pytest.approx(np.full(n, (1 - alpha) / ((2 - alpha) * n)), abs=1e-9)


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [
        (EXACT, [0.577778, 0.311111, 0.088889, 0.022222]),
        (1e-2, [0.574219, 0.307617, 0.082031, 0.015625]),
    ],
)
def test_a_path_of_four_seen_from_its_end(epsilon: float, expected: list[float]) -> None:
    p, _ = scores(walk_graph(4, [(0, 1), (1, 2), (2, 3)]), 0, PprSpec(alpha=0.5, epsilon=epsilon))
    assert p == pytest.approx(expected, abs=6e-7)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[WalkGraph, int]:
    n = draw(st.integers(2, 12))
    node = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(node, node), max_size=40))
    return walk_graph(n, pairs, directed=draw(st.booleans())), draw(node)


@settings(max_examples=150, deadline=None)
@given(graphs(), st.floats(0.1, 0.9), st.sampled_from([1e-1, 1e-2, 1e-4]))
def test_mass_is_conserved_and_errors_stay_below_the_threshold(
    case: tuple[WalkGraph, int], alpha: float, epsilon: float
) -> None:
    walk, seed = case
    p, r = scores(walk, seed, PprSpec(alpha=alpha, epsilon=epsilon))
    assert p.sum() + r.sum() / alpha == pytest.approx(1.0, abs=1e-9)
    assert (r < alpha * epsilon * np.maximum(np.diff(walk.indptr), 1)).all()
    exact = dense(walk, seed, alpha)
    assert (p <= exact + 1e-12).all(), "what was not pushed on is missing, so scores are lower bounds"
    assert np.abs(p - exact).sum() <= r.sum() / alpha + 1e-9


@settings(max_examples=100, deadline=None)
@given(graphs(), st.floats(0.1, 0.9))
def test_many_pushes_reach_the_linear_solution(case: tuple[WalkGraph, int], alpha: float) -> None:
    walk, seed = case
    p, _ = scores(walk, seed, PprSpec(alpha=alpha, epsilon=1e-10))
    assert p == pytest.approx(dense(walk, seed, alpha), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 14), st.sampled_from([1e-1, 1e-3, 1e-10]))
def test_the_neighbours_are_the_best_scored_nodes(case: tuple[WalkGraph, int], k: int, epsilon: float) -> None:
    walk, _ = case
    spec = PprSpec(alpha=0.4, epsilon=epsilon, top_k=k)
    found = top_neighbours(walk, np.arange(walk.num_nodes), spec, threads=1)
    for seed in range(walk.num_nodes):
        if walk.indptr[seed] == walk.indptr[seed + 1]:
            assert (found.nodes[seed] == -1).all()
            assert found.self_scores[seed] == 1.0
            continue
        p, r = scores(walk, seed, spec)
        others = [v for v in range(walk.num_nodes) if v != seed]
        by_p = sorted((v for v in others if p[v] > 0), key=lambda v: (-p[v], v))
        topped = sorted((v for v in others if p[v] == 0 and r[v] > 0), key=lambda v: (-r[v], v))
        expected = (by_p + topped)[:k]
        assert found.nodes[seed].tolist() == expected + [-1] * (k - len(expected))
        assert found.scores[seed, : len(by_p)] == pytest.approx(p[by_p[:k]], rel=1e-6)
        assert (np.diff(found.scores[seed]) <= 0).all()
        assert found.self_scores[seed] == pytest.approx(p[seed], rel=1e-6)


def test_a_hub_still_has_neighbours() -> None:
    """Its own residual lies below the threshold of so many neighbours: without the first push it would keep it all."""
    leaves = 300
    walk = walk_graph(leaves + 1, [(0, leaf) for leaf in range(1, leaves + 1)])
    found = top_neighbours(walk, np.array([0]), PprSpec(epsilon=0.1, top_k=5), threads=1)
    assert found.nodes.tolist() == [[1, 2, 3, 4, 5]]
    assert found.scores[0] == pytest.approx([0.25 / leaves] * 5, rel=1e-6)


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    walk = walk_graph(n, list(zip(rng.integers(0, n, 8000).tolist(), rng.integers(0, n, 8000).tolist(), strict=True)))
    spec = PprSpec(top_k=20)
    one = top_neighbours(walk, np.arange(n), spec, threads=1)
    four = top_neighbours(walk, np.arange(n), spec, threads=4)
    order = rng.permutation(n)
    shuffled = top_neighbours(walk, order, spec, threads=3)
    for a, b in ((four, slice(None)), (shuffled, order)):
        assert np.array_equal(a.nodes, one.nodes[b])
        assert np.array_equal(a.scores, one.scores[b])


# --- what may be walked -----------------------------------------------------------------------------------------------

VIEWS = EdgeType("member", "views", "job")
HAS = EdgeType("member", "has", "skill")
TYPES = sorted([VIEWS, VIEWS.reversed, HAS])


def test_a_channel_takes_both_directions_of_its_relations() -> None:
    assert channel_edges(TYPES, None) == [HAS, VIEWS]
    assert channel_edges(TYPES, ["rev_views", "views"]) == [VIEWS]
    assert channel_edges(TYPES, ["rev_has"]) == [HAS]
    with pytest.raises(GraphError, match="vews") as caught:
        channel_edges(TYPES, ["vews"])
    assert caught.value.code == "G065"
    assert "views" in str(caught.value)


def edges_of(name: EdgeType, n_dst: int, rows: list[tuple[int, int, int]]) -> EdgeArrays:
    """Rows of (src, dst, time) in CSC."""
    rows = sorted(rows, key=lambda row: (row[1], row[2], row[0]))
    indptr = np.cumsum([0, *(sum(1 for row in rows if row[1] == v) for v in range(n_dst))]).astype(np.int64)
    src, _, times = (np.array(column) for column in zip(*rows, strict=True))
    return EdgeArrays(name, indptr, src.astype(np.int32), times.astype(np.int64), None, {})


def test_a_relation_without_compiled_reverse_is_walked_both_ways() -> None:
    rows = [(0, 0, 5), (1, 0, 3), (1, 1, 9), (0, 0, 7)]
    views = edges_of(VIEWS, 2, rows)
    back = transposed(views, 3)
    expected = edges_of(VIEWS.reversed, 3, [(dst, src, time) for src, dst, time in rows])
    for name in ("indptr", "indices", "timestamps"):
        assert np.array_equal(getattr(back, name), getattr(expected, name))
    counts = {"member": 3, "job": 2}
    one = walkable(counts, {VIEWS: views}, [VIEWS])
    both = walkable(counts, {VIEWS: views, VIEWS.reversed: back}, [VIEWS])
    assert np.array_equal(one.edges, both.edges)
    assert np.array_equal(one.indptr, both.indptr)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 20)), min_size=1, max_size=30),
    st.integers(-1, 22),
    st.none() | st.integers(0, 25),
    st.booleans(),
    st.lists(st.sampled_from([ALWAYS, 4, 12]), min_size=7, max_size=7),
)
def test_a_moment_sees_strictly_earlier_edges_between_existing_nodes(
    rows: list[tuple[int, int, int]], moment: int, window: int | None, dated: bool, born: list[int]
) -> None:
    views = edges_of(VIEWS, 3, rows)
    if not dated:
        views = replace(views, timestamps=None)
    counts = {"member": 4, "job": 3}  # jobs are 0-2, members 3-6
    edges = WalkEdges(walkable(counts, {VIEWS: views}, [VIEWS]), np.array(born, dtype=np.int64))
    walk = edges.at(moment, window)
    expected: list[list[int]] = [[] for _ in range(7)]
    for src, dst, time in rows:
        early = window is not None and time < moment - window
        if not (dated and (time >= moment or early)) and born[3 + src] < moment and born[dst] < moment:
            expected[3 + src].append(dst)
            expected[dst].append(3 + src)
    found = [sorted(walk.neighbours[walk.indptr[v] : walk.indptr[v + 1]].tolist()) for v in range(7)]
    assert found == [sorted(each) for each in expected]
