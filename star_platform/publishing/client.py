"""Reads published vectors as arrays: `EmbeddingClient(repo).read(ids, consumer="ranker")`.

Metadata comes out of a `Directory`, vectors straight out of the online store, and nothing else is asked. The vectors
of a retired release come out of a newer one, through its map, in one matmul; the call stays the same.

A long-lived reader is at its fastest when, after its first read, it calls `gc.freeze()` and keeps BLAS at one thread
(OPENBLAS_NUM_THREADS=1): both cost more in the slowest reads than anything that is done here.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from star_platform.errors import PublishError
from star_platform.publishing.directory import Directory
from star_platform.publishing.layout import Ids
from star_platform.publishing.snapshot import Resolved, Snapshot, Version
from star_platform.publishing.usage import UsageCounter
from star_platform.publishing.vectors import VectorStore, vector_store

if TYPE_CHECKING:
    from feast import FeatureStore

    from star_platform.compat.model import CompatMap

    Float32 = npt.NDArray[np.float32]
    Found = npt.NDArray[np.bool_]


class DeprecatedRelease(FutureWarning):
    """A reader uses a release that will not be served for ever; filter it by this class."""


class _Pair(NamedTuple):
    vectors: Float32
    found: Found


class Vectors(_Pair):
    """What was read, as a pair `vectors, found`.

    vectors: float32 [n, dim] in the order asked for, zeros where not found. found: bool [n].
    release, space: the release that was asked for and the fingerprint of its embedding space, which all rows are in.
    """

    release: int
    space: str

    def __new__(cls, vectors: Float32, found: Found, release: int, space: str) -> Self:
        made = super().__new__(cls, vectors, found)
        made.release, made.space = release, space
        return made


class _Client:
    """What the two clients share: everything but the waiting for the store."""

    _told: ClassVar[set[tuple[Path, int, str | None]]] = set()
    _telling: ClassVar[threading.Lock] = threading.Lock()
    _reopening: ClassVar[threading.Lock] = threading.Lock()
    _directory: Directory
    _store: VectorStore
    _counter: UsageCounter | None

    def __init__(
        self,
        feature_repo: Path | str,
        *,
        consumer: str | None = None,
        staleness_seconds: float | None = 10.0,
        count_reads: bool = True,
    ) -> None:
        self.feature_repo = Path(feature_repo).resolve()
        self.consumer = consumer
        self._staleness = staleness_seconds
        self._count_reads = count_reads
        self._forked = False
        self._before_fork: list[object] = []
        self._open()
        _CLIENTS.add(self)

    def resolve(self, *, consumer: str | None = None, node: str | None = None, release: int | None = None) -> Resolved:
        """How such a read would be answered; raises as `read` does."""
        if self._forked:
            self._reopen()
        return self._directory.resolve(consumer or self.consumer, node, release)

    @property
    def snapshot(self) -> Snapshot:
        """The metadata in use."""
        return self._directory.snapshot

    @property
    def store(self) -> FeatureStore:
        """The Feast client that metadata comes from."""
        return self._directory.store

    def compat_map(self, node: str, source: int, target: int) -> CompatMap | None:
        """The published map between two releases, read anew; None where there is none."""
        return self._directory.compat_map(node, source, target)

    def read_native(self, version: Version, ids: Ids) -> tuple[Float32, Found]:
        """What a version itself holds: no route, no count, no notice."""
        return self._store.read(version, ids)

    def refresh(self) -> None:
        """See now what was published, activated or retired; otherwise `staleness_seconds` says when."""
        self._directory.refresh()

    def close(self) -> None:
        """End the background refresh and hand the counted reads over."""
        self._directory.close()
        if self._counter is not None:
            self._counter.flush()

    def _open(self) -> None:
        directory = Directory(self.feature_repo, self._staleness or 0.0)
        store = directory.store
        vectors = vector_store(store)
        counts = self._count_reads and directory.counts_reads
        counter = UsageCounter.for_store(store.provider.online_store, store.config) if counts else None
        if self._staleness is not None:
            directory.start()
        self._directory, self._store, self._counter = directory, vectors, counter

    def _reopen(self) -> None:
        """After a fork: threads are gone, and connections belong to the parent, who alone may close them.

        The first thread opens, the others wait for it.
        """
        with self._reopening:
            if not self._forked:
                return
            of_parent = [self._directory, self._store]
            self._open()
            self._before_fork += of_parent
            self._forked = False

    def _finish(self, resolved: Resolved, vectors: Float32, found: Found, consumer: str | None) -> Vectors:
        """Map, count, and tell what there is to tell."""
        if resolved.route is not None:
            vectors = resolved.route.apply(vectors)
            if not found.all():
                vectors[~found] = 0.0
        if self._counter is not None:
            self._counter.add(consumer or self.consumer, resolved.node, resolved.release, len(found))
        notice = self._directory.snapshot.notices.get(resolved.release)
        if notice is not None:
            self._tell(resolved, notice)
        return Vectors(vectors, found, resolved.release, resolved.space)

    def _tell(self, resolved: Resolved, notice: Mapping[str, Any]) -> None:
        """Warn once per process and release, and again when there is something new to tell of it."""
        key = (self.feature_repo, resolved.release, notice.get("text"))
        if key in self._told:
            return
        with self._telling:
            if key in self._told:
                return
            self._told.add(key)
        warnings.warn(notice_text(resolved, notice), DeprecatedRelease, stacklevel=4)

    def _moved(self, resolved: Resolved, error: PublishError, consumer: str | None) -> Resolved:
        """Where to read instead when what was about to be read is gone; raises `error` when nothing has changed."""
        if error.code != "F050":
            raise error
        try:
            self._directory.refresh()
        except Exception:  # the store does not answer for metadata either
            raise error from None
        again = self._directory.resolve(consumer or self.consumer, resolved.node, resolved.release)
        if again.source.release == resolved.source.release:
            raise error
        return again


class EmbeddingClient(_Client):
    """A long-lived reader of one feature repository, for any number of threads.

    feature_repo: the folder of `feature_store.yaml`.
    consumer: who reads, as declared in `consumers/`; reads without a name are counted as those of an unknown reader.
    staleness_seconds: age that metadata may have: a running client follows an activation, a rollback or a retirement
        after this time at the latest. None: it looks once, and then when `refresh` is called.
    count_reads: whether reads are added up, in the background, for `who-uses`; `count_reads: false` in the settings of
        our online stores says no for everybody.
    """

    def read(
        self, ids: Ids, *, consumer: str | None = None, node: str | None = None, release: int | None = None
    ) -> Vectors:
        """The vectors of `ids`, all in the space of one release.

        The release is `release`, or what `consumer` is pinned to; without either, the active one. `node` may be left
        out where the consumer reads one node type. Warns once with `DeprecatedRelease` where the release will end.

        Raises:
            PublishError: F030 no such vectors are published, F031 ids of the wrong type, F033 a stored value of another
                shape, F034 an unknown consumer that names no release, F050 the online store does not answer, F060 the
                release is gone, F061 the node type is not clear, F062 its space is unknown, F063 a map does not fit.
        """
        resolved = self.resolve(consumer=consumer, node=node, release=release)
        try:
            vectors, found = self._store.read(resolved.source, ids)
        except PublishError as error:
            resolved = self._moved(resolved, error, consumer)
            vectors, found = self._store.read(resolved.source, ids)
        return self._finish(resolved, vectors, found, consumer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncEmbeddingClient(_Client):
    """Twin of `EmbeddingClient` for one event loop.

    Redis is waited for in the loop, other stores in a thread. Opening it blocks: do that before the loop takes traffic.
    """

    async def read(
        self, ids: Ids, *, consumer: str | None = None, node: str | None = None, release: int | None = None
    ) -> Vectors:
        """As `EmbeddingClient.read`."""
        if self._forked:
            await asyncio.to_thread(self._reopen)
        try:
            resolved = self._directory.snapshot.resolve(consumer or self.consumer, node, release)
        except PublishError:
            resolved = await asyncio.to_thread(self.resolve, consumer=consumer, node=node, release=release)
        try:
            vectors, found = await self._store.read_async(resolved.source, ids)
        except PublishError as error:
            resolved = await asyncio.to_thread(self._moved, resolved, error, consumer)
            vectors, found = await self._store.read_async(resolved.source, ids)
        return self._finish(resolved, vectors, found, consumer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def notice_text(resolved: Resolved, notice: Mapping[str, Any], today: date | None = None) -> str:
    """What the readers of a release are told, from the JSON data of its notice."""
    text = str(notice.get("text") or f"r{resolved.release} is {notice.get('state', 'deprecated')}")
    sunset, now = notice.get("sunset"), today or datetime.now(UTC).date()
    if sunset and resolved.route is None and now > date.fromisoformat(sunset):
        text += " (that date has passed)"
    return f"{text}. Who reads it: star-platform who-uses r{resolved.release}"


def _after_fork() -> None:
    _Client._telling, _Client._reopening = threading.Lock(), threading.Lock()
    for client in list(_CLIENTS):
        client._forked = True


_CLIENTS: weakref.WeakSet[_Client] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
__all__: Sequence[str] = ("AsyncEmbeddingClient", "DeprecatedRelease", "EmbeddingClient", "Vectors", "notice_text")
