"""The ledger of reads, what events say as of now, and several steps in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from star_platform.errors import LeaseHeld, RegistryError
from star_platform.registry.database import Database
from star_platform.registry.history import Route, deprecations, last_details, routes, step_into
from star_platform.registry.registry import Registry
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer, Note, Usage

from .conftest import HandClock

S = ReleaseState
DAY = date(2026, 1, 1)


def started(registry: Registry, *states: ReleaseState) -> int:
    number = registry.start_release("p", None, {}, "ada").number
    registry.advance(number, states, "ada")
    return number


def test_sums_are_copied_and_copied_again(registry: Registry) -> None:
    one, two = started(registry), started(registry)
    counts = [Usage("ranker", "member", one, DAY, 3, 300), Usage(None, "member", two, DAY, 1, 1)]
    assert registry.usage.record(counts) == 2
    assert registry.usage.record(counts) == 0
    assert registry.usage.record([replace(counts[0], reads=5, vectors=500)]) == 1
    assert registry.usage.read() == (replace(counts[0], reads=5, vectors=500), counts[1])
    assert registry.usage.read(two) == (counts[1],)


def test_a_store_that_lost_its_counts_takes_nothing_back(registry: Registry) -> None:
    one = started(registry)
    registry.usage.record([Usage("ranker", "member", one, DAY, 30, 300)])
    assert registry.usage.record([Usage("ranker", "member", one, DAY, 2, 20)]) == 0
    registry.usage.record([Usage("ranker", "member", one, DAY + timedelta(days=1), 2, 20)])
    assert [item.reads for item in registry.usage.read()] == [30, 2]


def test_releases_of_another_project_are_left_out(registry: Registry) -> None:
    started(registry)
    assert registry.usage.record([Usage("ranker", "member", 7, DAY, 3, 300)]) == 0
    assert registry.usage.read() == ()


def test_large_counts(registry: Registry) -> None:
    one = started(registry)
    registry.usage.record([Usage("x", "member", one, DAY, 5_000_000_000, 10**15)])
    assert registry.usage.read()[0].vectors == 10**15


def test_two_copy_at_once(registry: Registry) -> None:
    one = started(registry)
    counts = [Usage(f"c{index}", "member", one, DAY, 1, 1) for index in range(40)]

    def copy(items: Iterable[Usage]) -> None:
        registry.usage.record(items)

    threads = [threading.Thread(target=copy, args=(order,)) for order in (counts, counts[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(registry.usage.read()) == 40


def test_steps_and_events_come_together_or_not_at_all(registry: Registry) -> None:
    number = started(registry)
    before = registry.events()
    note = Note("route", number, {"node": "member", "source": 1, "artefact": "fp"}, "because")
    with pytest.raises(RegistryError, match="R009"):
        registry.advance(number, (S.CANDIDATE, S.DEPRECATED, S.PURGED), "ada", notes=(note,))
    with pytest.raises(RegistryError, match="R010"):
        registry.advance(number, (S.CANDIDATE,), "ada", notes=(Note("route", 9, {}),))
    assert registry.events() == before
    registry.advance(number, (S.CANDIDATE, S.DEPRECATED), "ada", "why", details={"early": True}, notes=(note,))
    new = registry.events()[len(before) :]
    assert [(event.kind, event.reason) for event in new] == [("route", "because"), ("state", "why"), ("state", "why")]
    assert new[-1].details == {"from": "candidate", "to": "deprecated", "early": True}


def test_steps_of_a_lost_lease_are_refused(registry: Registry, clock: HandClock) -> None:
    number = started(registry, S.CANDIDATE)
    with registry.lease("release", ttl=timedelta(seconds=60)) as lease:
        clock.pass_by(seconds=61)
        with registry.lease("release", "somebody else"), pytest.raises(LeaseHeld, match="R007"):
            registry.advance(number, (S.DEPRECATED,), "ada", lease=lease)
    assert registry.release(number).state is S.CANDIDATE


def test_activation_cannot_be_reached_in_steps(registry: Registry) -> None:
    number = started(registry, S.CANDIDATE)
    with pytest.raises(RegistryError, match="by itself"):
        registry.advance(number, (S.DEPRECATED, S.ACTIVE), "ada")
    assert registry.release(number).state is S.CANDIDATE


def test_what_events_say_as_of_now(registry: Registry, clock: HandClock) -> None:
    one, two = started(registry, S.CANDIDATE), started(registry, S.CANDIDATE)
    registry.activate(one, "ada", "", None)
    registry.activate(two, "bob", "better", one)
    (given,) = deprecations(registry.events(), 30).values()
    assert (given.release, given.successor, given.actor, given.announced) == (one, two, "bob", False)
    assert given.sunset == clock.now().date() + timedelta(days=30)
    first, second = Route("member", 2, one, "a"), Route("member", 3, one, "b")
    registry.advance(one, (), "ada", notes=(first.note(), Route("job", 2, one, "a").note(), second.note()))
    assert routes(registry.events()) == (Route("job", 2, one, "a"), second)
    assert second.name == "member:r3->r1"
    registry.note("freed", one, "ada", {"rows": 1})
    registry.note("freed", one, "ada", {"rows": 2})
    assert last_details(registry.events(), "freed") == {one: {"rows": 2}}
    step = step_into(registry.events(), one, "deprecated")
    assert step is not None
    assert step.reason == "better"
    assert step_into(registry.events(), one, "purged") is None


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=8)
CONSUMERS = st.builds(
    Consumer,
    name=st.just("ranker"),
    owner=TEXT,
    nodes=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    release=st.sampled_from(["latest", "r1"]),
    contact=st.none() | TEXT,
    need=st.sampled_from(["mapped", "exact"]),
    margin=st.none() | st.floats(1e-6, 0.4),
    scorer=st.none() | st.fixed_dictionaries({"onnx": TEXT}),
    cases=st.none() | st.fixed_dictionaries({"path": TEXT, "keys": st.dictionaries(TEXT, TEXT, max_size=2)}),
    sunset=st.none() | st.dates(),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONSUMERS)
def test_a_consumer_comes_back_as_it_was(registry: Registry, consumer: Consumer) -> None:
    registry.record_consumers([consumer])
    assert registry.consumers() == (consumer,)


def test_consumers_of_the_schema_before_are_kept(url: str) -> None:
    database = Database(url)
    database.upgrade("0001")
    with database.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO consumer VALUES ('ranker', 'feed@x', '[\"member\"]', 'r1', :at)"),
            {"at": "2026-01-01 00:00:00.000000"},
        )
    database.upgrade()
    registry = Registry(url)
    (found,) = registry.consumers()
    assert (found.name, found.nodes, found.need, found.sunset) == ("ranker", ("member",), "mapped", None)
