"""The plan of a release as a value: what changes, what is built, who is affected, what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from star_platform.errors import PlanError
from star_platform.planning.base import (
    RECORD_VERSION,
    BaseRelease,
    fingerprint_json,
    record_signals,
    record_snapshots,
)
from star_platform.planning.canonical import canonical, digest
from star_platform.planning.categories import Category, worst
from star_platform.planning.diff import Action, Change, FieldChange, diff
from star_platform.planning.estimate import Estimate, total
from star_platform.planning.fingerprint import Fingerprints, creators, fingerprints
from star_platform.planning.impact import Affected, Consumer, Notice, affected_consumers
from star_platform.planning.settings import StageSettings, settings_json
from star_platform.planning.snapshot import Snapshots
from star_platform.planning.spec import GraphSpec
from star_platform.planning.stages import Exists, Stage, build_stages
from star_platform.planning.types import check_data

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What releasing `spec` on top of `base` means. Void once `base` is no longer the latest release."""

    id: str
    base: BaseRelease | None
    spec: GraphSpec
    snapshots: Snapshots
    fingerprints: Fingerprints
    settings: StageSettings
    changes: tuple[Change, ...]
    stages: tuple[Stage, ...]
    consumers: tuple[Affected, ...] = ()
    notices: tuple[Notice, ...] = ()
    """About dates of older releases: no part of what the plan does, and not in its id."""
    conflicts: tuple[()] = ()
    """Always empty: a spec with conflicts does not merge. Kept so that readers of the JSON can rely on the field."""

    @property
    def base_number(self) -> int | None:
        return None if self.base is None else self.base.number

    @property
    def nothing_changed(self) -> bool:
        """No signal, data, setting or denied column differs from the base release."""
        return self.base is not None and not self.changes

    @cached_property
    def category(self) -> Category:
        """The worst of all changes; metadata when there are none."""
        return worst(change.category for change in self.changes)

    @property
    def deny_columns(self) -> tuple[str, ...]:
        return tuple(sorted(self.spec.deny_columns))

    @property
    def to_build(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.action == "build")

    @property
    def to_reuse(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.action == "reuse")

    @cached_property
    def estimate(self) -> Estimate:
        """Of all stages that have to be built."""
        return total(stage.estimate for stage in self.to_build)

    def count(self, action: Action) -> int:
        """How many signals are added, changed or removed; settings and privacy count as changed."""
        return sum(change.action == action for change in self.changes)

    @property
    def unchanged(self) -> int:
        """Signals that are as they were."""
        touched = {(change.kind, change.name) for change in self.changes}
        return sum(1 for key in self.spec.signals if key not in touched)

    def record(self) -> dict[str, Any]:
        """What the registry keeps of the release, as JSON; `BaseRelease.from_record` reads it."""
        return {
            "schema_version": RECORD_VERSION,
            "plan_id": self.id,
            "base": self.base_number,
            "category": str(self.category),
            "signals": record_signals(self.spec, self.fingerprints),
            "snapshots": record_snapshots(self.snapshots),
            "deny_columns": list(self.deny_columns),
            "settings": settings_json(self.settings),
            "stages": {stage.name: stage.fingerprint for stage in self.stages},
            "units": {stage.name: stage.estimate.units for stage in self.to_build},
        }


def make_plan(
    spec: GraphSpec,
    snapshots: Snapshots,
    settings: StageSettings,
    *,
    exists: Exists,
    base: BaseRelease | None = None,
    consumers: Sequence[Consumer] = (),
    history: Mapping[str, float] | None = None,
    notices: Sequence[Notice] = (),
) -> Plan:
    """The plan that turns the merged `spec` into the next release.

    Args:
        spec: what `merge` gave.
        snapshots: what `take_snapshots` gave for it.
        settings: of star.yaml.
        exists: is an artefact in the store?
        base: the release that this one would follow; None for the first.
        consumers: those who read embeddings.
        history: measured seconds per unit by kind of stage, see `estimate.rates`.
        notices: what is to be said about the dates of older releases.

    Raises:
        PlanError: P002, P003, P005 for columns (`types.check_data`), P007 for a graph that cannot be built,
            P008 for one that cannot be trained.
        MergeConflict: P001 when keys of one node type have two types.
    """
    _check_whole(spec)
    check_data(spec, snapshots)
    prints = fingerprints(spec, snapshots)
    changes = diff(base, spec, snapshots, settings)
    stages = build_stages(spec, prints, snapshots, settings, exists, base, history, changed=bool(changes))
    return Plan(
        id=_plan_id(base, spec, prints, settings),
        base=base,
        spec=spec,
        snapshots=snapshots,
        fingerprints=prints,
        settings=settings,
        changes=changes,
        stages=stages,
        consumers=affected_consumers(consumers, changes, spec, base),
        notices=tuple(notices),
    )


def _plan_id(base: BaseRelease | None, spec: GraphSpec, prints: Fingerprints, settings: StageSettings) -> str:
    """Twelve hex digits: enough to tell plans apart, short enough to read out."""
    return digest(
        {
            "base": None if base is None else [base.number, base.plan_id],
            "signals": {"/".join(key): fingerprint_json(found) for key, found in prints.items()},
            "owners": {"/".join(key): [signal.owner, signal.declared_by] for key, signal in spec.signals.items()},
            "deny_columns": spec.deny_columns,
            "settings": settings_json(settings),
            "served": [vars(space) for space in settings.served],
        }
    )[:12]


def _check_whole(spec: GraphSpec) -> None:
    """A graph needs nodes that somebody brings, and something to learn."""
    if not spec.nodes:
        raise PlanError(
            "P007",
            "no ready branch declares a node type",
            hint="set `status: ready` in a branch that declares one; `star-platform init` writes one to start from",
        )
    for name, node in spec.nodes.items():
        if node.source is None and not creators(spec, name):
            signal = spec.signals["node", name]
            raise PlanError(
                "P007",
                f"nothing brings nodes of type '{name}': it has no source, and no edge creates them",
                hint="give it a source and a key, or write `unknown: create` at an edge's endpoint",
                place=signal.place,
            )
    if not spec.objectives:
        raise PlanError(
            "P008",
            "no ready branch declares an objective, so there is nothing to train for",
            hint="declare one under `objectives:`, such as {kind: link-prediction, edge: <an edge type>}",
        )
    if not any(node.kind == "entity" for node in spec.nodes.values()):
        raise PlanError(
            "P008",
            "no node type is an entity, so there would be no embedding to publish",
            hint="set `kind: entity` on the node types whose embeddings somebody reads",
        )


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as `plan --json` prints it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "plan_id": plan.id,
        "base": None if plan.base is None else plan.base.name,
        "nothing_changed": plan.nothing_changed,
        "category": str(plan.category),
        "counts": {
            "added": plan.count("added"),
            "changed": plan.count("changed"),
            "removed": plan.count("removed"),
            "unchanged": plan.unchanged,
        },
        "changes": [_change_json(change) for change in plan.changes],
        "stages": [stage_json(stage) for stage in plan.stages],
        "estimate": _estimate_json(plan.estimate),
        "consumers": [canonical(consumer) for consumer in plan.consumers],
        "notices": [notice_json(notice) for notice in plan.notices],
        "deny_columns": list(plan.deny_columns),
        "conflicts": [],
        "fingerprints": {"/".join(key): fingerprint_json(found) for key, found in plan.fingerprints.items()},
    }


def stages_json(stages: Iterable[Stage]) -> list[dict[str, Any]]:
    """The stages as `release --explain --json` prints them."""
    return [stage_json(stage) for stage in stages]


def stage_json(stage: Stage) -> dict[str, Any]:
    """One stage."""
    return {
        "name": stage.name,
        "kind": stage.kind,
        "subject": stage.subject,
        "action": stage.action,
        "fingerprint": stage.fingerprint,
        "what": stage.what,
        "why": stage.why,
        "inputs": list(stage.inputs),
        "estimate": _estimate_json(stage.estimate),
    }


def notice_json(notice: Notice) -> dict[str, Any]:
    """One notice, here and in `status --json`."""
    return {**vars(notice), "sunset": notice.sunset.isoformat()}


def _estimate_json(estimate: Estimate) -> dict[str, Any]:
    return {
        "seconds": estimate.seconds,
        "memory_bytes": estimate.memory_bytes,
        "store_bytes": estimate.store_bytes,
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "category": str(change.category),
        "owner": change.owner,
        "place": None if change.place is None else str(change.place),
        "fields": [_field_json(field) for field in change.fields],
    }


def _field_json(field: FieldChange) -> dict[str, Any]:
    return {
        "pointer": field.pointer,
        "old": field.old,
        "new": field.new,
        "category": str(field.category),
        "reason": field.reason,
    }
