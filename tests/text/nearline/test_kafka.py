"""The contract of a stream on Kafka's own client, against the broker that this client brings for tests (librdkafka)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer

from services.processes import free_port
from star_platform.errors import TextError
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.kafka_stream import KafkaStream, open_kafka_stream
from star_platform.text.nearline.model import DeadLetter, Message

from .world import World, event


class Broker:
    """The broker lives as long as the producer that started it."""

    def __init__(self) -> None:
        self.producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        servers = self.producer.list_topics(timeout=10).brokers.values()
        self.url = "kafka://" + ",".join(f"{server.host}:{server.port}" for server in servers)
        self.topic = f"events-{secrets.token_hex(4)}"

    def send(self, *events: dict[str, Any] | bytes) -> None:
        for item in events:
            payload = item if isinstance(item, bytes) else json.dumps(item).encode()
            key = "bad" if isinstance(item, bytes) else str(item["entity"])
            self.producer.produce(self.topic, key=key, value=payload)
        assert self.producer.flush(10) == 0

    def open(self, worker: str = "w1") -> KafkaStream:
        return open_kafka_stream(self.url, self.config(worker))

    def config(self, worker: str = "w1") -> ServeConfig:
        return ServeConfig(stream=self.topic, worker=worker, claim_after=6.0)


@pytest.fixture
def broker() -> Iterator[Broker]:
    started = Broker()
    yield started
    started.producer.flush(1)


def read(stream: KafkaStream, count: int) -> list[Message]:
    """Joining a group takes some seconds."""
    found: list[Message] = []
    for _ in range(60):
        found += stream.read(count - len(found), 500)
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} of {count}")


def test_what_is_done_is_never_seen_again_and_the_rest_is(broker: Broker) -> None:
    broker.send(*[event(number, "nurse", 1) for number in range(12)])
    first = broker.open()
    got = read(first, 12)
    assert (first.lag().waiting, first.lag().pending) == (0, 12)
    by_partition: dict[str, list[Message]] = {}
    for message in got:
        by_partition.setdefault(message.id.split("-")[0], []).append(message)
    partition = max(by_partition.values(), key=len)
    first.ack([*partition[:1], *partition[2:]])  # the second one holds up those after it
    assert first.lag().pending == 11 - len(partition) + 2
    first.close()
    again = read(broker.open(), 11)
    assert sorted(message.id for message in again) == sorted({m.id for m in got} - {partition[0].id})


def test_a_restart_under_the_same_name(broker: Broker) -> None:
    broker.send(event(1, "nurse", 1))
    stream = broker.open()
    (message,) = read(stream, 1)
    stream.ack([message])
    assert stream.lag().empty
    stream.close()
    broker.send(event(1, "teacher", 2))
    (message,) = read(broker.open(), 1)
    assert b"teacher" in (message.payload or b"")


def test_a_dead_letter_is_moved(broker: Broker) -> None:
    broker.send(b"{")
    stream = broker.open()
    (message,) = read(stream, 1)
    stream.bury([DeadLetter(message, "T041", "why")])
    assert stream.lag().empty
    servers = broker.url.removeprefix("kafka://")
    reader = Consumer({"bootstrap.servers": servers, "group.id": "reader", "auto.offset.reset": "earliest"})
    reader.subscribe([f"{broker.topic}.dead"])
    items = (item for _ in range(60) for item in reader.consume(1, 0.5) if not item.error())
    letter = json.loads(next(items).value())
    reader.close()
    assert (letter["code"], letter["reason"], letter["payload"]) == ("T041", "why", "{")


def test_a_worker_over_kafka(broker: Broker, world: World) -> None:
    broker.send(event(7, "nurse", 1), event(7, "teacher", 2), b"no event", event(7, "teacher", 3), event(8, None, 1))
    worker = world.worker()
    worker.stream = broker.open()
    metrics = world.drain(worker)
    assert metrics.outcomes == {"changed": 3, "unchanged": 1, "dead": 1}
    vectors, _ = world.served("member.profile", [7, 8])
    np.testing.assert_allclose(vectors[0], world.vector("teacher"), atol=1e-6)
    assert vectors[1] is None
    worker.stream.close()


def test_a_broker_that_is_away_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_platform.text.nearline.kafka_stream._ANSWER_SECONDS", 0.5)
    with pytest.raises(TextError) as caught:
        open_kafka_stream(f"kafka://127.0.0.1:{free_port()}", ServeConfig(worker="w"))
    assert caught.value.code == "T040"
