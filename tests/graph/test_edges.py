"""Edge types: what is kept, what is dropped and counted, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from star_platform.errors import GraphError
from star_platform.graph import csc, sorting
from star_platform.graph.privacy import Pseudonymiser
from star_platform.signals.model import LinkPrediction, Weight

from .world import KEY, World, as_rows, content, micros

DAY = 86_400_000_000


def pairs(world: World, rows: dict[str, Any], **more: Any) -> World:
    """Edges `views` from member a.. to job 0..4."""
    world.write("members", {"id": ["a", "b", "c"]})
    world.write("jobs", {"id": [0, 1, 2, 3, 4]})
    world.write("views", rows)
    world.node("member", "members", "id").node("job", "jobs", "id")
    return world.edge("views", "views", ("member", "m"), ("job", "j"), **more)


def test_edges_are_sorted_by_time_inside_each_destination_and_ties_by_source(world: World) -> None:
    rows = {"m": ["c", "a", "b", "a"], "j": [1, 1, 1, 0], "t": micros([5, 5, 1, 9])}
    graph = pairs(world, rows, timestamp="t").graph()
    assert as_rows(graph, "views") == [(0, 9, 0, None), (1, 1, 1, None), (1, 5, 0, None), (1, 5, 2, None)]
    assert graph.edges_named("views").indptr.tolist() == [0, 1, 4, 4, 4, 4]
    assert as_rows(graph, "rev_views") == [(0, 5, 1, None), (0, 9, 0, None), (1, 1, 1, None), (2, 5, 1, None)]


def test_without_reverse_there_is_none(world: World) -> None:
    graph = pairs(world, {"m": ["a"], "j": [1]}, reverse=False).graph()
    assert [edge_type.relation for edge_type in graph.edge_types] == ["views"]


def test_unknown_ends_are_an_error_with_pseudonyms(world: World) -> None:
    pairs(world, {"m": ["a", "secret-person", "a"], "j": [1, 1, 77]})
    with pytest.raises(GraphError) as error:
        world.edges("views")
    assert error.value.code == "G015"
    assert "1 edges" in str(error.value)
    assert Pseudonymiser(KEY).pseudonym("secret-person") in str(error.value)
    assert "secret-person" not in str(error.value)
    assert world.store.find("edges", "anything") is None
    assert not list((world.root / "store").glob("edges/*"))


def test_unknown_ends_can_be_dropped_and_are_counted(world: World) -> None:
    rows = {"m": ["a", "x", None, "y"], "j": [1, 1, 1, 9]}
    artefact = pairs(world, rows, src_unknown="drop", dst_unknown="drop").edges("views")
    assert artefact.details["edges"] == 1
    assert artefact.details["dropped"]["unknown_src"] == 2
    assert artefact.details["dropped"]["null_key"] == 1


def test_window_counts_from_the_newest_edge_and_includes_its_start(world: World) -> None:
    rows = {"m": ["a"] * 5, "j": [0, 1, 2, 3, 4], "t": micros([10 * DAY, 8 * DAY, 8 * DAY - 1, None, 3 * DAY])}
    details = pairs(world, rows, timestamp="t", window="2d").edges("views").details
    assert details["edges"] == 2
    assert (details["dropped"]["window"], details["dropped"]["null_timestamp"]) == (2, 1)


def test_where_is_counted(world: World) -> None:
    rows = {"m": ["a", "b", "c"], "j": [0, 1, 2], "kind": ["view", "save", None]}
    details = pairs(world, rows, where="kind = 'view'").edges("views").details
    assert (details["rows"], details["edges"], details["dropped"]["where"]) == (3, 1, 2)


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("sum", 7.5), ("mean", 3.75), ("max", 4.0), ("min", 3.5), ("count", 3.0), ("last", 3.5)]
)
def test_weights_of_repeated_edges(world: World, aggregate: Any, expected: float) -> None:
    rows = {"m": ["a"] * 3, "j": [1] * 3, "t": micros([1, 3, 5]), "w": [4.0, 3.5, None]}
    weight = Weight(column=None if aggregate == "count" else "w", aggregate=aggregate)
    graph = pairs(world, rows, timestamp="t", weight=weight, dedupe="pair").graph()
    assert as_rows(graph, "views") == [(1, 5, 0, expected)]
    assert graph.manifest["edges"]["views"]["dropped"]["duplicate"] == 2


def test_infinite_weights_and_odd_labels_are_refused(make_world: Callable[..., World]) -> None:
    one = pairs(make_world("one"), {"m": ["a"], "j": [1], "w": [float("inf")]}, weight=Weight(column="w"))
    with pytest.raises(GraphError, match="infinite"):
        one.edges("views")
    two = pairs(make_world("two"), {"m": ["a"], "j": [1], "l": [3]})
    two.add("objective", "o", LinkPrediction(kind="link-prediction", edge="views", label="l"))
    with pytest.raises(GraphError) as error:
        two.edges("views")
    assert error.value.code == "G021"


def test_labels_of_repeated_edges_are_their_maximum(world: World) -> None:
    rows = {"m": ["a", "a", "b", "b", "c"], "j": [1] * 5, "l": [False, True, None, False, None]}
    pairs(world, rows).add("objective", "o", LinkPrediction(kind="link-prediction", edge="views", label="l"))
    assert [row[-1] for row in as_rows(world.graph(), "views")] == [1, 0, -1]


def test_a_number_is_no_timestamp(world: World) -> None:
    with pytest.raises(GraphError, match="to_timestamp") as error:
        pairs(world, {"m": ["a"], "j": [1], "t": [1_700_000_000]}, timestamp="t").edges("views")
    assert error.value.code == "G013"


def test_text_timestamps_are_read_and_bad_ones_refused_without_repeating_them(make_world: Callable[..., World]) -> None:
    good = pairs(make_world("good"), {"m": ["a"], "j": [1], "t": ["2024-01-01 00:00:01"]}, timestamp="t")
    assert good.edges("views").details["newest"] == 1_704_067_201_000_000
    bad = pairs(make_world("bad"), {"m": ["a"], "j": [1], "t": ["jane@example.com"]}, timestamp="t")
    with pytest.raises(GraphError) as error:
        bad.edges("views")
    assert error.value.code == "G013"
    assert "jane" not in str(error.value)


def test_infinite_times_are_no_times(world: World) -> None:
    world.write("members", {"id": ["a"]})
    world.engine.connection.execute(
        f"COPY (SELECT 'a' AS m, t::TIMESTAMP AS t FROM (VALUES ('infinity'), ('-infinity'), ('2024-01-01')) v(t)) "
        f"TO '{world.root / 'e.parquet'}'"
    )
    world.sources["e"] = world.sources["members"].model_copy(update={"path": "e.parquet"})
    world.node("member", "members", "id")
    world.edge("self", "e", ("member", "m"), ("member", "m"), timestamp="t", window="1d")
    assert world.edges("self").details["dropped"]["null_timestamp"] == 2


@pytest.mark.parametrize("dedupe", ["event", "pair", "none"])
def test_many_rows_with_hubs_and_ties_through_the_scratch_file(
    make_world: Callable[..., World], dedupe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub with thousands of edges, equal times, small groups and a spool without memory, against NumPy's sort."""
    monkeypatch.setattr(sorting, "_GROUP_ROWS", 500)
    rng = np.random.default_rng(1)
    count = 30_000
    source, target = rng.integers(0, 200, count), np.where(rng.random(count) < 0.4, 7, rng.integers(0, 90, count))
    time, weight = rng.integers(0, 40, count) * DAY + rng.integers(0, 2, count), rng.integers(0, 5, count) / 4
    found = []
    for name, order in (("one", np.arange(count)), ("two", rng.permutation(count))):
        world = make_world(name, memory_limit="256MB", threads=1 if name == "one" else 2)
        monkeypatch.setattr(world.engine, "memory_bytes", 4_000)
        world.write("nodes", {"id": list(range(200))})
        world.write(
            "e", {"s": source[order], "d": target[order], "t": micros(time[order].tolist()), "w": weight[order]}
        )
        world.node("n", "nodes", "id")
        world.edge("e", "e", ("n", "s"), ("n", "d"), timestamp="t", weight=Weight(column="w"), dedupe=dedupe)
        found.append(world.edges("e"))
        assert not list((world.root / "tmp").glob("tmp*")), "the scratch file has no name"
    assert content(found[0].path) == content(found[1].path)
    rows = list(zip(target.tolist(), time.tolist(), source.tolist(), weight.tolist(), strict=True))
    if dedupe == "none":
        expected = sorted(rows)
    else:
        sums: dict[Any, list[Any]] = {}
        for d, t, s, w in rows:
            group = sums.setdefault((d, s, t if dedupe == "event" else None), [t, 0.0])
            group[0], group[1] = max(group[0], t), group[1] + w
        expected = sorted((d, t, s, w) for (d, s, _), (t, w) in sums.items())
    assert as_rows(world.graph(), "e") == expected
    backward = sorted((d, t, s, w) for s, t, d, w in as_rows(world.graph(), "rev_e"))
    assert backward == expected


def test_keys_too_wide_for_one_word_sort_the_same() -> None:
    """Microseconds over centuries and many sources: three radix sorts in place of one."""
    rng = np.random.default_rng(2)
    count = 5_000
    dst = rng.integers(0, 1 << 20, count).astype(np.int32)
    src = rng.integers(0, 1 << 30, count).astype(np.int32)
    time = rng.integers(-(1 << 55), 1 << 55, count)
    dst[::3], time[::2] = 5, time[0]
    no_weight, no_labels = np.empty(0), np.empty((0, count), np.int8)
    for by_source, keys in ((False, (src, time, dst)), (True, (time, src, dst))):
        indptr, rows = csc.order_rows(dst, src, time, no_weight, no_labels, 0, 1 << 20, by_source)
        expected = np.lexsort(keys)
        assert np.array_equal(dst[rows], dst[expected])
        assert np.array_equal(time[rows], time[expected])
        assert np.array_equal(src[rows], src[expected])
        assert np.array_equal(np.diff(indptr), np.bincount(dst, minlength=1 << 20))


def test_missing_and_denied_columns(make_world: Callable[..., World]) -> None:
    one = pairs(make_world("one"), {"m": ["a"], "job_id": [1]})
    with pytest.raises(GraphError, match="has no column 'j'") as error:
        one.edges("views")
    assert error.value.code == "G010"
    two = pairs(make_world("two", deny_columns=frozenset({"J"})), {"m": ["a"], "j": [1]})
    with pytest.raises(GraphError) as denied:
        two.edges("views")
    assert denied.value.code == "G011"


def test_a_finished_artefact_is_not_built_again(world: World) -> None:
    pairs(world, {"m": ["a"], "j": [1]})
    first = world.edges("views")
    (world.root / "views.parquet").unlink()
    world.compiled.clear()
    assert world.edges("views") == first
    assert isinstance(first.details["edges"], int)
