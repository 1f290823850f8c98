"""The registry's database: SQLite for one machine, Postgres for a team, the same schema on both.

Every write transaction excludes the others (`BEGIN IMMEDIATE` on SQLite, an advisory lock on Postgres): a registry sees
a few writes per minute, and serial writers make every rule about numbers, aliases and leases simple to keep.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from star_platform.errors import RegistryError

WRITE_LOCK = 0x57A2_0001
"""Key of the Postgres advisory lock that serialises writers."""
BUSY_SECONDS = 30
POSTGRES = "postgresql+psycopg2"


@dataclass(frozen=True)
class SchemaStatus:
    """How the schema of a database relates to the one that this version needs."""

    state: Literal["absent", "older", "current", "newer"]
    found: str | None
    needed: str


class Database:
    """Opens on first use; safe to use from several threads, and across fork."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self._checked = False

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None for a server."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view of the registry."""
        with self._session(write=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that excludes every other writer; commits when the block ends without an error."""
        with self._session(write=True) as session:
            yield session

    def status(self) -> SchemaStatus:
        """Compares the database's schema with the migrations of this version; creates nothing."""
        script = _script()
        needed = script.get_current_head() or ""
        if self.file is not None and not self.file.exists():
            return SchemaStatus("absent", None, needed)
        with self._translated(), self.engine.connect() as connection:
            found = _revision(connection)
        if found is None:
            return SchemaStatus("absent", None, needed)
        known = {revision.revision for revision in script.walk_revisions()}
        state: Literal["older", "current", "newer"] = (
            "current" if found == needed else "older" if found in known else "newer"
        )
        return SchemaStatus(state, found, needed)

    def upgrade(self, revision: str = "head") -> None:
        """Create the registry, or bring its schema to `revision`; any number of processes may do so at once.

        Raises:
            RegistryError: R005 when a newer version of the platform wrote it.
        """
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        status = self.status()
        if status.state == "newer":
            raise self._wrong_schema(status)
        if status.state != "current" or revision != "head":
            self._migrate("upgrade", revision)
        self._checked = revision == "head"

    def downgrade(self, revision: str = "base") -> None:
        """Take the schema back to `revision`; tables that it does not have are dropped with their rows."""
        self._migrate("downgrade", revision)
        self._checked = False

    @cached_property
    def engine(self) -> Engine:
        # No pool: queries are few, and a pooled connection must not be used on both sides of a fork.
        arguments: dict[str, Any] = {"timeout": BUSY_SECONDS} if self.is_sqlite else {"connect_timeout": 10}
        engine = create_engine(self.url, poolclass=NullPool, connect_args=arguments)
        if self.is_sqlite:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            event.listen(engine, "begin", _begin_postgres)
        return engine

    @contextmanager
    def _session(self, write: bool) -> Iterator[Session]:
        if not self._checked:
            self._check()
        engine = self.engine.execution_options(star_write=write)
        with self._translated(), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def _check(self) -> None:
        status = self.status()
        if status.state != "current":
            raise self._wrong_schema(status)
        self._checked = True

    def _wrong_schema(self, status: SchemaStatus) -> RegistryError:
        if status.state == "absent":
            return RegistryError(
                "R003",
                f"there is no registry at {self}",
                hint="`star-platform release` makes it; or correct `registry:` in star.yaml",
            )
        if status.state == "older":
            return RegistryError(
                "R004",
                f"the registry at {self} has schema {status.found}; this version needs {status.needed}",
                hint="run `star-platform doctor --repair`; take a backup first",
            )
        return RegistryError(
            "R005",
            f"the registry at {self} has schema {status.found}; this version knows none later than {status.needed}",
            hint="a newer star-platform wrote it: install that version or a later one",
        )

    def _migrate(self, direction: Literal["upgrade", "downgrade"], revision: str) -> None:
        from alembic import command
        from alembic.config import Config

        with self._translated():
            if self.is_sqlite:
                _enable_wal(self.engine)
            with self.engine.execution_options(star_write=True).begin() as connection:
                config = Config(attributes={"connection": connection})
                config.set_main_option("script_location", str(migrations_folder()))
                getattr(command, direction)(config, revision)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the driver become RegistryError R001, without the password that some drivers repeat."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            message = str(cause).strip() or type(cause).__name__
            if self.url.password:
                message = message.replace(str(self.url.password), "***")
            raise RegistryError(
                "R001", f"the registry at {self} did not answer as it should: {message}", hint=_advice(message)
            ) from None


def parse_url(url: str) -> URL:
    """A URL that the registry supports; raises RegistryError R002, never with a password in it."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise RegistryError(
            "R002",
            "the registry's URL cannot be parsed",
            hint="write sqlite:///path/to/registry.db or postgresql+psycopg2://user@host/database; "
            "percent-encode special characters in a password",
        ) from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if not parsed.database or parsed.database == ":memory:":
            raise RegistryError(
                "R002",
                "the registry cannot live in memory",
                hint="name a file: sqlite:///path/to/registry.db",
            )
        return parsed
    if parsed.drivername == POSTGRES:
        return parsed
    if parsed.drivername.split("+")[0] in {"postgres", "postgresql"}:
        right = parsed.set(drivername=POSTGRES).render_as_string(hide_password=True)
        raise RegistryError(
            "R002",
            f"the registry's URL says {parsed.drivername!r}, which SQLAlchemy's versions take for different drivers",
            hint=f"write {right}",
        )
    raise RegistryError(
        "R002",
        f"the registry cannot live in {parsed.drivername!r}",
        hint=f"use sqlite:///path or {POSTGRES}://user@host/database",
    )


def migrations_folder() -> Path:
    """Where the migrations are: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _script() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(migrations_folder()))


def _revision(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _advice(message: str) -> str:
    if "locked" in message:
        return f"another process kept it locked for {BUSY_SECONDS} s; try again"
    return "check that the database is up and that the URL in star.yaml is right; `star-platform doctor` tests it"


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves; the driver's own comes too late and is never IMMEDIATE
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may forget the last commits at a power cut


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("star_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    if connection.get_execution_options().get("star_write", False):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})


def _enable_wal(engine: Engine) -> None:
    """WAL is a property of the file. Switching to it ignores the busy timeout, hence the loop."""
    deadline = time.monotonic() + BUSY_SECONDS
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
            except Exception as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()
