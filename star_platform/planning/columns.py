"""Which columns a signal reads, and as what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from star_platform.planning.spec import GraphSpec, Signal
from star_platform.signals.model import LinkPrediction

Role = Literal["key", "time", "number", "vector", "label", "text", "value"]
"""What a column is read as; `types.ACCEPTED` says which types fit."""


class ColumnUse(NamedTuple):
    """Column `column` is read as `role`; `path` leads to its name inside the declaration of `signal`."""

    signal: Signal
    path: tuple[str | int, ...]
    column: str
    role: Role
    node: str | None = None
    """The node type of which a key column holds keys."""


def column_uses(signal: Signal) -> Iterator[ColumnUse]:
    """Every column that `signal` names, in the order of its declaration; those of an objective's edge for its label."""
    definition = signal.definition
    if signal.kind == "edge":
        for side in ("src", "dst"):
            end = getattr(definition, side)
            yield ColumnUse(signal, (side, "key"), end.key, "key", end.node)
        if definition.timestamp is not None:
            yield ColumnUse(signal, ("timestamp",), definition.timestamp, "time")
        if definition.weight is not None and definition.weight.column is not None:
            yield ColumnUse(signal, ("weight", "column"), definition.weight.column, "number")
    elif signal.kind == "objective":  # a class is a value of a feature, which names its column itself
        if isinstance(definition, LinkPrediction) and definition.label is not None:
            yield ColumnUse(signal, ("label",), definition.label, "label")
    elif signal.source_name is not None:
        yield from _keyed(signal, definition)


def _keyed(signal: Signal, definition: Any) -> Iterator[ColumnUse]:
    """Columns of a node, feature, cohort or opt-out."""
    if definition.key is not None:
        yield ColumnUse(signal, ("key",), definition.key, "key", node_of(signal))
    if signal.kind == "node" and definition.created_at is not None:
        yield ColumnUse(signal, ("created_at",), definition.created_at, "time")
    if signal.kind == "cohort":
        yield ColumnUse(signal, ("column",), definition.column, "value")
    if signal.kind != "feature":
        return
    if definition.valid_from is not None:
        yield ColumnUse(signal, ("valid_from",), definition.valid_from, "time")
    if definition.kind in ("categorical", "vector"):
        role: Role = "vector" if definition.kind == "vector" else "value"
        yield ColumnUse(signal, ("column",), definition.column, role)
    else:
        role = "text" if definition.kind == "text" else "number"
        for position, column in enumerate(definition.columns):
            yield ColumnUse(signal, ("columns", position), column, role)


def node_of(signal: Signal) -> str | None:
    """The node type that a node, feature, cohort or opt-out is about."""
    if signal.kind == "node":
        return signal.name
    if signal.kind == "feature":
        return signal.name.partition(".")[0]
    node: str | None = getattr(signal.definition, "node", None)
    return node


def reading_signal(spec: GraphSpec, signal: Signal) -> Signal:
    """The signal whose source holds the columns: an objective's label is a column of its edge's rows."""
    return spec.signals["edge", signal.definition.edge] if isinstance(signal.definition, LinkPrediction) else signal
