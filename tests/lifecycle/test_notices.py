"""Three ages, and dates compared both ways; the clock is moved by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from star_platform.lifecycle.notices import notices, reader_notices
from star_platform.registry.history import Deprecation, Route
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer

from .world import World

S = ReleaseState
SUNSET = date(2026, 6, 30)
GIVEN = {1: Deprecation(1, SUNSET, 2, "ada", "", datetime(2026, 1, 1, tzinfo=UTC), announced=True)}


def consumer(sunset: date | None = None, release: str = "r1") -> Consumer:
    return Consumer("ranker", "feed@x", ("member",), release, sunset=sunset)


def said(
    today: date, *consumers: Consumer, state: ReleaseState = S.DEPRECATED, routes: tuple[Route, ...] = ()
) -> list[tuple[str, str | None, str | None]]:
    found = notices(today, {1: state, 2: S.ACTIVE}, GIVEN, consumers, routes)
    return [(notice.age, notice.reader, notice.rule) for notice in found]


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        (SUNSET - timedelta(days=30), [("coming", "ranker", None)]),
        (SUNSET, [("coming", "ranker", None)]),
        (SUNSET + timedelta(days=1), [("overdue", None, None), ("past", "ranker", None)]),
    ],
)
def test_three_ages(today: date, expected: list[tuple[str, str | None, str | None]]) -> None:
    assert said(today, consumer(SUNSET)) == expected


@pytest.mark.parametrize(
    ("sunset", "rule"),
    [(None, "undated"), (SUNSET - timedelta(days=1), None), (SUNSET, None), (SUNSET + timedelta(days=1), "later")],
)
def test_a_dependant_needs_a_date_that_is_no_later(sunset: date | None, rule: str | None) -> None:
    assert said(SUNSET - timedelta(days=3), consumer(sunset)) == [("coming", "ranker", rule)]


def test_nobody_reads_it_and_it_has_not_come() -> None:
    assert said(SUNSET - timedelta(days=3), consumer(release="latest"), consumer(release="r2")) == []


def test_a_release_without_a_date_says_nothing() -> None:
    assert notices(SUNSET, {1: S.DEPRECATED}, {}, [consumer()], []) == ()
    assert notices(SUNSET, {1: S.ACTIVE}, GIVEN, [consumer()], []) == (), "it came back"


def test_a_retired_release_is_not_overdue_but_its_readers_are_told() -> None:
    assert said(SUNSET + timedelta(days=9), consumer(SUNSET), state=S.RETIRED) == [("past", "ranker", None)]


def test_a_release_that_is_answered_from_it_depends_on_it_without_a_date() -> None:
    routes = (Route("member", 1, 7, "fp"), Route("job", 1, 7, "fp"))
    assert said(SUNSET - timedelta(days=1), routes=routes) == [("coming", "r7", "undated")]


def test_in_words() -> None:
    (notice,) = notices(SUNSET - timedelta(days=5), {1: S.DRAINING}, GIVEN, [consumer()], [])
    assert notice.message == (
        "ranker reads r1, whose date is 2026-06-30 (in 5 days), and names no date by which ranker will have left it"
    )
    assert (notice.release, notice.successor, notice.owner) == ("r1", "r2", "feed@x")
    (notice,) = notices(SUNSET + timedelta(days=2), {1: S.RETIRED}, GIVEN, [consumer(date(2027, 1, 1))], [])
    assert notice.message == (
        "ranker reads r1, whose date is 2026-06-30 (2 days ago), and means to stay until 2027-01-01"
    )


def test_what_readers_are_told() -> None:
    states = {1: S.RETIRED, 2: S.DEPRECATED, 3: S.ACTIVE}
    dates = {**GIVEN, 2: Deprecation(2, SUNSET, 3, "ada", "", GIVEN[1].at)}
    figures = {"member:r3->r1": {"cosine_mean": 0.9871, "r2": 0.9}}
    found = reader_notices(states, dates, [Route("member", 3, 1, "fp")], figures)
    assert set(found) == {1, 2}
    assert found[1]["text"] == (
        "r1 is retired: its vectors are mapped from a later release, member from r3 (mean cosine 0.987); "
        "read r2 instead"
    )
    assert found[1]["routes"] == {"member": 3}
    assert found[1]["fidelity"]["member"]["r2"] == 0.9
    assert found[2] == {
        "release": 2,
        "state": "deprecated",
        "sunset": "2026-06-30",
        "successor": 3,
        "routes": {},
        "fidelity": {},
        "text": "r2 is deprecated and will be served until 2026-06-30; read r3 instead",
    }


def test_as_time_goes_by(sqlite_world: World) -> None:
    world = sqlite_world
    world.release()
    world.declare("ranker", "r1", sunset=date(2026, 2, 1))
    assert world.life.notices() == ()
    world.release()
    assert [n.age for n in world.life.notices()] == ["coming"], "followed by another one, it has the default date"
    world.life.deprecate(1, actor="ada", sunset=date(2026, 1, 20))
    assert [(n.age, n.rule) for n in world.life.notices()] == [("coming", "later")]
    world.clock.pass_by(days=20)
    assert [n.age for n in world.life.notices()] == ["overdue", "past"]
    world.map(1)
    world.life.retire(1, actor="ada")
    assert [n.age for n in world.life.notices()] == ["past"]
    world.declare("ranker", "r2")
    assert world.life.notices() == ()
