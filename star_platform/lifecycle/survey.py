"""Gathers what the questions of this room take: from the registry, the counted reads, the consumer files, the gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise

from star_platform.errors import LifecycleError
from star_platform.lifecycle.model import Services, WhoUses
from star_platform.lifecycle.readers import Facts, who_uses
from star_platform.registry.history import Deprecation, Route, deprecations, routes
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer, Event, Release, Usage

UNBORN = frozenset({ReleaseState.BUILDING, ReleaseState.FAILED})
"""Nothing was ever published of these."""


@dataclass(frozen=True)
class Survey:
    """One look at everything, each part read once; `warnings` say what could not be looked at."""

    services: Services
    warnings: tuple[str, ...] = ()

    @cached_property
    def releases(self) -> dict[int, Release]:
        return {release.number: release for release in self.services.registry.releases()}

    @cached_property
    def events(self) -> tuple[Event, ...]:
        return self.services.registry.events()

    @cached_property
    def active(self) -> int | None:
        found = self.services.registry.active()
        return found.number if found is not None else None

    @cached_property
    def declared(self) -> tuple[Consumer, ...]:
        return tuple(self.services.consumers())

    @cached_property
    def usage(self) -> tuple[Usage, ...]:
        return self.services.registry.usage.read()

    @cached_property
    def deprecations(self) -> dict[int, Deprecation]:
        """Date and successor of each release that has been followed by another one."""
        return deprecations(self.events, self.services.config.notice_days)

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        return routes(self.events)

    def routes_to(self, number: int) -> dict[str, Route]:
        """The routes that answer for a release, by node type."""
        return {route.node: route for route in self.routes if route.target == number}

    def routes_through(self, number: int) -> tuple[Route, ...]:
        """The routes that need a release's own vectors."""
        return tuple(route for route in self.routes if route.source == number)

    def nodes(self, number: int) -> frozenset[str]:
        """The node types that a release published."""
        found = self.services.published(number)
        return frozenset(found.nodes) if found is not None else frozenset()

    def who_uses(self, number: int) -> WhoUses:
        """Who reads a release, and what retiring it means for each."""
        release = self.releases.get(number) or self.services.registry.release(number)
        mapped = number != self.active and release.state not in UNBORN
        return who_uses(
            Facts(
                release=number,
                state=release.state,
                active=self.active,
                nodes=self.nodes(number),
                declared=self.declared,
                usage=self.usage,
                today=self.services.today(),
                quiet_days=self.services.config.quiet_days,
                maps={item.node: item for item in self.services.maps(number)} if mapped else {},
                routes=self.routes_to(number),
                left_front=self._left_front(number),
            ),
            self.warnings,
        )

    def _left_front(self, number: int) -> date | None:
        moves = self.services.registry.alias_events()
        left = [after.at for before, after in pairwise(moves) if before.release == number]
        return left[-1].date() if left and number != self.active else None


def survey(services: Services, *, strict: bool) -> Survey:
    """Copy the counted reads into the ledger, and look.

    With `strict`, an online store that cannot be asked is an error: nobody may be cut off because his reads could not
    be seen. Otherwise it is a warning, and the ledger says what was known before.
    """
    try:
        counts = list(services.usage())
    except Exception as error:  # each store's own client has its own errors
        if strict:
            raise LifecycleError(
                "L010",
                f"the online store could not be asked who reads what: {error}",
                hint="nothing was changed; start the online store, then try again",
            ) from error
        return Survey(services, (f"reads since the last look are missing: {error}",))
    services.registry.usage.record(counts)
    return Survey(services)
