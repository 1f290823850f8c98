from __future__ import annotations

import multiprocessing
import os
import signal
import time
from datetime import timedelta
from multiprocessing.synchronize import Barrier, Event

import pytest
from sqlalchemy import text

from star_platform.errors import ExitCode, LeaseHeld
from star_platform.registry import leases
from star_platform.registry.registry import Registry

from .conftest import HandClock

MINUTE = timedelta(minutes=1)


def test_a_held_lease_says_who_since_when_and_until_when(registry: Registry, clock: HandClock) -> None:
    with registry.lease("release", "ada@laptop", MINUTE):
        clock.pass_by(seconds=5)
        with pytest.raises(LeaseHeld) as caught, registry.lease("release", "bob"):
            registry.start_release("p", None, {}, "bob")
    error = caught.value
    assert (error.code, error.exit_code) == ("R006", ExitCode.RETRY)
    assert "ada@laptop" in error.message
    assert error.details["since"] == clock.now() - timedelta(seconds=5)
    assert error.details["until"] == clock.now() + timedelta(seconds=55)
    assert registry.releases() == ()
    assert registry.events() == ()


def test_tokens_only_grow_and_a_free_lease_has_no_holder(registry: Registry) -> None:
    tokens = []
    for _ in range(3):
        with registry.lease("release") as lease:
            tokens.append(lease.token)
            info = registry.lease_info("release")
            assert info is not None
            assert info.token == lease.token
        assert registry.lease_info("release") is None
    assert tokens == [1, 2, 3]


def test_leases_of_other_names_do_not_interfere(registry: Registry) -> None:
    with registry.lease("release"), registry.lease("publish"):
        assert registry.lease_info("release") is not None


def test_the_lease_is_freed_when_the_work_fails(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.lease("release"):
        raise ZeroDivisionError
    assert registry.lease_info("release") is None


def test_the_heartbeat_keeps_it(url: str, registry: Registry) -> None:
    live = Registry(url)
    with live.lease("release", ttl=timedelta(seconds=0.6)):
        first = live.lease_info("release")
        time.sleep(1.5)
        later = live.lease_info("release")
        assert first is not None
        assert later is not None
        assert later.expires_at > first.expires_at
        with pytest.raises(LeaseHeld), live.lease("release"):
            pass


def test_an_overtaken_holder_can_write_nothing_more(registry: Registry, clock: HandClock) -> None:
    sleeper = leases.acquire(registry.database, clock, "release", "ada", MINUTE)
    started = registry.start_release("p", None, {}, "ada", lease=sleeper)
    clock.pass_by(seconds=61)
    with registry.lease("release", "bob") as successor:
        assert successor.token == sleeper.token + 1
        sleeper.check()  # it has not noticed yet
        for write in (
            lambda: registry.set_state(started.number, "candidate", "ada", lease=sleeper),
            lambda: registry.start_release("p", None, {}, "ada", lease=sleeper),
            lambda: registry.activate(started.number, "ada", "", None, lease=sleeper),
            lambda: registry.mark_stage(started.number, "graph", "done", lease=sleeper),
            lambda: registry.attach(started.number, "graph", "graph", "f", "c", 1, lease=sleeper),
        ):
            with pytest.raises(LeaseHeld, match="R007"):
                write()
        with pytest.raises(LeaseHeld, match="R007"):
            sleeper.check()
        leases.give_back(registry.database, clock, sleeper)
        info = registry.lease_info("release")
        assert info is not None
        assert info.holder == "bob", "the late holder does not free what is not his"
        registry.set_state(started.number, "candidate", "bob", lease=successor)


def test_the_heartbeat_notices_that_the_lease_is_gone(url: str, registry: Registry) -> None:
    live = Registry(url)
    with live.lease("release", ttl=timedelta(seconds=0.3)) as lease:
        with live.database.write() as session:
            session.execute(text("UPDATE lease SET token = token + 1"))
        deadline = time.monotonic() + 10
        while not lease.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(LeaseHeld, match="R007"):
            lease.check()


def test_an_expired_lease_nobody_took_still_counts(registry: Registry, clock: HandClock) -> None:
    lease = leases.acquire(registry.database, clock, "release", "ada", MINUTE)
    clock.pass_by(hours=9)
    assert registry.start_release("p", None, {}, "ada", lease=lease).number == 1


def _race(url: str, barrier: Barrier, results: multiprocessing.Queue[str], done: Event) -> None:
    registry = Registry(url)
    registry.lease_info("release")
    barrier.wait(60)
    try:
        with registry.lease("release") as lease:
            registry.start_release("p", None, {}, lease.holder, lease=lease)
            results.put("won")
            done.wait(60)
    except LeaseHeld as error:
        results.put(error.code)


def test_two_processes_race_and_the_second_leaves_nothing(url: str, registry: Registry) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results, done = context.Barrier(2), context.Queue(), context.Event()
    workers = [context.Process(target=_race, args=(url, barrier, results, done)) for _ in range(2)]
    for worker in workers:
        worker.start()
    outcome = sorted(results.get(timeout=60) for _ in workers)
    done.set()
    for worker in workers:
        worker.join(60)
    assert outcome == ["R006", "won"]
    assert len(registry.releases()) == 1
    assert [event.kind for event in registry.events()] == ["release-started"]


def _hold(url: str, ready: Event) -> None:
    with Registry(url).lease("release", "the one that dies"):
        ready.set()
        time.sleep(600)


def _kill_a_holder(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    worker = context.Process(target=_hold, args=(url, ready))
    worker.start()
    assert ready.wait(60)
    assert worker.pid is not None
    with pytest.raises(LeaseHeld, match="the one that dies"), Registry(url).lease("release"):
        pass
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)


def test_a_killed_holder_on_this_machine_is_succeeded_at_once(url: str, registry: Registry) -> None:
    _kill_a_holder(url)
    with Registry(url).lease("release", "successor") as lease:
        assert lease.token == 2


def test_a_killed_holder_elsewhere_is_succeeded_after_the_expiry(
    url: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill_a_holder(url)
    monkeypatch.setattr(leases, "_machine", lambda: "another machine")
    with pytest.raises(LeaseHeld), Registry(url).lease("release"):
        pass
    clock = HandClock()
    held = Registry(url).lease_info("release")
    assert held is not None
    clock.moment = held.expires_at
    with Registry(url, clock).lease("release", "successor") as lease:
        assert lease.token == 2


def test_a_process_with_a_used_number_is_not_mistaken() -> None:
    me = leases.Process.current()
    assert me is not None
    assert not leases.is_dead(str(me))
    assert leases.is_dead(f"{me.machine}:{me.pid}:1"), "same number, started at another time"
    assert not leases.is_dead(f"elsewhere:{me.pid}:1"), "another machine's processes cannot be judged"
    assert not leases.is_dead(None)
