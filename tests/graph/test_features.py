"""Features, texts and cohorts: values, versions, what is missing, what is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_platform.errors import GraphError
from star_platform.graph.storage import FeatureArray
from star_platform.signals.model import (
    CategoricalFeature,
    Cohort,
    IdFeature,
    NumericFeature,
    OptOut,
    TextFeature,
    VectorFeature,
)

from .world import World, content, micros


def people(world: World, rows: dict[str, Any]) -> World:
    world.write("people", {"id": ["a", "b", "c", "d"]})
    world.write("rows", rows)
    return world.node("person", "people", "id")


def only(world: World) -> FeatureArray:
    (feature,) = world.graph().features("person")
    return feature


def test_categorical_codes_start_at_one_and_zero_is_missing_or_rare(world: World) -> None:
    rows = {"who": ["a", "b", "c", "d", "z", None], "level": ["senior", "junior", "senior", None, "junior", "junior"]}
    definition = CategoricalFeature(kind="categorical", source="rows", key="who", column="level", min_count=2)
    feature = only(people(world, rows).add("feature", "person.level", definition))
    assert feature.values is not None
    assert feature.values.tolist() == [1, 0, 1, 0]
    assert feature.dim == 2
    artefact = world.feature("person.level")
    assert pq.read_table(artefact.path / "vocabulary.parquet").column("value").to_pylist() == ["senior"]
    assert artefact.details["rare"] == 1
    assert artefact.details["dropped"] == {"null_key": 1, "opted_out": 0, "unknown_key": 1, "duplicate": 0}


def test_categorical_numbers_and_repeated_rows(world: World) -> None:
    rows = {"who": ["a", "a", "a", "b"], "code": [None, 7, 3, 3]}
    definition = CategoricalFeature(kind="categorical", source="rows", key="who", column="code")
    feature = only(people(world, rows).add("feature", "person.code", definition))
    assert feature.values is not None
    assert feature.values.tolist() == [2, 1, 0, 0]  # vocabulary "3", "7": the known value, the last in the vocabulary
    assert feature.present is not None
    assert feature.present.tolist() == [True, True, False, False]


def test_numbers_are_standardised_with_flags_for_nulls(world: World) -> None:
    rows = {"who": ["a", "b", "c"], "x": [1.0, 3.0, None], "y": [5, 5, 5], "b": [True, False, True]}
    definition = NumericFeature(kind="numeric", source="rows", key="who", columns=("x", "y", "b"))
    feature = only(people(world, rows).add("feature", "person.numbers", definition))
    third = float(np.float32(1 / 3 / np.sqrt(2 / 9)))
    assert feature.values is not None
    assert feature.values.tolist() == [
        [-1.0, 0.0, third, 0.0, 0.0, 0.0],
        [1.0, 0.0, -2 * third, 0.0, 0.0, 0.0],
        [0.0, 0.0, third, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
    assert feature.dim == 6
    assert feature.rows(np.array([3, 0])).tolist() == [-1, 0]


def test_log1p_and_what_it_cannot_take(make_world: Callable[..., World]) -> None:
    def numeric(name: str, numbers: list[float], transform: Any) -> World:
        world = people(make_world(name), {"who": ["a", "b"], "x": numbers})
        definition = NumericFeature(kind="numeric", source="rows", key="who", columns=("x",), transform=transform)
        return world.add("feature", "person.x", definition)

    feature = only(numeric("plain", [7.0, 1e6], "none"))
    assert feature.values is not None
    assert feature.values[:2, 0].tolist() == [7.0, 1e6]
    assert numeric("log", [0.0, np.e - 1], "log1p").feature("person.x").details["mean"] == [0.5]
    for numbers, transform in (([-1.0, 1.0], "log1p"), ([float("inf"), 1.0], "standard")):
        with pytest.raises(GraphError) as error:
            numeric(transform, numbers, transform).feature("person.x")
        assert error.value.code == "G018"


def test_text_is_no_number(world: World) -> None:
    people(world, {"who": ["a"], "x": ["1"]})
    world.add("feature", "person.x", NumericFeature(kind="numeric", source="rows", key="who", columns=("x",)))
    with pytest.raises(GraphError) as error:
        world.feature("person.x")
    assert error.value.code == "G018"


def vector(world: World, vectors: list[Any], **more: Any) -> World:
    people(world, {"who": ["b", "a", "c"][: len(vectors)], "v": pa.array(vectors, pa.list_(pa.float64()))})
    return world.add("feature", "person.v", VectorFeature(kind="vector", source="rows", key="who", column="v", **more))


def test_vectors(world: World) -> None:
    feature = only(vector(world, [[1.0, 2.0], [0.5, -1.0], None], dim=2))
    assert feature.values is not None
    assert feature.present is not None
    assert feature.values.tolist() == [[0.5, -1.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    assert feature.present.tolist() == [True, True, False, False]
    assert world.feature("person.v").details["dropped"]["null_vector"] == 1


BAD_VECTORS: list[tuple[list[Any], int | None]] = [
    ([[1.0], [1.0, 2.0]], None),
    ([[1.0, 2.0]], 3),
    ([[1.0, float("nan")]], None),
    ([[1.0, float("inf")]], 2),
    ([[1.0, None]], 2),
    ([None], None),
    ([[]], None),
]


@pytest.mark.parametrize(("vectors", "dim"), BAD_VECTORS)
def test_vectors_that_cannot_be_used(world: World, vectors: list[Any], dim: int | None) -> None:
    with pytest.raises(GraphError) as error:
        vector(world, vectors, dim=dim).feature("person.v")
    assert error.value.code == "G017"


def test_a_column_of_text_is_no_vector(world: World) -> None:
    people(world, {"who": ["a"], "v": ["[1, 2]"]})
    world.add("feature", "person.v", VectorFeature(kind="vector", source="rows", key="who", column="v"))
    with pytest.raises(GraphError, match="not a list of numbers"):
        world.feature("person.v")


def test_versions_hold_strictly_after_they_begin(world: World) -> None:
    rows = {
        "who": ["b", "a", "a", "a", "a", "x"],
        "level": ["p", "q", "p", "r", "p", "p"],
        "since": micros([50, 30, 10, 30, None, 99]),
    }
    definition = CategoricalFeature(kind="categorical", source="rows", key="who", column="level", valid_from="since")
    graph = people(world, rows).add("feature", "person.level", definition).graph()
    (feature,) = graph.features("person")
    assert feature.indptr is not None
    assert feature.valid_from is not None
    assert feature.values is not None
    assert feature.indptr.tolist() == [0, 2, 3, 3, 3]
    assert feature.valid_from.tolist() == [10, 30, 50]
    assert feature.values.tolist() == [1, 3, 1]
    details = world.feature("person.level").details["dropped"]
    assert (details["null_valid_from"], details["duplicate"], details["unknown_key"]) == (1, 1, 1)
    times = np.array([10, 11, 30, 31, 50, 51, 0])
    assert feature.rows(np.array([0, 0, 0, 0, 1, 1, 2]), times).tolist() == [-1, 0, 0, 1, -1, 2, -1]
    assert feature.rows(np.array([0, 1, 2])).tolist() == [1, 2, -1]
    assert graph.as_of == 50


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.integers(-5, 5), max_size=6, unique=True), min_size=1, max_size=6), st.data())
def test_rows_equals_a_linear_search(versions: list[list[int]], data: st.DataObject) -> None:
    versions = [sorted(times) for times in versions]
    indptr = np.concatenate([[0], np.cumsum([len(times) for times in versions])]).astype(np.int64)
    flat = np.array([time for times in versions for time in times], np.int64)
    feature = FeatureArray("n", "f", "categorical", 2, np.zeros(len(flat), np.int32), indptr, flat)
    asked = data.draw(st.lists(st.tuples(st.integers(0, len(versions) - 1), st.integers(-6, 6)), max_size=20))
    nodes, times = np.array([n for n, _ in asked], np.int32), np.array([t for _, t in asked], np.int64)
    expected = []
    for node, time in asked:
        before = [i for i, since in enumerate(versions[node]) if since < time]
        expected.append(int(indptr[node]) + before[-1] if before else -1)
    assert feature.rows(nodes, times).tolist() == expected


def test_texts_join_trimmed_columns_and_skip_empty_ones(world: World) -> None:
    rows = {"who": ["c", "a", "b"], "head": [" Nurse ", None, ""], "more": ["Night shifts", "Cook", None]}
    people(world, rows)
    world.add("feature", "person.text", TextFeature(kind="text", source="rows", key="who", columns=("head", "more")))
    artefact = world.texts("person.text")
    table = pq.read_table(artefact.path / "texts.parquet")
    assert table.schema.names == ["node", "valid_from", "text"]
    assert table.column("text").to_pylist() == ["Cook", "", "Nurse\nNight shifts", ""]
    assert table.column("node").to_pylist() == [0, 1, 2, 3]
    assert np.load(artefact.path / "present.npy").tolist() == [True, True, True, False]


def text_vectors(world: World, name: str, present: list[bool]) -> Any:
    rows = world.texts(name).details["texts"]
    with world.store.create("text", "v") as draft:
        np.save(draft.path / "values.npy", np.arange(rows * 2, dtype=np.float32).reshape(rows, 2))
        np.save(draft.path / "present.npy", np.array(present))
        draft.details |= {"dim": 2, "encoder": "test"}
    return {name: world.store.open("text", "v")}


def test_text_versions_and_their_vectors_in_the_graph(world: World) -> None:
    rows = {"who": ["b", "a", "b"], "t": ["new", "only", "old"], "since": micros([9, 1, 2])}
    definition = TextFeature(kind="text", source="rows", key="who", columns=("t",), valid_from="since")
    people(world, rows).add("feature", "person.text", definition)
    table = pq.read_table(world.texts("person.text").path / "texts.parquet")
    assert table.to_pydict() == {"node": [0, 1, 1], "valid_from": [1, 2, 9], "text": ["only", "old", "new"]}
    (feature,) = world.graph(text_vectors(world, "person.text", [True, True, True])).features("person")
    assert (feature.kind, feature.dim) == ("text", 2)
    assert feature.values is not None
    assert feature.values[feature.rows(np.array([1, 1]), np.array([9, 10]))].tolist() == [[2.0, 3.0], [4.0, 5.0]]


def test_texts_that_the_encoder_does_not_know_are_missing_in_the_graph(world: World) -> None:
    people(world, {"who": ["a", "b"], "t": ["x", "y"]})
    world.add("feature", "person.text", TextFeature(kind="text", source="rows", key="who", columns=("t",)))
    (feature,) = world.graph(text_vectors(world, "person.text", [True, False, False, False])).features("person")
    assert feature.rows(np.arange(4)).tolist() == [0, -1, -1, -1]
    assert world.graph().manifest["features"]["person.text"]["encoder"] == "test"


def test_id_features_have_no_array(world: World) -> None:
    people(world, {"who": ["a"]}).add("feature", "person.own", IdFeature(kind="id", dim=12))
    feature = only(world)
    assert (feature.kind, feature.dim, feature.values) == ("id", 12, None)
    assert feature.rows(np.array([0, 3])).tolist() == [0, 3]


def test_cohorts(world: World) -> None:
    people(world, {"who": ["d", "a", "b", "a"], "country": ["nl", "de", None, "fr"]})
    world.add("cohort", "country", Cohort(node="person", source="rows", key="who", column="country"))
    codes, names = world.graph().cohorts("person")["country"]
    assert names == ["de", "fr", "nl"]
    assert codes.tolist() == [1, -1, -1, 2]


def test_an_id_is_no_cohort(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_platform.graph.cohorts.MAX_GROUPS", 2)
    people(world, {"who": ["a", "b", "c"], "id": [1, 2, 3]})
    world.add("cohort", "c", Cohort(node="person", source="rows", key="who", column="id"))
    with pytest.raises(GraphError) as error:
        world.cohort("c")
    assert error.value.code == "G023"


def test_rows_of_nodes_that_opted_out_leave_features_and_texts(world: World) -> None:
    people(world, {"who": ["a", "b", "c"], "x": [1.0, 2.0, 99.0], "t": ["one", "two", "secret"]})
    world.write("gone", {"who": ["c"]})
    world.add("opt_out", "test", OptOut(source="gone", key="who", node="person"))
    world.add("feature", "person.x", NumericFeature(kind="numeric", source="rows", key="who", columns=("x",)))
    world.add("feature", "person.t", TextFeature(kind="text", source="rows", key="who", columns=("t",)))
    assert world.feature("person.x").details["mean"] == [1.5]
    assert world.feature("person.x").details["dropped"]["opted_out"] == 1
    for artefact in (world.texts("person.t"), world.feature("person.x"), world.nodes("person")):
        assert not any(b"secret" in data for data in content(artefact.path).values())


def test_pieces_and_threads_do_not_change_the_bytes(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse rows of many nodes, laid out in pieces of different sizes, rows shuffled, one thread or two."""
    rng = np.random.default_rng(0)
    who = rng.choice(5000, 1200, replace=True)
    rows = {"who": who, "x": rng.normal(size=1200), "t": [f"text {i}" for i in who], "v": micros(list(range(1200)))}
    found = []
    for name, order in (("one", np.arange(1200)), ("two", rng.permutation(1200))):
        world = make_world(name, threads=1 if name == "one" else 2)
        if name == "two":
            monkeypatch.setattr("star_platform.graph.features._ROWS", 64)
        world.write("people", {"id": list(range(5000))})
        world.write("rows", pa.table(rows).take(order))
        world.node("person", "people", "id")
        world.add("feature", "person.c", CategoricalFeature(kind="categorical", source="rows", key="who", column="t"))
        for feature, more in (("t", {}), ("tv", {"valid_from": "v"})):
            definition = TextFeature(kind="text", source="rows", key="who", columns=("t",), **more)
            world.add("feature", f"person.{feature}", definition)
        paths = [world.feature("person.c").path, world.texts("person.t").path, world.texts("person.tv").path]
        found.append([content(path) for path in paths])
    for one, two in zip(*found, strict=True):
        assert one == two
