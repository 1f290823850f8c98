from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from star_platform.errors import BlockedByConsumers, ExitCode, LeaseHeld, LifecycleError, RegistryError, StarError
from star_platform.lifecycle.config import LifecycleConfig
from star_platform.registry.registry import Registry

from .world import Killed, World, until_done


def two(world: World) -> None:
    world.release()
    world.release()


def routes(world: World) -> list[str]:
    return [route.name for route in world.feast.state.routes] if world.feast.state else []


def test_nobody_reads_it(world: World) -> None:
    two(world)
    world.map(1)
    done = world.life.retire(1, actor="ada", reason="no reader left")
    assert [route.name for route in done.routes] == ["member:r2->r1"]
    assert world.states() == ["retired", "active"]
    assert world.kinds(1)[-3:] == ["route", "draining", "retired"]
    assert {event.reason for event in world.registry.events(1)[-3:]} == {"no reader left"}
    assert routes(world) == ["member:r2->r1"]
    assert world.registry.events(1)[-1].details["before_sunset"] is True


def test_without_a_reader_a_bad_map_is_not_used(world: World) -> None:
    two(world)
    world.map(1, "fail")
    done = world.life.retire(1, actor="ada")
    assert (done.routes, done.unmapped) == ((), ("member",))
    assert world.feast.state is not None
    assert "not served any more; read r2" in world.feast.state.notices[1]["text"]


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("verdict", ["pass", "unproven", "fail", "inconclusive"])
def test_refused_while_somebody_cannot_be_served(
    sqlite_world: World, declared: bool, observed: bool, verdict: str
) -> None:
    world = sqlite_world
    two(world)
    world.map(1, verdict)  # type: ignore[arg-type]
    if declared:
        world.declare("ranker", "r1")
    if observed:
        world.read("stranger", 1)
    blocking = {"ranker"} if declared and verdict in ("fail", "inconclusive") else set()
    blocking |= {"stranger"} if observed else set()
    if not blocking:
        world.life.retire(1, actor="ada")
        assert world.states() == ["retired", "active"]
        return
    before = (world.registry.events(), world.states(), world.feast.calls)
    with pytest.raises(BlockedByConsumers) as caught:
        world.life.retire(1, actor="ada")
    assert caught.value.exit_code is ExitCode.BLOCKED_BY_CONSUMERS == 5
    named = {item["name"]: item["standing"] for item in caught.value.details["readers"]}
    assert {name for name, standing in named.items() if standing == "blocked"} == blocking
    assert ("ranker" in named) == declared, "who could be served is named as well"
    assert (world.registry.events(), world.states(), world.feast.calls) == before


def test_exact_blocks_whatever_the_map(world: World) -> None:
    two(world)
    world.map(1)
    world.declare("auditor", "r1", need="exact")
    with pytest.raises(BlockedByConsumers) as caught:
        world.life.retire(1, actor="ada")
    assert caught.value.details["readers"][0]["reasons"] == ["needs exactly the vectors of r1 (compat: exact)"]


def test_the_story_of_a_and_b(world: World) -> None:
    """A is declared, B only observed: B moves, A is served through the map."""
    two(world)
    world.map(1, a="fail")
    world.declare("a", "r1")
    world.read("a", 1)
    world.read("b", 1)
    with pytest.raises(BlockedByConsumers) as caught:
        world.life.retire(1, actor="ada")
    assert [item["name"] for item in caught.value.details["readers"]] == ["a", "b"]
    world.release()  # with a better map
    world.map(1, a="pass")
    world.declare("b", "r3")
    world.read("b", 3)
    found = world.life.who_uses(1)
    assert [(reader.name, reader.standing) for reader in found.readers] == [("a", "served"), ("b", "moved")]
    world.life.retire(1, actor="ada")
    assert routes(world) == ["member:r3->r1"]
    assert [reader.standing for reader in world.life.who_uses(1).readers] == ["served", "moved"]


def test_force_needs_a_reason_and_is_an_event(world: World) -> None:
    two(world)
    world.map(1, "fail")
    world.declare("ranker", "r1")
    for nothing in ("", "  "):
        with pytest.raises(LifecycleError, match="L006"):
            world.life.retire(1, actor="ada", force_reason=nothing)
    done = world.life.retire(1, actor="ada", force_reason="ranker was switched off")
    assert [reader.name for reader in done.forced] == ["ranker"]
    (event,) = [event for event in world.registry.events(1) if event.kind == "forced"]
    assert (event.reason, event.details) == ("ranker was switched off", {"step": "retire", "readers": ["ranker"]})
    assert routes(world) == [], "a map that failed serves nobody, forced or not"


def test_a_map_that_satisfies_its_readers_is_used_whatever_the_geometry_says(world: World) -> None:
    two(world)
    world.map(1, "fail", ranker="pass")
    world.declare("ranker", "r1")
    assert len(world.life.retire(1, actor="ada").routes) == 1


def test_states_that_cannot_be_retired(world: World) -> None:
    two(world)
    three = world.release(activate=False)
    for number, state in ((2, "active"), (three, "candidate")):
        with pytest.raises(LifecycleError, match=f"L005.*{state}"):
            world.life.retire(number, actor="ada")
    with pytest.raises(RegistryError, match="R010"):
        world.life.retire(9, actor="ada")


def test_an_online_store_that_cannot_be_asked_retires_nothing(world: World) -> None:
    two(world)
    world.usage_error = ConnectionError("connection refused")
    with pytest.raises(LifecycleError, match=r"L010.*refused"):
        world.life.retire(1, actor="ada")
    assert world.states() == ["deprecated", "active"]
    assert world.life.who_uses(1).warnings == ("reads since the last look are missing: connection refused",)


@pytest.mark.parametrize("step", ["reconcile", "materialise"])
def test_killed_anywhere_and_called_again(world: World, step: str) -> None:
    world.release("member", "job")
    world.release("member", "job")
    world.map(1)
    world.map(1, node="job")
    world.feast.die_at = step
    with pytest.raises(Killed):
        world.life.retire(1, actor="ada", materialise=True)
    done = world.life.retire(1, actor="ada", materialise=True)
    assert done.materialised
    assert world.kinds(1).count("route") == 2
    assert world.kinds(1).count("retired") == 1
    assert world.kinds(1).count("materialised") == 1
    assert world.feast.materialised == {"member:r2->r1", "job:r2->r1"}
    assert routes(world) == ["job:r2->r1", "member:r2->r1"]


def test_killed_inside_the_transaction_nothing_has_happened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    two(world)
    world.map(1)
    events = world.registry.events()

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_step", dies)
        with pytest.raises(Killed):
            world.life.retire(1, actor="ada")
    assert world.registry.events() == events
    assert world.states() == ["deprecated", "active"]
    world.life.retire(1, actor="ada")
    assert world.states() == ["retired", "active"]


def test_materialise_later(world: World) -> None:
    two(world)
    world.map(1)
    assert not world.life.retire(1, actor="ada").materialised
    assert world.feast.materialised == set()
    assert world.life.retire(1, actor="ada", materialise=True).materialised
    calls = len(world.feast.calls)
    world.life.retire(1, actor="ada", materialise=True)
    assert "materialise" not in world.feast.calls[calls:], "once is enough"


def test_routes_through_a_retiring_release_move_to_the_active_one(world: World) -> None:
    two(world)
    world.map(1)
    world.life.retire(1, actor="ada")
    world.release()
    world.map(2)
    done = world.life.retire(2, actor="ada")
    assert [route.name for route in done.moved] == ["member:r3->r1"]
    assert routes(world) == ["member:r3->r1", "member:r3->r2"]


def test_a_route_that_nobody_needs_ends_and_frees_what_it_went_through(world: World) -> None:
    two(world)
    world.map(1)
    world.life.retire(1, actor="ada")
    world.life.purge(1, actor="ada")
    world.release()
    world.map(2)
    del world.judged["member", 1]
    assert routes(world) == ["member:r2->r1"]
    world.life.retire(2, actor="ada")
    assert routes(world) == ["member:r3->r2"]
    assert world.life.purge(2, actor="ada").answered == ("member",)


@pytest.mark.parametrize("later", [None, "fail"])
def test_a_release_that_others_go_through_is_protected(sqlite_world: World, later: str | None) -> None:
    world = sqlite_world
    two(world)
    world.map(1)
    world.declare("ranker", "r1")
    world.life.retire(1, actor="ada")
    world.release()
    world.map(2)
    if later is None:
        del world.judged["member", 1]
    else:
        world.map(1, "pass", ranker="fail")
    events = world.registry.events()
    for force in (None, "I want it gone"):
        with pytest.raises(LifecycleError, match="L007"):
            world.life.retire(2, actor="ada", force_reason=force)
    assert world.registry.events() == events


def test_the_last_releases_are_kept_to_go_back_to(sqlite_world: World) -> None:
    world = sqlite_world
    world.config = LifecycleConfig(keep_previous=1)
    for _ in range(3):
        world.release()
    world.map(1)
    world.map(2)
    with pytest.raises(LifecycleError, match="L008"):
        world.life.retire(2, actor="ada")
    world.life.retire(1, actor="ada")
    world.registry.activate(2, "ada", "back", 3)
    assert world.states() == ["retired", "active", "candidate"]


def test_going_back_to_a_retired_release_is_refused_with_the_reason(world: World) -> None:
    two(world)
    world.map(1)
    world.life.check_activation(1)
    world.life.retire(1, actor="ada", reason="space")
    for state in ("retired", "purged"):
        with pytest.raises(LifecycleError) as caught:
            world.life.check_activation(1)
        assert caught.value.code == "L011"
        assert caught.value.message == (
            f"r1 cannot be activated: it was {state} on 2026-01-01 by ada (space); "
            "its own vectors are not served, and it is answered through a map from r2"
        )
        assert "(r2)" in str(caught.value.hint)
        with pytest.raises(RegistryError, match="R009"):
            world.registry.activate(1, "ada", "", 2)
        world.life.purge(1, actor="ada", reason="space")


def test_nothing_happens_while_somebody_releases(world: World) -> None:
    two(world)
    world.map(1)
    with world.registry.lease("release", "a build"):
        for step in (world.life.retire, world.life.deprecate, world.life.purge):
            with pytest.raises(LeaseHeld, match="a build"):
                step(1, actor="ada")
    assert world.states() == ["deprecated", "active"]


def test_retire_and_activate_at_once(world: World) -> None:
    """Either the way back wins and the release stays, or retirement wins and there is no way back."""
    two(world)
    world.map(1)
    world.map(2)
    start, outcomes = threading.Barrier(2), dict[str, object]()

    def back() -> None:
        start.wait(10)
        try:
            with world.registry.lease("release") as lease:
                world.life.check_activation(1)
                world.registry.activate(1, "bob", "back", 2, lease)
            outcomes["back"] = "done"
        except StarError as error:
            outcomes["back"] = error.code

    def out() -> None:
        start.wait(10)
        try:
            world.life.retire(1, actor="ada")
            outcomes["out"] = "done"
        except StarError as error:
            outcomes["out"] = error.code

    threads = [threading.Thread(target=work) for work in (back, out)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (outcomes, world.states()) in (
        ({"back": "done", "out": "R006"}, ["active", "candidate"]),
        ({"back": "done", "out": "L005"}, ["active", "candidate"]),
        ({"back": "R006", "out": "done"}, ["retired", "active"]),
        ({"back": "L011", "out": "done"}, ["retired", "active"]),
    )


def test_reads_are_kept_when_the_online_store_forgets_them(world: World) -> None:
    two(world)
    world.read("stranger", 1)
    world.life.who_uses(1)
    world.counts = []
    assert [reader.name for reader in world.life.who_uses(1).readers] == ["stranger"]
    world.clock.pass_by(days=14)
    world.map(1)
    world.life.retire(1, actor="ada")
    assert world.today - timedelta(days=14) == world.registry.usage.read(1)[0].day


def test_every_step_killed_once(world: World) -> None:
    two(world)
    world.map(1)
    for step in (
        lambda: world.life.deprecate(1, actor="ada"),
        lambda: world.life.retire(1, actor="ada"),
        lambda: world.life.purge(1, actor="ada"),
    ):
        world.feast.die_at = "reconcile"
        assert until_done(step) == 1
    assert world.states() == ["purged", "active"]
