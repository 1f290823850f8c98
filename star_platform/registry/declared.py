"""A consumer file as the registry keeps it."""

from __future__ import annotations

from datetime import date

from star_platform.registry.values import Consumer
from star_platform.signals.consumer_model import Consumer as ConsumerFile


def declared(file: ConsumerFile) -> Consumer:
    """The consumer that a valid file of `consumers/` declares."""
    return Consumer(
        name=file.consumer,
        owner=file.owner,
        nodes=tuple(file.nodes),
        release=file.release,
        contact=file.contact,
        need=file.compat,
        margin=file.margin,
        scorer=file.scorer.model_dump(exclude_none=True) if file.scorer is not None else None,
        cases=file.cases.model_dump(mode="json", exclude_none=True) if file.cases is not None else None,
        sunset=date.fromisoformat(file.sunset) if file.sunset is not None else None,
    )
