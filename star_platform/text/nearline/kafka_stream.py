"""A Kafka topic as the stream of events (extra `kafka`): partitions are shared by the workers of a group.

Kafka knows offsets where Redis knows entries. So a partition is done up to its first event that is not; what a dead
worker had in hand comes again to whoever gets the partition, and nobody counts how often. Producers set the entity as
the key, so that the changes of one entity stay in their order. Dead letters go to the topic `<stream>.dead`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from star_platform.errors import DependencyMissing, TextError
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.model import DeadLetter, Lag, Message

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer

SCHEME = "kafka://"
_KEPT_BYTES = 1 << 16
_SHORTEST_SESSION_MS = 6_000
_ANSWER_SECONDS = 10.0
_MOVED = ("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "_NO_OFFSET", "FENCED_INSTANCE_ID")
"""A commit that comes too late: the partition is somebody else's, who is given the events again."""


class KafkaStream:
    """One worker's view of a topic. `EventStream` of `text.nearline`."""

    def __init__(self, consumer: Consumer, producer: Producer, config: ServeConfig) -> None:
        self._consumer, self._producer, self._config = consumer, producer, config
        self._dead = f"{config.stream}.dead"
        self._open: dict[int, set[int]] = {}
        self._next: dict[int, int] = {}
        consumer.subscribe([config.stream], on_assign=self._forget, on_revoke=self._forget, on_lost=self._forget)

    def recover(self, count: int) -> list[Message]:  # noqa: ARG002 - Kafka hands them out again by itself
        """Nothing: what was not committed is read again."""
        return []

    def claim(self, count: int) -> list[Message]:  # noqa: ARG002 - see above
        """Nothing: the partitions of the dead are given to others."""
        return []

    def read(self, count: int, block_ms: int) -> list[Message]:
        with _answering():
            found = self._consumer.consume(count, max(block_ms, 1) / 1000)
        return [self._message(item) for item in found if _usable(item)]

    def ack(self, messages: Sequence[Message]) -> None:
        self._done(messages)

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """The letters are in the dead-letter topic before their events are done; after a crash they come twice."""
        with _answering():
            for letter in letters:
                self._producer.produce(self._dead, key=letter.message.id, value=_letter(letter, self._config.group))
            if self._producer.flush(_ANSWER_SECONDS):
                raise TextError("T040", "the broker did not take the dead letters")
        self._done([letter.message for letter in letters])

    def lag(self) -> Lag:
        """Of the whole group; the oldest event is unknown."""
        from confluent_kafka import TopicPartition

        with _answering():
            topic = self._consumer.list_topics(self._config.stream, timeout=_ANSWER_SECONDS).topics[self._config.stream]
            parts = [TopicPartition(self._config.stream, number) for number in topic.partitions]
            behind = 0
            for part in self._consumer.committed(parts, timeout=_ANSWER_SECONDS):
                low, high = self._consumer.get_watermark_offsets(part, timeout=_ANSWER_SECONDS)
                behind += high - max(low, part.offset)
        pending = min(sum(map(len, self._open.values())), behind)
        return Lag(behind - pending, pending, None)

    def now(self) -> int:
        return time.time_ns() // 1000

    def tidy(self) -> None:
        """Nothing: how long a topic keeps events is set at the broker."""

    def close(self) -> None:
        """Hand the partitions to others."""
        with _answering():
            self._consumer.close()

    # --- offsets ------------------------------------------------------------------------------------------------------

    def _message(self, item: Any) -> Message:
        partition, offset = int(item.partition()), int(item.offset())
        self._open.setdefault(partition, set()).add(offset)
        self._next[partition] = offset + 1
        arrival = int(item.timestamp()[1]) * 1000 + offset % 1000  # of one millisecond, nearly always in order
        return Message(f"{partition}-{offset}", item.value(), arrival)

    def _done(self, messages: Sequence[Message]) -> None:
        """Commit every partition up to its first event that is not done."""
        from confluent_kafka import KafkaException, TopicPartition

        touched = set()
        for message in messages:
            partition, offset = map(int, message.id.split("-"))
            if offset in self._open.get(partition, ()):
                self._open[partition].discard(offset)
                touched.add(partition)
        parts = [
            TopicPartition(self._config.stream, number, min(self._open[number], default=self._next[number]))
            for number in sorted(touched)
        ]
        if not parts:
            return
        with _answering():
            try:
                self._consumer.commit(offsets=parts, asynchronous=False)
            except KafkaException as error:
                if error.args[0].name() not in _MOVED:
                    for message in messages:  # so that trying again commits them
                        partition, offset = map(int, message.id.split("-"))
                        self._open.setdefault(partition, set()).add(offset)
                    raise

    def _forget(self, _: Consumer, parts: Sequence[Any]) -> None:
        for part in parts:
            self._open.pop(part.partition, None)


def open_kafka_stream(url: str, config: ServeConfig) -> KafkaStream:
    """Join the group of a topic at `kafka://host:9092[,host:9092]`; a new group begins with the oldest event.

    Raises:
        DependencyMissing: T054 without confluent-kafka. TextError: T040 when the broker does not answer.
    """
    try:
        from confluent_kafka import Consumer, Producer
    except ImportError as error:
        raise DependencyMissing(
            "T054", "the Kafka client is not installed", hint='pip install "star-platform[kafka]"'
        ) from error
    servers: dict[str, Any] = {
        "bootstrap.servers": url.removeprefix(SCHEME).rstrip("/"),
        "client.id": config.worker,
        "log_level": 2,  # its errors reach us as exceptions; the client would print each of its retries
    }
    session = max(int(config.claim_after * 1000), _SHORTEST_SESSION_MS)
    with _answering():
        consumer = Consumer(
            {
                **servers,
                "group.id": config.group,
                "group.instance.id": config.worker,  # a restart under the same name takes its partitions up at once
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": session,
                "max.poll.interval.ms": max(300_000, session),
                "allow.auto.create.topics": True,
            }
        )
        consumer.list_topics(timeout=_ANSWER_SECONDS)
        return KafkaStream(consumer, Producer({**servers, "enable.idempotence": True}), config)


def _usable(item: Any) -> bool:
    """Raises TextError T040 for an error in the place of an event."""
    error = item.error()
    if error is None:
        return True
    if error.name() in ("_PARTITION_EOF", "UNKNOWN_TOPIC_OR_PART"):  # a topic that nobody has written to yet
        return False
    raise TextError("T040", f"the event stream does not answer: {error.str()}", hint="see that the Kafka brokers run")


def _letter(letter: DeadLetter, group: str) -> bytes:
    payload = letter.message.payload or b""
    fields = {
        "code": letter.code,
        "reason": letter.reason,
        "payload": payload[:_KEPT_BYTES].decode(errors="replace"),
        "bytes": len(payload),
        "id": letter.message.id,
        "group": group,
        "deliveries": letter.message.deliveries,
    }
    return json.dumps(fields).encode()


@contextmanager
def _answering() -> Iterator[None]:
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise TextError(
            "T040", f"the event stream does not answer: {error}", hint="see that the Kafka brokers run"
        ) from error
