"""Declared consumers: `consumers/*.yaml`, who reads which embeddings of which release."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from star_platform.errors import Diagnostic, SignalErrors
from star_platform.signals.consumer_model import Consumer
from star_platform.signals.consumer_rules import LoadedConsumer, broken_rules
from star_platform.signals.document import read_document
from star_platform.signals.load import branch_files
from star_platform.signals.shape import validate
from star_platform.signals.tree import plain

__all__ = ["Consumer", "LoadedConsumer", "load_consumers", "read_consumers"]


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
            diagnostics += broken_rules(item, loaded, nodes)
            loaded.append(item)
    return tuple(loaded), tuple(diagnostics)
