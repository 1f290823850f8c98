"""Branches to one graph spec (DESIGN 4.2), or every contradiction between them at once.

Types of conflict, closed:

    key_exists            one name for two different things
    value_differs         the same thing, declared with another value of a field
    source_claimed_twice  one node type or feature, read from two sources
    deleted_and_changed   of the branches that declared it identically, one dropped it and another changed it
    dangling_reference    something names a node or edge type that no ready branch declares
    dtype_mismatch        keys of one node type have two types (needs data: `types.check_types`)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from star_platform.errors import Conflict, MergeConflict, PlanError
from star_platform.planning.base import BaseRelease
from star_platform.planning.differences import differences, pointer
from star_platform.planning.fingerprint import resolved_definition
from star_platform.planning.references import dangling_references
from star_platform.planning.sources import closure
from star_platform.planning.spec import SECTIONS, GraphSpec, Signal, SignalKind
from star_platform.signals.load import LoadedBranch
from star_platform.signals.model import Branch, OptOut


def merge(branches: Sequence[LoadedBranch], base: BaseRelease | None = None) -> GraphSpec:
    """The graph that the ready branches declare together; the order of `branches` does not matter.

    With a `base` release, a signal that one branch dropped while another changed it is a conflict too.

    Raises:
        MergeConflict: P001 with every conflict.
        PlanError: P004 for sources that read each other in a circle, P006 for an opt-out whose node type is unclear.
    """
    ready = [loaded for loaded in branches if loaded.branch.status == "ready"]
    drafts = [loaded for loaded in branches if loaded.branch.status != "ready"]
    spec, conflicts = join([declared(loaded) for loaded in ready])
    conflicts += dangling_references(spec, drafts, base)
    if base is not None:
        conflicts += deleted_and_changed(spec, ready, base)
    if conflicts:
        raise MergeConflict(sorted(set(conflicts), key=lambda conflict: (conflict.path, conflict.type, str(conflict))))
    return _with_opt_out_nodes(spec)


def declared(loaded: LoadedBranch) -> GraphSpec:
    """What one branch declares on its own; an opt-out is named after its branch."""
    branch = loaded.branch
    signals = (
        _signal(loaded, kind, name, definition)
        for kind, definitions in _definitions(branch)
        for name, definition in definitions.items()
    )
    return GraphSpec({signal.key: signal for signal in signals}, frozenset(branch.privacy.deny_columns))


def join(specs: Iterable[GraphSpec]) -> tuple[GraphSpec, list[Conflict]]:
    """Specs side by side: identical signals become one, different ones of one name are conflicts.

    Commutative, associative and idempotent. In a conflict the declaration of the first branch, by name, is kept.
    """
    specs = list(specs)
    signals = sorted(
        (signal for spec in specs for signal in spec.signals.values()),
        key=lambda signal: (signal.key, signal.branch, signal.place.file, signal.place.line, signal.place.column),
    )
    merged: dict[Any, Signal] = {}
    conflicts: list[Conflict] = []
    for key, group in groupby(signals, key=lambda signal: signal.key):
        claims = list(group)
        merged[key] = _united(claims)
        conflicts += _contradictions(claims)
    return GraphSpec(merged, frozenset().union(*(spec.deny_columns for spec in specs))), conflicts


def _definitions(branch: Branch) -> Iterator[tuple[SignalKind, dict[str, Any]]]:
    yield "node", dict(branch.nodes)
    yield "edge", dict(branch.edges)
    yield "feature", dict(branch.features)
    yield "objective", dict(branch.objectives)
    yield "cohort", dict(branch.cohorts)
    if branch.privacy.opt_out is not None:
        yield "opt_out", {branch.branch: branch.privacy.opt_out}


def _signal(loaded: LoadedBranch, kind: SignalKind, name: str, definition: Any) -> Signal:
    branch = loaded.branch
    steps: tuple[str | int, ...] = ("privacy", "opt_out") if kind == "opt_out" else (SECTIONS[kind], name)
    source = getattr(definition, "source", None)
    return Signal(
        kind=kind,
        name=name,
        definition=definition,
        sources={} if source is None else closure(source, branch.sources),
        branch=branch.branch,
        owner=branch.owner,
        place=loaded.place(*steps),
        declared_by=(branch.branch,),
        places={
            path[len(steps) :]: loaded.value_place(*path)
            for path in loaded.places
            if path[: len(steps)] == steps and len(path) > len(steps)
        },
        text=loaded.source,
    )


def _united(claims: Sequence[Signal]) -> Signal:
    first = claims[0]
    names = tuple(sorted({name for claim in claims for name in claim.declared_by}))
    return replace(first, declared_by=names)


def _contradictions(claims: Sequence[Signal]) -> Iterator[Conflict]:
    """Every way in which later claims differ from the first."""
    ours, *others = claims
    definition = resolved_definition(ours)
    for theirs in others:
        found = list(differences(definition, resolved_definition(theirs)))
        if not found:
            continue
        if type(ours.definition) is not type(theirs.definition):
            yield _key_exists(ours, theirs)
            continue
        if any(difference.path[0] == "source" for difference in found):
            yield _sources_differ(ours, theirs)
        for path, old, new in found:
            if path[0] != "source":
                yield _value_differs(ours, theirs, path, old, new)


def _path(signal: Signal, *steps: str) -> str:
    return pointer((SECTIONS[signal.kind], signal.name, *steps))


def _apart(signal: Signal) -> str:
    """The additive way out: a new signal changes nobody's."""
    other = f"{signal.name}_2"
    return f"or declare yours as a new signal {SECTIONS[signal.kind]}.{other}, which changes nothing for others"


def _key_exists(ours: Signal, theirs: Signal) -> Conflict:
    return Conflict(
        "key_exists",
        _path(ours),
        ours.place,
        theirs.place,
        f"{ours.kind} '{ours.name}' is {ours.definition.kind} in branch '{ours.branch}' "
        f"and {theirs.definition.kind} in branch '{theirs.branch}'",
        f"agree with {ours.owner} on one of them, {_apart(ours)}",
    )


def _sources_differ(ours: Signal, theirs: Signal) -> Conflict:
    claimed = ours.kind in ("node", "feature")
    names = f"'{ours.source_name}' of branch '{ours.branch}' and '{theirs.source_name}' of branch '{theirs.branch}'"
    return Conflict(
        "source_claimed_twice" if claimed else "value_differs",
        _path(ours, "source"),
        ours.place_of("source"),
        theirs.place_of("source"),
        f"{ours.kind} '{ours.name}' is read from two sources: {names}",
        f"agree with {ours.owner} on one source, {_apart(ours)}",
    )


def _value_differs(ours: Signal, theirs: Signal, path: tuple[str, ...], old: Any, new: Any) -> Conflict:
    field = ".".join(path)
    return Conflict(
        "value_differs",
        _path(ours, *path),
        ours.place_of(*path),
        theirs.place_of(*path),
        f"{ours.kind} '{ours.name}' has {field} {show(old)} in branch '{ours.branch}' "
        f"and {show(new)} in branch '{theirs.branch}'",
        f"agree with {ours.owner} on one value, {_apart(ours)}",
    )


def show(value: Any) -> str:
    """A value of a declaration in a sentence."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items() if item is not None) + "}"
    return str(value)


def deleted_and_changed(spec: GraphSpec, ready: Sequence[LoadedBranch], base: BaseRelease) -> Iterator[Conflict]:
    """Signals that several branches declared in the base release, where one dropped it and another changed it."""
    files = {loaded.branch.branch: loaded for loaded in ready}
    for key, old in sorted(base.signals.items()):
        new = spec.signals.get(key)
        if new is None or not any(differences(old.definition, resolved_definition(new))):
            continue
        dropped = [name for name in old.declared_by if name not in new.declared_by]
        if not dropped or not set(new.declared_by) & set(old.declared_by):
            continue
        by = dropped[0]
        section = SECTIONS[new.kind]
        yield Conflict(
            "deleted_and_changed",
            _path(new),
            new.place,
            files[by].place(section) if by in files else old.place,
            f"{new.kind} '{new.name}' was dropped by branch '{by}' since {base.name} and changed by '{new.branch}'",
            f"drop it in both, or restore it as it was and declare the change as a new signal {section}.{new.name}_2, "
            "which changes nothing for others",
        )


def _with_opt_out_nodes(spec: GraphSpec) -> GraphSpec:
    """Fill in the node type of opt-outs that leave it to the key column."""
    signals = dict(spec.signals)
    for key, signal in spec.signals.items():
        if signal.kind == "opt_out" and signal.definition.node is None:
            node = _node_by_key(spec, signal)
            signals[key] = replace(signal, definition=signal.definition.model_copy(update={"node": node}))
    return GraphSpec(signals, spec.deny_columns)


def _node_by_key(spec: GraphSpec, signal: Signal) -> str:
    opt_out: OptOut = signal.definition
    found = [name for name, node in spec.nodes.items() if node.key == opt_out.key]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{name} ({node.key})" for name, node in spec.nodes.items() if node.key) or "none"
    raise PlanError(
        "P006",
        f"the opt-out of branch '{signal.branch}' has key '{opt_out.key}', "
        + (f"the key of {' and '.join(found)}" if found else "which is the key of no node type"),
        hint=f"write node: beside it; node types and their keys: {known}",
        place=signal.place_of("key"),
    )
