"""A world per test, closed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .world import World


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(name: str = "world", **settings: Any) -> World:
        (tmp_path / name).mkdir(exist_ok=True)
        made.append(World(tmp_path / name, **settings))
        return made[-1]

    yield make
    for world in made:
        world.engine.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
