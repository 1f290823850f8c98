"""Sources without their local names: what a `sql:` source reads, and one identity per distinct source.

Every branch names its sources as it likes, so a name means nothing outside its file. Here a source is its definition
and, for a query, the definitions of the sources that the query mentions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from star_platform.errors import PlanError
from star_platform.planning.canonical import canonical, digest
from star_platform.signals.model import Source, SqlSource

_NOT_NAMES = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_IDENTIFIER = re.compile(r'"((?:[^"]|"")+)"|([A-Za-z_][A-Za-z0-9_$]*)')


def identifiers(sql: str) -> frozenset[str]:
    """Every name in a query or predicate, quoted or not; string literals and comments do not count."""
    text = _NOT_NAMES.sub(" ", sql)
    return frozenset(quoted.replace('""', '"') or bare for quoted, bare in _IDENTIFIER.findall(text))


def mentioned(sql: str, sources: Mapping[str, Source], name: str = "") -> tuple[str, ...]:
    """The names of `sources`, other than `name` itself, that the query mentions, sorted."""
    lowered = {identifier.lower() for identifier in identifiers(sql)}
    return tuple(sorted(other for other in sources if other != name and other.lower() in lowered))


def closure(name: str, sources: Mapping[str, Source]) -> dict[str, Source]:
    """Source `name` and every source that it reads, by name."""
    found: dict[str, Source] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        source = sources.get(current)
        if source is None or current in found:
            continue
        found[current] = source
        if isinstance(source, SqlSource):
            waiting.extend(mentioned(source.sql, sources, current))
    return dict(sorted(found.items()))


def resolved_source(name: str, sources: Mapping[str, Source], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The definition of source `name` as JSON; a query also holds, under `reads`, what it reads.

    Raises:
        PlanError: P004 when sources read each other in a circle.
    """
    if name in above:
        circle = " -> ".join((*above[above.index(name) :], name))
        raise PlanError(
            "P004",
            f"sources read each other in a circle: {circle}",
            hint="let one of them read a file or a table; rename a column that has the name of a source",
        )
    source = sources[name]
    definition: dict[str, Any] = canonical(source)
    if isinstance(source, SqlSource):
        names = mentioned(source.sql, sources, name)
        definition["reads"] = {other: resolved_source(other, sources, (*above, name)) for other in names}
    return definition


def source_id(name: str, sources: Mapping[str, Source]) -> str:
    """One id per distinct source, whatever its branch calls it."""
    return digest(resolved_source(name, sources))
