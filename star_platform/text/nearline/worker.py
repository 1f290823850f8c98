"""The loop of a worker: take a batch, decide, encode, keep, serve, acknowledge; in this order.

A message is acknowledged only after what it caused is written, and every write may be repeated, so a worker may die
anywhere. What keeps an older text from replacing a newer one is the sink, which compares and sets per entity; nothing
here has to be alone with an entity.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from star_platform.errors import TextError
from star_platform.text.cache import TextCache
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.events import read_change
from star_platform.text.nearline.gate import Plan, Subject, plan, tags_of
from star_platform.text.nearline.metrics import Metrics
from star_platform.text.nearline.model import (
    Change,
    DeadLetter,
    EntityId,
    EventStream,
    Message,
    Row,
    State,
    TextSignal,
    VectorSink,
)
from star_platform.text.nearline.pace import Pace
from star_platform.text.nearline.vectors import Encoders, Vectors

T = TypeVar("T")

OUTAGES = frozenset({"T040", "T052"})
"""Codes that may pass by themselves: the stream or the store does not answer."""
_BLOCK_MS = 250
_TIDY_SECONDS = 30.0
_LAG_SECONDS = 1.0
_BACK_OFF = (0.1, 5.0)


@dataclass
class Worker:
    """One worker of a group. `stopping` is asked between batches."""

    stream: EventStream
    sink: VectorSink
    signals: Mapping[str, TextSignal]
    cache: TextCache
    config: ServeConfig
    metrics: Metrics
    stopping: Callable[[], bool] = lambda: False
    said: Callable[[str], None] = lambda _: None
    """Told about outages, in words."""
    _due: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._encoders = Encoders(self.signals, self.cache)
        self._pace = Pace(self.config.latency_target, self.config.max_batch)
        self._recovered = False

    def run(self, *, once: bool = False, until_empty: bool = False) -> Iterator[Metrics]:
        """Work until `stopping`; yields after every batch, and at least every quarter of a second.

        once: only what there is now, one batch of it. until_empty: until the group has nothing waiting and nothing
        pending, whoever has it.

        Raises:
            TextError: T040 or T052 when the stream or the store stays away for longer than `config.patience`.
        """
        while not self.stopping():
            messages = self._patiently(partial(self._take, 0 if once else _BLOCK_MS))
            self._patiently(partial(self.handle, messages))
            empty = self._patiently(partial(self._look, force=until_empty and not messages))
            yield self.metrics
            if once or (until_empty and not messages and empty):
                return

    def handle(self, messages: Sequence[Message]) -> None:
        """Do a batch, from messages to acknowledgements."""
        if not messages:
            return
        began = time.monotonic()
        changes, letters, outcomes = self._sorted_out(messages)
        failed, done = self.apply(changes)
        letters += failed
        if letters:
            self.stream.bury(letters)
        buried = {letter.message.id for letter in letters}
        self.stream.ack([message for message in messages if message.id not in buried])
        now = self.stream.now()
        self.metrics.outcomes.update(outcomes + done + Counter("dead" for _ in letters))
        self.metrics.dead.update(letter.code for letter in letters)
        self.metrics.counts["batches"] += 1
        self.metrics.done([max(now - message.arrival, 0) / 1e6 for message in messages])
        self._pace.took(len(messages), time.monotonic() - began)

    def apply(self, changes: Sequence[Change]) -> tuple[list[DeadLetter], Counter[str]]:
        """Bring history and what is served up to date.

        Returns dead letters for texts that the encoder fails on, and how many changes had which outcome.
        """
        tags = tags_of(changes, self.signals)
        letters: list[DeadLetter] = []
        outcomes: Counter[str] = Counter()
        left = list(changes)
        while left:  # again only for entities that another worker changed in the meantime
            wanted = plan(left, tags, self._states({change.subject for change in left}))
            vectors = self._encoders.vectors(
                (item.change.feature, item.change.text) for item in wanted.changed if item.change.text
            )
            self.metrics.counts.update({"encoded": vectors.encoded, "cached": vectors.cached})
            if vectors.failed:
                dead = [change for change in left if (change.feature, change.text) in vectors.failed]
                letters += [_failed(change, vectors) for change in dead]
                left = [change for change in left if (change.feature, change.text) not in vectors.failed]
                continue
            overtaken = self._write(wanted, vectors)
            outcomes.update(item.outcome for item in wanted.decided if item.change.subject not in overtaken)
            left = [change for change in left if change.subject in overtaken]
        return letters, outcomes

    # --- one batch ----------------------------------------------------------------------------------------------------

    def _sorted_out(self, messages: Iterable[Message]) -> tuple[list[Change], list[DeadLetter], Counter[str]]:
        changes: list[Change] = []
        letters: list[DeadLetter] = []
        outcomes: Counter[str] = Counter()
        for message in messages:
            if message.deliveries > self.config.max_deliveries:
                reason = f"handed out {message.deliveries} times and never done: it may be what ends the workers"
                letters.append(DeadLetter(message, "T047", reason))
                continue
            try:
                change = read_change(message, self.signals, self.config)
            except TextError as error:
                letters.append(DeadLetter(message, error.code, error.message))
                continue
            if change is None:
                outcomes["refused"] += 1
            else:
                changes.append(change)
        return changes, letters, outcomes

    def _states(self, subjects: Iterable[Subject]) -> dict[Subject, State | None]:
        by_feature: dict[str, list[EntityId]] = defaultdict(list)
        for feature, entity in subjects:
            by_feature[feature].append(entity)
        return {
            (feature, entity): state
            for feature, entities in by_feature.items()
            for entity, state in zip(entities, self.sink.states(feature, entities), strict=True)
        }

    def _write(self, wanted: Plan, vectors: Vectors) -> set[Subject]:
        """History first, then what is served; the entities whose text is by now another than `unchanged` says."""
        history: dict[str, list[Row]] = defaultdict(list)
        newest: dict[Subject, Row] = {}
        for item in wanted.changed:
            change = item.change
            row = Row(change.entity, change.order, item.tag, vectors.found.get((change.feature, change.text)))
            history[change.feature].append(row)
            newest[change.subject] = row
        served: dict[str, list[Row]] = defaultdict(list)
        for (feature, entity), state in wanted.served.items():
            served[feature].append(Row(entity, state.order, state.tag, newest[feature, entity].vector))
        for feature, rows in history.items():  # a crash after this repeats rows; the other way round, one would be lost
            self.sink.append(feature, rows)
        for feature, rows in served.items():
            self.sink.put(feature, rows)
        touched: dict[str, list[Row]] = defaultdict(list)
        for (feature, entity), state in wanted.unchanged.items():
            touched[feature].append(Row(entity, state.order, state.tag, None))
        return {
            (feature, row.entity)
            for feature, rows in touched.items()
            for row, held in zip(rows, self.sink.touch(feature, rows), strict=True)
            if not held
        }

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _take(self, block_ms: int) -> list[Message]:
        """What to do next: what a former life left, what the dead left, what is new."""
        count = self._pace.size
        if not self._recovered:
            messages = self.stream.recover(count)
            if messages:
                return messages
            self._recovered = True
        if self._is_due("claim", self.config.claim_after / 4):
            messages = self.stream.claim(count)
            if messages:
                self.metrics.counts["claimed"] += len(messages)
                self._due["claim"] = 0.0  # there may be more
                return messages
        return self.stream.read(count, block_ms)

    def _look(self, *, force: bool) -> bool:
        """Housekeeping, and whether the group has nothing left to do (as last looked)."""
        if self._is_due("lag", _LAG_SECONDS) or force:
            self.metrics.lag = self.stream.lag()
        if self._is_due("tidy", _TIDY_SECONDS):
            self.stream.tidy()
            self.sink.tidy()
        return self.metrics.lag is not None and self.metrics.lag.empty

    def _is_due(self, what: str, every: float) -> bool:
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self._due[what] = time.monotonic() + every
        return True

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do `work`, again and again while the stream or the store is away; what it does may be repeated."""
        began, wait = time.monotonic(), _BACK_OFF[0]
        while True:
            try:
                return work()
            except TextError as error:
                given_up = time.monotonic() - began > self.config.patience
                if error.code not in OUTAGES or given_up or self.stopping():
                    raise
                self.metrics.counts["retries"] += 1
                self.said(f"{error.message}; trying again")
            time.sleep(wait)
            wait = min(2 * wait, _BACK_OFF[1])


def _failed(change: Change, vectors: Vectors) -> DeadLetter:
    error = vectors.failed[change.feature, change.text]
    return DeadLetter(change.message, "T048", f"{error.code}: {error.message}")
