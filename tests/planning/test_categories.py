"""The table of categories, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from star_platform.planning import categories
from star_platform.planning.categories import Category, worst
from star_platform.planning.differences import Difference, differences
from star_platform.signals import model

M, A, R, B = Category.METADATA, Category.ADDITIVE, Category.RETRAIN, Category.BREAKING
ENTITY, ATTRIBUTE = {"kind": "entity"}, {"kind": "attribute"}


@pytest.mark.parametrize(
    ("kind", "category"),
    [("node", R), ("edge", R), ("feature", R), ("objective", R), ("opt_out", R), ("cohort", A), ("surprise", B)],
)
def test_added(kind: Any, category: Category) -> None:
    assert categories.of_added(kind) is category


@pytest.mark.parametrize(
    ("kind", "definition", "category"),
    [
        ("node", ENTITY, B),
        ("node", ATTRIBUTE, R),
        ("node", {}, B),
        ("edge", {}, R),
        ("feature", {}, R),
        ("opt_out", {}, R),
        ("objective", {}, B),
        ("cohort", {}, M),
        ("surprise", {}, B),
    ],
)
def test_removed(kind: Any, definition: dict[str, Any], category: Category) -> None:
    assert categories.of_removed(kind, definition) is category


@pytest.mark.parametrize(
    ("kind", "name", "path", "old", "new", "category"),
    [
        ("node", "n", "kind", "entity", "attribute", B),
        ("node", "n", "kind", "attribute", "entity", R),
        ("node", "n", "key", "id", "other", B),
        ("node", "n", "source.path", "a", "b", R),
        ("node", "n", "created_at", None, "at", R),
        ("node", "n", "surprise", 1, 2, B),
        ("edge", "e", "src.node", "a", "b", B),
        ("edge", "e", "dst.node", "a", "b", B),
        ("edge", "e", "src.key", "a", "b", R),
        ("edge", "e", "dst.unknown", "error", "drop", R),
        ("edge", "e", "window", "7d", "14d", R),
        ("edge", "e", "weight", None, {"column": "x"}, R),
        ("edge", "e", "reverse", True, False, R),
        ("edge", "e", "source.reads.raw.path", "a", "b", R),
        ("edge", "e", "surprise", 1, 2, B),
        ("feature", "n.f", "kind", "text", "vector", R),
        ("feature", "n.f", "dim", 8, 16, R),
        ("feature", "n.f", "columns", ["a"], ["b"], R),
        ("feature", "n.f", "surprise", 1, 2, B),
        ("objective", "o", "edge", "a", "b", B),
        ("objective", "o", "label", None, "x", B),
        ("objective", "o", "feature", "member.level", "member.rank", B),
        ("objective", "o", "node", "member", "job", B),
        ("objective", "o", "weight", 1.0, 2.0, R),
        ("objective", "o", "negatives.hard_share", None, 0.3, R),
        ("objective", "o", "negatives.kind", "uniform", "in-batch", R),
        ("cohort", "c", "column", "a", "b", M),
        ("cohort", "c", "surprise", 1, 2, B),
        ("opt_out", "b", "where", "a", "b", R),
        ("privacy", "deny_columns", "deny_columns", [], ["email"], M),
        ("settings", "training", "dim", 64, 128, B),
        ("settings", "training", "encoder.dim", 64, 128, B),
        ("settings", "training", "lr", 1, 2, R),
        ("settings", "training", "surprise", 1, 2, R),
        ("settings", "text", "fingerprint", "a", "b", R),
        ("settings", "publishing", "feature_repo", "a", "b", A),
        ("settings", "evaluation", "gate", 1, 2, M),
        ("settings", "surprise", "x", 1, 2, B),
        ("surprise", "x", "y", 1, 2, B),
    ],
)
def test_changed(kind: Any, name: str, path: str, old: Any, new: Any, category: Category) -> None:
    change = Difference(tuple(path.split(".")), old, new)
    assert categories.of_field(kind, name, change, ENTITY) is category


def test_the_key_of_an_attribute_is_nobodys_lookup() -> None:
    assert categories.of_field("node", "n", Difference(("key",), "a", "b"), ATTRIBUTE) is R


@pytest.mark.parametrize(
    ("kind", "definition", "key_type_changed", "category"),
    [
        ("node", ENTITY, False, R),
        ("node", ENTITY, True, B),
        ("node", ATTRIBUTE, True, R),
        ("edge", {}, False, R),
        ("feature", {}, True, R),
        ("cohort", {}, False, M),
        ("opt_out", {}, False, R),
    ],
)
def test_data(kind: Any, definition: dict[str, Any], key_type_changed: bool, category: Category) -> None:
    assert categories.of_data(kind, definition, key_type_changed=key_type_changed) is category


def test_worst_wins() -> None:
    assert worst([M, R, A]) is R
    assert worst([B, M]) is B
    assert worst([]) is M
    assert list(Category) == [M, A, R, B]


@pytest.mark.parametrize(
    ("kind", "models"),
    [
        ("node", [model.Node]),
        ("edge", [model.Edge]),
        ("objective", [model.LinkPrediction, model.NodeClassification]),
        ("cohort", [model.Cohort]),
        ("opt_out", [model.OptOut]),
        (
            "feature",
            [
                model.TextFeature,
                model.IdFeature,
                model.CategoricalFeature,
                model.NumericFeature,
                model.VectorFeature,
            ],
        ),
    ],
)
def test_every_field_of_the_schema_has_been_thought_about(kind: str, models: list[Any]) -> None:
    """A field that the schema gains is breaking until the table knows it."""
    decided = {
        "node": {"kind", "key"},
        "objective": {"kind", "edge", "label", "node", "feature"},
    }.get(kind, set())
    table = categories._RETRAIN_FIELDS.get(kind, frozenset()) | categories._METADATA_FIELDS.get(kind, frozenset())
    fields = {field for item in models for field in item.model_fields}
    assert fields == set(table) | decided


def test_differences() -> None:
    old = {"a": {"b": 1, "gone": 2}, "same": [1], "list": [1, 2], "flag": True}
    new = {"a": {"b": 2}, "same": [1], "list": [2, 1], "flag": 1, "new/~": None, "more": {"x": 1}}
    assert [(item.pointer, item.old, item.new) for item in differences(old, new)] == [
        ("/a/b", 1, 2),
        ("/a/gone", 2, None),
        ("/flag", True, 1),
        ("/list", [1, 2], [2, 1]),
        ("/more", None, {"x": 1}),
    ]
    assert Difference(("new/~",), 1, 2).pointer == "/new~1~0"
