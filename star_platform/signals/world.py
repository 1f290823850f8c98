"""What the rules may look at: one file, all files together, and the settings of star.yaml."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from star_platform.signals.document import Document
from star_platform.signals.locate import Steps
from star_platform.signals.model import Branch, Edge, Feature, IdFeature
from star_platform.signals.tree import MappingNode, ScalarNode


@dataclass(frozen=True)
class Draft:
    """A file whose YAML could be read: the branch without its broken parts, and which those are."""

    document: Document
    branch: Branch
    broken: frozenset[Steps] = frozenset()
    """The parts left out: `(section, name)`, or a top-level field."""
    wrong: frozenset[Steps] = frozenset()
    """The fields already reported."""

    def names(self, section: str) -> set[str]:
        """Every name that the file declares in `section`, broken declarations included."""
        declared = getattr(self.branch, section)
        return set(declared) | {str(steps[1]) for steps in self.broken if len(steps) == 2 and steps[0] == section}

    @property
    def ready(self) -> bool:
        return self.branch.status == "ready"


@dataclass(frozen=True)
class Context:
    """What star.yaml offers; None: not known, so not checked. `alone`: other branch files are not at hand."""

    variables: Mapping[str, str] | None = None
    connections: Collection[str] | None = None
    alone: bool = False
    unread: tuple[str, ...] = ()
    """Files that could not be read at all: what they declare is unknown."""

    def without(self, unread: Iterable[str]) -> Context:
        return replace(self, unread=tuple(unread))


@dataclass(frozen=True)
class World:
    """All files and the settings."""

    drafts: Sequence[Draft]
    context: Context

    @property
    def complete(self) -> bool:
        """Whether a name that no file declares is really declared nowhere."""
        return not self.context.alone and not self.context.unread

    def declaring(self, section: str, name: str) -> list[Draft]:
        return [draft for draft in self.drafts if name in draft.names(section)]

    def names(self, section: str) -> set[str]:
        return {name for draft in self.drafts for name in draft.names(section)}

    def visible(self, draft: Draft) -> list[Draft]:
        """The files whose declarations `draft` may build on: itself, the ready ones, and for a draft all."""
        return [other for other in self.drafts if other is draft or other.ready or not draft.ready]

    def edge(self, draft: Draft, name: str) -> Edge | None:
        """The edge `name`, the file's own before any other's."""
        for other in sorted(self.visible(draft), key=lambda item: item is not draft):
            if name in other.branch.edges:
                return other.branch.edges[name]
        return None

    def feature(self, draft: Draft, name: str) -> Feature | None:
        """The feature `name`, the file's own before any other's."""
        for other in sorted(self.visible(draft), key=lambda item: item is not draft):
            if name in other.branch.features:
                return other.branch.features[name]
        return None


@dataclass(frozen=True)
class Use:
    """One column that a declaration reads, and where the file says so."""

    column: str
    steps: Steps


def columns_used(branch: Branch) -> Iterator[Use]:
    """Every column that `branch` names outside SQL text."""
    for name, node in branch.nodes.items():
        yield from _named(("nodes", name), node, "key", "created_at")
    for name, edge in branch.edges.items():
        yield from _edge_columns(("edges", name), edge)
    for name, feature in branch.features.items():
        if isinstance(feature, IdFeature):
            continue
        yield from _named(("features", name), feature, "key", "valid_from", "column")
        for index, column in enumerate(getattr(feature, "columns", ())):
            yield Use(column, ("features", name, "columns", index))
    for name, objective in branch.objectives.items():
        yield from _named(("objectives", name), objective, "label")
    for name, cohort in branch.cohorts.items():
        yield from _named(("cohorts", name), cohort, "key", "column")
    if branch.privacy.opt_out is not None:
        yield from _named(("privacy", "opt_out"), branch.privacy.opt_out, "key")


def _edge_columns(steps: Steps, edge: Edge) -> Iterator[Use]:
    yield Use(edge.src.key, (*steps, "src", "key"))
    yield Use(edge.dst.key, (*steps, "dst", "key"))
    yield from _named(steps, edge, "timestamp")
    if edge.weight is not None and edge.weight.column is not None:
        yield Use(edge.weight.column, (*steps, "weight", "column"))


def _named(steps: Steps, declaration: object, *fields: str) -> Iterator[Use]:
    for name in fields:
        value = getattr(declaration, name, None)
        if isinstance(value, str):
            yield Use(value, (*steps, name))


@dataclass(frozen=True)
class Reference:
    """A name of another declaration; `sentence` opens the message about it."""

    section: str
    name: str
    steps: Steps
    sentence: str


def references(draft: Draft) -> Iterator[Reference]:
    """Every source, node, edge and feature that the file names, in declarations that are wrong elsewhere too."""
    for pattern, section, sentence in _REFERENCES:
        for steps in _matching(draft.document, pattern):
            node = draft.document.node(*steps)
            if isinstance(node, ScalarNode) and isinstance(node.value, str) and steps not in draft.wrong:
                yield Reference(section, node.value, steps, sentence.format(*steps))


_REFERENCES = (
    (("nodes", "*", "source"), "sources", "node '{1}' reads"),
    (("edges", "*", "source"), "sources", "edge '{1}' reads"),
    (("features", "*", "source"), "sources", "feature '{1}' reads"),
    (("cohorts", "*", "source"), "sources", "cohort '{1}' reads"),
    (("privacy", "opt_out", "source"), "sources", "privacy.opt_out reads"),
    (("edges", "*", "src", "node"), "nodes", "edge '{1}' starts at"),
    (("edges", "*", "dst", "node"), "nodes", "edge '{1}' points to"),
    (("cohorts", "*", "node"), "nodes", "cohort '{1}' divides"),
    (("privacy", "opt_out", "node"), "nodes", "privacy.opt_out removes"),
    (("objectives", "*", "edge"), "edges", "objective '{1}' predicts"),
    (("objectives", "*", "node"), "nodes", "objective '{1}' classifies"),
    (("objectives", "*", "feature"), "features", "objective '{1}' predicts"),
    (("objectives", "*", "negatives", "edge"), "edges", "objective '{1}' takes negatives from"),
)


def _matching(document: Document, pattern: tuple[str, ...]) -> Iterator[Steps]:
    if "*" not in pattern:
        yield pattern
        return
    entries = document.node(pattern[0])
    for key, _ in entries.entries if isinstance(entries, MappingNode) else ():
        yield (pattern[0], str(key.value), *pattern[2:])


def sql_texts(branch: Branch) -> Iterator[tuple[str, Steps]]:
    """Every piece of SQL text in `branch`: queries and predicates."""
    for name, source in branch.sources.items():
        if hasattr(source, "sql"):
            yield source.sql, ("sources", name, "sql")
    for name, edge in branch.edges.items():
        if edge.where is not None:
            yield edge.where, ("edges", name, "where")
    if branch.privacy.opt_out is not None and branch.privacy.opt_out.where is not None:
        yield branch.privacy.opt_out.where, ("privacy", "opt_out", "where")
