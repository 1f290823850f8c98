"""Where every release is in its life, who holds it there, and what is to be said about dates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from star_platform.lifecycle.model import Services
from star_platform.lifecycle.notices import notices
from star_platform.lifecycle.survey import UNBORN, Survey, survey
from star_platform.planning.impact import Notice
from star_platform.planning.plan import notice_json
from star_platform.registry.history import FREED, last_details, step_into
from star_platform.registry.states import ReleaseState

_S = ReleaseState


@dataclass(frozen=True)
class Line:
    """One release. `answered`: the release that answers for it, by node type. `next`: the verb that would go on."""

    release: int
    state: ReleaseState
    since: datetime
    sunset: date | None
    successor: int | None
    readers: int
    blocking: tuple[str, ...]
    last_read: date | None
    answered: dict[str, int]
    freed_bytes: int | None
    next: str | None

    @property
    def name(self) -> str:
        return f"r{self.release}"


@dataclass(frozen=True)
class Status:
    """Everything that is to be known at a glance."""

    active: int | None
    lines: tuple[Line, ...]
    notices: tuple[Notice, ...]
    warnings: tuple[str, ...]


def status(services: Services) -> Status:
    """The life of all releases as of now; raises nothing for an online store that is down, and says so instead."""
    if services.registry.status().state == "absent":
        return Status(None, (), (), ())
    look = survey(services, strict=False)
    return Status(look.active, tuple(_line(look, number) for number in look.releases), all_notices(look), look.warnings)


def all_notices(look: Survey) -> tuple[Notice, ...]:
    """What is to be said today, of all releases."""
    states = {number: release.state for number, release in look.releases.items()}
    return notices(look.services.today(), states, look.deprecations, look.declared, look.routes)


def _line(look: Survey, number: int) -> Line:
    release = look.releases[number]
    who = look.who_uses(number) if release.state not in UNBORN else None
    given = look.deprecations.get(number)
    step = step_into(look.events, number, release.state)
    freed = last_details(look.events, FREED).get(number)
    days = [reader.observed.last for reader in who.readers if reader.observed is not None] if who else []
    blocking = tuple(reader.label for reader in who.blocking) if who else ()
    return Line(
        release=number,
        state=release.state,
        since=step.at if step is not None else release.created_at,
        sunset=given.sunset if given is not None else None,
        successor=given.successor if given is not None else None,
        readers=len(who.readers) if who else 0,
        blocking=blocking,
        last_read=max(days, default=None),
        answered={node: route.source for node, route in look.routes_to(number).items()},
        freed_bytes=sum(freed.values()) if freed is not None else None,
        next=_next(release.state, number, blocking, freed is not None),
    )


def _next(state: ReleaseState, number: int, blocking: tuple[str, ...], freed: bool) -> str | None:
    if state is _S.CANDIDATE:
        return f"star-platform deprecate r{number}"
    if state in (_S.DEPRECATED, _S.DRAINING):
        return f"star-platform who-uses r{number}" if blocking else f"star-platform retire r{number}"
    if state is _S.RETIRED or (state is _S.PURGED and not freed):
        return f"star-platform purge r{number}"
    return None


def status_json(found: Status) -> dict[str, Any]:
    """What `status --json` prints."""
    return {
        "latest": f"r{found.active}" if found.active is not None else None,
        "releases": [_line_json(line) for line in found.lines],
        "notices": [notice_json(notice) for notice in found.notices],
        "warnings": list(found.warnings),
    }


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "release": line.name,
        "state": str(line.state),
        "since": line.since.isoformat(),
        "sunset": line.sunset.isoformat() if line.sunset is not None else None,
        "successor": f"r{line.successor}" if line.successor is not None else None,
        "readers": line.readers,
        "blocking": list(line.blocking),
        "last_read": line.last_read.isoformat() if line.last_read is not None else None,
        "answered_from": {node: f"r{source}" for node, source in sorted(line.answered.items())},
        "freed_bytes": line.freed_bytes,
        "next": line.next,
    }
