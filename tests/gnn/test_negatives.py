"""Drawn negatives: never a known positive, never before they exist, as likely as they say, and alike where wanted."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from star_platform.errors import TrainingError
from star_platform.gnn import _negative_kernels as kernels
from star_platform.gnn.batches import BatchMaker, StepKey
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.existence import Existence
from star_platform.gnn.negatives import AttributeWalk, ByDegree, Hard, Wanted
from star_platform.gnn.split import learnable, objective_examples
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import ALWAYS, EdgeType, Graph
from star_platform.signals.model import LinkPrediction
from tests.gnn.graphs import GraphWriter

EDGE = EdgeType("a", "sees", "b")
OFFSET = {"a": 0, "b": 1000}


@dataclass
class Recorder:
    """A tree reader that only remembers what it was asked for."""

    asked: list[dict[str, Any]] = field(default_factory=list)

    def gids(self, node: str, indices: np.ndarray) -> np.ndarray:
        return np.asarray(indices) + OFFSET[node]

    def read(self, gids: np.ndarray, times: np.ndarray, step: int, exclude: np.ndarray | None = None) -> None:
        self.asked.append({"gids": gids, "times": times, "exclude": exclude})


def recorded(graph: Graph, objective: LinkPrediction, config: TrainingConfig) -> tuple[BatchMaker, Recorder]:
    reader = Recorder()
    examples = learnable(graph, objective, objective_examples(graph, objective, config))
    maker = BatchMaker(graph, cast(TreeReader, reader), objective, EDGE, examples, examples, config)
    return maker, reader


def link(kind: str = "uniform", **negatives: object) -> LinkPrediction:
    content = {"kind": "link-prediction", "edge": "sees", "negatives": {"kind": kind, **negatives}}
    return LinkPrediction.model_validate(content)


@dataclass
class World:
    """A random graph, and the lists that it was written from."""

    sees: list[tuple[int, int, int]]
    has: list[tuple[int, int, int]]
    created: list[int] | None
    dated: bool
    reverse: bool
    num_a: int = 6
    num_b: int = 9

    def write(self, path: Path) -> Graph:
        writer = GraphWriter(path)
        writer.node("a", list(range(self.num_a)))
        writer.node("b", list(range(self.num_b)), created_at=None if self.created is None else np.array(self.created))
        writer.node("t", [0, 1, 2], "attribute")
        src, dst, when = (list(column) for column in zip(*self.sees, strict=True))
        writer.edge("sees", "a", "b", (src, dst), when)
        node, attribute, since = (list(column) for column in zip(*self.has, strict=True))
        writer.edge("has", "b", "t", (node, attribute), since if self.dated else None)
        for relation in ("has", "rev_has"):
            writer.edges[relation]["kind"] = "attribute"
        if not self.reverse:
            del writer.edges["rev_has"]
        return writer.finish()

    def exists(self, node: int, moment: int) -> bool:
        if self.created is not None:
            return self.created[node] <= moment
        dates = [t for _, d, t in self.sees if d == node]
        dates += [t for d, _, t in self.has if d == node and self.dated]
        return not dates or min(dates) < moment

    def alike(self, one: int, other: int, moment: int) -> bool:
        def attributes(node: int) -> set[int]:
            return {a for d, a, t in self.has if d == node and (not self.dated or t < moment)}

        return one != other and bool(attributes(one) & attributes(other))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    moments = st.integers(0, 12)
    sees = draw(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), moments), min_size=2, max_size=30, unique=True)
    )
    has = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2), moments), min_size=1, max_size=14, unique=True))
    created = draw(st.none() | st.lists(st.just(ALWAYS) | moments, min_size=9, max_size=9))
    return World(sees, has, created, dated=draw(st.booleans()), reverse=draw(st.booleans()))


@settings(max_examples=60, deadline=None)
@given(
    worlds(),
    st.sampled_from(["uniform", "degree", "hard", "in-batch"]),
    st.sampled_from(["example", "step"]),
    st.booleans(),
    st.integers(0, 5),
)
def test_a_negative_is_no_known_positive_and_exists(
    world: World, kind: str, moment: str, grouping: bool, seed: int
) -> None:
    config = TrainingConfig(batch_size=4, negatives=8, moment=moment, grouping=grouping, seed=seed)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        graph = world.write(Path(folder))
        maker, reader = recorded(graph, link(kind), config)
        known = {(s, d) for s, d, _ in world.sees}
        for step, chunk in enumerate(maker.epoch(np.random.default_rng(seed))):
            batch = maker.make(StepKey("o", chunk, step))
            n, asked = batch.size, reader.asked[-1]
            nodes, moments = asked["gids"] - OFFSET["b"], asked["times"]
            first = n if kind == "in-batch" else 2 * n
            examples = maker.examples.take(chunk)
            assert batch.allowed is not None
            assert (moments[:n] <= examples.times).all()
            assert (moments[n : 2 * n] <= examples.times).all()
            for i, j in np.argwhere(batch.allowed.numpy()):
                negative, seen = int(nodes[first + j]), int(moments[first + j])
                assert (int(examples.src[i]), negative) not in known
                assert seen <= examples.times[i]
                if kind != "in-batch":
                    assert world.exists(negative, seen)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(0, 5))
def test_hard_negatives_share_an_attribute_with_their_positive(world: World, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        graph = world.write(Path(folder))
        drawer = Hard(AttributeWalk.of(graph, "b"), Existence.of(graph, "b"), 1.0)
        dst = np.array([d for _, d, _ in world.sees])
        seen = np.array([t for _, _, t in world.sees])
        chosen = np.sort(np.random.default_rng(seed).integers(len(dst), size=40))
        drawn = drawer.draw(Wanted(dst, seen, chosen), np.random.default_rng(seed))
    assert drawn.hard is not None
    for place, node, exist, hard in zip(chosen, drawn.nodes, drawn.exist, drawn.hard, strict=True):
        moment = int(seen[place])
        if hard:
            assert world.alike(int(dst[place]), int(node), moment)
        if exist:
            assert world.exists(int(node), moment)
        friends = [b for b in range(9) if world.alike(int(dst[place]), b, moment) and world.exists(b, moment)]
        if not friends:
            assert not hard


def test_most_hard_negatives_are_found_and_the_share_is_kept(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("b", list(range(40)))
    writer.node("t", list(range(4)), "attribute")
    writer.edge("has", "b", "t", (np.arange(40), np.arange(40) % 4))
    drawer = Hard(AttributeWalk.of(writer.finish(), "b"), Existence(np.full(40, ALWAYS), declared=False), 0.25)
    drawn = drawer.draw(Wanted(np.arange(40), np.full(40, 7), np.arange(40)), np.random.default_rng(0))
    assert drawn.hard is not None
    assert drawn.hard.sum() == 10
    assert (drawn.nodes[drawn.hard] % 4 == np.flatnonzero(drawn.hard) % 4).all()


def test_hard_negatives_without_attributes(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("a", [0, 1])
    writer.node("b", [0, 1])
    writer.edge("sees", "a", "b", ([0, 1], [1, 0]), [1, 2])
    with pytest.raises(TrainingError, match="M012"):
        recorded(writer.finish(), link("hard"), TrainingConfig())


# --- by degree --------------------------------------------------------------------------------------------------------


def chances(world: World, moment: int) -> np.ndarray:
    """By definition: (1 + edges strictly before) ** 0.75 over what exists, as a distribution."""
    degree = np.array([sum(d == b and t < moment for _, d, t in world.sees) for b in range(world.num_b)])
    weight = (1.0 + degree) ** 0.75 * [world.exists(b, moment) for b in range(world.num_b)]
    return weight / max(weight.sum(), 1e-12)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(0, 13))
def test_log_q_is_the_log_of_the_chance_and_corrects_it(world: World, moment: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        graph = world.write(Path(folder))
        existence = Existence.of(graph, "b")
        drawer = ByDegree(graph.edges_named("sees"), existence)
        log_q = drawer.log_q(np.arange(9), np.full(9, moment))
    q = chances(world, moment)
    there = np.flatnonzero(q > 0)
    assert log_q[there] == pytest.approx(np.log(q[there] * len(there)), abs=1e-5)
    values = np.arange(9.0) ** 2  # weighted by 1 / q, draws have the mean of even ones
    if len(there):
        assert (q[there] * np.exp(-log_q[there]) * values[there]).sum() == pytest.approx(values[there].mean(), rel=1e-5)


def test_draws_by_degree_are_as_frequent_as_they_say(tmp_path: Path) -> None:
    sees = [(i % 6, d, t) for i, (d, t) in enumerate([(0, t) for t in range(40)] + [(1, 3)] * 6 + [(2, 30)] * 5)]
    world = World(sees, [(0, 0, 0)], [ALWAYS] * 7 + [20, 60], dated=False, reverse=True)
    graph = world.write(tmp_path)
    drawer = ByDegree(graph.edges_named("sees"), Existence.of(graph, "b"))
    for moment in (0, 10, 31):
        draws = 40_000
        wanted = Wanted(np.zeros(1, np.int64), np.array([moment]), np.zeros(draws, np.int64))
        drawn = drawer.draw(wanted, np.random.default_rng(4))
        assert drawn.exist.all()
        counts, q = np.bincount(drawn.nodes, minlength=9), chances(world, moment)
        assert counts[q == 0].sum() == 0
        assert chisquare(counts[q > 0], draws * q[q > 0]).pvalue > 1e-3
        assert drawn.log_q is not None
        assert np.exp(drawn.log_q[1:]) == pytest.approx(q[drawn.nodes] * (q > 0).sum(), rel=1e-5)


def test_nothing_exists_yet(tmp_path: Path) -> None:
    world = World([(0, 0, 5), (1, 1, 6)], [(0, 0, 0)], [5] * 9, dated=False, reverse=True)
    graph = world.write(tmp_path)
    wanted = Wanted(np.array([0]), np.array([2]), np.zeros(3, np.int64))
    rng = np.random.default_rng(0)
    existence = Existence.of(graph, "b")
    assert not ByDegree(graph.edges_named("sees"), existence).draw(wanted, rng).exist.any()
    assert not Hard(AttributeWalk.of(graph, "b"), existence, 1.0).draw(wanted, rng).exist.any()
    assert not existence.draw(wanted.moments, rng)[1].any()


# --- existence --------------------------------------------------------------------------------------------------------


def met(tmp_path: Path, created_at: Any = None) -> Graph:
    writer = GraphWriter(tmp_path)
    writer.node("a", list(range(3)))
    writer.node("b", list(range(4)), created_at=created_at)
    writer.edge("sees", "a", "b", ([0, 1, 2, 0], [0, 1, 0, 2]), [5, 7, 9, 11])
    writer.edge("sent", "b", "a", ([1], [0]), [2])
    del writer.edges["rev_sent"]  # only seen from the source's side
    return writer.finish()


def test_undeclared_nodes_exist_once_they_have_been_met(tmp_path: Path) -> None:
    existence = Existence.of(met(tmp_path), "b")
    assert not existence.declared
    assert existence.since.tolist() == [6, 3, 12, ALWAYS]
    assert existence.count(np.array([0, 3, 6, 100])).tolist() == [1, 2, 3, 4]
    assert Existence.of(met(tmp_path / "again"), "b", before=False).since.tolist() == [5, 2, 11, ALWAYS]


def test_declared_nodes_exist_since_their_creation(tmp_path: Path) -> None:
    existence = Existence.of(met(tmp_path, np.array([1, ALWAYS, 3, 4])), "b")
    assert existence.declared
    assert existence.holds(np.array([0, 0, 1, 3]), np.array([0, 1, -5, 3])).tolist() == [False, True, True, False]


# --- examples that would see themselves -------------------------------------------------------------------------------


def undated(tmp_path: Path) -> Graph:
    """Two examples at one time; the pair of one is joined by an undated edge too, declared the other way round."""
    writer = GraphWriter(tmp_path)
    writer.node("a", [0, 1])
    writer.node("b", [0, 1, 2], created_at=np.zeros(3))
    writer.edge("sees", "a", "b", ([0, 1, 1], [0, 1, 2]), [5, 5, 4])
    writer.edge("tied", "b", "a", ([0, 2], [0, 0]))  # 2 is no example of source 0
    return writer.finish()


def test_pairs_with_an_undated_edge_hide_it_from_each_other(tmp_path: Path) -> None:
    graph = undated(tmp_path)
    maker, reader = recorded(graph, link("uniform"), TrainingConfig(batch_size=4, negatives=24))
    batch = maker.make(StepKey("o", np.arange(3), 0))
    asked = reader.asked[-1]
    pairs = list(zip(maker.examples.src, maker.examples.dst, strict=True))
    place = pairs.index((0, 0))
    expected = np.full(6 + 24, -1)
    expected[place], expected[3 + place] = OFFSET["b"], OFFSET["a"]
    assert asked["exclude"].tolist() == expected.tolist()
    assert batch.allowed is not None
    tied = asked["gids"][6:] == OFFSET["b"] + 2
    assert tied.any()
    assert not batch.allowed[place, tied].any()


@pytest.mark.parametrize("moment", ["example", "step"])
def test_no_tree_shows_the_edge_that_is_predicted(tmp_path: Path, moment: Any) -> None:
    graph = undated(tmp_path)
    config = TrainingConfig(batch_size=4, negatives=6, moment=moment)
    examples = objective_examples(graph, link(), config)
    reader = TreeReader(graph, config)
    maker = BatchMaker(graph, reader, link(), EDGE, examples, examples, config)
    seen: list[tuple[Any, ...]] = []
    original = reader.sampler.sample

    def sample(gids: Any, times: Any, step: int, exclude: Any = None) -> Any:
        seen.append((gids, times, exclude))
        return original(gids, times, step, exclude)

    reader.sampler.sample = sample  # type: ignore[method-assign]
    maker.make(StepKey("o", np.arange(3), 0))
    gids, times, exclude = seen[0]
    both = reader.gids("a", np.array([0]))[0], reader.gids("b", np.array([0]))[0]
    for place in range(2 * len(examples)):
        alone = original(gids[place : place + 1], times[place : place + 1], 0, exclude[place : place + 1])
        if gids[place] in both:
            other = set(both) - {int(gids[place])}
            assert not other & set(alone.nodes.tolist())
            assert other <= set(original(gids[place : place + 1], times[place : place + 1], 0).nodes.tolist())
        assert all((block.ages != 0).all() for block in alone.blocks)


def test_equal_seeds_draw_alike(tmp_path: Path) -> None:
    world = World([(i % 6, i % 9, i) for i in range(30)], [(i, i % 3, i) for i in range(9)], None, True, True)
    graph = world.write(tmp_path)
    for kind in ("uniform", "degree", "hard"):
        config = TrainingConfig(batch_size=8, negatives=16)
        asked = []
        for _ in range(2):
            maker, reader = recorded(graph, link(kind), config)
            maker.make(StepKey("o", np.arange(8), 3))
            maker.make(StepKey("o", np.arange(8), 4))
            asked.append([each["gids"].tolist() for each in reader.asked])
        assert asked[0] == asked[1]
        assert asked[0][0] != asked[0][1]


def test_a_node_is_not_its_own_negative(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("a", [0, 1, 2])
    writer.edge("sees", "a", "a", ([0, 1, 2, 0], [1, 2, 0, 2]), [1, 2, 3, 4])
    graph = writer.finish()
    config = TrainingConfig(batch_size=4, negatives=16)
    examples = objective_examples(graph, link(), config)
    reader = Recorder()
    maker = BatchMaker(graph, cast(TreeReader, reader), link(), EdgeType("a", "sees", "a"), examples, examples, config)
    batch = maker.make(StepKey("o", np.arange(len(maker.examples)), 0))
    own = reader.asked[0]["gids"][2 * batch.size :][None, :] == maker.examples.src[:, None]
    assert batch.allowed is not None
    assert own.any()
    assert not batch.allowed.numpy()[own].any()


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 9]), st.sampled_from([0, 3, 300]))
def test_known_pairs_are_forbidden_whether_few_or_many(seed: int, negatives: int, known: int) -> None:
    """Sources with more than `MANY` known destinations per negative are searched, the others walked through."""
    rng = np.random.default_rng(seed)
    sources, destinations = 4, 1000
    pairs = {(s, int(d)) for s in range(sources) for d in rng.choice(destinations, size=known + s, replace=False)}
    keys = np.array(sorted(s * destinations + d for s, d in pairs), dtype=np.int64)
    starts = np.searchsorted(keys, np.arange(sources + 1) * destinations)
    drawn = rng.integers(destinations, size=negatives)  # some of them twice
    src, order = np.array([2, 0, 2, 3]), np.argsort(drawn, kind="stable")
    out = np.ones((len(src), negatives), dtype=np.bool_)
    kernels.forbid(keys, starts, src, drawn[order], order, destinations, out)
    assert out.tolist() == [[(s, int(d)) not in pairs for d in drawn] for s in src.tolist()]
