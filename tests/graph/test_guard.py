"""What a branch's own SQL may do, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_platform.errors import GraphError
from star_platform.graph.guard import checked_predicate, checked_query, did_you_mean

KNOWN = {"views": "source_1", "saves": "source_2", "a-b": "source_3"}
DENY = frozenset({"email", "phone"})


def query(sql: str) -> str:
    return checked_query(sql, "the query", KNOWN.get, DENY)


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        ("SELECT * FROM views", ['"source_1" AS "views"']),
        ('SELECT v.x FROM views v JOIN "a-b" ON true', ['"source_1" AS v', '"source_3" AS "a-b"']),
        ("WITH views AS (SELECT * FROM saves) SELECT * FROM views", ["FROM views", '"source_2"']),
        ("WITH views AS (SELECT * FROM views) SELECT * FROM views", ['"source_1"']),
        ("SELECT x FROM views UNION ALL SELECT x FROM saves", ['"source_1"', '"source_2"']),
        ("SELECT x FROM views WHERE x IN (SELECT x FROM saves)", ['"source_2"']),
        ("SELECT * FROM views, UNNEST([1, 2]) t(n)", ["UNNEST"]),
        ("SELECT * FROM range(3)", ["RANGE"]),
        ("SELECT 'my email address' AS note FROM views", ["my email address"]),
    ],
)
def test_queries_that_are_fine(sql: str, parts: list[str]) -> None:
    checked = query(sql)
    for part in parts:
        assert part.lower() in checked.lower()


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT * FROM nowhere",
        "SELECT * FROM main.views",
        "SELECT * FROM 'data.parquet'",
        "SELECT * FROM read_parquet('x.parquet')",
        "SELECT * FROM read_csv_auto('x.csv')",
        "SELECT * FROM glob('*')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM views, read_text('/etc/passwd')",
        "SELECT getenv('HOME') FROM views",
        "SELECT * FROM query('SELECT 1')",
        "SELECT 1; SELECT 2",
        "DROP TABLE views",
        "INSERT INTO views VALUES (1)",
        "COPY views TO 'x.csv'",
        "ATTACH 'x.db'",
        "SET memory_limit = '1TB'",
        "PRAGMA database_list",
        "SELECT (SELECT max(x) FROM elsewhere) FROM views",
        "WITH t AS (SELECT * FROM elsewhere) SELECT * FROM t",
        "SELECT 'open",
    ],
)
def test_queries_that_are_not(sql: str) -> None:
    with pytest.raises(GraphError) as error:
        query(sql)
    assert error.value.code == "G012"


DENIED = [
    "SELECT email FROM views",
    "SELECT v.EMAIL FROM views v",
    'SELECT "Email" AS x FROM views',
    "SELECT upper(email) FROM views",
    "SELECT x FROM views ORDER BY email",
    "SELECT x FROM views WHERE phone LIKE '06%'",
    "SELECT profile.email FROM views",
    "SELECT profile['email'] FROM views",
    "SELECT struct_extract(profile, 'email') FROM views",
    "SELECT j ->> '$.email' FROM views",
    "SELECT json_extract(j, '$.contact.phone') FROM views",
    "SELECT COLUMNS('email') FROM views",
    "SELECT * EXCLUDE (x) REPLACE (email AS y) FROM views",
    "SELECT count(*) FROM views GROUP BY email",
    "SELECT x FROM views JOIN saves USING (email)",
    "SELECT row_number() OVER (PARTITION BY email) FROM views",
]


@pytest.mark.parametrize("sql", DENIED)
def test_denied_columns_cannot_be_reached(sql: str) -> None:
    with pytest.raises(GraphError) as error:
        query(sql)
    assert error.value.code == "G011"


@pytest.mark.parametrize("predicate", ["x > 1", "x IS NOT NULL -- comment", "kind IN ('a', 'b') AND NOT gone"])
def test_predicates_that_are_fine(predicate: str) -> None:
    assert checked_predicate(predicate, "where", DENY)


@pytest.mark.parametrize(
    "predicate",
    [
        "",
        "x >",
        "1; DROP TABLE x",
        "true) OR (true",
        "x IN (SELECT x FROM views)",
        "true GROUP BY x",
        "getenv('A') = 'x'",
        "true) UNION (SELECT 1",
    ],
)
def test_predicates_that_are_not(predicate: str) -> None:
    with pytest.raises(GraphError) as error:
        checked_predicate(predicate, "where", DENY)
    assert error.value.code == "G012"


def test_a_predicate_cannot_read_a_denied_column() -> None:
    with pytest.raises(GraphError) as error:
        checked_predicate("lower(Email) = 'x'", "where", DENY)
    assert error.value.code == "G011"


@given(st.text(max_size=60))
def test_any_text_is_either_checked_or_refused(text: str) -> None:
    codes = set()
    for check in (lambda: query(text), lambda: checked_predicate(text, "where", DENY)):
        try:
            check()
        except GraphError as error:
            codes.add(error.code)
    assert codes <= {"G011", "G012"}


def test_near_names_are_suggested() -> None:
    assert did_you_mean("memberid", ["Member_ID", "job"]) == "did you mean 'Member_ID'?"
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", []) is None
