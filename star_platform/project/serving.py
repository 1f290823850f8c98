"""What Feast shall know, from our registry: which releases, whose pins, which maps, and which reads a map answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from star_platform.registry.artefacts import ArtefactStore
from star_platform.registry.history import deprecations, routes
from star_platform.registry.registry import LATEST, Registry, release_number
from star_platform.registry.states import ReleaseState

if TYPE_CHECKING:
    from star_platform.compat.model import CompatMap
    from star_platform.publishing.model import ConsumerPin, FeastState, PublishedRelease

MAPPED = (ReleaseState.RETIRED, ReleaseState.PURGED)
"""States of a release whose own vectors nobody is served any more."""


@dataclass(frozen=True)
class Serving:
    """Reads the registry; changes nothing."""

    registry: Registry
    store: ArtefactStore
    offline_root: Path
    notice_days: int
    """Days from the end of a release as the active one to its last, where nobody named a date."""

    def state(self, active: int | None = None) -> FeastState:
        """All that Feast shall know; with release `active` in front, or the active one when None."""
        from star_platform.lifecycle.notices import reader_notices
        from star_platform.publishing.model import FeastState

        if active is None:
            current = self.registry.active()
            active = current.number if current else None
        events, answered = self.registry.events(), self.routes()
        return FeastState(
            offline_root=self.offline_root,
            releases=tuple(release for _, release in sorted(self.published().items())),
            active=active,
            consumers=self._pins(active),
            maps=self.maps(),
            routes=answered,
            notices=reader_notices(
                self._states(),
                deprecations(events, self.notice_days),
                routes(events),
                {route.name: route.fidelity for route in answered},
            ),
        )

    # --- releases -----------------------------------------------------------------------------------------------------

    def ever_published(self, number: int) -> PublishedRelease | None:
        """What was published of a release, whatever became of it; None when nothing was.

        Of a release that failed on the way: what it had begun to publish.
        """
        from star_platform.publishing.model import PublishedRelease
        from star_platform.release import PUBLISHED
        from star_platform.release.stored import begun

        found = [event.details for event in self.registry.events(number) if event.kind == PUBLISHED]
        if found:
            return PublishedRelease.from_record(found[-1])
        return begun(self.registry, self.store, number)

    def published(self) -> dict[int, PublishedRelease]:
        """What was published, by number: every release but failed ones, and purged ones that no map answers for."""
        from star_platform.publishing.model import PublishedRelease
        from star_platform.release import PUBLISHED

        events, states, found = self.registry.events(), self._states(), {}
        routed: dict[int, list[str]] = {}
        for route in routes(events):
            routed.setdefault(route.target, []).append(route.node)
        for event in events:
            number = event.release
            if event.kind != PUBLISHED or number is None or states[number] is ReleaseState.FAILED:
                continue
            release = PublishedRelease.from_record(event.details)
            if states[number] is ReleaseState.PURGED:
                release = replace(release, nodes={node: release.nodes[node] for node in routed.get(number, ())})
            if release.nodes:
                found[number] = release
        return found

    def native(self) -> dict[int, PublishedRelease]:
        """Releases whose own vectors are served."""
        states = self._states()
        return {number: item for number, item in self.published().items() if states[number] not in MAPPED}

    def _states(self) -> dict[int, ReleaseState]:
        return {release.number: release.state for release in self.registry.releases()}

    # --- maps ---------------------------------------------------------------------------------------------------------

    def maps(self) -> tuple[CompatMap, ...]:
        """Every map of a release whose own vectors are served."""
        from star_platform.release.stored import released_maps

        return tuple(
            item for number in sorted(self.native()) for item in released_maps(self.registry, self.store, number)
        )

    def routes(self) -> tuple[CompatMap, ...]:
        """For each retired release and node type: the map that answers for it."""
        from star_platform.release.stored import maps_of

        states, found = self._states(), []
        for route in routes(self.registry.events()):
            if states[route.target] in MAPPED:
                maps = maps_of(self.store.open("compat", route.artefact), route.source)
                found += [item for item in maps if item.name == route.name]
        return tuple(found)

    # --- consumers ----------------------------------------------------------------------------------------------------

    def _pins(self, active: int | None) -> tuple[ConsumerPin, ...]:
        """Declared consumers, with `latest` resolved through our alias.

        Who follows `latest` reads those of its node types that the release has, and none before the first activation;
        who names a release gets all it asks for, or `FeastState.check` refuses. A release that is still to come has no
        readers yet, and a purged one those of the node types that a map answers for.
        """
        from star_platform.publishing.model import ConsumerPin

        published, states = self.published(), self._states()
        pins = []
        for consumer in self.registry.consumers():
            if consumer.release != LATEST:
                number, nodes = release_number(consumer.release), consumer.nodes
                if number > max(published, default=0) or states.get(number) is ReleaseState.PURGED:
                    nodes = tuple(node for node in nodes if number in published and node in published[number].nodes)
                if not nodes:
                    continue
            elif active is not None and active in published:
                number, nodes = active, tuple(node for node in consumer.nodes if node in published[active].nodes)
            else:
                continue
            pins.append(ConsumerPin(consumer.name, consumer.owner, nodes, number))
        return tuple(pins)
