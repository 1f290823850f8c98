"""What is said about the dates of releases: in `plan`, in `status`, and to readers as they read.

Three ages, after dbt's model versions: somebody reads what has a date before it (coming), or after it (past), or the
release itself is past its date and still there (overdue). Dates are compared both ways, after Chronon's deprecation
rules: whoever reads what has a date needs a date too, and none that is later. Nothing looks at a clock by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from star_platform.lifecycle.readers import MAPPED
from star_platform.planning.impact import Age, DateRule, Notice
from star_platform.registry.history import Deprecation, Route
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer

ENDING = frozenset({ReleaseState.DEPRECATED, ReleaseState.DRAINING, *MAPPED})
"""States of a release that has a date."""


@dataclass(frozen=True)
class _Dependant:
    """A consumer that names a release, or a retired release that is answered from it."""

    name: str
    owner: str | None
    sunset: date | None
    verb: str


def notices(
    today: date,
    states: Mapping[int, ReleaseState],
    dates: Mapping[int, Deprecation],
    consumers: Iterable[Consumer],
    routes: Iterable[Route],
) -> tuple[Notice, ...]:
    """Everything that is to be said today, by release, then by reader."""
    readers, ways = list(consumers), list(routes)
    found: list[Notice] = []
    for number, given in sorted(dates.items()):
        state = states[number]
        if state not in ENDING:
            continue
        if state not in MAPPED and today > given.sunset:
            words = f"r{number} was to go on {given.sunset}: star-platform retire r{number}"
            found.append(_notice(given, "overdue", None, None, words))
        found += [_read(today, given, dependant) for dependant in _dependants(number, readers, ways)]
    return tuple(found)


def _dependants(number: int, consumers: list[Consumer], routes: list[Route]) -> Iterator[_Dependant]:
    for item in sorted(consumers, key=lambda item: item.name):
        if item.release == f"r{number}":
            yield _Dependant(item.name, item.owner, item.sunset, "reads")
    for target in sorted({route.target for route in routes if route.source == number}):
        # A retired release lasts for as long as it is answered, so its own date has been and gone: it has none.
        yield _Dependant(f"r{target}", None, None, "is answered from")


def _read(today: date, given: Deprecation, dependant: _Dependant) -> Notice:
    age: Age = "past" if today > given.sunset else "coming"
    days = (given.sunset - today).days
    when = f"{-days} days ago" if days < 0 else "today" if days == 0 else f"in {days} days"
    rule: DateRule | None = None
    words = ""
    if dependant.sunset is None:
        rule, words = "undated", f", and names no date by which {dependant.name} will have left it"
    elif dependant.sunset > given.sunset:
        rule, words = "later", f", and means to stay until {dependant.sunset}"
    message = f"{dependant.name} {dependant.verb} r{given.release}, whose date is {given.sunset} ({when}){words}"
    return _notice(given, age, dependant, rule, message)


def _notice(given: Deprecation, age: Age, dependant: _Dependant | None, rule: DateRule | None, message: str) -> Notice:
    return Notice(
        release=f"r{given.release}",
        sunset=given.sunset,
        successor=f"r{given.successor}",
        age=age,
        reader=dependant.name if dependant is not None else None,
        owner=dependant.owner if dependant is not None else None,
        rule=rule,
        message=message,
    )


# --- for readers ------------------------------------------------------------------------------------------------------


def reader_notices(
    states: Mapping[int, ReleaseState],
    dates: Mapping[int, Deprecation],
    routes: Iterable[Route],
    fidelity: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[int, dict[str, Any]]:
    """What the readers of each ending release are told, as JSON data: `FeastState.notices`.

    `fidelity` has the figures of the maps in use, by the name of the map. The text names dates, never days to go, for
    it is stored; a reader that finds `sunset` in the past may say so itself.
    """
    answered: dict[int, dict[str, Route]] = {}
    for route in routes:
        answered.setdefault(route.target, {})[route.node] = route
    found = {}
    for number, state in sorted(states.items()):
        given = dates.get(number)
        if state not in ENDING or (given is None and state not in MAPPED):
            continue
        ways = answered.get(number, {}) if state in MAPPED else {}
        figures = {node: dict((fidelity or {}).get(route.name, {})) for node, route in sorted(ways.items())}
        found[number] = {
            "release": number,
            "state": str(state),
            "sunset": given.sunset.isoformat() if given is not None else None,
            "successor": given.successor if given is not None else None,
            "routes": {node: route.source for node, route in sorted(ways.items())},
            "fidelity": figures,
            "text": _text(number, state, given, ways, figures),
        }
    return found


def _text(
    number: int,
    state: ReleaseState,
    given: Deprecation | None,
    ways: Mapping[str, Route],
    figures: Mapping[str, Mapping[str, float]],
) -> str:
    move = f"; read r{given.successor} instead" if given is not None else "; read a later release instead"
    if state not in MAPPED:
        assert given is not None  # noqa: S101  # the caller left releases without a date out
        return f"r{number} is deprecated and will be served until {given.sunset}{move}"
    if not ways:
        return f"r{number} is {state} and is not served any more{move}"
    parts = []
    for node, route in ways.items():
        cosine = figures.get(node, {}).get("cosine_mean")
        parts.append(f"{node} from r{route.source}" + (f" (mean cosine {cosine:.3f})" if cosine is not None else ""))
    return f"r{number} is {state}: its vectors are mapped from a later release, {', '.join(parts)}{move}"
