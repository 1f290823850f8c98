"""Every case of this room runs on SQLite and on a real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from star_platform.registry.registry import Registry


class HandClock:
    """A clock that stands until somebody moves it."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def pass_by(self, **span: float) -> None:
        self.moment += timedelta(**span)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/registry.db"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def registry(url: str, clock: HandClock) -> Registry:
    registry = Registry(url, clock)
    registry.upgrade()
    return registry
