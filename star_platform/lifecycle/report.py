"""What this room found, as JSON data with stable field names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from star_platform.errors import BlockedByConsumers
from star_platform.lifecycle.model import Observed, Reader, WhoUses


def reader_json(reader: Reader) -> dict[str, Any]:
    """One reader; `name` is null for all who did not say who they are."""
    return {
        "name": reader.name,
        "owner": reader.owner,
        "contact": reader.contact,
        "nodes": list(reader.nodes),
        "declared": reader.declared,
        "need": reader.need,
        "observed": _observed_json(reader.observed),
        "standing": reader.standing,
        "reasons": list(reader.reasons),
    }


def _observed_json(observed: Observed | None) -> dict[str, Any] | None:
    if observed is None:
        return None
    return {
        "first": observed.first.isoformat(),
        "last": observed.last.isoformat(),
        "reads": observed.reads,
        "vectors": observed.vectors,
    }


def who_uses_json(found: WhoUses) -> dict[str, Any]:
    """What `who-uses --json` prints."""
    return {
        "release": f"r{found.release}",
        "state": str(found.state),
        "latest": f"r{found.active}" if found.active is not None else None,
        "readers": [reader_json(reader) for reader in found.readers],
        "blocking": [reader.label for reader in found.blocking],
        "disagreements": list(found.disagreements),
        "quiet_for_days": found.quiet_for,
        "warnings": list(found.warnings),
    }


def blocked(code: str, message: str, hint: str, readers: Iterable[Reader]) -> BlockedByConsumers:
    """The error that names everybody who reads the release, and how each stands: exit code 5, in text and in JSON."""
    listed = [reader_json(reader) for reader in readers]
    return BlockedByConsumers(code, message, hint=hint, readers=listed)
