"""What changed since the base release: signals, data, settings, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from star_platform.errors import Place
from star_platform.planning import categories
from star_platform.planning.base import BaseRelease, BaseSignal
from star_platform.planning.canonical import canonical
from star_platform.planning.categories import Category, ChangeKind, worst
from star_platform.planning.differences import Difference, differences
from star_platform.planning.fingerprint import resolved_definition
from star_platform.planning.settings import StageSettings, settings_json
from star_platform.planning.snapshot import Snapshots, SourceSnapshot
from star_platform.planning.sources import source_id
from star_platform.planning.spec import SECTIONS, GraphSpec, Signal, SignalKey
from star_platform.signals.model import TextFeature

Action = Literal["added", "changed", "removed"]


@dataclass(frozen=True)
class FieldChange:
    """One field, as a JSON pointer into the resolved declaration, or `/data`, `/owner`, `/branch`."""

    pointer: str
    old: Any
    new: Any
    category: Category
    reason: str = ""


@dataclass(frozen=True)
class Change:
    """One signal (or section of the settings) that differs from the base release."""

    action: Action
    kind: ChangeKind
    name: str
    category: Category
    place: Place | None
    owner: str | None = None
    fields: tuple[FieldChange, ...] = ()


def diff(
    base: BaseRelease | None, spec: GraphSpec, snapshots: Snapshots, settings: StageSettings
) -> tuple[Change, ...]:
    """Every change from `base` to what is declared now; all of it is added when there is no base.

    Signals are compared by what they declare and by the hash of their data, never by fingerprint, so a new recipe of
    fingerprints is no change.
    """
    if base is None:
        return tuple(
            Change("added", kind, name, Category.ADDITIVE, signal.place, signal.owner)
            for (kind, name), signal in sorted(spec.signals.items(), key=lambda item: _order(item[0]))
        )
    return (*_signals(base, spec, snapshots), *_deny_columns(base, spec), *_settings(base, spec, settings))


def _order(key: SignalKey) -> tuple[int, str]:
    """As a branch file is read: nodes, edges, features, objectives."""
    return list(SECTIONS).index(key[0]), key[1]


def _signals(base: BaseRelease, spec: GraphSpec, snapshots: Snapshots) -> Iterator[Change]:
    for key in sorted({*base.signals, *spec.signals}, key=_order):
        kind, name = key
        old, new = base.signals.get(key), spec.signals.get(key)
        if old is None and new is not None:
            yield Change("added", kind, name, categories.of_added(kind), new.place, new.owner)
        elif new is None and old is not None:
            yield Change("removed", kind, name, categories.of_removed(kind, old.definition), old.place, old.owner)
        elif old is not None and new is not None:
            fields = (
                *_identity_fields(old, new),
                *_definition_fields(old, new),
                *_data_fields(base, old, new, snapshots),
            )
            if fields:
                category = worst(field.category for field in fields)
                yield Change("changed", kind, name, category, new.place, new.owner, fields)


def _identity_fields(old: BaseSignal, new: Signal) -> Iterator[FieldChange]:
    if old.owner != new.owner:
        yield FieldChange("/owner", old.owner, new.owner, Category.METADATA)
    declared_by = new.declared_by or (new.branch,)
    if old.declared_by != declared_by:
        yield FieldChange("/branch", ", ".join(old.declared_by), ", ".join(declared_by), Category.METADATA)


def _definition_fields(old: BaseSignal, new: Signal) -> Iterator[FieldChange]:
    definition = resolved_definition(new)
    for change in differences(old.definition, definition):
        category = categories.of_field(new.kind, new.name, change, definition)
        yield FieldChange(change.pointer, change.old, change.new, category)


def _data_fields(base: BaseRelease, old: BaseSignal, new: Signal, snapshots: Snapshots) -> Iterator[FieldChange]:
    """Other rows, told apart from another declaration; a signal that got or lost its source has no such change."""
    if old.source is None or new.source_name is None:
        return
    before, now = base.snapshots[old.source], snapshots[source_id(new.source_name, new.sources)]
    if before.hash == now.hash:
        return
    key = getattr(new.definition, "key", None)
    types = (before.columns.get(key), now.columns.get(key)) if key is not None else (None, None)
    key_type_changed = None not in types and types[0] != types[1]
    category = categories.of_data(new.kind, canonical(new.definition), key_type_changed=key_type_changed)
    reason = f"key {key}: {types[0]} -> {types[1]}" if key_type_changed else ""
    yield FieldChange("/data", _data(before), _data(now), category, reason)


def _data(snapshot: SourceSnapshot) -> dict[str, Any]:
    return {"rows": snapshot.rows, "hash": snapshot.hash}


def _deny_columns(base: BaseRelease, spec: GraphSpec) -> Iterator[Change]:
    old, new = list(base.deny_columns), sorted(spec.deny_columns)
    if old != new:
        change = Difference(("deny_columns",), old, new)
        category = categories.of_field("privacy", "deny_columns", change, {})
        field = FieldChange(change.pointer, old, new, category)
        yield Change("changed", "privacy", "deny_columns", category, None, fields=(field,))


def _settings(base: BaseRelease, spec: GraphSpec, settings: StageSettings) -> Iterator[Change]:
    now = settings_json(settings)
    if not any(isinstance(feature, TextFeature) for feature in spec.features.values()):
        now["text"] = base.settings.get("text", {})  # nobody uses it
    for section in sorted({*base.settings, *now}):
        fields = tuple(
            FieldChange(change.pointer, change.old, change.new, categories.of_field("settings", section, change, {}))
            for change in differences(base.settings.get(section, {}), now.get(section, {}))
        )
        if fields:
            category = worst(field.category for field in fields)
            yield Change("changed", "settings", section, category, None, fields=fields)
