"""The merged graph spec: every signal of every ready branch, with the sources it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from star_platform.errors import Place
from star_platform.signals.model import Cohort, Declaration, Edge, Node, Objective, OptOut, Source

SignalKind = Literal["node", "edge", "feature", "objective", "cohort", "opt_out"]
SignalKey = tuple[SignalKind, str]

SECTIONS: Mapping[SignalKind, str] = {
    "node": "nodes",
    "edge": "edges",
    "feature": "features",
    "objective": "objectives",
    "cohort": "cohorts",
    "opt_out": "privacy",
}
"""Where a branch file declares each kind of signal."""


@dataclass(frozen=True)
class Signal:
    """One declared signal.

    `sources` holds the definition of every source that it reads, by the name its branch gives it: the one it names, and
    for a `sql:` source also those that the query refers to. Names of sources are local to a branch. Branches that
    declare one signal identically are all in `declared_by`; `branch` and `place` are those of the first by name.
    """

    kind: SignalKind
    name: str
    definition: Any
    sources: Mapping[str, Source]
    branch: str
    owner: str
    place: Place
    declared_by: tuple[str, ...] = ()
    places: Mapping[tuple[str | int, ...], Place] = field(default_factory=dict, compare=False, repr=False)
    """Where each field stands, by its path inside the declaration."""
    text: str = field(default="", compare=False, repr=False)
    """The branch file, for errors that show a line of it."""

    @property
    def key(self) -> SignalKey:
        return (self.kind, self.name)

    @property
    def source_name(self) -> str | None:
        """The source that it names, None when it reads no data of its own (id features, objectives)."""
        name: str | None = getattr(self.definition, "source", None)
        return name

    def place_of(self, *path: str | int) -> Place:
        """The place of a field, or of the nearest thing around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.place)

    def line_of(self, place: Place) -> str | None:
        """The line of the branch file that `place` is on."""
        lines = self.text.splitlines()
        return lines[place.line - 1] if place.file == self.place.file and place.line <= len(lines) else None


@dataclass(frozen=True)
class GraphSpec:
    """All signals by `(kind, name)`, sorted, and the columns that nobody may read."""

    signals: Mapping[SignalKey, Signal] = field(default_factory=dict)
    deny_columns: frozenset[str] = frozenset()

    def of_kind(self, kind: SignalKind) -> dict[str, Signal]:
        return {name: signal for (k, name), signal in sorted(self.signals.items()) if k == kind}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        return self._definitions("node")

    @cached_property
    def edges(self) -> dict[str, Edge]:
        return self._definitions("edge")

    @cached_property
    def features(self) -> dict[str, Declaration]:
        """By full name, `<node>.<feature>`."""
        return self._definitions("feature")

    @cached_property
    def objectives(self) -> dict[str, Objective]:
        return self._definitions("objective")

    @cached_property
    def cohorts(self) -> dict[str, Cohort]:
        return self._definitions("cohort")

    @cached_property
    def opt_outs(self) -> dict[str, OptOut]:
        return self._definitions("opt_out")

    def _definitions(self, kind: SignalKind) -> dict[str, Any]:
        return {name: signal.definition for name, signal in self.of_kind(kind).items()}
