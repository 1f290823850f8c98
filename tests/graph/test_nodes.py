"""Node types: ids of any type, opt-outs, creation by edges, creation times."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.errors import GraphError
from star_platform.graph.storage import ALWAYS
from star_platform.signals.model import OptOut

from .world import World, as_rows, micros

UUIDS = [uuid.UUID(int=n << 64 | 7) for n in (5, 1, 1 << 62, 3)]
EXTERNAL_IDS: dict[str, pa.Array] = {
    "tiny": pa.array([3, -1, 2, 0], pa.int8()),
    "unsigned": pa.array([3, 1, 2**32 - 1, 0], pa.uint32()),
    "long": pa.array([3, -(2**62), 2**62, 0], pa.int64()),
    "text": pa.array(["b", "a", "ä", "Z"]),
    "uuid": pa.array([u.bytes for u in UUIDS], pa.uuid()),
    "date": pa.array([dt.date(2024, 1, d) for d in (4, 2, 3, 1)]),
    "moment": pa.array([dt.datetime(2024, 1, 1, h) for h in (4, 2, 3, 1)], pa.timestamp("ms")),
    "zoned": pa.array([dt.datetime(2024, 1, 1, h, tzinfo=dt.UTC) for h in (4, 2, 3, 1)], pa.timestamp("us", "UTC")),
    "boolean": pa.array([True, False, True, False]),
    "number": pa.array([0.5, -1.0, 2.0, 0.0]),
    "decimal": pa.array([decimal.Decimal(x) for x in ("1.50", "0.25", "2.00", "0.00")], pa.decimal128(10, 2)),
    "bytes": pa.array([b"\x01", b"\x00", b"\xff", b"\x10"]),
}


@pytest.mark.parametrize("name", EXTERNAL_IDS)
def test_ids_of_any_type_keep_their_type_and_are_sorted(world: World, name: str) -> None:
    ids = EXTERNAL_IDS[name]
    world.write("things", {"id": ids})
    world.write("links", {"a": ids, "b": ids})
    world.node("thing", "things", "id").edge("same", "links", ("thing", "a"), ("thing", "b"))
    graph = world.graph()
    expected = sorted(set(ids.to_pylist()))
    assert graph.ids("thing").to_pylist() == expected
    assert [(d, s) for d, _, s, _ in as_rows(graph, "same")] == [(i, i) for i in range(len(expected))]
    stored = pq.read_schema(world.nodes("thing").path / "ids.parquet").field("id").type
    assert type(stored) is type(ids.type) or pa.types.is_integer(stored)


def test_integers_of_different_width_are_one_type(world: World) -> None:
    world.write("things", {"id": pa.array([7, 300], pa.int16())})
    world.write("links", {"a": pa.array([7], pa.uint8()), "b": pa.array([300], pa.int64())})
    world.node("thing", "things", "id").edge("link", "links", ("thing", "a"), ("thing", "b"))
    assert [(d, s) for d, _, s, _ in as_rows(world.graph(), "link")] == [(1, 0)]


def test_text_against_integers_is_an_error_that_says_so(world: World) -> None:
    world.write("things", {"id": [7, 8]})
    world.write("links", {"a": ["7"], "b": ["8"]})
    world.node("thing", "things", "id").edge("link", "links", ("thing", "a"), ("thing", "b"))
    with pytest.raises(GraphError, match="'thing' are int64") as error:
        world.edges("link")
    assert error.value.code == "G014"


def test_a_list_cannot_be_an_id(world: World) -> None:
    world.write("things", {"id": [[1], [2]]})
    with pytest.raises(GraphError) as error:
        world.node("thing", "things", "id").nodes("thing")
    assert error.value.code == "G014"


def test_null_keys_and_repeated_keys_are_counted(world: World) -> None:
    world.write("things", {"id": ["b", None, "a", "b", "b", None]})
    details = world.node("thing", "things", "id").nodes("thing").details
    assert (details["rows"], details["nodes"]) == (6, 2)
    assert details["dropped"] == {"null_key": 2, "duplicate": 2, "opted_out": 0}


def test_nan_is_no_id(world: World) -> None:
    world.write("things", {"id": pa.array([1.5, float("nan")])})
    assert world.node("thing", "things", "id").nodes("thing").details["dropped"]["null_key"] == 1


def test_created_at_is_the_earliest_and_null_means_always(world: World) -> None:
    world.write("things", {"id": ["b", "a", "b", "c"], "made": micros([30, None, 20, 10])})
    graph = world.node("thing", "things", "id", created_at="made").graph()
    created = graph.created_at("thing")
    assert created is not None
    assert created.tolist() == [ALWAYS, 20, 10]
    assert graph.as_of == 20


def test_opted_out_nodes_leave_the_graph_with_their_edges(world: World) -> None:
    world.write("people", {"id": ["a", "b", "c", "d"]})
    world.write("settings", {"person": ["b", "c", None, "x"], "modelling": [False, True, False, False]})
    world.write("links", {"p": ["a", "b", "c", "b"], "q": ["b", "a", "d", "x"]})
    world.node("person", "people", "id")
    world.add("opt_out", "test", OptOut(source="settings", key="person", node="person", where="modelling = false"))
    world.edge("link", "links", ("person", "p"), ("person", "q"), dst_unknown="create")
    graph = world.graph()
    assert graph.ids("person").to_pylist() == ["a", "c", "d"]
    assert [(d, s) for d, _, s, _ in as_rows(graph, "link")] == [(2, 1)]
    assert graph.manifest["edges"]["link"]["dropped"]["opted_out"] == 3
    assert graph.manifest["nodes"]["person"]["dropped"]["opted_out"] == 1


def test_an_opt_out_finds_its_node_type_by_the_key_column(world: World) -> None:
    world.write("people", {"person_id": [1, 2]})
    world.write("gone", {"person_id": pa.array([2], pa.int32())})
    world.node("person", "people", "person_id")
    world.add("opt_out", "test", OptOut(source="gone", key="person_id"))
    assert world.graph().ids("person").to_pylist() == [1]


def test_an_opt_out_that_concerns_no_node_type_is_refused(world: World) -> None:
    world.write("people", {"id": [1, 2]})
    world.node("person", "people", "id")
    world.add("opt_out", "test", OptOut(source="people", key="account"))
    with pytest.raises(GraphError) as error:
        world.nodes("person")
    assert error.value.code == "G016"


def test_nodes_that_only_edges_bring(world: World) -> None:
    world.write("jobs", {"id": [1, 2]})
    world.write("titles", {"job": [1, 2, 1, None], "title": ["Nurse", "Cook", "Cook", "Ghost"]})
    world.node("job", "jobs", "id").node("title", kind="attribute")
    world.edge("job-title", "titles", ("job", "job"), ("title", "title"), dst_unknown="create", kind="attribute")
    graph = world.graph()
    assert graph.ids("title").to_pylist() == ["Cook", "Nurse"]
    assert graph.manifest["nodes"]["title"]["created_by_edges"] == 2
    assert graph.node_kind("title") == "attribute"


def test_a_node_type_without_source_or_creator_is_refused(world: World) -> None:
    with pytest.raises(GraphError) as error:
        world.node("title", kind="attribute").nodes("title")
    assert error.value.code == "G022"


@pytest.mark.parametrize("empty", [{"id": pa.array([], pa.string())}, {"id": pa.array([None], pa.string())}])
def test_a_node_type_may_be_empty(world: World, empty: dict[str, Any]) -> None:
    world.write("things", empty)
    world.write("links", {"a": ["x"], "b": ["y"]})
    world.node("thing", "things", "id")
    world.edge("link", "links", ("thing", "a"), ("thing", "b"), src_unknown="drop", dst_unknown="drop")
    graph = world.graph()
    assert graph.num_nodes("thing") == 0
    assert graph.edges_named("link").indptr.tolist() == [0]


def test_row_groups_do_not_depend_on_how_rows_arrive(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_platform.graph.nodes.ROW_GROUP", 7)
    found = []
    for name, batch in (("one", 5), ("two", 16)):
        world = make_world(name)
        world.write("things", {"id": list(range(40, 0, -1))})
        original = world.engine.batches
        world.engine.batches = lambda *a, original=original, batch=batch, **k: (
            piece.slice(low, batch) for piece in original(*a, **k) for low in range(0, len(piece), batch)
        )
        path = world.node("thing", "things", "id").nodes("thing").path / "ids.parquet"
        found.append(path.read_bytes())
        assert pq.read_metadata(path).num_row_groups == 6
    assert found[0] == found[1]
