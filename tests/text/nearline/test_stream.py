"""The contract of a stream: every message reaches one worker at least once, and is let go of only when it is done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.processes import free_port
from services.redis_server import start_redis
from star_platform.errors import TextError
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.model import DeadLetter
from star_platform.text.nearline.redis_stream import RedisStream, open_redis_stream
from tests.servers import private_folder

from .world import World, event


def send(world: World, count: int) -> list[str]:
    return world.send(*[event(number, "nurse", 1) for number in range(count)])


def test_each_message_reaches_one_worker(world: World) -> None:
    keys = send(world, 10)
    first, second = world.stream("w1"), world.stream("w2")
    got = [*first.read(4, 10), *second.read(4, 10), *first.read(4, 10)]
    assert [message.id for message in got] == keys
    assert second.read(4, 10) == []
    assert {message.deliveries for message in got} == {1}


def test_arrival_is_the_order_of_the_stream(world: World) -> None:
    send(world, 50)
    arrivals = [message.arrival for message in world.stream().read(50, 10)]
    assert arrivals == sorted(set(arrivals))


def test_a_former_life_is_taken_up_at_once(world: World) -> None:
    keys = send(world, 5)
    world.stream("w1").read(5, 10)
    reborn = world.stream("w1")
    got = [*reborn.recover(3), *reborn.recover(3)]
    assert [message.id for message in got] == keys
    assert {message.deliveries for message in got} == {2}
    assert reborn.recover(3) == []


def test_messages_of_the_silent_are_claimed(world: World) -> None:
    keys = send(world, 3)
    world.stream("w1").read(3, 10)
    other = world.stream("w2", claim_after=1.0)
    assert other.claim(10) == []  # not silent for long enough
    time.sleep(1.05)
    claimed = other.claim(10)
    assert [message.id for message in claimed] == keys
    assert {message.deliveries for message in claimed} == {2}
    assert world.stream("w3", claim_after=1.0).claim(10) == []  # the silence begins anew


def test_what_is_done_is_never_seen_again(world: World) -> None:
    send(world, 3)
    stream = world.stream("w1", claim_after=0.001)
    stream.ack(stream.read(2, 10))
    assert len(world.stream("w1").recover(10)) == 0
    assert stream.claim(10) == []
    lag = stream.lag()
    assert (lag.waiting, lag.pending, lag.empty) == (1, 0, False)


def test_a_dead_letter_is_moved_and_not_lost(world: World) -> None:
    (key,) = send(world, 1)
    stream = world.stream()
    (message,) = stream.read(1, 10)
    stream.bury([DeadLetter(message, "T041", "why")])
    (letter,) = world.dead()
    assert (letter["id"], letter["code"], letter["reason"]) == (key, "T041", "why")
    assert stream.lag().empty


def test_lag_counts_what_waits_and_what_is_pending(world: World) -> None:
    keys = send(world, 7)
    stream = world.stream()
    stream.read(3, 10)
    lag = stream.lag()
    assert (lag.waiting, lag.pending, lag.exact) == (4, 3, True)
    assert lag.oldest == int(keys[0].split("-")[0]) * 1000 + int(keys[0].split("-")[1])


def test_trimming_leaves_what_any_group_needs(world: World) -> None:
    keys = world.send(*[event(number, "nurse", 1) for number in range(300)])
    ours, theirs = world.stream("w1", retention=0.0), world.stream("w1", group="slow")
    ours.ack(ours.read(300, 10))
    theirs.ack(theirs.read(100, 10))
    held = theirs.read(1, 10)[0]
    time.sleep(0.01)
    ours.tidy()
    left = [key.decode() for key, _ in ours._client.xrange(world.spec.stream)]
    assert held.id in left
    assert left == keys[-len(left) :]
    assert len(left) < 300
    assert len(theirs.read(300, 10)) == 199


def test_retention_keeps_what_is_done(world: World) -> None:
    send(world, 300)
    stream = world.stream(retention=3600.0)
    stream.ack(stream.read(300, 10))
    stream.tidy()
    assert stream._client.xlen(world.spec.stream) == 300


def test_an_entry_that_somebody_trimmed_is_let_go(world: World) -> None:
    keys = send(world, 3)
    world.stream("w1").read(3, 10)
    stream = world.stream("w2", claim_after=0.001)
    stream._client.xdel(world.spec.stream, keys[1])
    time.sleep(0.01)
    assert [message.id for message in stream.claim(10)] == [keys[0], keys[2]]
    world.stream("w2").recover(10)
    assert world.stream("w2").lag().pending == 2


def test_leaving_takes_the_name_off_unless_something_is_pending(world: World) -> None:
    send(world, 2)
    first, second = world.stream("w1"), world.stream("w2")
    first.ack(first.read(1, 10))
    second.read(1, 10)
    first.close()
    second.close()
    names = [item["name"] for item in world.stream("w3")._client.xinfo_consumers(world.spec.stream, "star-text")]
    assert names == [b"w2"]


def test_names_of_the_dead_are_forgotten_but_never_what_they_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(world, 2)
    world.stream("holds").read(1, 10)
    done = world.stream("done")
    done.ack(done.read(1, 10))
    monkeypatch.setattr("star_platform.text.nearline.redis_stream._FORGET_MS", 1)
    time.sleep(0.01)
    stream = world.stream("w3")
    stream.tidy()
    names = [item["name"] for item in stream._client.xinfo_consumers(world.spec.stream, "star-text")]
    assert names == [b"holds"]
    assert stream.lag().pending == 1


def test_a_server_that_is_away_is_an_outage() -> None:
    with pytest.raises(TextError) as caught:
        open_redis_stream(f"redis://127.0.0.1:{free_port()}/0", ServeConfig(worker="w"))
    assert caught.value.code == "T040"


def test_a_server_that_comes_back_empty_gets_its_group_again(tmp_path: Path) -> None:
    with private_folder("star-redis-") as folder:
        port = free_port()
        server = start_redis(folder, port, None, durable=False)
        stream: RedisStream = open_redis_stream(f"redis://127.0.0.1:{port}/0", ServeConfig(worker="w"))
        server.stop()
        with pytest.raises(TextError) as caught:
            stream.read(1, 10)
        assert caught.value.code == "T040"
        server = start_redis(folder, port, None, durable=False)
        try:
            assert stream.read(1, 10) == []
            stream._client.xadd("text-events", {"event": "{}"})
            assert len(stream.read(1, 10)) == 1
        finally:
            server.stop()
