"""The values of this room, and what it needs from others as small protocols that `project` fills in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from star_platform.lifecycle.config import LifecycleConfig
from star_platform.progress import SILENT, Progress
from star_platform.registry.registry import Registry
from star_platform.registry.states import ReleaseState
from star_platform.registry.usage import Counted
from star_platform.registry.values import Consumer, Need

if TYPE_CHECKING:
    from star_platform.compat.model import CompatMap
    from star_platform.publishing.model import FeastState, PublishedRelease

Verdict = Literal["pass", "fail", "inconclusive", "unproven"]
"""What the gate says of a map for one consumer. `unproven` passed on geometry, and nobody's scorer was asked."""
SERVABLE: frozenset[Verdict] = frozenset({"pass", "unproven"})

Standing = Literal["native", "served", "moved", "quiet", "blocked"]
"""What retiring a release means for one of its readers.

native: the release is the active one, so retirement is not the question. served: a map within the gate answers it.
moved: it has left already. quiet: it never said who it is, and has not read for long enough. blocked: none of these.
"""


# --- what others bring ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """A verdict and why, in words."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServingMap:
    """The best map of one node type from the active release `source` to the older release `target`.

    artefact: fingerprint of the compat artefact that holds the map `<node>:r<source>->r<target>`.
    geometry: the verdict for readers that registered no scorer. consumers: that of each consumer that was judged.
    fidelity: figures on held-out entities, such as `r2` and `cosine_mean`.
    """

    node: str
    source: int
    target: int
    artefact: str
    geometry: Judgement
    consumers: Mapping[str, Judgement] = field(default_factory=dict)
    fidelity: Mapping[str, float] = field(default_factory=dict)

    def judgement(self, consumer: str) -> Judgement:
        """The consumer's own where the gate has one, else that of the geometry."""
        return self.consumers.get(consumer, self.geometry)


class Freed(Protocol):
    """How much a purge removes: rows of the online store, and bytes of both stores."""

    @property
    def rows(self) -> int: ...
    @property
    def online_bytes(self) -> int: ...
    @property
    def offline_bytes(self) -> int: ...


class Feast(Protocol):
    """The one writer of Feast; each call may be repeated, and goes on where a killed one stopped."""

    def reconcile(self, state: FeastState) -> tuple[str, ...]:
        """Make Feast's registry, routes and notices hold exactly `state`; the changes made, in words."""

    def materialise(
        self, route: CompatMap, source: PublishedRelease, target: PublishedRelease, *, progress: Progress = SILENT
    ) -> object:
        """Write mapped vectors under the old version."""

    def purge(
        self, release: PublishedRelease, *, rate: int | None, work_dir: Path, progress: Progress = SILENT
    ) -> Freed:
        """Remove the vectors of a release from the online and the offline store, at most `rate` rows per second."""

    def purge_size(self, release: PublishedRelease) -> Freed:
        """What `purge` would remove."""


@dataclass(frozen=True)
class Services:
    """Everything that a step in the life of a release works with.

    feast_state: all that Feast shall know, from our registry as it is when called: with the routes in use and the
        notices (`notices.reader_notices`).
    published: what was published of a release once, purged or not; None when nothing was.
    maps: the best maps to an older release from the active one, at most one per node type.
    usage: the sums that the online store counted.
    consumers: those that `consumers/*.yaml` declares now.
    discard: removes the vectors of a release from the artefact store, and says how many bytes that gave back.
    work_dir: where a purge remembers how far it is.
    lease: the lease of releases: no step is taken while somebody releases.
    wait: lets seconds pass.
    """

    registry: Registry
    feast: Feast
    feast_state: Callable[[], FeastState]
    published: Callable[[int], PublishedRelease | None]
    maps: Callable[[int], Sequence[ServingMap]]
    usage: Callable[[], Iterable[Counted]]
    consumers: Callable[[], Sequence[Consumer]]
    work_dir: Path
    config: LifecycleConfig = field(default_factory=LifecycleConfig)
    discard: Callable[[int], int] = lambda _number: 0
    lease: str = "release"
    progress: Progress = SILENT
    wait: Callable[[float], object] = time.sleep

    def now(self) -> datetime:
        """By the registry's clock, which tests bring themselves."""
        return self.registry.clock.now()

    def today(self) -> date:
        """The present day in UTC, as the usage is counted."""
        return self.now().date()


# --- who reads a release ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observed:
    """Counted reads of one release by one reader: first and last day (UTC), calls, and ids asked for."""

    first: date
    last: date
    reads: int
    vectors: int


@dataclass(frozen=True)
class Reader:
    """Somebody who reads a release, says so, or both.

    name: None for all who did not say who they are. declared: the release in its file (`rN` or `latest`), None without
    a file. nodes: of its file and of its reads together. observed: None when no read was counted.
    """

    name: str | None
    nodes: tuple[str, ...]
    standing: Standing
    reasons: tuple[str, ...]
    owner: str | None = None
    contact: str | None = None
    declared: str | None = None
    need: Need | None = None
    observed: Observed | None = None

    @property
    def label(self) -> str:
        return self.name if self.name is not None else "(unknown)"

    @property
    def blocks(self) -> bool:
        return self.standing == "blocked"


@dataclass(frozen=True)
class WhoUses:
    """The readers of a release, where declaration and observation disagree, and what could not be looked at."""

    release: int
    state: ReleaseState
    active: int | None
    readers: tuple[Reader, ...]
    disagreements: tuple[str, ...] = ()
    quiet_for: int | None = None
    """Days since the last counted read; None when none was counted."""
    warnings: tuple[str, ...] = ()

    @property
    def blocking(self) -> tuple[Reader, ...]:
        return tuple(reader for reader in self.readers if reader.blocks)
