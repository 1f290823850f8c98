"""What the registry keeps of a release: enough to plan the next one against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from star_platform.errors import Place, PlanError
from star_platform.planning.fingerprint import Fingerprints, SignalFingerprint, resolved_definition
from star_platform.planning.snapshot import Snapshots, SourceSnapshot
from star_platform.planning.sources import source_id
from star_platform.planning.spec import GraphSpec, SignalKey

RECORD_VERSION = 1


@dataclass(frozen=True)
class BaseSignal:
    """A signal as a release knew it; `definition` holds its source resolved."""

    definition: Mapping[str, Any]
    owner: str
    declared_by: tuple[str, ...]
    place: Place
    fingerprint: SignalFingerprint
    source: str | None
    """Id of its source, see `BaseRelease.snapshots`."""


@dataclass(frozen=True)
class BaseRelease:
    """An earlier release as the planner sees it."""

    number: int
    plan_id: str
    signals: Mapping[SignalKey, BaseSignal] = field(default_factory=dict)
    snapshots: Mapping[str, SourceSnapshot] = field(default_factory=dict)
    deny_columns: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint of each stage by its name."""

    @property
    def name(self) -> str:
        return f"r{self.number}"

    @classmethod
    def from_record(cls, number: int, record: Mapping[str, Any]) -> BaseRelease:
        """Release `number` from what `Plan.record` gave.

        Raises:
            PlanError: P009 when the record is damaged or of a newer version of the platform.
        """
        version = record.get("schema_version")
        if version != RECORD_VERSION:
            raise PlanError(
                "P009",
                f"the record of release r{number} has schema_version {version}; this version reads {RECORD_VERSION}",
                hint="plan with the version of star-platform that made the release, or a newer one",
            )
        try:
            return cls(
                number=number,
                plan_id=record["plan_id"],
                signals={_key(text): _signal(entry) for text, entry in record["signals"].items()},
                snapshots={name: SourceSnapshot(**entry) for name, entry in record["snapshots"].items()},
                deny_columns=tuple(record["deny_columns"]),
                settings=record["settings"],
                stages=record["stages"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(
                "P009",
                f"the record of release r{number} cannot be read: {error!r}",
                hint="restore the registry from a backup; `star-platform doctor` checks it",
            ) from error


def record_signals(spec: GraphSpec, fingerprints: Fingerprints) -> dict[str, Any]:
    """The JSON of every signal by `kind/name`."""
    return {
        "/".join(key): {
            "definition": resolved_definition(signal),
            "owner": signal.owner,
            "declared_by": list(signal.declared_by or (signal.branch,)),
            "place": asdict(signal.place),
            "fingerprint": fingerprint_json(fingerprints[key]),
            "source": None if signal.source_name is None else source_id(signal.source_name, signal.sources),
        }
        for key, signal in sorted(spec.signals.items())
    }


def record_snapshots(snapshots: Snapshots) -> dict[str, Any]:
    """The JSON of every snapshot by source id."""
    return {
        name: {"hash": found.hash, "rows": found.rows, "bytes": found.bytes, "columns": dict(found.columns)}
        for name, found in sorted(snapshots.items())
    }


def fingerprint_json(fingerprint: SignalFingerprint) -> dict[str, Any]:
    """The four parts and the version."""
    return {
        "version": fingerprint.version,
        "data": fingerprint.data,
        "metadata": fingerprint.metadata,
        "parent_data": fingerprint.parent_data,
        "parent_metadata": fingerprint.parent_metadata,
    }


def _key(text: str) -> SignalKey:
    kind, _, name = text.partition("/")
    if kind not in ("node", "edge", "feature", "objective", "cohort", "opt_out"):
        raise ValueError(f"unknown kind of signal {kind!r}")
    return (kind, name)  # type: ignore[return-value]  # one of the literals above


def _signal(entry: Mapping[str, Any]) -> BaseSignal:
    return BaseSignal(
        definition=entry["definition"],
        owner=entry["owner"],
        declared_by=tuple(entry["declared_by"]),
        place=Place(**entry["place"]),
        fingerprint=SignalFingerprint(**entry["fingerprint"]),
        source=entry["source"],
    )
