"""Declared consumers as the registry and the compat gate take them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from star_platform.registry.values import Consumer

if TYPE_CHECKING:
    from star_platform.compat.gate import GateConsumer
    from star_platform.signals.consumers import Consumer as ConsumerFile


def declared(file: ConsumerFile) -> Consumer:
    """A consumer file as the registry keeps it."""
    return Consumer(
        name=file.consumer,
        owner=file.owner,
        nodes=tuple(file.nodes),
        release=file.release,
        contact=file.contact,
        need=file.compat,
        margin=file.margin,
        scorer=None if file.scorer is None else file.scorer.model_dump(exclude_none=True),
        cases=None if file.cases is None else file.cases.model_dump(mode="json", exclude_none=True),
        sunset=None if file.sunset is None else date.fromisoformat(file.sunset),
    )


def at_the_gate(consumers: Iterable[Consumer], root: Path) -> tuple[GateConsumer, ...]:
    """Consumers of a named release; who follows `latest` reads no map."""
    from star_platform.compat.gate import GateConsumer
    from star_platform.registry.registry import LATEST, release_number

    return tuple(
        GateConsumer(
            name=consumer.name,
            owner=consumer.owner,
            nodes=consumer.nodes,
            release=release_number(consumer.release),
            need=consumer.need,
            margin=consumer.margin,
            scorer=consumer.scorer,
            cases=consumer.cases,
            root=root,
        )
        for consumer in consumers
        if consumer.release != LATEST
    )


def gate_inputs(consumers: Iterable[Consumer], root: Path) -> str:
    """Identity of what the gate asks of each consumer, its model and its labelled rows included; "" for nobody."""
    from star_platform.planning.canonical import digest
    from star_platform.registry.registry import LATEST

    asked = [
        [item.name, item.nodes, item.release, item.need, item.margin, item.scorer, item.cases, _content(item, root)]
        for item in sorted(consumers, key=lambda item: item.name)
        if item.release != LATEST
    ]
    return digest(asked) if asked else ""


def _content(consumer: Consumer, root: Path) -> list[str]:
    """SHA-256 of the files that a consumer names; one that is absent is the gate's to report."""
    named = [(consumer.scorer or {}).get("onnx"), (consumer.cases or {}).get("path")]
    found = []
    for name in named:
        path = root / name if name else None
        if path is None or not path.is_file():
            found.append("")
            continue
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found
