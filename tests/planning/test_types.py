"""The merged spec against the columns of the data."""

from __future__ import annotations

from typing import Any

import pytest

from star_platform.errors import Conflict, Diagnostic, MergeConflict, PlanError
from star_platform.planning.merge import merge
from star_platform.planning.snapshot import take_snapshots
from star_platform.planning.types import check_data, check_types
from tests.planning.market import CORE, LEVELS, SKILLS, TABLES, VIEWS, Tables, load


def check(*texts: str, tables: Tables | None = None) -> None:
    spec = merge([load(text) for text in texts])
    check_data(spec, take_snapshots(spec, tables or Tables()))


def diagnostics(*texts: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(PlanError) as raised:
        check(*texts)
    found: tuple[Diagnostic, ...] = raised.value.details["diagnostics"]
    assert raised.value.code == found[0].code
    return found


def retyped(file: str, column: str, type_name: str) -> Tables:
    tables: Any = {name: (rows, dict(columns)) for name, (rows, columns) in TABLES.items()}
    tables[file][1][column] = type_name
    return Tables(tables)


def test_the_market_is_sound() -> None:
    check(CORE, VIEWS, SKILLS)


def test_a_missing_column_has_its_place_line_and_suggestion() -> None:
    (found,) = diagnostics(CORE, VIEWS.replace("timestamp: viewed_at", "timestamp: viewd_at"))
    assert found.code == "P002"
    assert found.message == "edge 'member-views-job' reads column 'viewd_at', which source 'views' does not have"
    assert str(found.place) == "signal_branches/views.yaml:14:16"
    assert found.source_line == "    timestamp: viewd_at"
    assert found.label == "did you mean 'viewed_at'?"
    assert found.notes[0] == "known columns of views: applied, day, job_id, member_id, seconds, viewed_at"


def test_a_column_in_a_list_has_its_own_place() -> None:
    (found,) = diagnostics(CORE.replace("[headline, summary]", "[headline, resume]"), VIEWS)
    line = CORE.splitlines()[11]
    assert found.place is not None
    assert (found.place.line, found.place.column) == (12, line.index("summary") + 1)


def test_all_columns_are_reported_at_once() -> None:
    views = VIEWS.replace("column: seconds", "column: secs").replace("key: member_id", "key: member")
    found = diagnostics(CORE.replace("column: seniority", "column: level"), views)
    assert [item.code for item in found] == ["P002"] * 3


def test_the_label_of_an_objective_is_a_column_of_its_edge() -> None:
    label = "    edge: member-views-job\n    label: {}\n    negatives: {{kind: labelled}}\n"
    check(CORE, VIEWS.replace("    edge: member-views-job\n", label.format("applied")))
    (found,) = diagnostics(CORE, VIEWS.replace("    edge: member-views-job\n", label.format("clicked")))
    assert found.message == "objective 'view' reads column 'clicked', which source 'views' does not have"
    (found,) = diagnostics(CORE, VIEWS.replace("    edge: member-views-job\n", label.format("day")))
    assert found.code == "P003"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("timestamp: viewed_at", "timestamp: seconds", "needs a timestamp, or a date as timestamp"),
        ("column: seconds", "column: day", "needs a number as weight.column"),
    ],
)
def test_types_that_do_not_fit(old: str, new: str, words: str) -> None:
    (found,) = diagnostics(CORE, VIEWS.replace(old, new))
    assert found.code == "P003"
    assert words in found.message


def test_a_vector_must_be_a_list_and_numbers_must_be_numbers() -> None:
    features = "  member.old: {kind: vector, source: members, key: member_id, column: vector}\n"
    features += "  member.age: {kind: numeric, source: members, key: member_id, columns: [age]}\n"
    text = CORE.replace("cohorts:\n", features + "cohorts:\n")
    check(text, VIEWS)
    found = diagnostics(text.replace("column: vector", "column: age").replace("[age]", "[headline]"), VIEWS)
    assert [item.message for item in found] == [
        "feature 'member.age' needs a number as columns; column 'headline' is VARCHAR",
        "feature 'member.old' needs a list or array of numbers as column; column 'age' is INTEGER",
    ]


def test_a_denied_column_of_any_branch_is_denied_to_all() -> None:
    found = diagnostics(CORE.replace("[email]", "[Applied, seconds]"), VIEWS)
    assert [(item.code, item.message) for item in found] == [
        ("P005", "edge 'member-views-job' reads column 'seconds', which a branch denies to everybody")
    ]
    assert found[0].source_line == "    weight: {column: seconds, aggregate: sum}"


def test_keys_of_one_node_type_have_one_type() -> None:
    spec = merge([load(CORE), load(VIEWS), load(SKILLS)])
    with pytest.raises(MergeConflict) as raised:
        check_types(spec, take_snapshots(spec, retyped("views.parquet", "member_id", "VARCHAR")))
    (found,) = raised.value.conflicts
    assert isinstance(found, Conflict)
    assert (found.type, found.path) == ("dtype_mismatch", "/edges/member-views-job/src/key")
    assert str(found.ours) == "signal_branches/views.yaml:12:30"
    assert str(found.theirs) == "signal_branches/core.yaml:9:48"
    assert "keys of 'member' are BIGINT in node 'member'" in found.message
    assert "cast(member_id as BIGINT)" in found.hint


def test_integers_of_any_width_are_one_type() -> None:
    check(CORE, VIEWS, SKILLS, tables=retyped("views.parquet", "member_id", "UINTEGER"))
    check(CORE, VIEWS, SKILLS, tables=retyped("views.parquet", "member_id", "decimal(38, 0)"))


def test_a_node_classification_reads_no_column_of_its_own() -> None:
    check(CORE, VIEWS, LEVELS)
    (found,) = diagnostics(CORE, VIEWS, LEVELS.replace("column: seniority", "column: rank"))
    assert found.message.startswith("feature 'member.level'")
