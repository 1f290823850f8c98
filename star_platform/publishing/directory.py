"""What a reader must know before it reads: who reads which release, where that lies, and which map answers for it.

A `Snapshot` is all of it at one moment and never changes. A background thread makes the next one out of Feast's
registry and the rows of `compat_transform`, and puts it in place by one assignment: a read sees the old one or the
new one, and waits for neither.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import PublishError
from star_platform.publishing.layout import DIM_TAG, SPACE_TAG, layout_of
from star_platform.publishing.model import node_of_view
from star_platform.publishing.routes import VIEW, map_id, online_reader, read_notices, read_routes, read_rows, row_map
from star_platform.publishing.snapshot import Resolved, Snapshot, Version

if TYPE_CHECKING:
    from feast import FeatureStore

    from star_platform.compat.model import CompatMap

_LOG = logging.getLogger(__name__)
_FORCED_SECONDS = 1.0
"""A name that is not known makes the directory look again, at most this often."""
_GONE = 100
"""So many releases that Feast does not know are looked up in `compat_transform` on every refresh."""


class Directory:
    """Keeps a `Snapshot` that is at most `staleness_seconds` old; nothing but Feast's registry and store is asked.

    While the registry cannot be reached, the last snapshot stays in use.
    """

    def __init__(self, feature_repo: Path, staleness_seconds: float) -> None:
        self._interval = staleness_seconds / 2  # the other half is for reading what changed
        self.store, self.counts_reads = open_quiet(feature_repo)
        self._read_rows = online_reader(self.store.provider.online_store, self.store.config)
        self._known: dict[tuple[str, int], tuple[object, Version]] = {}
        self._refreshing = threading.Lock()
        self._forced: dict[object, float] = {}
        self._asking = threading.Lock()
        self._begun = time.monotonic()  # the last refresh, and why it failed
        self._failure: Exception | None = None
        self._gone: set[tuple[str, int]] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._snapshot = self._load()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self._snapshot

    def resolve(self, consumer: str | None, node: str | None, release: int | None) -> Resolved:
        """`Snapshot.resolve`; what is not known is looked for in Feast's registry before it is an error."""
        try:
            return self._snapshot.resolve(consumer, node, release)
        except PublishError:
            pass
        if node is not None and release is not None and len(self._gone) < _GONE:
            self._gone.add((node, release))  # purged, perhaps, and yet there may be a route or a notice
        now = time.monotonic()
        with self._asking:
            self._forced = {key: at for key, at in self._forced.items() if now - at < _FORCED_SECONDS}
            asked = self._forced.setdefault((consumer, node, release), now)
        return self._refresh(asked).resolve(consumer, node, release)

    def refresh(self) -> Snapshot:
        """Make a new snapshot now; whoever waits for another thread meanwhile shares what the next one makes."""
        return self._refresh(time.monotonic())

    def _refresh(self, asked: float) -> Snapshot:
        """A snapshot that was begun after `asked`."""
        with self._refreshing:
            if self._begun <= asked:
                self._begun, self._failure = time.monotonic(), None
                try:
                    self.store.refresh_registry()
                    self._snapshot = self._load()
                except Exception as error:
                    self._failure = error
            if self._failure is not None:
                raise self._failure
            return self._snapshot

    def compat_map(self, node: str, source: int, target: int) -> CompatMap | None:
        """The published map from one release to another, None where there is none."""
        name = map_id(node, source, target)
        row = read_rows(self._read_rows, [name]).get(name)
        return row_map(row) if row is not None else None

    def start(self) -> None:
        """Refresh in a daemon thread from now on."""
        if self._thread is None:
            arguments = (weakref.ref(self), self._closed, self._interval)
            self._thread = threading.Thread(target=_refresh_often, args=arguments, name="star-directory", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def _load(self) -> Snapshot:
        registry, project = self.store.registry, self.store.project
        versions: dict[tuple[str, int], Version] = {}
        unstamped: set[tuple[str, int]] = set()
        front: dict[str, int] = {}
        for view in registry.list_feature_views(project, allow_cache=True):
            if view.name == VIEW:
                continue
            front[node_of_view(view.name)] = int(view.current_version_number)
            for entry in registry.list_feature_view_versions(view.name, project):
                key = (node_of_view(view.name), int(entry["version_number"]))
                version = self._version(view.name, key, entry)
                if version is None:
                    unstamped.add(key)
                else:
                    versions[key] = version
        services = registry.list_feature_services(project, allow_cache=True)
        pins = {
            service.name: {
                node_of_view(part.name): int(part.version_tag)
                for part in service.feature_view_projections
                if part.version_tag is not None
            }
            for service in services
        }
        pinned = {item for of_consumer in pins.values() for item in of_consumer.items()}
        asked = versions.keys() | pinned | self._gone
        routes = self._keep_equal(read_routes(self._read_rows, sorted(asked)))
        notices = read_notices(self._read_rows, sorted({release for _, release in asked}))
        return Snapshot(versions, front, pins, routes, notices, frozenset(unstamped))

    def _keep_equal(self, routes: dict[tuple[str, int], CompatMap]) -> dict[tuple[str, int], CompatMap]:
        """Maps that did not change stay the same objects: they hold float32 copies of themselves."""
        former = self._snapshot.routes if hasattr(self, "_snapshot") else {}
        return {
            key: former[key] if key in former and former[key].fingerprint == route.fingerprint else route
            for key, route in routes.items()
        }

    def _version(self, name: str, key: tuple[str, int], entry: Mapping[str, Any]) -> Version | None:
        """The version of a registry entry, None without a stamp; one that did not change is not parsed again."""
        stamp = (entry.get("version_id"), entry.get("created_timestamp"))
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        node, number = key
        view: Any = self.store.registry.get_feature_view_by_version(name, self.store.project, number)
        if DIM_TAG not in view.tags or SPACE_TAG not in view.tags:
            return None
        view.projection.version_tag = number
        version = Version(node, number, view.tags[SPACE_TAG], layout_of(self.store.config, view), view)
        self._known[key] = (stamp, version)
        return version


def _refresh_often(directory: weakref.ref[Directory], closed: threading.Event, interval: float) -> None:
    """Until it is closed, or nobody holds it any more."""
    while not closed.wait(interval):
        alive = directory()
        if alive is None:
            return
        try:
            alive.refresh()
        except Exception as error:  # readers go on with what they know
            _LOG.warning("Feast's registry cannot be read, its last state stays in use: %s", error)
        del alive


def open_quiet(feature_repo: Path) -> tuple[FeatureStore, bool]:
    """A Feast client that looks at its registry when it is told to, and counts no reads of its own.

    Also whether feature_store.yaml wants reads to be counted.
    """
    from feast import FeatureStore

    from star_platform.publishing.projection import load_config

    config = load_config(feature_repo, quiet=False)
    config.registry.cache_ttl_seconds = 0  # never by itself,
    # nor because the file changed in the middle of our look at it. Feast's SQL registry has no file, and raises at exit
    # when its mode is `thread` and it never refreshes.
    config.registry.cache_mode = "thread" if config.registry.registry_type == "file" else "sync"
    counts = bool(getattr(config.online_store, "count_reads", True))
    if hasattr(config.online_store, "count_reads"):
        config.online_store.count_reads = False
    return FeatureStore(repo_path=str(feature_repo), config=config), counts
