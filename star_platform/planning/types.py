"""The merged spec against the data: missing columns, denied columns, types that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from star_platform.errors import Conflict, Diagnostic, MergeConflict, PlanError
from star_platform.planning.columns import ColumnUse, Role, column_uses, reading_signal
from star_platform.planning.differences import pointer
from star_platform.planning.snapshot import Snapshots, SourceSnapshot, TypeFamily, type_family
from star_platform.planning.sources import source_id
from star_platform.planning.spec import SECTIONS, GraphSpec, Signal
from star_platform.signals.model import SqlSource
from star_platform.signals.sqltext import identifiers

NUMBERS: frozenset[TypeFamily] = frozenset({"integer", "float", "decimal"})
ACCEPTED: Mapping[Role, tuple[frozenset[TypeFamily], str]] = {
    "time": (frozenset({"timestamp", "date", "integer"}), "a timestamp, a date or an integer (seconds since 1970)"),
    "number": (NUMBERS | {"boolean"}, "a number"),
    "vector": (frozenset({"list"}), "a list or array of numbers"),
    "label": (frozenset({"boolean", "integer"}), "a boolean or an integer 0 or 1"),
    "key": (frozenset({"integer", "string", "uuid", "decimal", "bytes", "date", "other"}), "an id: integer or string"),
}
"""Which families of types a role takes, and how to say so; roles that are not here take any."""


def check_data(spec: GraphSpec, snapshots: Snapshots) -> None:
    """All that can be known of the data before it is read.

    Raises:
        PlanError: P002 missing column, P003 wrong type, P005 denied column. `details["diagnostics"]` holds every
            Diagnostic; the message is that of the first.
        MergeConflict: P001 with every `dtype_mismatch`.
    """
    found = list(diagnose(spec, snapshots))
    if found:
        first, more = found[0], f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise PlanError(
            first.code,
            first.message + more,
            hint=first.notes[-1] if first.notes else None,
            place=first.place,
            diagnostics=tuple(found),
        )
    check_types(spec, snapshots)


def diagnose(spec: GraphSpec, snapshots: Snapshots) -> Iterator[Diagnostic]:
    """Everything wrong with the columns that signals read, in the order of signals."""
    denied = {column.lower() for column in spec.deny_columns}
    for _, signal in sorted(spec.signals.items()):
        yield from _denied_in_sql(signal, denied)
        for use in column_uses(signal):
            if use.column.lower() in denied:
                yield _denied(use)
                continue
            snapshot = _snapshot(spec, signal, snapshots)
            if use.column not in snapshot.columns:
                yield _missing(spec, use, snapshot)
            elif use.role in ACCEPTED:
                families, words = ACCEPTED[use.role]
                if type_family(snapshot.columns[use.column]) not in families:
                    yield _wrong_type(use, snapshot.columns[use.column], words)


def _snapshot(spec: GraphSpec, signal: Signal, snapshots: Snapshots) -> SourceSnapshot:
    reader = reading_signal(spec, signal)
    assert reader.source_name is not None  # noqa: S101  # only signals with a source use columns
    return snapshots[source_id(reader.source_name, reader.sources)]


def _title(signal: Signal) -> str:
    return f"{signal.kind.replace('_', '-')} '{signal.name}'"


def _missing(spec: GraphSpec, use: ColumnUse, snapshot: SourceSnapshot) -> Diagnostic:
    reader = reading_signal(spec, use.signal)
    close = get_close_matches(use.column.lower(), [column.lower() for column in snapshot.columns], n=1)
    match = next((column for column in snapshot.columns if close and column.lower() == close[0]), None)
    suggestion = f"did you mean '{match}'?" if match else None
    return Diagnostic(
        "P002",
        f"{_title(use.signal)} reads column '{use.column}', which source '{reader.source_name}' does not have",
        use.signal.place_of(*use.path),
        label=suggestion,
        notes=(
            f"columns of {reader.source_name}: {', '.join(sorted(snapshot.columns)) or 'none'}",
            suggestion or "name a column that is there, or add it with a `sql:` source",
        ),
    )


def _wrong_type(use: ColumnUse, type_name: str, words: str) -> Diagnostic:
    field = ".".join(str(step) for step in use.path if isinstance(step, str))
    return Diagnostic(
        "P003",
        f"{_title(use.signal)} needs {words} as {field}; column '{use.column}' is {type_name}",
        use.signal.place_of(*use.path),
        label=f"is {type_name}",
        notes=(f"name another column, or cast it in a `sql:` source: select *, cast({use.column} as ...)",),
    )


def _denied(use: ColumnUse) -> Diagnostic:
    return Diagnostic(
        "P005",
        f"{_title(use.signal)} reads column '{use.column}', which a branch denies to everybody",
        use.signal.place_of(*use.path),
        label="denied",
        notes=("see privacy.deny_columns of the branches; use another column",),
    )


def _denied_in_sql(signal: Signal, denied: set[str]) -> Iterator[Diagnostic]:
    """Queries and predicates that mention a denied column; the engine would refuse them later and less clearly."""
    texts = [(("where",), "where", getattr(signal.definition, "where", None) or "")]
    texts += [
        (("source",), f"the query of source '{name}'", source.sql)
        for name, source in sorted(signal.sources.items())
        if isinstance(source, SqlSource)
    ]
    for path, words, sql in texts:
        for column in sorted(denied & {token.text.lower() for token in identifiers(sql)}):
            yield Diagnostic(
                "P005",
                f"{_title(signal)} mentions column '{column}' in {words}, which a branch denies to everybody",
                signal.place_of(*path),
                label="denied",
                notes=("see privacy.deny_columns of the branches; leave the column out",),
            )


def check_types(spec: GraphSpec, snapshots: Snapshots) -> None:
    """Keys of one node type must have one type in every source that names them: 7 is not '7'.

    Raises:
        MergeConflict: P001 with a `dtype_mismatch` for every key that differs from the node type's own.
    """
    uses: dict[str, list[tuple[ColumnUse, str]]] = {}
    for _, signal in sorted(spec.signals.items()):
        for use in column_uses(signal):
            type_name = _snapshot(spec, signal, snapshots).columns.get(use.column)
            if use.node is not None and type_name is not None:
                uses.setdefault(use.node, []).append((use, type_name))
    conflicts = [conflict for node, found in sorted(uses.items()) for conflict in _mismatches(node, found)]
    if conflicts:
        raise MergeConflict(conflicts)


def _mismatches(node: str, uses: list[tuple[ColumnUse, str]]) -> Iterator[Conflict]:
    """The node's own key decides; without one, the first signal by kind and name."""
    first, type_name = min(uses, key=lambda found: found[0].signal.key != ("node", node))
    for use, other in uses:
        if type_family(other) != type_family(type_name):
            yield Conflict(
                "dtype_mismatch",
                pointer((SECTIONS[use.signal.kind], use.signal.name, *map(str, use.path))),
                use.signal.place_of(*use.path),
                first.signal.place_of(*first.path),
                f"keys of '{node}' are {type_name} in {_title(first.signal)} (column '{first.column}') "
                f"and {other} in {_title(use.signal)} (column '{use.column}')",
                f"cast it: add a `sql:` source with cast({use.column} as {type_name}) and read that; "
                "a new source changes nothing for others",
            )
