"""Who reads what: reads are counted in the reading process and added up, now and then, beside the vectors themselves.

Counting is one increment of a dict. A daemon thread adds what came together to the online store, the one place that
every reader can reach; no read ever waits for it or fails because of it, so a count may be lost, never invented.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from feast.repo_config import RepoConfig

_LOG = logging.getLogger(__name__)
_DAY = 86_400
_Key = tuple[str | None, str, int, int]


@dataclass(frozen=True)
class UsageCount:
    """The reads of one node type of one release by one consumer on one day (UTC).

    consumer: None where the reader did not say who it is.
    reads: calls. vectors: ids that they asked for.
    """

    consumer: str | None
    node: str
    release: int
    day: date
    reads: int
    vectors: int


class UsageSink(Protocol):
    """Where counts are added up; `usage_sinks` has one per kind of online store."""

    def add(self, counts: Sequence[UsageCount]) -> None:
        """Add all of `counts` to what is there, or raise and add none."""

    def read(self) -> list[UsageCount]:
        """All that was added so far, one entry per consumer, node, release and day."""


class UsageCounter:
    """Counts the reads of this process.

    sink: None counts nothing. interval: seconds between two flushes; None leaves them to `flush` and the end of the
    process. clock: seconds since the epoch.
    Thread-safe. A forked child starts from zero, since its parent flushes what was counted before the fork. Once it has
    counted, a counter lives as long as its process.
    """

    _of_process: ClassVar[dict[str, UsageCounter]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, sink: UsageSink | None, *, interval: float | None = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._sink = sink
        self._interval = interval
        self._clock = clock
        self._counts: dict[_Key, list[int]] = {}
        self._reset()

    @classmethod
    def for_store(cls, store: object, config: RepoConfig) -> UsageCounter:  # noqa: ARG003 - a store may bring its own
        """The counter of this process for one online store, shared by all clients of it.

        One that counts nothing where the online store is none that `usage_sinks` knows.
        """
        from star_platform.publishing.usage_sinks import sink_of

        identity = f"{config.project} {config.repo_path} {config.online_store!r}"
        with cls._guard:
            if identity not in cls._of_process:
                cls._of_process[identity] = cls(sink_of(config))
            return cls._of_process[identity]

    def add(self, consumer: str | None, node: str, release: int, vectors: int) -> None:
        """Count one read of `vectors` ids; returns at once and never raises."""
        key = (consumer, node, release, int(self._clock()) // _DAY)
        with self._lock:
            count = self._counts.get(key)
            if count is None:
                self._counts[key] = [1, vectors]
            else:
                count[0] += 1
                count[1] += vectors
        if not self._started:
            self._start()

    def flush(self) -> bool:
        """Add what came together to the sink now; False when it did not take it (it is tried again later)."""
        with self._flushing:
            with self._lock:
                counts = self._counts
                self._counts = {}
            if not counts or self._sink is None:
                return True
            try:
                self._sink.add([_count(key, count) for key, count in counts.items()])
            except Exception as error:  # a store that is down, locked or read-only must not disturb its readers
                _LOG.debug("reads were not counted, to be tried again: %s", error)
                self._put_back(counts)
                return False
            return True

    def _put_back(self, counts: dict[_Key, list[int]]) -> None:
        with self._lock:
            for key, (reads, vectors) in counts.items():
                count = self._counts.setdefault(key, [0, 0])
                count[0] += reads
                count[1] += vectors

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._counts = {}
        self._started = False

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
        _COUNTERS.add(self)
        # Children of multiprocessing end without atexit but run this.
        Finalize(None, _flush_last, args=(self, os.getpid()), exitpriority=10)
        if self._interval is None:
            return
        try:
            threading.Thread(target=self._flush_often, name="star-usage", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down; the last flush has what is left
            _LOG.debug("no thread to flush counts with")

    def _flush_often(self) -> None:
        while True:
            time.sleep(self._interval or 0)
            self.flush()


def read_usage(feature_repo: Path) -> list[UsageCount]:
    """Every count in the online store of a feature repository, sorted; empty where the store keeps none.

    Raises the error of the store's own client when the store cannot be reached.
    """
    from star_platform.publishing.projection import load_config
    from star_platform.publishing.usage_sinks import sink_of

    sink = sink_of(load_config(feature_repo))
    counts = sink.read() if sink is not None else []
    return sorted(counts, key=lambda count: (count.release, count.node, count.consumer or "", count.day))


def _count(key: _Key, count: list[int]) -> UsageCount:
    consumer, node, release, day = key
    return UsageCount(consumer, node, release, datetime.fromtimestamp(day * _DAY, tz=UTC).date(), *count)


def _flush_last(counter: UsageCounter, pid: int) -> None:
    if os.getpid() == pid:
        counter.flush()


def _flush_all() -> None:
    for counter in list(_COUNTERS):
        counter.flush()


def _after_fork() -> None:
    UsageCounter._guard = threading.Lock()
    for counter in list(_COUNTERS):
        counter._reset()


_COUNTERS: set[UsageCounter] = set()
atexit.register(_flush_all)
os.register_at_fork(after_in_child=_after_fork)
