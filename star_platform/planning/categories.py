"""How much a change costs those who read the embeddings: `metadata < additive < retrain < breaking`, worst wins.

    metadata   no vector and no schema changes
    additive   more is published or reported; every vector that was there stays
    retrain    a new embedding space: readers need its vectors or a map to the old space
    breaking   a reader's code or meaning breaks: dimension, entity, what a vector stands for

    what                                              category    because
    first release                                     additive    nobody reads an older one
    + node, edge, feature, objective, opt-out         retrain     the model is trained on another graph
    + cohort                                          additive    reported beside the others, enters no model
    - entity node type                                breaking    its embeddings are no longer published
    - attribute node type, edge, feature, opt-out     retrain     the same entities, other vectors: a map can be fitted
    - objective                                       breaking    vectors no longer stand for what it predicted
    - cohort; ~ any field of a cohort                 metadata    only the report changes
    ~ node.kind entity -> attribute                   breaking    its embeddings are no longer published
    ~ node.kind attribute -> entity                   retrain     one more view; the others are trained anew
    ~ node.key of an entity                           breaking    readers look up by another id
    ~ node.key of an attribute                        retrain     nobody looks it up
    ~ node.source, created_at                         retrain
    ~ edge.src.node, dst.node                         breaking    the relation means something else
    ~ any other field of an edge                      retrain
    ~ any field of a feature or opt-out               retrain
    ~ objective.edge, label, node, feature, kind      breaking    what is predicted is what the vectors stand for
    ~ objective.negatives, weight                     retrain
    ~ data of a source                                retrain     same declaration, other rows
    ~ data: other type of an entity's key             breaking    readers look up by another type
    ~ settings: embedding dim                         breaking    vectors have another length
    ~ settings: text, anything else in training       retrain
    ~ settings: publishing                            additive    written elsewhere too; vectors stay
    ~ settings: compat, what training aligns with     retrain
    ~ settings: anything else in compat               additive    other maps to older spaces; vectors stay
    ~ settings: evaluation; deny_columns; owner       metadata
    anything else                                     breaking    undecided is breaking

Removing an edge is `retrain`, not `breaking`: the vectors keep their entity, length and purpose, and a compat map can
carry old readers over; whoever still needs the edge itself is a dangling reference, which does not merge at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Literal

from star_platform.planning.differences import Difference
from star_platform.planning.settings import ALIGNMENT_FIELDS
from star_platform.planning.spec import SignalKind

ChangeKind = SignalKind | Literal["settings", "privacy"]
"""Settings of star.yaml and denied columns change a release as signals do."""


class Category(StrEnum):
    """What a change costs; ordered, see `worst`."""

    METADATA = "metadata"
    ADDITIVE = "additive"
    RETRAIN = "retrain"
    BREAKING = "breaking"


_RANK = {category: rank for rank, category in enumerate(Category)}


def worst(categories: Iterable[Category]) -> Category:
    """The costliest of `categories`; metadata when there is none."""
    return max(categories, key=_RANK.__getitem__, default=Category.METADATA)


_ADDED: Mapping[str, Category] = {
    "node": Category.RETRAIN,
    "edge": Category.RETRAIN,
    "feature": Category.RETRAIN,
    "objective": Category.RETRAIN,
    "opt_out": Category.RETRAIN,
    "cohort": Category.ADDITIVE,
}
_REMOVED: Mapping[str, Category] = {
    "edge": Category.RETRAIN,
    "feature": Category.RETRAIN,
    "objective": Category.BREAKING,
    "opt_out": Category.RETRAIN,
    "cohort": Category.METADATA,
}
_RETRAIN_FIELDS: Mapping[str, frozenset[str]] = {
    "node": frozenset({"source", "created_at"}),
    "edge": frozenset({"kind", "source", "src", "dst", "timestamp", "weight", "where", "window", "dedupe", "reverse"}),
    "feature": frozenset({"kind", "source", "key", "valid_from", "columns", "column", "dim", "min_count", "transform"}),
    "objective": frozenset({"negatives", "weight"}),
    "opt_out": frozenset({"source", "key", "node", "where"}),
}
_METADATA_FIELDS: Mapping[str, frozenset[str]] = {
    "cohort": frozenset({"node", "source", "key", "column"}),
    "privacy": frozenset({"deny_columns"}),
}
_SETTINGS: Mapping[str, Category] = {
    "text": Category.RETRAIN,
    "training": Category.RETRAIN,
    "publishing": Category.ADDITIVE,
    "compat": Category.ADDITIVE,
    "evaluation": Category.METADATA,
}
DIM_FIELDS = frozenset({"dim", "embedding_dim"})
"""Fields of the training settings that give the length of the published vectors."""


def of_added(kind: ChangeKind) -> Category:
    """The category of a signal that the base release lacks."""
    return _ADDED.get(kind, Category.BREAKING)


def of_removed(kind: ChangeKind, definition: Mapping[str, Any]) -> Category:
    """The category of a signal that only the base release has."""
    if kind == "node":
        return Category.RETRAIN if definition.get("kind") == "attribute" else Category.BREAKING
    return _REMOVED.get(kind, Category.BREAKING)


def of_field(kind: ChangeKind, name: str, change: Difference, definition: Mapping[str, Any]) -> Category:
    """The category of one changed field; `definition` is the new one, `name` a section of settings or a signal."""
    top = change.path[0] if change.path else ""
    if kind == "settings":
        is_dim = name == "training" and change.path[-1:] and change.path[-1] in DIM_FIELDS
        if name == "compat" and top in ALIGNMENT_FIELDS:
            return Category.RETRAIN
        return Category.BREAKING if is_dim else _SETTINGS.get(name, Category.BREAKING)
    if kind == "edge" and change.path[1:] == ("node",):
        return Category.BREAKING
    if kind == "node" and top == "kind":
        return Category.RETRAIN if (change.old, change.new) == ("attribute", "entity") else Category.BREAKING
    if kind == "node" and top == "key":
        return Category.RETRAIN if definition.get("kind") == "attribute" else Category.BREAKING
    if top in _METADATA_FIELDS.get(kind, ()):
        return Category.METADATA
    return Category.RETRAIN if top in _RETRAIN_FIELDS.get(kind, ()) else Category.BREAKING


def of_data(kind: ChangeKind, definition: Mapping[str, Any], *, key_type_changed: bool) -> Category:
    """The category of other rows under an equal declaration."""
    if kind == "node" and key_type_changed and definition.get("kind") != "attribute":
        return Category.BREAKING
    return Category.METADATA if kind == "cohort" else Category.RETRAIN
