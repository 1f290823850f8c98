from __future__ import annotations

from datetime import date, timedelta

import pytest

from star_platform.errors import LifecycleError
from star_platform.registry.history import deprecations

from .world import Killed, World


def two(world: World) -> None:
    world.release()
    world.release()


def test_a_date_and_a_successor(world: World) -> None:
    two(world)
    assert world.life.deprecate(1, actor="ada", sunset=date(2026, 3, 1), successor=2, reason="r2 is better").sunset
    given = deprecations(world.registry.events(), 90)[1]
    assert (given.sunset, given.successor, given.actor, given.reason) == (date(2026, 3, 1), 2, "ada", "r2 is better")
    assert given.announced
    assert world.kinds(1) == ["release-started", "candidate", "active", "deprecated", "deprecation"]
    assert world.feast.state is not None
    assert world.feast.state.notices[1]["text"] == (
        "r1 is deprecated and will be served until 2026-03-01; read r2 instead"
    )


def test_without_a_date_it_is_the_default_and_so_is_the_successor(world: World) -> None:
    two(world)
    before = deprecations(world.registry.events(), 90)[1]
    assert (before.sunset, before.successor, before.announced) == (world.today + timedelta(days=90), 2, False)
    world.clock.pass_by(days=10)
    given = world.life.deprecate(1, actor="ada")
    assert (given.sunset, given.successor) == (world.today + timedelta(days=90), 2)
    world.clock.pass_by(days=10)
    assert world.life.deprecate(1, actor="ada") == given, "said once, it does not move by itself"


def test_later_words_replace_earlier_ones_and_equal_words_are_no_event(world: World) -> None:
    two(world)
    for day in (date(2026, 3, 1), date(2026, 4, 1), date(2026, 4, 1)):
        world.life.deprecate(1, actor="ada", sunset=day)
    assert world.kinds(1).count("deprecation") == 2
    assert deprecations(world.registry.events(), 90)[1].sunset == date(2026, 4, 1)


def test_killed_before_feast_heard_of_it(world: World) -> None:
    two(world)
    world.feast.die_at = "reconcile"
    with pytest.raises(Killed):
        world.life.deprecate(1, actor="ada", sunset=date(2026, 3, 1))
    assert world.feast.state is None
    world.life.deprecate(1, actor="ada", sunset=date(2026, 3, 1))
    assert world.feast.state is not None
    assert world.kinds(1).count("deprecation") == 1


def test_a_release_that_was_rolled_back_can_go_too(world: World) -> None:
    two(world)
    world.registry.activate(1, "ada", "r2 is worse", 2)
    assert world.states() == ["active", "candidate"]
    world.life.deprecate(2, actor="ada", successor=1)
    assert world.states() == ["active", "deprecated"]
    world.map(2)
    world.life.retire(2, actor="ada")
    assert world.states() == ["active", "retired"]


def test_what_was_said_is_void_once_it_is_active_again(world: World) -> None:
    two(world)
    world.life.deprecate(1, actor="ada", sunset=date(2026, 1, 5))
    world.registry.activate(1, "ada", "back", 2)
    assert 1 not in deprecations(world.registry.events(), 90)
    world.registry.activate(2, "ada", "forth", 1)
    assert not deprecations(world.registry.events(), 90)[1].announced


def test_what_cannot_be_deprecated(world: World) -> None:
    two(world)
    with pytest.raises(LifecycleError, match=r"L001.*active"):
        world.life.deprecate(2, actor="ada")
    world.map(1)
    world.life.retire(1, actor="ada")
    with pytest.raises(LifecycleError, match=r"L001.*retired"):
        world.life.deprecate(1, actor="ada")


@pytest.mark.parametrize("successor", [1, 3, 4, 9])
def test_a_successor_must_stay(world: World, successor: int) -> None:
    for _ in range(3):
        world.release()
    world.registry.start_release("plan", 3, {}, "ada")
    events = world.registry.events()
    if successor == 3:  # the active one is right
        world.life.deprecate(2, actor="ada", successor=successor)
        return
    with pytest.raises(LifecycleError, match="L002"):
        world.life.deprecate(2, actor="ada", successor=successor)
    assert world.registry.events() == events


def test_a_date_in_the_past(world: World) -> None:
    two(world)
    with pytest.raises(LifecycleError, match="L003"):
        world.life.deprecate(1, actor="ada", sunset=world.today - timedelta(days=1))
    world.life.deprecate(1, actor="ada", sunset=world.today)
