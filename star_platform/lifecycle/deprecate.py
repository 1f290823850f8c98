"""The first step out: a release gets a date and a successor, and everybody who reads it is told."""

from __future__ import annotations

from datetime import date, timedelta

from star_platform.errors import LifecycleError
from star_platform.lifecycle.model import Services
from star_platform.lifecycle.survey import Survey
from star_platform.registry.history import DEPRECATION, Deprecation
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Note

_S = ReleaseState
ENDING = frozenset({_S.CANDIDATE, _S.DEPRECATED, _S.DRAINING})
"""States in which a release can be given a date: its vectors are served, and it is not the active one."""


def deprecate(
    services: Services, number: int, actor: str, reason: str, sunset: date | None, successor: int | None
) -> Deprecation:
    """Say until when a release is read and what follows it; again with other values, and those hold.

    One event, and Feast's notices follow. Called again with the same values it adds no event, and finishes what a
    killed call left undone.

    sunset: the last day; `LifecycleConfig.notice_days` from today when None, or what was said before.
    successor: the active release when None, or what was said before.

    Raises:
        LifecycleError: L001 the release is not one that can be deprecated, L002 the successor is none, L003 the date is
            in the past.
        LeaseHeld: R006 while somebody releases.
    """
    registry = services.registry
    with registry.lease(services.lease) as lease:
        services.feast_state().check()  # a pin that leads nowhere would keep Feast from following
        look = Survey(services)
        release = registry.release(number)
        _check_state(number, release.state)
        known = look.deprecations.get(number)
        said = known if known is not None and known.announced else None
        before = said.successor if said is not None and _stays(look, said.successor) else None
        follower = _successor(look, number, successor if successor is not None else before)
        day = sunset if sunset is not None else said.sunset if said else _default(services)
        if said is None or (said.sunset, said.successor) != (day, follower):
            _check_day(services, day)
            note = Note(DEPRECATION, number, {"sunset": day.isoformat(), "successor": follower}, reason)
            steps = (_S.DEPRECATED,) if release.state is _S.CANDIDATE else ()
            registry.advance(number, steps, actor, reason, notes=(note,), lease=lease)
        services.feast.reconcile(services.feast_state())
    return Survey(services).deprecations[number]


def _default(services: Services) -> date:
    return services.today() + timedelta(days=services.config.notice_days)


def _check_state(number: int, state: ReleaseState) -> None:
    if state in ENDING:
        return
    if state is _S.ACTIVE:
        message = f"r{number} is the active release and cannot be deprecated"
        hint = "activate the release that follows it, which deprecates this one; then give it a date"
    else:
        message, hint = f"r{number} is {state} and cannot be deprecated", "`star-platform releases` shows all states"
    raise LifecycleError("L001", message, hint=hint)


def _successor(look: Survey, number: int, wanted: int | None) -> int:
    """Where its readers are sent: a release that stays, so not one with a date of its own."""
    follower = wanted if wanted is not None else look.active
    found = look.releases.get(follower) if follower is not None else None
    if found is not None and found.number != number and _stays(look, found.number):
        return found.number
    what = "no release is active" if follower is None else f"r{follower} cannot follow r{number}"
    if found is not None and found.number != number:
        what += f": it is {found.state}"
    active = f", such as r{look.active}" if look.active is not None else ""
    raise LifecycleError("L002", what, hint=f"name the active release or a candidate as successor{active}")


def _stays(look: Survey, number: int) -> bool:
    return look.releases[number].state in (_S.ACTIVE, _S.CANDIDATE)


def _check_day(services: Services, day: date) -> None:
    if day < services.today():
        raise LifecycleError(
            "L003",
            f"{day} is in the past: readers must get to hear of a date before it",
            hint=f"give today ({services.today()}) or a later day",
        )
