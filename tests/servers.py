"""Real servers for tests: no root, no Docker, nothing to install beyond the development wheels.

`STAR_TEST_POSTGRES_URL` and `STAR_TEST_REDIS_URL` name servers to use instead. With xdist every worker starts its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from services import postgres_server
from services.postgres_server import execute, start_postgres
from services.processes import free_port
from services.redis_server import start_redis


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a Postgres server whose user may create databases."""
    given = os.environ.get("STAR_TEST_POSTGRES_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        return
    with private_folder("star-pg-") as folder:
        port, password = free_port(), secrets.token_hex(12)
        server = start_postgres(folder / "postgres", port, password, durable=False)
        try:
            yield postgres_server.postgres_url(port, password)
        finally:
            server.stop()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """SQLAlchemy URL of an empty database of its own."""
    name = f"star_test_{secrets.token_hex(6)}"
    execute(postgres_url, f"CREATE DATABASE {name} STRATEGY file_copy")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis server, `redis://127.0.0.1:port/0`."""
    given = os.environ.get("STAR_TEST_REDIS_URL")
    if given:
        yield given
        return
    with private_folder("star-redis-") as folder:
        port = free_port()
        server = start_redis(folder, port, None, durable=False)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.stop()


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A folder that everybody may enter and nobody else may list; not pytest's `tmp_path`.

    Those are closed to the user that Postgres runs as when the tests run as root.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
