"""Declared consumers: `consumers/*.yaml`, who reads which embeddings of which release."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from star_platform.errors import Diagnostic, SignalErrors
from star_platform.signals.document import Document, read_document
from star_platform.signals.load import branch_files
from star_platform.signals.model import Declaration, Name, NodeName
from star_platform.signals.shape import validate
from star_platform.signals.suggest import did_you_mean, known
from star_platform.signals.tree import plain

Release = Annotated[str, StringConstraints(pattern=r"^(latest|r[1-9][0-9]*)$")]
"""A release such as `r3`, or `latest`: the active one at each publication."""


class Consumer(Declaration):
    """A downstream model or service, and the embeddings that it reads."""

    consumer: Name
    owner: Annotated[str, StringConstraints(min_length=1)]
    description: str = ""
    nodes: Annotated[tuple[NodeName, ...], Field(min_length=1)]
    """Node types whose embedding it reads."""
    release: Release = "latest"


@dataclass(frozen=True)
class LoadedConsumer:
    """A valid consumer file."""

    consumer: Consumer
    file: str
    document: Document


def load_consumers(
    folder: Path, *, root: Path | None = None, nodes: Collection[str] | None = None
) -> tuple[Consumer, ...]:
    """Every consumer of `folder`, by file name; none when there is no such folder.

    `nodes`: the node types there are; a consumer of any other is an error unless it is None.
    Raises SignalErrors with every diagnostic of every file.
    """
    loaded, diagnostics = read_consumers(folder, root=root, nodes=nodes)
    if diagnostics:
        raise SignalErrors(diagnostics)
    return tuple(item.consumer for item in loaded)


def read_consumers(
    folder: Path, *, root: Path | None = None, nodes: Collection[str] | None = None
) -> tuple[tuple[LoadedConsumer, ...], tuple[Diagnostic, ...]]:
    """As `load_consumers`, but hands the diagnostics out instead of raising them."""
    loaded: list[LoadedConsumer] = []
    diagnostics: list[Diagnostic] = []
    for path in branch_files(folder):
        document, found = read_document(path, root if root is not None else folder.parent)
        diagnostics += found
        if document is None:
            continue
        consumer, errors = validate(document, Consumer, plain(document.root), "a consumer file")
        diagnostics += [error.diagnostic for error in errors]
        if consumer is not None:
            item = LoadedConsumer(consumer, document.file, document)
            diagnostics += [*_repeated_nodes(item), *_unknown_nodes(item, nodes), *_twin(item, loaded)]
            loaded.append(item)
    return tuple(loaded), tuple(diagnostics)


def _unknown_nodes(item: LoadedConsumer, nodes: Collection[str] | None) -> list[Diagnostic]:
    return [
        item.document.diagnostic(
            "S014",
            f"consumer '{item.consumer.consumer}' reads unknown node '{name}'",
            item.document.place("nodes", index),
            did_you_mean(name, nodes) or "no branch declares it",
            known("nodes", nodes),
        )
        for index, name in enumerate(item.consumer.nodes)
        if nodes is not None and name not in nodes
    ]


def _repeated_nodes(item: LoadedConsumer) -> list[Diagnostic]:
    names = item.consumer.nodes
    return [
        item.document.diagnostic(
            "S046", f"'{name}' stands twice in nodes", item.document.place("nodes", index), "delete one of the two"
        )
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _twin(item: LoadedConsumer, before: list[LoadedConsumer]) -> list[Diagnostic]:
    twins = [other for other in before if other.consumer.consumer == item.consumer.consumer]
    if not twins:
        return []
    message = f"consumer '{item.consumer.consumer}' is also declared in {twins[0].file}"
    place = item.document.value_place("consumer")
    return [item.document.diagnostic("S054", message, place, "choose another name, or join the two files")]
