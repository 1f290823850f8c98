"""A project in miniature: a real registry, releases that were published on paper, and a Feast that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from star_platform.compat.model import CompatMap
from star_platform.lifecycle.config import LifecycleConfig
from star_platform.lifecycle.model import Judgement, Services, ServingMap, Verdict
from star_platform.lifecycle.notices import reader_notices
from star_platform.lifecycle.service import Lifecycle
from star_platform.publishing.model import FeastState, PublishedNode, PublishedRelease
from star_platform.registry.history import deprecations, routes
from star_platform.registry.registry import Registry
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer, Usage
from tests.registry.conftest import HandClock

ROWS, ROW_BYTES = 1000, 40


class Killed(BaseException):
    """The process ends here: nothing catches it."""


@dataclass(frozen=True)
class Size:
    rows: int
    online_bytes: int
    offline_bytes: int


@dataclass
class FakeFeast:
    """Holds what it was told last, and how many shards of each release are left."""

    state: FeastState | None = None
    calls: list[str] = field(default_factory=list)
    shards: dict[int, int] = field(default_factory=dict)
    materialised: set[str] = field(default_factory=set)
    die_at: str | None = None
    rates: list[int | None] = field(default_factory=list)

    def _maybe_die(self, step: str) -> None:
        self.calls.append(step)
        if self.die_at == step:
            self.die_at = None
            raise Killed(step)

    def reconcile(self, state: FeastState) -> tuple[str, ...]:
        self._maybe_die("reconcile")
        self.state = state
        return ()

    def materialise(self, route: CompatMap, source: Any, target: Any, *, progress: Any = None) -> object:
        self._maybe_die("materialise")
        assert (source.number, target.number) == (route.source, route.target)
        self.materialised.add(route.name)
        return None

    def purge(self, release: PublishedRelease, *, rate: int | None, work_dir: Path, progress: Any = None) -> Size:
        self.rates.append(rate)
        left = self.shards.setdefault(release.number, 4)
        while self.shards[release.number]:
            self._maybe_die(f"purge-{self.shards[release.number]}")
            self.shards[release.number] -= 1
        return self._size(left)

    def purge_size(self, release: PublishedRelease) -> Size:
        return self._size(self.shards.setdefault(release.number, 4))

    @staticmethod
    def _size(shards: int) -> Size:
        rows = ROWS * shards // 4
        return Size(rows, rows * ROW_BYTES, rows * ROW_BYTES // 2)


@dataclass
class World:
    registry: Registry
    clock: HandClock
    folder: Path
    feast: FakeFeast = field(default_factory=FakeFeast)
    files: list[Consumer] = field(default_factory=list)
    counts: list[Usage] = field(default_factory=list)
    judged: dict[tuple[str, int], ServingMap] = field(default_factory=dict)
    """Verdicts by node type and target; the source is whatever is active."""
    nodes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    config: LifecycleConfig = field(default_factory=LifecycleConfig)
    usage_error: Exception | None = None
    discarded: list[int] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    # --- what a test says ---------------------------------------------------------------------------------------------

    def release(self, *nodes: str, activate: bool = True) -> int:
        active = self.registry.active()
        base = active.number if active else None
        number = self.registry.start_release("plan", base, {"stages": {}}, "ada").number
        self.registry.set_state(number, ReleaseState.CANDIDATE, "ada", "published and verified")
        self.nodes[number] = nodes or ("member",)
        if activate:
            self.registry.activate(number, "ada", "better", base)
        return number

    def map(self, target: int, verdict: Verdict = "pass", node: str = "member", **consumers: Verdict) -> None:
        """The active release has a map to `target`; `consumers` are judged apart (`_` in names means `-`)."""
        judged = {name.replace("_", "-"): Judgement(v, (f"auc {v}",)) for name, v in consumers.items()}
        why = () if verdict == "pass" else (f"cosine is {verdict}",)
        self.judged[node, target] = ServingMap(node, 0, target, f"fp-{node}", Judgement(verdict, why), judged)

    def declare(self, name: str, release: str, *nodes: str, **more: Any) -> None:
        self.files = [item for item in self.files if item.name != name]
        self.files.append(Consumer(name, f"{name}@example.com", nodes or ("member",), release, **more))

    def read(
        self, consumer: str | None, release: int, days_ago: int = 0, reads: int = 10, node: str = "member"
    ) -> None:
        day = self.today - timedelta(days=days_ago)
        self.counts.append(Usage(consumer, node, release, day, reads, reads * 100))

    @property
    def today(self) -> date:
        return self.clock.now().date()

    # --- what a test asks ---------------------------------------------------------------------------------------------

    @property
    def life(self) -> Lifecycle:
        return Lifecycle(self.services)

    @property
    def services(self) -> Services:
        return Services(
            registry=self.registry,
            feast=self.feast,
            feast_state=self.feast_state,
            published=lambda number: self.published(number) if number in self.nodes else None,
            maps=self.maps,
            usage=self._usage,
            consumers=lambda: self.files,
            work_dir=self.folder / "work",
            config=self.config,
            discard=self._discard,
            wait=self.waited.append,
        )

    def states(self) -> list[str]:
        return [str(release.state) for release in self.registry.releases()]

    def kinds(self, number: int) -> list[str]:
        return [e.details["to"] if e.kind == "state" else e.kind for e in self.registry.events(number)]

    def maps(self, target: int) -> Sequence[ServingMap]:
        active = self.registry.active()
        source = active.number if active else 0
        return [replace(item, source=source) for (_, to), item in self.judged.items() if to == target]

    def feast_state(self) -> FeastState:
        """As `project` builds it: with pins left out, whose checks the publishing room has."""
        events = self.registry.events()
        states = {release.number: release.state for release in self.registry.releases()}
        ways = routes(events)
        gone = {n for n, s in states.items() if s is ReleaseState.PURGED} - {route.target for route in ways}
        active = self.registry.active()
        dates = deprecations(events, self.config.notice_days)
        return FeastState(
            self.folder / "offline",
            releases=tuple(self.published(number) for number in self.nodes if number not in gone),
            active=active.number if active else None,
            routes=tuple(_map(route.node, route.source, route.target) for route in ways),
            notices=reader_notices(states, dates, ways),
        )

    def published(self, number: int) -> PublishedRelease:
        facts = {node: _published_node(node, number) for node in self.nodes[number]}
        return PublishedRelease(number, facts)

    def _usage(self) -> list[Usage]:
        if self.usage_error is not None:
            raise self.usage_error
        return self.counts

    def _discard(self, number: int) -> int:
        self.discarded.append(number)
        return 7


def _published_node(node: str, number: int) -> PublishedNode:
    return PublishedNode(node, 2, ROWS, "int64", f"space-{number}", 0, (1.0, 1.0), "checksum")


def _map(node: str, source: int, target: int) -> CompatMap:
    return CompatMap(node, source, target, f"space-{source}", f"space-{target}", np.eye(2), np.zeros(2), False, "ridge")


def until_done(step: Callable[[], Any]) -> int:
    """Call a step again after each kill, as its user would; how often it was killed."""
    for killed in range(20):
        try:
            step()
        except Killed:
            continue
        return killed
    raise AssertionError("it never finishes")
