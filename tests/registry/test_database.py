from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from star_platform.errors import RegistryError
from star_platform.registry.database import Database, parse_url
from star_platform.registry.models import Base
from star_platform.registry.registry import Registry


def test_migrations_and_models_agree(registry: Registry) -> None:
    with registry.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_names_of_constraints_agree(registry: Registry, tmp_path: Path) -> None:
    """Alembic compares neither primary keys nor check constraints; a later migration needs their names."""
    found = inspect(registry.database.engine)
    for table in Base.metadata.sorted_tables:
        assert found.get_pk_constraint(table.name)["name"] == table.primary_key.name, table.name
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}, table.name
    assert [check["name"] for check in found.get_check_constraints("release")] == ["ck_release_number"]


def test_down_and_up_again(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.downgrade()
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    assert database.status().state == "absent"
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM pg_proc WHERE proname = 'star_append_only'")) == 0
    database.upgrade()
    registry = Registry(url)
    assert registry.start_release("p", None, {}, "ada").number == 1


def test_upgrade_twice_keeps_rows(registry: Registry) -> None:
    registry.start_release("p", None, {}, "ada")
    Registry(str(registry.database.url.render_as_string(hide_password=False))).upgrade()
    assert len(registry.releases()) == 1


def _upgrade(url: str) -> None:
    Registry(url).upgrade()


def test_many_processes_create_it_at_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_upgrade, args=(url,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert Registry(url).releases() == ()


def test_absent_older_and_newer_are_told_apart(url: str) -> None:
    database = Database(url)
    assert database.status().state == "absent"
    if database.file is not None:
        assert not database.file.exists(), "asking for the status creates nothing"
    with pytest.raises(RegistryError, match="R003"):
        Registry(url).releases()
    database.upgrade()
    assert database.status().state == "current"
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert Database(url).status().state == "newer"
    for use in (lambda: Registry(url).releases(), lambda: Registry(url).upgrade()):
        with pytest.raises(RegistryError) as caught:
            use()
        assert caught.value.code == "R005"


def test_older_schema_names_the_way_out(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A next migration, as the next version would bring it."""
    from star_platform.registry import database as module

    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    for source in module.migrations_folder().rglob("*.py"):
        target = folder / source.relative_to(module.migrations_folder())
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "versions" / "9999_next.py").write_text(
        'import sqlalchemy as sa\nfrom alembic import op\nrevision = "9999"\ndown_revision = "0002"\n'
        'def upgrade():\n    op.create_table("extra", sa.Column("id", sa.Integer(), primary_key=True))\n'
        'def downgrade():\n    op.drop_table("extra")\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(module, "migrations_folder", lambda: folder)
    registry.start_release("p", None, {}, "ada")
    later = Registry(registry.database.url.render_as_string(hide_password=False))
    with pytest.raises(RegistryError) as caught:
        later.releases()
    assert caught.value.code == "R004"
    assert "doctor --repair" in (caught.value.hint or "")
    later.upgrade()
    assert [release.number for release in later.releases()] == [1]


def test_sqlite_uses_wal_and_enforces_references(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/r.db")
    registry.upgrade()
    with registry.database.engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert connection.scalar(text("PRAGMA busy_timeout")) == 30_000


@pytest.mark.parametrize("table", ["event", "alias_event"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET actor = 'eve'", "DELETE FROM {}"])
def test_history_cannot_be_rewritten(registry: Registry, table: str, statement: str) -> None:
    registry.start_release("p", None, {}, "ada")
    registry.set_state(1, "candidate", "ada")
    registry.activate(1, "ada", "", None)
    with pytest.raises(RegistryError, match="append-only"), registry.database.write() as session:
        session.execute(text(statement.format(table)))
    assert {event.actor for event in registry.events()} == {"ada"}
    assert len(registry.alias_events()) == 1


def test_releases_cannot_be_deleted(registry: Registry) -> None:
    registry.start_release("p", None, {}, "ada")
    with pytest.raises(RegistryError, match="append-only"), registry.database.write() as session:
        session.execute(text("DELETE FROM release"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_other_postgres_schemes_name_the_right_one(scheme: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_url(f"{scheme}://ada:se%40cret@db.example/star")
    assert caught.value.code == "R002"
    assert caught.value.hint == "write postgresql+psycopg2://ada:***@db.example/star"
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://ada:secret@db/star", "sqlite://", "sqlite:///:memory:", "no url secret", ""])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Registry(url)
    assert caught.value.code == "R002"
    assert "secret" not in str(caught.value)


def test_no_password_when_the_server_does_not_answer(tmp_path: Path) -> None:
    registry = Registry("postgresql+psycopg2://ada:hunter2@127.0.0.1:1/star")
    with pytest.raises(RegistryError) as caught:
        registry.releases()
    assert caught.value.code == "R001"
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(registry.database.url)
    assert caught.value.__suppress_context__


def test_a_file_that_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_text("not a database, and long enough to be read as one" * 10, encoding="utf-8")
    with pytest.raises(RegistryError, match="R001"):
        Registry(f"sqlite:///{tmp_path}/r.db").releases()
