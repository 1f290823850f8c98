"""How often each edge is drawn, against exact chances."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from star_platform.errors import GraphError
from star_platform.graph import _choice_kernels
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.sampling import NeighbourSampler
from star_platform.graph.storage import EdgeArrays, EdgeType

from .sampling_oracle import Relation, adjacency_of

VIEWS = EdgeType("member", "views", "job")
KNOWS = EdgeType("member", "knows", "job")
LEVEL = 1e-4
"""Of the tests below; draws are the same in every run."""


def repeated(
    copies: int, weights: list[float], times: list[int], undated: list[float] | None = None, budget: Any = "joint"
) -> Adjacency:
    """`copies` jobs, each with an edge from member i of weight `weights[i]` at `times[i]`, ascending.

    `undated`: weights of further edges without time, from the members after those.
    """
    counts = {"job": copies, "member": len(weights) + len(undated or [])}
    given = [_star(VIEWS, copies, 0, weights, times)]
    if undated is not None:
        given.append(_star(KNOWS, copies, len(weights), undated, None))
    return Adjacency.from_edges(counts, given, budget)


def _star(name: EdgeType, copies: int, first: int, weights: list[float], times: list[int] | None) -> EdgeArrays:
    n = len(weights)
    return EdgeArrays(
        name,
        np.arange(copies + 1, dtype=np.int64) * n,
        np.tile(np.arange(first, first + n, dtype=np.int32), copies),
        None if times is None else np.tile(np.array(times, dtype=np.int64), copies),
        np.tile(np.array(weights, dtype=np.float32), copies),
        {},
    )


def drawn_members(sampler: NeighbourSampler, moment: int, hidden: int | None = None) -> list[tuple[int, ...]]:
    """Which members every job drew, ascending."""
    copies = int(sampler.adjacency.offsets[1])
    gids = np.arange(copies)
    exclude = None if hidden is None else np.full(copies, copies + hidden)
    sample = sampler.sample(gids, np.full(copies, moment), 0, exclude)
    block = sample.blocks[0]
    sources = block.neighbours  # items of hop 0 are the jobs in order, unless contexts reorder them
    nodes = np.append(sample.nodes, -1)[sources] - copies
    return [tuple(sorted(int(m) for m in nodes[item] if m >= 0)) for item in sample.seed_positions]


def successive(weights: dict[int, float], k: int) -> dict[tuple[int, ...], float]:
    """Chance of each set when k are drawn one after the other, proportionally to the weights of what is left."""
    chances: Counter[tuple[int, ...]] = Counter()
    for order in permutations(weights, k):
        chance, left = 1.0, sum(weights.values())
        for each in order:
            chance *= weights[each] / left
            left -= weights[each]
        chances[tuple(sorted(order))] += chance
    return dict(chances)


def fits(observed: list[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> bool:
    """Chi-square over sets of edges, rare ones together; none that is impossible."""
    counts = Counter(observed)
    assert set(counts) <= set(expected), set(counts) - set(expected)
    rare = [each for each, chance in expected.items() if chance * len(observed) < 5]
    common = [each for each in expected if each not in set(rare)]
    seen = [counts[each] for each in common] + ([sum(counts[each] for each in rare)] if rare else [])
    hoped = [expected[each] for each in common] + ([sum(expected[each] for each in rare)] if rare else [])
    return bool(stats.chisquare(seen, np.array(hoped) / sum(hoped) * len(observed)).pvalue > LEVEL)


# --- uniformly --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("degree", "k"), [(11, 1), (11, 4), (11, 10), (200, 7), (5000, 3)])
@pytest.mark.parametrize("hidden", [False, True])
def test_uniform_without_replacement(degree: int, k: int, hidden: bool) -> None:
    """Chi-square over how often each edge is drawn, and that no edge is drawn twice at once."""
    counts = {"job": 1, "member": degree + 1}
    relation = Relation(VIEWS, True, [(i, 0, i) for i in range(degree)] + [(degree, 0, degree)])
    adjacency = adjacency_of(counts, [relation])
    sampler = NeighbourSampler(adjacency, [k], seed=11)
    draws = max(4000, 20 * degree // k)
    exclude = np.array([adjacency.gids("member", [degree])[0] if hidden else -1])
    last = degree + (1 if hidden else 0)  # the moment leaves the same edges either way
    drawn = np.empty((draws, k), dtype=np.int64)
    for step in range(draws):
        sample = sampler.sample(np.zeros(1, dtype=np.int64), np.array([last]), step, exclude)
        drawn[step] = last - sample.blocks[0].ages[0]
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all(), "drawn twice"
    observed = np.bincount(drawn.ravel(), minlength=degree)
    assert len(observed) == degree
    # Draws without replacement vary less than independent ones, by the finite-population factor.
    statistic = ((observed - draws * k / degree) ** 2).sum() / (draws * k / degree) / (1 - (k - 1) / (degree - 1))
    assert 1e-4 < stats.chi2.cdf(statistic, degree - 1) < 1 - 1e-4


def test_pairs_are_drawn_uniformly_too() -> None:
    """All 15 subsets of two out of six are equally likely: one edge says nothing about the other."""
    counts = {"job": 1, "member": 6}
    adjacency = adjacency_of(counts, [Relation(VIEWS, True, [(i, 0, i) for i in range(6)])])
    sampler = NeighbourSampler(adjacency, [2], seed=5)
    table = np.zeros((6, 6))
    for step in range(6000):
        ages = 6 - sampler.sample(np.zeros(1, dtype=np.int64), np.array([6]), step).blocks[0].ages[0]
        table[min(ages), max(ages)] += 1
    assert stats.chisquare(table[np.triu_indices(6, 1)]).pvalue > 1e-4


def test_steps_hops_nodes_moments_and_seeds_draw_apart() -> None:
    counts = {"job": 2, "member": 64}
    adjacency = adjacency_of(counts, [Relation(VIEWS, True, [(i, j, i) for i in range(64) for j in range(2)])])

    def ages(seed: int, job: int, moment: int, step: int) -> tuple[int, ...]:
        sampler = NeighbourSampler(adjacency, [8], seed=seed)
        block = sampler.sample(np.array([job]), np.array([moment]), step).blocks[0]
        return tuple(sorted((moment - block.ages[0]).tolist()))

    base = (0, 0, 100, 0)
    draws = {base, (1, 0, 100, 0), (0, 1, 100, 0), (0, 0, 101, 0), (0, 0, 100, 1)}
    assert len({ages(*each) for each in draws}) == len(draws)
    assert ages(*base) == ages(*base)


# --- by weight --------------------------------------------------------------------------------------------------------

NEAR = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0]
FLAT = [1.0, 1.5, 2.0, 2.5, 3.0, 1.0, 1.5, 2.0, 2.5, 3.0, 1.0, 2.0]
PEAKED = [300.0, 60.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
"""Draws here are rejected so often that the rest often gets keys; to begin anew then would show: it does not fit."""


@pytest.mark.parametrize(("weights", "k"), [(NEAR, 1), (NEAR, 3), (NEAR, 5), (FLAT, 2), (FLAT, 3), (PEAKED, 3)])
def test_sets_are_drawn_as_successive_sampling_does(weights: list[float], k: int) -> None:
    """By keys for all edges (near), by rejection (flat), and by both within one draw (peaked): one law."""
    sampler = NeighbourSampler(repeated(40_000, weights, list(range(len(weights)))), [k], "weighted", seed=1)
    expected = successive(dict(enumerate(weights)), k)
    assert fits(drawn_members(sampler, 100), expected)
    uniform = NeighbourSampler(sampler.adjacency, [k], "uniform", seed=1)
    assert not fits(drawn_members(uniform, 100), expected)


def test_rejection_gives_up_where_weight_is_concentrated() -> None:
    """What the test above takes for granted: flat weights are always drawn by rejection, peaked ones seldom wholly."""
    assert _drawn_by_rejection(FLAT, 3) == {3}
    assert {2, 3} <= _drawn_by_rejection(PEAKED, 3)


def _drawn_by_rejection(weights: list[float], k: int) -> set[int]:
    n = len(weights)
    drawn = set()
    for state in range(200):
        lists = (np.int64(0), np.int64(n), np.int64(0), False, np.empty(0, np.int64), np.cumsum(weights))
        outs = (np.empty(k, np.int64), np.int64(0), np.zeros(n // 64 + 1, np.uint64), np.empty(k))
        drawn.add(int(_choice_kernels._reject(np.int64(n), k, np.uint64(state * 7919), *lists, *outs)))
    return drawn


@pytest.mark.parametrize("strategy", ["uniform", "weighted"])
@pytest.mark.parametrize("hidden", [None, 3, 11])
@pytest.mark.parametrize("k", [2, 4])
def test_a_window_leaves_undated_and_recent_edges(strategy: Any, hidden: int | None, k: int) -> None:
    """A draw over the union of two ranges of one list, with an edge hidden in neither, in one and in the other."""
    weights = [50.0, 40.0, 3.0, 1.0, 2.0, 4.0, 2.0, 30.0]  # of members 0 ... 7, at 0 ... 7
    undated = [5.0, 1.0, 2.0, 3.0]  # of members 8 ... 11
    adjacency = repeated(30_000, weights, list(range(8)), undated)
    sampler = NeighbourSampler(adjacency, [k], strategy, seed=2, window=5)
    valid = {m: (weights + undated)[m] for m in (2, 3, 4, 5, 6, 8, 9, 10, 11) if m != hidden}  # 2 <= time < 7
    expected = successive(valid if strategy == "weighted" else dict.fromkeys(valid, 1.0), k)
    assert fits(drawn_members(sampler, 7, hidden), expected)


def test_each_relation_is_drawn_by_its_own_weights() -> None:
    adjacency = repeated(20_000, NEAR, list(range(6)), [4.0, 1.0, 1.0, 9.0], "per-relation")
    sampler = NeighbourSampler(adjacency, [{"views": 3, "knows": 1}], "weighted", seed=3)
    drawn = drawn_members(sampler, 100)
    assert fits([each[:3] for each in drawn], successive(dict(enumerate(NEAR)), 3))
    assert fits([each[3:] for each in drawn], successive({6: 4.0, 7: 1.0, 8: 1.0, 9: 9.0}, 1))


@pytest.mark.parametrize("others", [5, 40])
@pytest.mark.parametrize("nothing", [0.0, -3.0, float("nan")])
def test_weights_that_are_not_positive_come_last(others: int, nothing: float) -> None:
    """Never while there is a positive one; then uniformly, so that a fan-out is filled as far as it can be."""
    weights = [nothing] * others
    weights[1], weights[4] = 1e-6, 1e6
    for k in (1, 2):
        sampler = NeighbourSampler(repeated(2000, weights, list(range(others))), [k], "weighted")
        assert set(drawn_members(sampler, 100)) == ({(1, 4)} if k == 2 else {(4,)})
    sampler = NeighbourSampler(repeated(20_000, weights, list(range(others))), [3], "weighted")
    drawn = drawn_members(sampler, 100)
    rest = [m for m in range(others) if m not in (1, 4)]
    assert fits(drawn, {tuple(sorted((1, 4, m))): 1 / len(rest) for m in rest})
    none = NeighbourSampler(repeated(10_000, [nothing] * 6, list(range(6))), [2], "weighted")
    assert fits(drawn_members(none, 100), successive(dict.fromkeys(range(6), 1.0), 2))


def test_a_hub_is_drawn_by_weight_at_every_moment() -> None:
    """100,000 edges of ten weights: shares of weight, for all of them and for the first half."""
    n = 100_000
    weights = [float(1 + (i * 7919) % 10) for i in range(n)]
    assert _drawn_by_rejection(weights, 50) == {50}, "edges are looked at one by one"
    adjacency = repeated(1, weights, list(range(n)))
    for moment in (n, n // 2):
        sampler = NeighbourSampler(adjacency, [50], "weighted", seed=4)
        ages = [
            sampler.sample(np.zeros(1, np.int64), np.array([moment]), step).blocks[0].ages[0] for step in range(400)
        ]
        drawn = np.array(weights)[moment - np.concatenate(ages)]
        assert all(len(set(each.tolist())) == 50 for each in ages), "drawn twice"
        shares = np.arange(1, 11) * np.bincount(np.array(weights[:moment], dtype=int), minlength=11)[1:]
        seen = np.bincount(drawn.astype(int), minlength=11)[1:]
        assert stats.chisquare(seen, shares / shares.sum() * seen.sum()).pvalue > LEVEL


def test_weighted_draws_need_weights() -> None:
    edges = _star(VIEWS, 2, 0, [1.0], [0])
    object.__setattr__(edges, "weights", None)
    with pytest.raises(GraphError, match="no edge type of the graph has weights") as caught:
        NeighbourSampler(Adjacency.from_edges({"job": 2, "member": 1}, [edges]), [1], "weighted")
    assert caught.value.code == "G061"
