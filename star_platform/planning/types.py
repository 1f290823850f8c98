"""The merged spec against the data: missing columns, denied columns, types that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from star_platform.errors import Conflict, Diagnostic, MergeConflict, PlanError
from star_platform.planning.columns import ColumnUse, Role, column_uses, reading_signal
from star_platform.planning.differences import pointer
from star_platform.planning.snapshot import Snapshots, SourceSnapshot, TypeFamily, type_family
from star_platform.planning.sources import source_id
from star_platform.planning.spec import SECTIONS, GraphSpec, Signal
from star_platform.signals.suggest import did_you_mean, known

NUMBERS: frozenset[TypeFamily] = frozenset({"integer", "float", "decimal", "boolean"})
IDS: frozenset[TypeFamily] = frozenset(get_args(TypeFamily)) - {"list", "other"}
ACCEPTED: Mapping[Role, tuple[frozenset[TypeFamily], str]] = {
    "time": (frozenset({"timestamp", "date", "string"}), "a timestamp, or a date"),
    "number": (NUMBERS, "a number"),
    "vector": (frozenset({"list"}), "a list or array of numbers"),
    "label": (NUMBERS, "a boolean, or a number that is 0 or 1"),
    "key": (IDS, "an id: an integer, a string, a uuid"),
}
"""Which families of types a role takes, and how to say so; roles that are not here take any.

A number is no time, since its unit cannot be told; text is, as far as the engine can parse it."""


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
    name = reading_signal(spec, use.signal).source_name
    suggestion = did_you_mean(use.column, snapshot.columns)
    return _diagnostic(
        "P002",
        f"{_title(use.signal)} reads column '{use.column}', which source '{name}' does not have",
        use.signal,
        use.path,
        suggestion,
        known(f"columns of {name}", snapshot.columns),
        suggestion or "name a column that is there, or add it with a `sql:` source",
    )


def _wrong_type(use: ColumnUse, type_name: str, words: str) -> Diagnostic:
    role = ".".join(str(step) for step in use.path if isinstance(step, str))
    return _diagnostic(
        "P003",
        f"{_title(use.signal)} needs {words} as {role}; column '{use.column}' is {type_name}",
        use.signal,
        use.path,
        f"is {type_name}",
        f"name another column, or cast it in a `sql:` source: select *, cast({use.column} as ...)",
    )


def _denied(use: ColumnUse) -> Diagnostic:
    return _diagnostic(
        "P005",
        f"{_title(use.signal)} reads column '{use.column}', which a branch denies to everybody",
        use.signal,
        use.path,
        "denied",
        "see privacy.deny_columns of the branches; use another column",
    )


def _diagnostic(
    code: str, message: str, signal: Signal, path: tuple[str | int, ...], label: str | None, *notes: str
) -> Diagnostic:
    place = signal.place_of(*path)
    return Diagnostic(code, message, place, signal.line_of(place), label, notes)


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
