from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pytest

from star_platform.demo import vocabulary as words
from star_platform.demo.generate import Size, ensure
from star_platform.demo.world import AS_OF, FIELD_OF, START, make_world


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def ask(folder: Path, sql: str) -> list[tuple[object, ...]]:
    connection = duckdb.connect()
    for file in folder.glob("*.*"):
        if file.suffix in {".parquet", ".csv"}:
            connection.execute(f"CREATE VIEW {file.stem} AS FROM '{file}'")
    return connection.execute(sql).fetchall()


def test_same_size_and_seed_same_bytes(market: Path, tmp_path: Path) -> None:
    assert ensure(tmp_path / "again", Size(600, 3))
    assert digests(tmp_path / "again") == digests(market)
    assert ensure(tmp_path / "other", Size(600, 4))
    other = digests(tmp_path / "other")
    assert all(other[name] != digest for name, digest in digests(market).items() if name != "titles.parquet")


def test_it_is_made_once_and_anew_for_another_size(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert ensure(folder, Size(200, 1))
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert not ensure(folder, Size(200, 1))
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert ensure(folder, Size(300, 1))
    assert ask(folder, "SELECT count(*) FROM members") == [(300,)]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("applies", "applied_at"),
        ("reactions", "reacted_at"),
        ("inmails", "sent_at"),
        ("jobs", "posted_at"),
        ("members", "joined_at"),
        ("profiles", "updated_at"),
    ],
)
def test_history_ends_before_the_downstream_weeks(market: Path, table: str, column: str) -> None:
    [(newest,)] = ask(market, f"SELECT epoch_us(max({column})) FROM {table}")
    [(first,)] = ask(market, "SELECT epoch_us(min(shown_at)) FROM impressions")
    assert isinstance(newest, int)
    assert isinstance(first, int)
    assert newest < AS_OF <= first


def test_nobody_acts_before_joining_and_no_job_before_posting(market: Path) -> None:
    for table, at in (("applies", "applied_at"), ("reactions", "reacted_at"), ("inmails", "sent_at")):
        assert ask(
            market, f"SELECT count(*) FROM {table} t JOIN members m USING (member_id) WHERE t.{at} <= joined_at"
        ) == [(0,)]
    for table, at in (("applies", "applied_at"), ("reactions", "reacted_at")):
        assert ask(market, f"SELECT count(*) FROM {table} t JOIN jobs j USING (job_id) WHERE t.{at} <= posted_at") == [
            (0,)
        ]


def test_every_kind_of_difficulty_is_there(market: Path) -> None:
    """Ids of both types, opt-outs, emails, people who left, cold starts, changed profiles, missing salaries."""
    assert ask(market, "SELECT DISTINCT typeof(member_id), typeof(job_id) FROM applies") == [("BIGINT", "VARCHAR")]
    [(opted_out,)] = ask(market, "SELECT count(*) FROM settings WHERE NOT allow_modelling")
    assert opted_out
    assert ask(market, "SELECT count(*) FROM members WHERE email LIKE '%@%'") == [(600,)]
    for sql in (
        "SELECT count(*) FROM applies ANTI JOIN members USING (member_id)",
        "SELECT count(*) FROM members ANTI JOIN applies USING (member_id)",
        "SELECT count(*) FROM jobs ANTI JOIN applies USING (job_id)",
        "SELECT count(*) - count(DISTINCT member_id) FROM profiles",
        "SELECT count(*) FROM jobs WHERE salary IS NULL",
        "SELECT count(*) FROM impressions ANTI JOIN jobs USING (job_id)",
    ):
        [(count,)] = ask(market, sql)
        assert count, sql


def test_opted_out_members_are_not_in_the_downstream_logs(market: Path) -> None:
    sql = "SELECT count(*) FROM impressions JOIN settings USING (member_id) WHERE NOT allow_modelling"
    assert ask(market, sql) == [(0,)]


def test_texts_are_few_and_short(market: Path) -> None:
    texts = "SELECT headline AS text FROM profiles UNION SELECT description FROM jobs"
    [(distinct, longest)] = ask(
        market, f"SELECT count(DISTINCT text), max(len(string_split(text, ' '))) FROM ({texts})"
    )
    assert isinstance(distinct, int)
    assert isinstance(longest, int)
    assert distinct <= 1_500
    assert longest <= 16


def test_speciality_decides_and_texts_hide_it() -> None:
    """The planted structure: what is liked follows the speciality, which most texts do not name."""
    world = make_world(600, 3)
    rng = np.random.default_rng(0)
    members, jobs = rng.integers(0, 600, 20_000), rng.integers(0, 900, 20_000)
    times = np.full(20_000, AS_OF - 1)
    liking = world.appeal(members, jobs, times)
    wanted, offered = world.members.wants(members, times), world.jobs.speciality[jobs]
    same, field = wanted == offered, FIELD_OF[wanted] == FIELD_OF[offered]
    assert liking[same].mean() > liking[field & ~same].mean() + 2.0 > liking[~field].mean() + 2.5
    assert (world.members.speciality != world.members.later).mean() > 0.08
    assert (world.members.joined >= START).mean() == pytest.approx(0.2, abs=0.05)


def test_the_vocabulary_is_regular() -> None:
    """The world counts on three specialities, six titles, three skills and three phrases per field."""
    for field in words.FIELDS:
        assert [len(part) for part in (field.specialities, field.titles, field.skills, field.phrases)] == [3, 6, 3, 3]
        assert all(len(speciality.skills) == 5 for speciality in field.specialities)
    skills = [skill for field in words.FIELDS for one in field.specialities for skill in one.skills]
    assert len(set(skills)) == len(skills)
