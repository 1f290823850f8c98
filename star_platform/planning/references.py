"""What signals name that must exist: node types of edges, features and cohorts; edge types and labels of objectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from star_platform.errors import Conflict, Place
from star_platform.planning.base import BaseRelease
from star_platform.planning.differences import pointer
from star_platform.planning.spec import SECTIONS, GraphSpec, Signal, SignalKey, SignalKind
from star_platform.signals.load import LoadedBranch
from star_platform.signals.model import NodeClassification
from star_platform.signals.suggest import did_you_mean
from star_platform.signals.suggest import known as listing


class Reference(NamedTuple):
    """`path` inside the declaration names the node type, edge type or feature `target`."""

    path: tuple[str, ...]
    kind: SignalKind
    target: str


def references(signal: Signal) -> Iterator[Reference]:
    """Every other signal that this one names."""
    definition = signal.definition
    if signal.kind == "edge":
        yield Reference(("src", "node"), "node", definition.src.node)
        yield Reference(("dst", "node"), "node", definition.dst.node)
    elif signal.kind == "feature":
        yield Reference((), "node", signal.name.partition(".")[0])
    elif signal.kind == "cohort" or (signal.kind == "opt_out" and definition.node is not None):
        yield Reference(("node",), "node", definition.node)
    elif isinstance(definition, NodeClassification):
        yield Reference(("node",), "node", definition.node)
        yield Reference(("feature",), "feature", definition.feature)
    elif signal.kind == "objective":
        yield Reference(("edge",), "edge", definition.edge)
        if definition.negatives.edge is not None:
            yield Reference(("negatives", "edge"), "edge", definition.negatives.edge)


def dangling_references(
    spec: GraphSpec, drafts: Sequence[LoadedBranch], base: BaseRelease | None
) -> Iterator[Conflict]:
    """References to what no ready branch declares, each with what became of it: a draft, removed, or unknown."""
    for _, signal in sorted(spec.signals.items()):
        for path, kind, target in references(signal):
            if (kind, target) not in spec.signals:
                yield _dangling(spec, signal, Reference(path, kind, target), drafts, base)


def _dangling(
    spec: GraphSpec, signal: Signal, reference: Reference, drafts: Sequence[LoadedBranch], base: BaseRelease | None
) -> Conflict:
    path, kind, target = reference
    fate, place, way_out = _fate((kind, target), spec, drafts, base)
    return Conflict(
        "dangling_reference",
        pointer((SECTIONS[signal.kind], signal.name, *path)),
        signal.place_of(*path),
        place,
        f"{signal.kind} '{signal.name}' of branch '{signal.branch}' names {kind} '{target}', {fate}",
        f"{way_out}, or declare {SECTIONS[kind]}.{target} in a ready branch: a new signal changes nothing for others",
    )


def _fate(
    key: SignalKey, spec: GraphSpec, drafts: Sequence[LoadedBranch], base: BaseRelease | None
) -> tuple[str, Place | None, str]:
    """What became of a signal that is not there, where it stood, and what to do about it."""
    kind, name = key
    for loaded in drafts:
        if name in getattr(loaded.branch, SECTIONS[kind]):
            return (
                f"which only the draft '{loaded.branch.branch}' declares",
                loaded.place(SECTIONS[kind], name),
                f"set `status: ready` in {loaded.file}",
            )
    if base is not None and key in base.signals:
        old = base.signals[key]
        return (
            f"which branch '{old.declared_by[0]}' ({old.owner}) declared in {base.name} and no longer does",
            old.place,
            f"keep it in {old.place.file} until nothing names it",
        )
    known = [other for k, other in spec.signals if k == kind]
    suggestion = did_you_mean(name, known)
    return "which no ready branch declares", None, suggestion or listing(SECTIONS[kind], known)
