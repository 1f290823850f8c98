from __future__ import annotations

from pathlib import Path

import pytest

from star_platform.demo.generate import Size, ensure


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A marketplace of 600 members."""
    folder = tmp_path_factory.mktemp("market") / "data"
    assert ensure(folder, Size(600, 3))
    return folder
