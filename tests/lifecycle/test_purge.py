from __future__ import annotations

import pytest

from star_platform.errors import BlockedByConsumers, LifecycleError
from star_platform.registry.states import ReleaseState

from .world import ROW_BYTES, ROWS, Killed, World, until_done

ALL = (ROWS, ROWS * ROW_BYTES, ROWS * ROW_BYTES // 2, 7)


def retired(world: World, verdict: str = "pass") -> None:
    world.release()
    world.release()
    world.map(1, verdict)  # type: ignore[arg-type]
    world.life.retire(1, actor="ada")


def size(done: object) -> tuple[int, ...]:
    return tuple(getattr(done, name) for name in ("rows", "online_bytes", "offline_bytes", "artefact_bytes"))


def test_vectors_go_and_the_route_stays(world: World) -> None:
    retired(world)
    done = world.life.purge(1, actor="ada", reason="space", rate=500)
    assert size(done) == ALL
    assert done.bytes == sum(ALL[1:])
    assert done.answered == ("member",)
    assert world.states() == ["purged", "active"]
    assert world.kinds(1)[-2:] == ["purged", "freed"]
    assert (world.feast.shards[1], world.discarded, world.feast.rates) == (0, [1], [500])
    assert world.feast.state is not None
    assert [route.name for route in world.feast.state.routes] == ["member:r2->r1"]
    assert [release.number for release in world.feast.state.releases] == [1, 2]


def test_it_waits_until_running_clients_have_heard_of_the_retirement(world: World) -> None:
    retired(world)
    world.clock.pass_by(seconds=12)
    world.life.purge(1, actor="ada")
    assert world.waited == [18.0]
    world.life.purge(1, actor="ada")
    assert world.waited == [18.0], "a finished purge has nothing to wait for"


def test_long_after_the_retirement_it_does_not_wait(world: World) -> None:
    retired(world)
    world.clock.pass_by(days=1)
    world.life.purge(1, actor="ada")
    assert world.waited == []


def test_without_a_route_nothing_of_it_is_left_in_feast(world: World) -> None:
    retired(world, "fail")
    assert world.life.purge(1, actor="ada").answered == ()
    assert world.feast.state is not None
    assert [release.number for release in world.feast.state.releases] == [2]
    assert "not served any more" in world.feast.state.notices[1]["text"]


def test_called_again_it_says_what_it_gave_back(world: World) -> None:
    retired(world)
    first = world.life.purge(1, actor="ada")
    events = world.registry.events()
    assert world.life.purge(1, actor="ada") == first
    assert world.registry.events() == events
    assert world.discarded == [1]


@pytest.mark.parametrize("step", ["reconcile", "purge-4", "purge-2"])
def test_killed_anywhere_it_goes_on(world: World, step: str) -> None:
    retired(world)
    world.feast.die_at = step
    assert until_done(lambda: world.life.purge(1, actor="ada")) == 1
    assert world.feast.shards[1] == 0
    assert size(world.life.purge(1, actor="ada")) == ALL, "what the killed call removed counts as well"
    assert (world.kinds(1).count("purged"), world.kinds(1).count("freed")) == (1, 1)


def test_status_says_that_a_purge_was_interrupted(world: World) -> None:
    retired(world)
    world.feast.die_at = "purge-2"
    with pytest.raises(Killed):
        world.life.purge(1, actor="ada")
    assert [line.next for line in world.life.status().lines] == ["star-platform purge r1", None]
    world.life.purge(1, actor="ada")
    assert [line.next for line in world.life.status().lines] == [None, None]


def test_dry_run_changes_nothing(world: World) -> None:
    retired(world)
    before = (world.registry.events(), world.feast.calls.copy())
    done = world.life.purge(1, actor="ada", rate=100, dry_run=True)
    assert (done.dry_run, done.rows, done.seconds) == (True, ROWS, ROWS / 100)
    assert (world.registry.events(), world.feast.calls) == before
    assert world.states() == ["retired", "active"]


def test_only_what_is_retired_or_failed(world: World) -> None:
    world.release()
    world.release()
    for number in (1, 2):
        with pytest.raises(LifecycleError, match="L009"):
            world.life.purge(number, actor="ada", dry_run=number == 1)
    world.registry.start_release("plan", 2, {}, "ada")
    world.registry.set_state(3, "failed", "ada", "disk full")
    assert world.life.purge(3, actor="ada").rows == 0
    assert world.states()[2] == "purged"


def test_a_release_that_answers_for_another_is_protected(world: World) -> None:
    retired(world)
    world.release()
    world.map(2)
    # As an older version may have left it: r2 retired while r1 still goes through it.
    world.registry.advance(2, (ReleaseState.DRAINING, ReleaseState.RETIRED), "ada")
    with pytest.raises(LifecycleError, match=r"L007.*member:r2->r1"):
        world.life.purge(2, actor="ada")


def test_readers_whom_no_map_serves_must_be_overruled_again(world: World) -> None:
    world.release()
    world.release()
    world.map(1, "fail")
    world.declare("ranker", "r1")
    world.life.retire(1, actor="ada", force_reason="switched off on Friday")
    with pytest.raises(BlockedByConsumers, match="L004"):
        world.life.purge(1, actor="ada")
    world.life.purge(1, actor="ada", force_reason="it is Saturday")
    forced = [event for event in world.registry.events(1) if event.kind == "forced"]
    assert [(event.details["step"], event.reason) for event in forced] == [
        ("retire", "switched off on Friday"),
        ("purge", "it is Saturday"),
    ]
