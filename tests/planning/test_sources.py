"""What a query reads, and the identity of a source apart from its name."""

from __future__ import annotations

import pytest

from star_platform.errors import PlanError
from star_platform.planning.merge import merge
from star_platform.planning.snapshot import take_snapshots, type_family
from star_platform.planning.sources import closure, mentioned, resolved_source, source_id
from star_platform.signals.model import FileSource, Source, SqlSource
from tests.planning.market import CORE, SKILLS, VIEWS, Tables, load

FILES: dict[str, Source] = {name: FileSource(path=f"{name}.parquet") for name in ("views", "jobs", "my-members")}


def test_names_in_comments_and_strings_do_not_count() -> None:
    sql = "select 'jobs' as kind, v.* from views v -- join jobs\n /* and jobs */"
    assert mentioned(sql, FILES) == ("views",)


def test_quoted_names_and_other_case_count() -> None:
    assert mentioned('select * from VIEWS, "my-members"', FILES) == ("my-members", "views")


def test_a_closure_follows_queries_through_queries() -> None:
    sources: dict[str, Source] = {
        **FILES,
        "recent": SqlSource(sql="select * from views where day > 1"),
        "both": SqlSource(sql="select * from recent join jobs using (job_id)"),
    }
    assert list(closure("both", sources)) == ["both", "jobs", "recent", "views"]
    assert list(closure("views", sources)) == ["views"]
    assert resolved_source("both", sources)["reads"]["recent"]["reads"]["views"]["path"] == "views.parquet"


def test_a_circle_is_an_error_that_shows_it() -> None:
    sources: dict[str, Source] = {
        "a": SqlSource(sql="select * from b"),
        "b": SqlSource(sql="select * from c"),
        "c": SqlSource(sql="select * from a"),
    }
    with pytest.raises(PlanError) as raised:
        resolved_source("b", sources)
    assert raised.value.code == "P004"
    assert "b -> c -> a -> b" in raised.value.message


def test_a_column_with_the_name_of_a_source_makes_no_circle() -> None:
    sources: dict[str, Source] = {
        "days": SqlSource(sql="select * from raw"),
        "raw": SqlSource(sql="select days from events"),
        "events": FileSource(path="events.parquet"),
    }
    assert set(resolved_source("days", sources)["reads"]) == {"raw"}


def test_ids_forget_local_names_and_see_definitions() -> None:
    one: dict[str, Source] = {"x": FileSource(path="a.parquet")}
    other: dict[str, Source] = {"y": FileSource(path="a.parquet"), "z": FileSource(path="b.parquet")}
    assert source_id("x", one) == source_id("y", other) != source_id("z", other)


def test_each_source_is_looked_at_once() -> None:
    tables = Tables()
    found = take_snapshots(merge([load(CORE), load(VIEWS), load(SKILLS)]), tables)
    assert sorted(tables.asked) == ["jobs", "members", "skills", "views"]
    assert sorted(snapshot.rows for snapshot in found.values()) == [200, 1000, 5000, 20000]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("BIGINT", "integer"),
        ("!int64", "integer"),
        ("UTINYINT", "integer"),
        ("HUGEINT", "integer"),
        ("DECIMAL(38,0)", "integer"),
        ("decimal(38, 0)", "integer"),
        ("DECIMAL(18,3)", "decimal"),
        ("VARCHAR", "string"),
        ("string", "string"),
        ("ENUM('a', 'b')", "string"),
        ("DOUBLE", "float"),
        ("float32", "float"),
        ("FLOAT[384]", "list"),
        ("VARCHAR[]", "list"),
        ("array<float32>", "list"),
        ("TIMESTAMP WITH TIME ZONE", "timestamp"),
        ("timestamp('UTC', 6)", "timestamp"),
        ("DATE", "date"),
        ("date", "date"),
        ("TIME", "other"),
        ("INTERVAL", "other"),
        ("BOOLEAN", "boolean"),
        ("UUID", "uuid"),
        ("BLOB", "bytes"),
        ("STRUCT(a INTEGER)", "other"),
    ],
)
def test_type_families(name: str, family: str) -> None:
    assert type_family(name) == family
