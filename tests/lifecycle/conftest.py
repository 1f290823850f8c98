"""Every case of this room runs on SQLite and on a real Postgres."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_platform.registry.registry import Registry
from tests.registry.conftest import HandClock, clock, registry, url  # noqa: F401 - fixtures

from .world import World


@pytest.fixture
def world(registry: Registry, clock: HandClock, tmp_path: Path) -> World:  # noqa: F811 - that is how fixtures work
    return World(registry, clock, tmp_path)


@pytest.fixture
def sqlite_world(clock: HandClock, tmp_path: Path) -> World:  # noqa: F811
    """Where the database is not the question."""
    found = Registry(f"sqlite:///{tmp_path}/registry.db", clock)
    found.upgrade()
    return World(found, clock, tmp_path)
