"""Four-part fingerprints: what a signal is, what it is called, and the same of what it depends on.

    data             definition, definitions of its sources, hash of their data
    metadata         declared facts that leave its arrays as they are (`METADATA_FIELDS`)
    parent_data      the data parts of what it depends on
    parent_metadata  the metadata parts of what it depends on

Equal `data` and `parent_data` means equal arrays: the built artefact is reused. Owner, branch, description, comments,
order and local names of sources enter no part. A recipe that changes any value for an unchanged signal must raise
`FINGERPRINT_VERSION`; a test freezes known values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from star_platform.planning.canonical import canonical, digest
from star_platform.planning.snapshot import Snapshots
from star_platform.planning.sources import resolved_source, source_id
from star_platform.planning.spec import GraphSpec, Signal, SignalKey, SignalKind
from star_platform.signals.model import LinkPrediction, NodeClassification

FINGERPRINT_VERSION = 1

METADATA_FIELDS: Mapping[SignalKind, frozenset[str]] = {"node": frozenset({"kind"})}
"""Top-level fields that no part of the graph's arrays depends on: they are read when the graph is assembled."""


@dataclass(frozen=True)
class SignalFingerprint:
    """The four parts of one signal, each 32 hex digits, and the recipe that made them."""

    data: str
    metadata: str
    parent_data: str
    parent_metadata: str
    version: int = FINGERPRINT_VERSION

    @cached_property
    def physical(self) -> str:
        """Identity of the built arrays."""
        return digest([self.version, self.data, self.parent_data])

    @cached_property
    def full(self) -> str:
        """Identity of the signal, arrays and declared facts."""
        return digest([self.version, self.data, self.metadata, self.parent_data, self.parent_metadata])


Fingerprints = Mapping[SignalKey, SignalFingerprint]


def resolved_definition(signal: Signal) -> dict[str, Any]:
    """The definition as JSON, defaults filled, with its source in place of the source's local name."""
    definition: dict[str, Any] = canonical(signal.definition)
    if signal.source_name is not None:
        definition["source"] = resolved_source(signal.source_name, signal.sources)
    return definition


def parents(spec: GraphSpec, signal: Signal) -> tuple[SignalKey, ...]:
    """What a signal's arrays depend on besides its own sources, sorted.

    A node type depends on who opts out of it and on the edge types that may create nodes of it; everything else on the
    node types that it names; an objective on its edge types, or on the feature that it predicts.
    """
    found: list[SignalKey] = []
    definition = signal.definition
    if signal.kind == "node":
        found += [("opt_out", name) for name, opt_out in spec.opt_outs.items() if opt_out.node == signal.name]
        found += [("edge", name) for name in creators(spec, signal.name)]
    elif signal.kind == "edge":
        found += [("node", definition.src.node), ("node", definition.dst.node)]
    elif signal.kind == "feature":
        found.append(("node", signal.name.partition(".")[0]))
    elif signal.kind == "cohort":
        found.append(("node", definition.node))
    elif isinstance(definition, NodeClassification):
        found += [("node", definition.node), ("feature", definition.feature)]
    elif signal.kind == "objective":
        found.append(("edge", definition.edge))
        if definition.negatives.edge is not None:
            found.append(("edge", definition.negatives.edge))
    return tuple(sorted(set(found)))


def creators(spec: GraphSpec, node: str) -> tuple[str, ...]:
    """The edge types that create nodes of type `node` for endpoints that no source lists, sorted."""
    return tuple(
        name
        for name, edge in sorted(spec.edges.items())
        if any(end.node == node and end.unknown == "create" for end in (edge.src, edge.dst))
    )


def label_columns(spec: GraphSpec, edge: str) -> tuple[str, ...]:
    """The label columns that objectives read from the rows of an edge type, sorted."""
    links = [each for each in spec.objectives.values() if isinstance(each, LinkPrediction)]
    return tuple(sorted({each.label for each in links if each.edge == edge and each.label is not None}))


def fingerprints(spec: GraphSpec, snapshots: Snapshots) -> dict[SignalKey, SignalFingerprint]:
    """The fingerprint of every signal; `snapshots` holds every source that a signal names, by source id."""
    own = {key: _own(spec, signal, snapshots) for key, signal in spec.signals.items()}
    return {key: _with_parents(spec, signal, own) for key, signal in sorted(spec.signals.items())}


def _own(spec: GraphSpec, signal: Signal, snapshots: Snapshots) -> tuple[str, str]:
    """The data and metadata part of one signal."""
    definition = resolved_definition(signal)
    aside = METADATA_FIELDS.get(signal.kind, frozenset())
    data: dict[str, Any] = {
        "kind": signal.kind,
        "name": signal.name,
        "definition": {field: value for field, value in definition.items() if field not in aside},
    }
    if signal.source_name is not None:
        data["snapshot"] = snapshots[source_id(signal.source_name, signal.sources)].hash
    if signal.kind == "edge":  # its labels are compiled beside it
        data["labels"] = label_columns(spec, signal.name)
    return digest(data), digest({field: definition[field] for field in sorted(aside)})


def _with_parents(spec: GraphSpec, signal: Signal, own: Mapping[SignalKey, tuple[str, str]]) -> SignalFingerprint:
    above = _ancestors(spec, signal)
    data, metadata = own[signal.key]
    return SignalFingerprint(
        data,
        metadata,
        parent_data=digest([[*key, own[key][0]] for key in above]),
        parent_metadata=digest([[*key, own[key][1]] for key in above]),
    )


def _ancestors(spec: GraphSpec, signal: Signal) -> tuple[SignalKey, ...]:
    """Everything above a signal. A node and an edge that creates it stand above each other, so this is no tree."""
    found: set[SignalKey] = set()
    waiting: list[SignalKey] = list(parents(spec, signal))
    while waiting:
        key = waiting.pop()
        if key not in found and key in spec.signals:
            found.add(key)
            waiting.extend(_only_known(parents(spec, spec.signals[key]), spec))
    return tuple(sorted(found - {signal.key}))


def _only_known(keys: Iterable[SignalKey], spec: GraphSpec) -> list[SignalKey]:
    return [key for key in keys if key in spec.signals]
