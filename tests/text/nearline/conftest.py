"""A shop of its own for every test; the Redis server is shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from .world import Spec, World, make_spec


@pytest.fixture
def spec(tmp_path: Path, redis_url: str, tiny_bert: Path) -> Spec:
    return make_spec(tmp_path, redis_url, tiny_bert)


@pytest.fixture
def world(spec: Spec) -> World:
    return spec.open()
