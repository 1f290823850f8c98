"""Plans as text, against golden files. `STAR_UPDATE_GOLDEN=1 pytest tests/planning/test_render.py` writes them anew."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest

from star_platform.planning.impact import Notice
from star_platform.planning.plan import Plan, to_json
from star_platform.planning.render import human_bytes, human_seconds, render_plan, render_stages
from tests.planning.market import CORE, SETTINGS, SKILLS, TABLES, VIEWS, Tables, planned, released

GOLDEN = Path(__file__).parent / "golden"
ALL = (CORE, VIEWS, SKILLS)


@dataclass(frozen=True)
class Reader:
    name: str
    owner: str
    nodes: tuple[str, ...]
    release: str


READERS = (
    Reader("feed-ranking", "feed@example.com", ("member", "job"), "latest"),
    Reader("alerts", "alerts@example.com", ("job",), "r1"),
    Reader("people-search", "search@example.com", ("member",), "latest"),
)


def first() -> Plan:
    return planned(*ALL)


def nothing() -> Plan:
    base, store = released(first())
    return planned(*ALL, base=base, store=store)


def added() -> Plan:
    base, store = released(planned(CORE, VIEWS))
    return planned(*ALL, base=base, store=store)


def changed() -> Plan:
    base, store = released(first())
    views = VIEWS.replace("180d", "90d").replace("search@", "find@").replace("aggregate: sum", "aggregate: max")
    rows, columns = TABLES["skills.parquet"]
    tables = Tables({**TABLES, "skills.parquet": (rows + 1310, columns)}, members=1)
    return planned(CORE, views, SKILLS, base=base, store=store, tables=tables)


def removed() -> Plan:
    base, store = released(first())
    return planned(CORE, VIEWS, base=base, store=store)


def breaking() -> Plan:
    base, store = released(first())
    core = CORE.replace("job: {kind: entity", "job: {kind: attribute")
    training = {**SETTINGS.training, "dim": 128}
    return planned(core, *ALL[1:], base=base, store=store, settings=replace(SETTINGS, training=training))


def consumers() -> Plan:
    base, store = released(first(), 3)
    core = CORE.replace("job: {kind: entity", "job: {kind: attribute")
    return planned(core, *ALL[1:], base=base, store=store, consumers=READERS)


def new_space() -> Plan:
    base, store = released(first())
    return planned(CORE, VIEWS, base=base, store=store, consumers=READERS)


def metadata() -> Plan:
    base, store = released(first())
    return planned(CORE, VIEWS.replace("search@", "find@"), SKILLS, base=base, store=store, consumers=READERS)


def said() -> tuple[Notice, ...]:
    day = date(2026, 6, 30)
    return (
        Notice("r1", day, "r2", "overdue", None, None, None, "r1 was to go on 2026-06-30: star-platform retire r1"),
        Notice("r1", day, "r2", "past", "alerts", "alerts@x", None, "alerts reads r1, whose date is 2026-06-30"),
        Notice("r3", day, "r4", "coming", "mail", "mail@x", "undated", "mail reads r3, and names no date"),
    )


def notices() -> Plan:
    return replace(new_space(), notices=said())


def nothing_but_notices() -> Plan:
    return replace(nothing(), notices=said())


PLANS = (
    first,
    nothing,
    added,
    changed,
    removed,
    breaking,
    consumers,
    new_space,
    metadata,
    notices,
    nothing_but_notices,
)


def check(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("STAR_UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("make", PLANS, ids=lambda make: make.__name__)
def test_golden(make: object) -> None:
    plan = make()  # type: ignore[operator]
    text = render_plan(plan)
    check(make.__name__, text)  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines()) <= 120


def test_notices_as_json() -> None:
    told = to_json(notices())["notices"]
    assert [item["age"] for item in told] == ["overdue", "past", "coming"]
    assert told[2]["sunset"] == "2026-06-30"
    assert notices().id == new_space().id, "what is said about older releases is no part of the plan"


def test_stages_as_text() -> None:
    check("stages", render_stages(changed().stages))
    assert render_stages(changed().stages).rstrip("\n") in render_plan(changed(), stages=True)


def test_values_are_cut_and_stay_on_one_line() -> None:
    base, store = released(first())
    query = "select *\n        from raw\n        where " + " and ".join(f"seconds > {index}" for index in range(20))
    views = VIEWS.replace(
        "  views: {path: views.parquet}", f"  views:\n    sql: |\n        {query}\n  raw: {{path: views.parquet}}"
    )
    text = render_plan(planned(CORE, views, SKILLS, base=base, store=store))
    (line,) = [line for line in text.splitlines() if "source.sql" in line]
    assert "select * from raw where seconds > 0" in line
    assert "…" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (119, "119 s"),
        (150, "2 min"),
        (7199, "120 min"),
        (9000, "2.5 h"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_340_000, "12.3 MB"),
        (3 * 10**12, "3.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
