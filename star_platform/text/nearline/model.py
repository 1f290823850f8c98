"""The values of the near-line path and its interfaces: where events come from, and where vectors go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from star_platform.text.encoder import TextEncoder

EntityId = int | str
KeyType = Literal["int64", "string"]

MISSING = "missing"
"""Tag of an entity whose text is empty, or means nothing to the encoder: it has no vector."""
DELETED = "deleted"
"""Tag of an entity that is gone: no vector, and no trace of what its text was."""


@dataclass(frozen=True, order=True, slots=True)
class Order:
    """What makes one change of an entity newer than another, in microseconds since the epoch.

    time: when the text changed at its source. arrival: when the stream took the event; decides between equal times.
    """

    time: int
    arrival: int


@dataclass(frozen=True, slots=True)
class State:
    """What is served of an entity: the order of the newest change, and a tag.

    tag: the cache key of its text (hex: encoder and normalised text), `MISSING` or `DELETED`.
    """

    order: Order
    tag: str


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a stream. deliveries: how often it was handed to a worker, this time included."""

    id: str
    payload: bytes | None
    arrival: int
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A valid event: `text` is normalised, and empty where there is none."""

    message: Message
    feature: str
    entity: EntityId
    order: Order
    text: str
    deleted: bool = False

    @property
    def subject(self) -> tuple[str, EntityId]:
        return self.feature, self.entity


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody can use, and why; `code` has a page in `star-platform explain`."""

    message: Message
    code: str
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """What is written of one entity. vector: float32 [dim], None for `MISSING` and `DELETED`."""

    entity: EntityId
    order: Order
    tag: str
    vector: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Lag:
    """How far a group is behind.

    waiting: events that no worker was handed yet; a lower bound where `exact` is False.
    pending: events that were handed out and are not done. oldest: arrival of the oldest of either, None without any.
    """

    waiting: int
    pending: int
    oldest: int | None
    exact: bool = True

    @property
    def empty(self) -> bool:
        return not (self.waiting or self.pending)


def everybody(entity: EntityId) -> bool:  # noqa: ARG001 - the rule that asks nothing
    """Every entity is taken."""
    return True


@dataclass(frozen=True)
class TextSignal:
    """A text feature that is served near-line.

    columns: in the declared order, as a release joins them. admits: whether an id is one that may be encoded now.
    refuses: whether the entity opted out; its events are dropped and kept nowhere.
    """

    feature: str
    columns: tuple[str, ...]
    key_type: KeyType
    encoder: TextEncoder
    admits: Callable[[EntityId], bool] = everybody
    refuses: Callable[[EntityId], bool] = lambda _: False

    @property
    def node(self) -> str:
        return self.feature.partition(".")[0]


class EventStream(Protocol):
    """A durable stream that one group of workers shares: every event reaches one of them, at least once.

    Raises TextError T040 from every method while the stream does not answer; nothing is lost by that.
    """

    def recover(self, count: int) -> list[Message]:
        """Messages that a former life of this worker was handed and has not done."""

    def claim(self, count: int) -> list[Message]:
        """Messages of workers that have been silent for too long, now ours."""

    def read(self, count: int, block_ms: int) -> list[Message]:
        """New messages; waits until there is one, `block_ms` at most."""

    def ack(self, messages: Sequence[Message]) -> None:
        """They are done: what they caused is written."""

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Move them to the dead-letter stream; both or neither: no message is lost between the two."""

    def lag(self) -> Lag: ...

    def now(self) -> int:
        """Microseconds since the epoch, by the clock that gave the messages their arrival."""

    def tidy(self) -> None:
        """Let go of what every group has done; called now and then."""

    def close(self) -> None:
        """Leave the group; what is not done stays for others."""


class VectorSink(Protocol):
    """Where vectors are served and kept. Raises TextError T052 while it does not answer."""

    def states(self, feature: str, entities: Sequence[EntityId]) -> list[State | None]:
        """What is served now."""

    def append(self, feature: str, rows: Sequence[Row]) -> None:
        """Add to the history (offline store); the same rows again change nothing that a reader sees."""

    def put(self, feature: str, rows: Sequence[Row]) -> None:
        """Serve these rows (online store), one per entity; each only if no newer one is served, atomically."""

    def touch(self, feature: str, rows: Sequence[Row]) -> list[bool]:
        """The text is the one that is served, as of a newer event; False where by now another text is served."""

    def tidy(self) -> None:
        """Merge small files of the history; called now and then."""
