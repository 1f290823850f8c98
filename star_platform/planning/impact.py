"""Which readers of embeddings a plan touches, and how; and what is to be said about releases that come to an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

from star_platform.planning.base import BaseRelease
from star_platform.planning.categories import Category, worst
from star_platform.planning.diff import Change
from star_platform.planning.spec import GraphSpec

Effect = Literal["breaks", "new-space", "pinned"]
"""`breaks`: what it reads disappears or changes its meaning; `new-space`: `latest` brings it vectors of another space
on activation; `pinned`: it stays on the release that it names."""


class Consumer(Protocol):
    """Somebody who reads embeddings: of which node types, and of which release (`latest` or `rN`)."""

    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def nodes(self) -> Sequence[str]: ...
    @property
    def release(self) -> str: ...


@dataclass(frozen=True)
class Affected:
    """A consumer that the plan touches, and what happens to it."""

    consumer: str
    owner: str
    release: str
    nodes: tuple[str, ...]
    effect: Effect
    message: str


Age = Literal["coming", "past", "overdue"]
"""`coming`: somebody reads what has a date before it; `past`: he still does after it; `overdue`: the release itself is
past its date and still there."""
DateRule = Literal["undated", "later"]
"""Whoever reads what has a date needs a date too, and none that is later: `undated` has none."""


@dataclass(frozen=True)
class Notice:
    """Something to be said about the date of a release: to whom (nobody in particular when None), and in words."""

    release: str
    sunset: date
    successor: str
    age: Age
    reader: str | None
    owner: str | None
    rule: DateRule | None
    message: str


def affected_consumers(
    consumers: Sequence[Consumer], changes: Sequence[Change], spec: GraphSpec, base: BaseRelease | None
) -> tuple[Affected, ...]:
    """Consumers that will notice, sorted by name; none when every vector stays as it is or nothing was released."""
    category = worst(change.category for change in changes)
    if base is None or category in (Category.METADATA, Category.ADDITIVE):
        return ()
    lost = _lost_entities(spec, base)
    everywhere, nodes = _breaking(changes)
    found = [_affected(consumer, lost, everywhere or bool(nodes & set(consumer.nodes))) for consumer in consumers]
    return tuple(sorted(found, key=lambda item: item.consumer))


def _lost_entities(spec: GraphSpec, base: BaseRelease) -> Mapping[str, str]:
    """Entity node types of the base release whose embeddings would no longer be published, and why."""
    lost = {}
    for (kind, name), signal in base.signals.items():
        if kind == "node" and signal.definition.get("kind") == "entity":
            node = spec.nodes.get(name)
            if node is None:
                lost[name] = "is removed"
            elif node.kind != "entity":
                lost[name] = "is no longer an entity"
    return lost


def _breaking(changes: Sequence[Change]) -> tuple[bool, set[str]]:
    """Does a breaking change reach every vector, and which node types have one of their own?"""
    breaking = [change for change in changes if change.category is Category.BREAKING]
    nodes = {change.name for change in breaking if change.kind == "node"}
    return any(change.kind != "node" for change in breaking), nodes


def _affected(consumer: Consumer, lost: Mapping[str, str], breaks: bool) -> Affected:
    effect: Effect
    missing = [node for node in consumer.nodes if node in lost]
    if consumer.release != "latest":
        effect, message = "pinned", f"keeps reading {consumer.release}"
    elif missing:
        effect, message = "breaks", "; ".join(f"{node} {lost[node]}" for node in missing)
    elif breaks:
        effect, message = "breaks", "reads latest: what the vectors are changes on activation"
    else:
        effect, message = "new-space", "reads latest: vectors of a new space on activation"
    return Affected(consumer.name, consumer.owner, consumer.release, tuple(consumer.nodes), effect, message)
