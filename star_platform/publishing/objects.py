"""Feast's objects as pure functions of our registry's values."""

from __future__ import annotations

from typing import Any

from star_platform.publishing.model import FeastState


def feast_objects(state: FeastState) -> list[Any]:
    """Entities, sources of every release, the front view of every node type, and services, for `definitions.py`."""
    raise NotImplementedError
