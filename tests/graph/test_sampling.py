"""Neighbourhoods that never see the future: every property against a slow oracle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import GraphError
from star_platform.graph import _hops, sampling
from star_platform.graph.adjacency import UNDATED, Adjacency
from star_platform.graph.sampling import NeighbourSampler, Sample
from star_platform.graph.storage import EdgeType

from .sampling_cases import COUNTS, STRATEGIES, TYPES, VIEWS, Case, assert_equal, cases, graphs
from .sampling_oracle import Oracle, Relation, adjacency_of, compiled


@settings(max_examples=300, deadline=None)
@given(case=cases(), bitmap=st.booleans())
def test_every_tree_holds_what_it_may_and_as_much_as_it_must(case: Case, bitmap: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:  # both ways to relabel, whatever the size
        patch.setattr(_hops.Scratch, "bitmap_pays", lambda self, items: bitmap)
        case.check()
        sample = case.sample()
    if all(partner < 0 for _, _, partner in case.batch):
        assert sample.sizes[0] == len(set(case.batch)), "seeds are not deduplicated"
        for at_hop in _keys(sample):
            assert len(set(at_hop)) == len(at_hop), "a hop holds a (node, moment) twice"


def _keys(sample: Sample) -> list[list[tuple[int, int]]]:
    nodes, times = sample.nodes, sample.times
    hops = [list(zip(nodes.tolist(), times.tolist(), strict=True))]
    for positions in reversed(sample.self_positions):
        nodes, times = nodes[positions], times[positions]
        hops.append(list(zip(nodes.tolist(), times.tolist(), strict=True)))
    return hops


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("budget", ["joint", "per-relation"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_excluded_partner_is_hidden_both_ways_in_the_whole_tree(data: Any, strategy: Any, budget: Any) -> None:
    """Also where the two are joined many times, or without a date; the window and fan-outs by edge type as well."""
    batch = st.tuples(st.integers(0, 13), st.integers(0, 8), st.integers(0, 13))
    by_type = {name.relation: 3 for name, _ in TYPES}
    case = Case(
        relations=data.draw(graphs()),
        batch=data.draw(st.lists(batch, min_size=1, max_size=12)),
        fan_outs=[3, by_type if budget == "per-relation" else 3],
        budget=budget,
        strategy=strategy,
        window=data.draw(st.sampled_from([None, 2, 4])),
        layout="ragged",
        step=0,
    )
    case.check()


@settings(max_examples=120, deadline=None)
@given(case=cases(), order=st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_changes_nothing(case: Case, order: Any) -> None:
    permutation = list(range(len(case.batch)))
    order.shuffle(permutation)
    one = case.sample()
    other = replace(case, batch=[case.batch[i] for i in permutation]).sample()
    assert one.seed_positions[permutation].tolist() == other.seed_positions.tolist()
    assert_equal(one, other, seed_positions=False)


# --- ties at the seed's own moment: `<=` in place of `<` fails here ---------------------------------------------------


@pytest.mark.parametrize("budget", ["joint", "per-relation"])
@pytest.mark.parametrize("strategy", STRATEGIES)
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


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("window", [None, 20])
def test_any_number_of_threads_gives_the_same_samples(strategy: Any, window: int | None) -> None:
    adjacency = _power_law_graph()
    sampler = NeighbourSampler(adjacency, [5, 5], strategy, seed=2, window=window)
    rng = np.random.default_rng(0)
    batches = [(rng.integers(0, 1200, 64), rng.integers(0, 50, 64) if i % 2 else np.full(64, 50)) for i in range(24)]

    def run(step: int) -> Sample:
        return sampler.sample(*batches[step], step)

    alone = [run(step) for step in range(len(batches))]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(len(batches))))
    for a, b in zip(alone, together, strict=True):
        assert_equal(a, b)
    resumed = NeighbourSampler(adjacency, [5, 5], strategy, seed=2, window=window).sample(*batches[17], 17)
    assert_equal(alone[17], resumed)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_draws_the_same_alone_and_in_company(strategy: Any) -> None:
    sampler = NeighbourSampler(_power_law_graph(), [4], strategy, seed=9, window=30)
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


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_moment_is_relabelled_by_bitmap(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheap way: no table, no context per item; a second moment or a hidden pair needs the other."""
    ways = []
    for name in ("next_hop_by_bitmap", "next_hop_by_table"):
        way = getattr(sampling, name)
        monkeypatch.setattr(sampling, name, lambda *given, n=name, way=way: (ways.append(n), way(*given))[1])
    sampler = NeighbourSampler(_power_law_graph(), [4, 4], strategy, window=30)
    gids = np.arange(200)
    sampler.sample(gids, np.full(200, 40), 0)
    sampler.sample(gids, np.full(200, 40), 0, np.full(200, -1))
    assert ways == ["next_hop_by_bitmap"] * 4
    ways.clear()
    sampler.sample(gids, np.arange(200) % 2 + 40, 0)
    assert ways == ["next_hop_by_table"] * 2


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


def test_fan_outs_by_edge_type_are_checked() -> None:
    relations = [Relation(VIEWS, True, [(0, 0, 1)]), Relation(VIEWS.reversed, True, [(0, 0, 1)])]
    split, joint = (adjacency_of(COUNTS, relations, budget) for budget in ("per-relation", "joint"))
    with pytest.raises(GraphError, match="did you mean 'rev_views'") as caught:
        NeighbourSampler(split, [5, {"views": 1, "rev_view": 2}])
    assert caught.value.code == "G060"
    with pytest.raises(GraphError, match="known edge types: rev_views, views") as caught:
        NeighbourSampler(split, [{"applies": 1}])
    with pytest.raises(GraphError) as caught:
        NeighbourSampler(joint, [{"views": 1}])
    assert caught.value.code == "G062"
    with pytest.raises(ValueError, match="at least 1"):
        NeighbourSampler(split, [{"views": -1}])
    with pytest.raises(ValueError, match="at least a microsecond"):
        NeighbourSampler(joint, [1], window=0)
    sample = NeighbourSampler(split, [{"rev_views": 3}, {"rev_views": 3}]).sample(np.array([0, 5]), np.array([9, 9]), 0)
    assert sample.nodes.tolist() == [0, 5]  # the member sees its job; the job, without `views`, sees nobody
    assert [block.neighbours.shape[1] for block in sample.blocks] == [3, 3]


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
