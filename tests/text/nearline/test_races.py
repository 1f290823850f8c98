"""Two workers with changes of one entity in hand, and deaths between any two steps: never stale, never lost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from star_platform.errors import TextError
from star_platform.text.nearline.model import EntityId, Order, Row, State

from .world import World, event

NAMES = ("states", "append", "put", "touch")


class Interrupted:
    """A sink that calls `before(name)` ahead of each call of the real one."""

    def __init__(self, sink: Any, before: Any) -> None:
        self._sink, self._before = sink, before

    def states(self, feature: str, entities: Sequence[EntityId]) -> list[State | None]:
        self._before("states")
        return list(self._sink.states(feature, entities))

    def append(self, feature: str, rows: Sequence[Row]) -> None:
        self._before("append")
        self._sink.append(feature, rows)

    def put(self, feature: str, rows: Sequence[Row]) -> None:
        self._before("put")
        self._sink.put(feature, rows)

    def touch(self, feature: str, rows: Sequence[Row]) -> list[bool]:
        self._before("touch")
        return list(self._sink.touch(feature, rows))

    def tidy(self) -> None:
        self._sink.tidy()


def served_is(world: World, text: str) -> bool:
    (vector,), _ = world.served("member.profile", [7])
    return vector is not None and bool(np.allclose(vector, world.vector(text), atol=1e-6))


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("moment", ["append", "put"])
def test_another_worker_comes_in_between(world: World, moment: str, newest: bool) -> None:
    """The slow worker has decided on an older (or the newer) text; meanwhile, the fast one does the other event."""
    slow_event, fast_event = (
        (event(7, "nurse", 9), event(7, "teacher", 5)) if newest else (event(7, "nurse", 5), event(7, "teacher", 9))
    )
    slow, fast = world.worker("slow"), world.worker("fast")
    world.send(slow_event)
    messages = slow.stream.read(1, 100)
    world.send(fast_event)

    def before(name: str) -> None:
        if name == moment:
            fast.handle(fast.stream.read(1, 10))

    slow.sink = Interrupted(world.sink, before)
    slow.handle(messages)
    assert served_is(world, "nurse" if newest else "teacher")
    assert world.stream().lag().empty


def test_the_same_text_as_before_but_meanwhile_another_one(world: World) -> None:
    """A@1 is served. One worker finds A@9 unchanged; before it says so, another one serves B@5."""
    world.send(event(7, "nurse", 1))
    world.drain()
    slow, fast = world.worker("slow"), world.worker("fast")
    world.send(event(7, "nurse", 9))
    messages = slow.stream.read(1, 100)
    world.send(event(7, "teacher", 5))

    def before(name: str) -> None:
        if name == "touch":
            fast.handle(fast.stream.read(1, 10))

    slow.sink = Interrupted(world.sink, before)
    slow.handle(messages)
    assert served_is(world, "nurse")
    assert slow.metrics.outcomes == {"changed": 1}
    (state,) = world.sink.states("member.profile", [7])
    assert state is not None
    assert state.order.time % 1_000_000_000 == 1_009_000_000 % 1_000_000_000


class Dies(BaseException):
    """A worker that is killed."""


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_death_after_any_step_loses_nothing(world: World, steps: int) -> None:
    world.send(event(7, "nurse", 1), event(8, "lead", 1))
    world.drain()
    world.send(event(7, "teacher", 2), event(8, "lead", 2), event(9, None, 2))
    left = itertools.count(1)

    def before(name: str) -> None:
        if next(left) == steps:
            raise Dies

    dying = world.worker("w1")
    dying.sink = Interrupted(world.sink, before)
    ack = dying.stream.ack

    def acknowledge(messages: Any) -> None:
        before("ack")
        ack(messages)

    dying.stream.ack = acknowledge  # type: ignore[method-assign]
    try:
        list(dying.run(until_empty=True))
        survived = True
    except Dies:
        survived = False
    assert survived == (steps > 5)  # states, append, put, touch, ack
    world.drain(world.worker("w1"))
    assert served_is(world, "teacher")
    states = world.sink.states("member.profile", [7, 8, 9])
    assert [state.order.time // 1_000_000 % 10 for state in states if state] == [2, 2, 2]
    rows = world.history("member.profile").drop_duplicates(["member_id", "event_timestamp", "arrived_at"])
    assert sorted(rows.member_id.tolist()) == [7, 7, 8, 9]
    assert world.stream().lag().empty


def row(time: int, arrival: int, tag: str, value: float | None) -> Row:
    dim = 24
    return Row(7, Order(time, arrival), tag, None if value is None else np.full(dim, value, np.float32))


def test_the_store_compares_and_sets(world: World) -> None:
    sink, name = world.sink, "member.profile"
    for time, arrival, tag, value, wins in [
        (10, 5, "a", 1.0, True),
        (9, 9, "b", 2.0, False),
        (10, 4, "b", 2.0, False),
        (10, 5, "b", 2.0, False),
        (10, 6, "b", 2.0, True),
        (99, 0, "deleted", None, True),
        (98, 9, "a", 1.0, False),
        (1_000_000_000_000_000, 0, "a", 1.0, True),
    ]:
        sink.put(name, [row(time, arrival, tag, value)])
        (state,) = sink.states(name, [7])
        assert state is not None
        assert (state == State(Order(time, arrival), tag)) == wins
        vector = world.served(name, [7])[0][0]
        assert (vector is None) == (state.tag == "deleted")


def test_touch_moves_the_time_of_this_text_only(world: World) -> None:
    sink, name = world.sink, "member.profile"
    assert sink.touch(name, [row(5, 0, "a", None)]) == [False]
    sink.put(name, [row(10, 0, "a", 1.0)])
    assert sink.touch(name, [row(20, 0, "a", None)]) == [True]
    assert sink.touch(name, [row(15, 0, "a", None)]) == [True]
    assert sink.touch(name, [row(30, 0, "b", None)]) == [False]
    assert sink.states(name, [7]) == [State(Order(20, 0), "a")]


def test_an_outage_is_waited_out(world: World) -> None:
    world.send(event(7, "nurse", 1))
    left = itertools.count()

    def before(name: str) -> None:
        if name == "put" and next(left) < 2:
            raise TextError("T052", "the store is away")

    worker = world.worker()
    worker.sink = Interrupted(world.sink, before)
    metrics = world.drain(worker)
    assert served_is(world, "nurse")
    assert metrics.counts["retries"] == 2
    assert metrics.outcomes == {"changed": 1}


def test_patience_has_an_end(world: World) -> None:
    world.send(event(7, "nurse", 1))

    def before(name: str) -> None:
        if name == "put":
            raise TextError("T052", "the store is away")

    worker = world.worker(patience=0.05)
    worker.sink = Interrupted(world.sink, before)
    with pytest.raises(TextError, match="away"):
        list(worker.run())
    world.drain(world.worker())
    assert served_is(world, "nurse")
