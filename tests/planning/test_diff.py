"""Changes since the base release, field by field, and that their category tells the truth about the work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.planning.base import BaseRelease
from star_platform.planning.categories import Category
from star_platform.planning.diff import Change, FieldChange
from star_platform.planning.merge import merge
from star_platform.planning.plan import make_plan
from star_platform.planning.snapshot import SourceSnapshot, take_snapshots
from star_platform.signals.model import Source
from tests.planning.market import CORE, SETTINGS, SKILLS, TABLES, VIEWS, Tables, load_dict, planned, released
from tests.strategies import Document, agreeing_branches, worlds
from tests.strategies import documents as branch_documents

ALL = (CORE, VIEWS, SKILLS)
BASE, STORE = released(planned(*ALL))


def changes(*texts: str, **more: Any) -> tuple[Change, ...]:
    return planned(*texts, base=BASE, store=STORE, **more).changes


def test_a_first_release_adds_everything_and_breaks_nobody() -> None:
    plan = planned(*ALL)
    assert {(change.action, change.category) for change in plan.changes} == {("added", Category.ADDITIVE)}
    assert len(plan.changes) == 10


def test_fields_have_old_and_new_values() -> None:
    (change,) = changes(CORE, VIEWS.replace("180d", "90d").replace("search@", "find@"), SKILLS)[:1]
    assert (change.action, change.kind, change.name) == ("changed", "edge", "member-views-job")
    assert str(change.place) == "signal_branches/views.yaml:9:3"
    assert change.category is Category.RETRAIN
    assert change.fields == (
        FieldChange("/owner", "search@example.com", "find@example.com", Category.METADATA),
        FieldChange("/window", "180d", "90d", Category.RETRAIN),
    )


def test_a_source_is_compared_by_what_it_is() -> None:
    renamed = VIEWS.replace("  views: {path", "  rows: {path").replace("source: views", "source: rows")
    assert changes(CORE, renamed, SKILLS) == ()
    tables = Tables({**TABLES, "views_v2.parquet": TABLES["views.parquet"]})
    (change,) = changes(CORE, VIEWS.replace("views.parquet", "views_v2.parquet"), SKILLS, tables=tables)
    assert [field.pointer for field in change.fields] == ["/source/path", "/data"]


def test_new_rows_under_an_equal_declaration() -> None:
    rows, columns = TABLES["views.parquet"]
    (change,) = changes(*ALL, tables=Tables({**TABLES, "views.parquet": (rows + 110, columns)}))
    (field,) = change.fields
    assert (field.pointer, field.old["rows"], field.new["rows"]) == ("/data", 20_000, 20_110)
    assert change.category is Category.RETRAIN


def test_another_type_of_an_entitys_key_is_breaking() -> None:
    tables: dict[str, Any] = {name: (rows, dict(columns)) for name, (rows, columns) in TABLES.items()}
    for file in ("members.parquet", "views.parquet", "skills.parquet"):
        tables[file] = (tables[file][0] + 1, {**tables[file][1], "member_id": "VARCHAR"})
    found = {change.name: change for change in changes(*ALL, tables=Tables(tables))}
    assert found["member"].category is Category.BREAKING
    assert found["member"].fields[0].reason == "key member_id: BIGINT -> VARCHAR"
    assert found["member-views-job"].category is Category.RETRAIN


def test_added_and_removed() -> None:
    found = {(change.action, change.kind, change.name): change for change in changes(CORE, VIEWS)}
    assert set(found) == {
        ("removed", "edge", "member-has-skill"),
        ("removed", "feature", "skill.id_embedding"),
        ("removed", "node", "skill"),
    }
    removed = found["removed", "node", "skill"]
    assert (str(removed.place), removed.owner) == ("signal_branches/skills.yaml:8:3", "skills@example.com")
    assert {change.category for change in found.values()} == {Category.RETRAIN}


def test_settings_and_denied_columns_are_changes_too() -> None:
    training = {**SETTINGS.training, "dim": 128, "max_epochs": 9}
    found = changes(
        CORE.replace("[email]", "[email, phone]"), VIEWS, SKILLS, settings=replace(SETTINGS, training=training)
    )
    assert [(change.kind, change.name, change.category) for change in found] == [
        ("privacy", "deny_columns", Category.METADATA),
        ("settings", "training", Category.BREAKING),
    ]
    assert [field.pointer for field in found[1].fields] == ["/dim", "/max_epochs"]


def test_the_text_encoder_is_no_change_where_no_text_is() -> None:
    text = CORE[: CORE.index("features:")] + CORE[CORE.index("cohorts:") :]
    base, _ = released(planned(text, VIEWS))
    other = replace(SETTINGS, text_fingerprint="another")
    assert planned(text, VIEWS, base=base, settings=other).nothing_changed
    assert not planned(*ALL, base=BASE, settings=other).nothing_changed


def test_an_older_recipe_of_fingerprints_is_no_change() -> None:
    record = planned(*ALL).record()
    for entry in record["signals"].values():
        entry["fingerprint"] = {**entry["fingerprint"], "version": 0, "data": "of another recipe"}
    base = BaseRelease.from_record(1, record)
    assert planned(*ALL, base=base).nothing_changed


# --- any change ---------------------------------------------------------------------------------------------------


class AnyTable:
    """Every file has every column that the strategies name."""

    def __init__(self, edition: int) -> None:
        self.edition = edition

    def snapshot(self, name: str, sources: dict[str, Source]) -> SourceSnapshot:
        path = sources[name].path  # type: ignore[union-attr]
        columns = dict.fromkeys(("a", "b", "x", "y", "member_id", "job_id", "skill_id"), "BIGINT")
        edition = self.edition if path.startswith("second") else 0
        return SourceSnapshot(f"{path}:{edition}", 10 + edition, 100, {**columns, "at": "TIMESTAMP"})


ANCHOR = {
    "apiVersion": "star/v1",
    "branch": "anchor",
    "owner": "a",
    "status": "ready",
    "sources": {"rows": {"path": "first.parquet"}},
    "nodes": {"person": {"kind": "entity", "source": "rows", "key": "a"}},
    "edges": {
        "knows": {
            "kind": "interaction",
            "source": "rows",
            "src": {"node": "person", "key": "a"},
            "dst": {"node": "person", "key": "b"},
            "timestamp": "at",
        }
    },
    "objectives": {"meet": {"kind": "link-prediction", "edge": "knows"}},
}


def plan_of(documents: list[Document], edition: int, base: BaseRelease | None, store: set[tuple[str, str]]) -> Any:
    spec = merge([load_dict(document) for document in [ANCHOR, *documents]])
    snapshots = take_snapshots(spec, AnyTable(edition))  # type: ignore[arg-type]
    return make_plan(spec, snapshots, SETTINGS, exists=lambda *key: key in store, base=base)


@st.composite
def two_states(draw: st.DrawFn) -> tuple[list[Document], list[Document]]:
    world, other = draw(worlds()), draw(worlds())
    mixed = {
        section: {name: draw(st.sampled_from([one, other[section][name]])) for name, one in signals.items()}
        for section, signals in world.items()
    }
    before = [draw(branch_documents(f"branch_{index}", world)) for index in range(2)]
    after = [draw(branch_documents(f"branch_{index}", mixed)) for index in range(2)]
    return before, after


@settings(max_examples=25, deadline=None)
@given(two_states(), st.integers(0, 1))
def test_categories_tell_the_truth_about_the_work(states: tuple[list[Document], list[Document]], edition: int) -> None:
    """Exactly changes of category retrain or worse train a model anew, and without changes nothing is built."""
    before, after = states
    base, store = released(plan_of(before, 0, None, set()))
    plan = plan_of(after, edition, base, store)
    trained = next(stage for stage in plan.stages if stage.name == "train").fingerprint != base.stages["train"]
    assert trained == (plan.category in (Category.RETRAIN, Category.BREAKING))
    assert plan.nothing_changed == (not plan.changes)
    if plan.nothing_changed:
        assert plan.to_build == ()


@settings(max_examples=10, deadline=None)
@given(agreeing_branches())
def test_the_same_again_is_no_change(documents: list[Document]) -> None:
    base, store = released(plan_of(documents, 0, None, set()))
    assert plan_of(list(reversed(documents)), 0, base, store).nothing_changed
