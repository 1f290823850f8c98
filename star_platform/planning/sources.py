"""Sources without their local names: what a `sql:` source reads, and one identity per distinct source.

Every branch names its sources as it likes, so a name means nothing outside its file. Here a source is its definition
and, for a query, the definitions of the sources that the query mentions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from star_platform.errors import PlanError
from star_platform.planning.canonical import canonical, digest
from star_platform.signals.model import Source, SqlSource
from star_platform.signals.sqltext import identifiers, tables


def mentioned(sql: str, sources: Mapping[str, Source], name: str = "") -> tuple[str, ...]:
    """The names of `sources`, other than `name` itself, that the query mentions, sorted.

    Too many rather than too few: a column that has the name of a source counts as well.
    """
    lowered = {token.text.lower() for token in identifiers(sql)}
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
        read = {table.lower() for table in tables(source.sql)}
        definition["reads"] = {
            other: resolved_source(other, sources, (*above, name))
            for other in mentioned(source.sql, sources, name)
            if other not in above or other.lower() in read  # a column that has the name of a source makes no circle
        }
    return definition


def source_id(name: str, sources: Mapping[str, Source]) -> str:
    """One id per distinct source, whatever its branch calls it."""
    return digest(resolved_source(name, sources))
