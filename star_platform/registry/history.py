"""What the events say as of now: dates and successors, routes, and purges that have not finished.

Nothing here is stored a second time. Each function folds the append-only events, and a later event takes the place of
an earlier one about the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Event, Note

DEPRECATION, ROUTE, FORCED = "deprecation", "route", "forced"
MATERIALISED, FREED = "materialised", "freed"


@dataclass(frozen=True)
class Deprecation:
    """Until when a release should be read, and what to read instead."""

    release: int
    sunset: date
    successor: int
    actor: str
    reason: str
    at: datetime
    announced: bool = False
    """Somebody set the date; otherwise it follows from the day on which another release took its place."""


@dataclass(frozen=True)
class Route:
    """Reads of (node, retired release `target`) are answered from release `source` through a map.

    artefact: fingerprint of the compat artefact that holds the map `<node>:r<source>->r<target>`.
    """

    node: str
    source: int
    target: int
    artefact: str

    @property
    def name(self) -> str:
        """The name of its map, such as `member:r3->r1`."""
        return f"{self.node}:r{self.source}->r{self.target}"

    def note(self) -> Note:
        """The event that makes it so."""
        return Note(ROUTE, self.target, {"node": self.node, "source": self.source, "artefact": self.artefact})

    def end(self) -> Note:
        """The event that ends it: nothing answers for the node type any more."""
        return Note(ROUTE, self.target, {"node": self.node, "source": None, "artefact": self.artefact})


def deprecations(events: Iterable[Event], notice_days: int) -> dict[int, Deprecation]:
    """The date and the successor that hold for each release, by release number.

    A release that was followed by another one without a word is read `notice_days` longer. One that became active again
    starts anew: what was said of it before holds no more.
    """
    found: dict[int, Deprecation] = {}
    for event in events:
        number, facts = event.release, event.details
        if number is None:
            continue
        if event.kind == "state" and facts["to"] == ReleaseState.ACTIVE:
            found.pop(number, None)
        elif event.kind == "state" and facts["to"] == ReleaseState.DEPRECATED and "successor" in facts:
            day = event.at.date() + timedelta(days=notice_days)
            found[number] = Deprecation(number, day, int(facts["successor"]), event.actor, event.reason, event.at)
        elif event.kind == DEPRECATION:
            day = date.fromisoformat(facts["sunset"])
            successor = int(facts["successor"])
            found[number] = Deprecation(number, day, successor, event.actor, event.reason, event.at, announced=True)
    return found


def routes(events: Iterable[Event]) -> tuple[Route, ...]:
    """The routes in use, one for each retired release and node type at most, by release and node type."""
    found: dict[tuple[int, str], Route] = {}
    for event in events:
        if event.kind != ROUTE or event.release is None:
            continue
        facts, key = event.details, (event.release, str(event.details["node"]))
        if facts["source"] is None:
            found.pop(key, None)
        else:
            found[key] = Route(key[1], int(facts["source"]), event.release, str(facts["artefact"]))
    return tuple(route for _, route in sorted(found.items()))


def last_details(events: Iterable[Event], kind: str) -> dict[int, Mapping[str, Any]]:
    """The details of the last event of a kind, by release number."""
    return {event.release: event.details for event in events if event.kind == kind and event.release is not None}


def step_into(events: Iterable[Event], release: int, state: str) -> Event | None:
    """The last step of a release into a state: when, by whom and why."""
    steps = [e for e in events if e.kind == "state" and e.release == release and e.details.get("to") == state]
    return steps[-1] if steps else None
