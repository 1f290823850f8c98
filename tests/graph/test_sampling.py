"""Neighbourhoods that never see the future: every property against a slow oracle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from star_platform.graph import _hops
from star_platform.graph.adjacency import UNDATED, Adjacency
from star_platform.graph.sampling import NeighbourSampler, Sample
from star_platform.graph.storage import EdgeType

from .sampling_oracle import Oracle, Relation, adjacency_of, compiled

COUNTS = {"member": 6, "job": 5, "skill": 3}
VIEWS = EdgeType("member", "views", "job")
TYPES = [
    (VIEWS, True),
    (VIEWS.reversed, True),
    (EdgeType("member", "has", "skill"), False),
    (EdgeType("member", "has", "skill").reversed, False),
    (EdgeType("member", "follows", "member"), True),
    (EdgeType("job", "needs", "skill"), False),
]


@st.composite
def graphs(draw: Any) -> list[Relation]:
    """Small, dense and full of ties: times 0 ... 6 only."""
    relations = []
    for name, dated in TYPES:
        ends = st.tuples(st.integers(0, COUNTS[name.src] - 1), st.integers(0, COUNTS[name.dst] - 1), st.integers(0, 6))
        relations.append(Relation(name, dated, draw(st.lists(ends, max_size=25))))
    return relations


seeds = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 8)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    relations=graphs(),
    batch=seeds,
    fan_outs=st.lists(st.integers(1, 4), max_size=3),
    budget=st.sampled_from(["joint", "per-relation"]),
    strategy=st.sampled_from(["uniform", "latest"]),
    layout=st.sampled_from(["dense", "ragged"]),
    bitmap=st.booleans(),
    step=st.integers(0, 5),
)
def test_every_tree_holds_what_it_may_and_as_much_as_it_must(
    relations: Any, batch: Any, fan_outs: Any, budget: Any, strategy: Any, layout: Any, bitmap: bool, step: int
) -> None:
    adjacency = adjacency_of(COUNTS, relations, budget)
    sampler = NeighbourSampler(adjacency, fan_outs, strategy, seed=3, layout=layout)
    gids = np.array([g for g, _ in batch], dtype=np.int64)
    times = np.array([t for _, t in batch], dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:  # both ways to relabel, whatever the size
        patch.setattr(_hops.Scratch, "bitmap_pays", lambda self, items: bitmap)
        for moments in (times, np.full_like(times, 4)):
            sample = sampler.sample(gids, moments, step)
            Oracle(COUNTS, relations, budget).check(sample, adjacency, gids.tolist(), moments.tolist(), fan_outs)
            pairs = set(zip(gids.tolist(), moments.tolist(), strict=True))
            assert sample.sizes[0] == len(pairs), "seeds are not deduplicated"
            for at_hop in _keys(sample):
                assert len(set(at_hop)) == len(at_hop), "a hop holds a (node, moment) twice"


def _keys(sample: Sample) -> list[list[tuple[int, int]]]:
    nodes, times = sample.nodes, sample.times
    hops = [list(zip(nodes.tolist(), times.tolist(), strict=True))]
    for positions in reversed(sample.self_positions):
        nodes, times = nodes[positions], times[positions]
        hops.append(list(zip(nodes.tolist(), times.tolist(), strict=True)))
    return hops


@settings(max_examples=150, deadline=None)
@given(
    relations=graphs(),
    batch=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 8), st.integers(-1, 13)), min_size=1, max_size=12),
    budget=st.sampled_from(["joint", "per-relation"]),
    strategy=st.sampled_from(["uniform", "latest"]),
)
def test_an_excluded_partner_is_hidden_both_ways_in_the_whole_tree(
    relations: Any, batch: Any, budget: Any, strategy: Any
) -> None:
    adjacency = adjacency_of(COUNTS, relations, budget)
    gids, times, exclude = (np.array(column, dtype=np.int64) for column in zip(*batch, strict=True))
    sample = NeighbourSampler(adjacency, [3, 3], strategy).sample(gids, times, 0, exclude)
    oracle = Oracle(COUNTS, relations, budget)
    oracle.check(sample, adjacency, gids.tolist(), times.tolist(), [3, 3], exclude.tolist())


@settings(max_examples=60, deadline=None)
@given(relations=graphs(), batch=seeds.filter(len), order=st.randoms(use_true_random=False), shared=st.booleans())
def test_the_order_of_the_seeds_changes_nothing(relations: Any, batch: Any, order: Any, shared: bool) -> None:
    adjacency = adjacency_of(COUNTS, relations)
    sampler = NeighbourSampler(adjacency, [2, 2], seed=1)
    permutation = list(range(len(batch)))
    order.shuffle(permutation)
    gids = np.array([g for g, _ in batch])
    times = np.full(len(batch), 5) if shared else np.array([t for _, t in batch])
    one = sampler.sample(gids, times, 7)
    other = sampler.sample(gids[permutation], times[permutation], 7)
    assert one.seed_positions[permutation].tolist() == other.seed_positions.tolist()
    _assert_equal(one, other, seed_positions=False)


def _assert_equal(one: Sample, other: Sample, seed_positions: bool = True) -> None:
    assert one.sizes == other.sizes
    arrays: list[tuple[Any, Any]] = [(one.nodes, other.nodes), (one.times, other.times)]
    arrays += list(zip(one.self_positions, other.self_positions, strict=True))
    for a, b in zip(one.blocks, other.blocks, strict=True):
        arrays += [(a.neighbours, b.neighbours), (a.relations, b.relations), (a.ages, b.ages)]
    if seed_positions:
        arrays.append((one.seed_positions, other.seed_positions))
    for a, b in arrays:
        np.testing.assert_array_equal(a, b)


# --- ties at the seed's own moment: `<=` in place of `<` fails here ---------------------------------------------------


@pytest.mark.parametrize("budget", ["joint", "per-relation"])
@pytest.mark.parametrize("strategy", ["uniform", "latest"])
@pytest.mark.parametrize("before", [0, 1, 2, 5, 40])
def test_edges_at_the_moment_itself_are_the_future(budget: Any, strategy: Any, before: int) -> None:
    """`before` edges at 9, eight at 10 and eight at 11: a seed at 10 sees the first only, one at 11 the eight more."""
    edges = [(i % 6, 0, 9) for i in range(before)] + [(i % 6, 0, 10) for i in range(8)] + [(0, 0, 11)] * 8
    adjacency = adjacency_of(COUNTS, [Relation(VIEWS, True, edges)], budget)
    sampler = NeighbourSampler(adjacency, [64], strategy)
    jobs = adjacency.gids("job", [0, 0, 0])
    block = sampler.sample(jobs, np.array([9, 10, 11]), 0).blocks[0]
    assert (block.neighbours >= 0).sum(axis=1).tolist() == [0, before, before + 8]
    assert set(block.ages[1][block.neighbours[1] >= 0].tolist()) <= {1}


def test_the_supervised_edge_is_never_its_own_evidence() -> None:
    """Every edge, as an example at its own time, from both ends: the partner must not come back through it."""
    rng = np.random.default_rng(0)
    pairs = [
        (int(m), int(j), t) for t, (m, j) in enumerate(zip(rng.integers(0, 6, 5), rng.permutation(5), strict=True))
    ]
    relations = [
        Relation(VIEWS, True, pairs),
        Relation(VIEWS.reversed, True, [(j, m, t) for m, j, t in pairs]),
    ]
    adjacency = adjacency_of(COUNTS, relations)
    sampler = NeighbourSampler(adjacency, [8, 8])
    for member, job, time in pairs:
        a, b = adjacency.gids("member", [member])[0], adjacency.gids("job", [job])[0]
        for seed, partner in ((a, b), (b, a)):
            assert partner not in sampler.sample(np.array([seed]), np.array([time]), 0).nodes
            assert partner in sampler.sample(np.array([seed]), np.array([time + 1]), 0).nodes


def test_an_undated_example_can_be_hidden_from_its_own_trees_only() -> None:
    has = EdgeType("member", "has", "skill")
    relations = [Relation(has, False, [(0, 0, 0), (1, 0, 0)]), Relation(has.reversed, False, [(0, 0, 0), (0, 1, 0)])]
    adjacency = adjacency_of(COUNTS, relations)
    member, other = adjacency.gids("member", [0, 1])
    skill = adjacency.gids("skill", [0])[0]
    sampler = NeighbourSampler(adjacency, [4, 4, 4])
    sample = sampler.sample(np.array([member, skill]), np.array([1, 1]), 0, np.array([skill, member]))
    assert sorted(sample.nodes.tolist()) == sorted([member, skill, other])
    alone = sampler.sample(np.array([member]), np.array([1]), 0, np.array([skill]))
    assert alone.nodes.tolist() == [member]
    assert skill in sampler.sample(np.array([other]), np.array([1]), 0, np.array([member])).nodes


# --- chance ---------------------------------------------------------------------------------------------------------


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


# --- threads, resuming, edges of the domain ---------------------------------------------------------------------------


def _power_law_graph() -> Adjacency:
    rng = np.random.default_rng(4)
    counts = {"job": 300, "member": 900}
    views = [
        (int(m), int(j), int(t))
        for m, j, t in zip(
            rng.integers(0, 900, 9000),
            (300 * rng.random(9000) ** 3).astype(int),
            rng.integers(0, 50, 9000),
            strict=True,
        )
    ]
    mirrored = [(j, m, t) for m, j, t in views]
    return adjacency_of(counts, [Relation(VIEWS, True, views), Relation(VIEWS.reversed, True, mirrored)])


def test_any_number_of_threads_gives_the_same_samples() -> None:
    adjacency = _power_law_graph()
    sampler = NeighbourSampler(adjacency, [5, 5], seed=2)
    rng = np.random.default_rng(0)
    batches = [(rng.integers(0, 1200, 64), rng.integers(0, 50, 64) if i % 2 else np.full(64, 50)) for i in range(24)]

    def run(step: int) -> Sample:
        return sampler.sample(*batches[step], step)

    alone = [run(step) for step in range(len(batches))]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(len(batches))))
    for a, b in zip(alone, together, strict=True):
        _assert_equal(a, b)
    resumed = NeighbourSampler(adjacency, [5, 5], seed=2).sample(*batches[17], 17)
    _assert_equal(alone[17], resumed)


def test_a_seed_draws_the_same_alone_and_in_company() -> None:
    sampler = NeighbourSampler(_power_law_graph(), [4], seed=9)
    gids = np.arange(0, 1200, 7)
    together = sampler.sample(gids, np.full(len(gids), 40), 3)
    for i in (0, 5, 100):
        alone = sampler.sample(gids[i : i + 1], np.array([40]), 3)
        item = together.seed_positions[i]
        np.testing.assert_array_equal(alone.blocks[0].ages[0], together.blocks[0].ages[item])


def test_latest_keeps_the_newest() -> None:
    adjacency = adjacency_of(COUNTS, [Relation(VIEWS, True, [(i % 6, 0, i) for i in range(30)])])
    block = NeighbourSampler(adjacency, [4], "latest").sample(adjacency.gids("job", [0]), np.array([20]), 0).blocks[0]
    assert sorted(block.ages[0].tolist()) == [1, 2, 3, 4]


def test_no_hops_and_no_seeds() -> None:
    adjacency = _power_law_graph()
    sample = NeighbourSampler(adjacency, []).sample(np.array([5, 5, 2]), np.array([1, 1, 1]), 0)
    assert sample.blocks == ()
    assert sample.nodes.tolist() == [2, 5]
    assert sample.seed_positions.tolist() == [1, 1, 0]
    empty = NeighbourSampler(adjacency, [3]).sample(np.empty(0, np.int64), np.empty(0, np.int64), 0)
    assert empty.sizes == (0, 0)
    assert empty.blocks[0].neighbours.shape == (0, 3)


def test_a_graph_without_edges() -> None:
    adjacency = Adjacency.from_edges({"member": 3}, [])
    sample = NeighbourSampler(adjacency, [2, 2]).sample(np.array([0, 2]), np.array([1, 2]), 0, np.array([2, 0]))
    assert sample.nodes.tolist() == [0, 2]
    assert (sample.blocks[0].neighbours == -1).all()


@pytest.mark.parametrize("moment", [UNDATED, UNDATED + 1, -5, np.iinfo(np.int64).max])
def test_extreme_moments(moment: int) -> None:
    """Before everything, only undated edges exist; at the end of time, all do, and no age is negative but -1."""
    has = EdgeType("member", "has", "job")
    relations = [Relation(VIEWS, True, [(0, 0, -3), (1, 0, 4)]), Relation(has, False, [(2, 0, 0)])]
    adjacency = adjacency_of(COUNTS, relations)
    block = NeighbourSampler(adjacency, [5]).sample(adjacency.gids("job", [0]), np.array([moment]), 0).blocks[0]
    seen = block.neighbours[0] >= 0
    assert seen.sum() == (3 if moment > 4 else 1)
    assert (block.ages[0][seen & (block.relations[0] == adjacency.relation_names.index(VIEWS))] > 0).all()


def test_wrong_seeds_are_refused() -> None:
    sampler = NeighbourSampler(_power_law_graph(), [2])
    for gids in ([-1], [1200]):
        with pytest.raises(ValueError, match="seeds must lie in"):
            sampler.sample(np.array(gids), np.array([1]), 0)
    with pytest.raises(ValueError, match="equally long"):
        sampler.sample(np.array([1, 2]), np.array([1]), 0)
    with pytest.raises(ValueError, match="at least 1"):
        NeighbourSampler(sampler.adjacency, [0])


# --- the adjacency itself ---------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(relations=graphs(), order=st.randoms(use_true_random=False))
def test_adjacency_holds_every_edge_once_in_order_of_time(relations: Any, order: Any) -> None:
    shuffled = list(relations)
    order.shuffle(shuffled)
    joint, split = adjacency_of(COUNTS, shuffled), adjacency_of(COUNTS, relations, "per-relation")
    assert joint.node_types == ("job", "member", "skill")
    assert joint.offsets.tolist() == [0, 5, 11, 14]
    oracle = Oracle(COUNTS, relations, "joint")
    for node in range(14):
        begin, end = joint.indptr[node], joint.indptr[node + 1]
        held = list(
            zip(
                joint.sources[begin:end].tolist(),
                [joint.relation_names[r] for r in joint.relations[begin:end]],
                joint.times[begin:end].tolist(),
                strict=True,
            )
        )
        assert sorted(held) == sorted(oracle.into.get(node, []))
        assert held == sorted(held, key=lambda edge: (edge[2], edge[1], edge[0]))
    assert sorted(map(tuple, joint.edges.tolist())) == sorted(map(tuple, split.edges.tolist()))
    np.testing.assert_array_equal(joint.edges, adjacency_of(COUNTS, relations).edges)


def test_edge_types_without_weights_count_one() -> None:
    plain = compiled(Relation(VIEWS, True, [(3, 0, 1)]), 5)
    object.__setattr__(plain, "weights", None)
    weighted = compiled(Relation(EdgeType("member", "has", "job"), False, [(4, 0, 0)]), 5)
    adjacency = Adjacency.from_edges(COUNTS, [plain, weighted])
    block = NeighbourSampler(adjacency, [3]).sample(np.array([0]), np.array([2]), 0).blocks[0]
    assert block.weights is not None
    assert sorted(block.weights[0].tolist()) == [0.0, 1.0, 5.0]
    bare = Adjacency.from_edges(COUNTS, [plain])
    assert NeighbourSampler(bare, [3]).sample(np.array([0]), np.array([2]), 0).blocks[0].weights is None
