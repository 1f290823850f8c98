"""Fixtures that several rooms need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .servers import postgres_database, postgres_url, redis_url  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; skips, with the reason, where it is absent."""
    folder = Path(os.environ.get("STAR_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not here: {folder} (set STAR_DATA)")
    return folder
