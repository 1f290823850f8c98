"""What `python -m services` says when something is not as it needs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.__main__ import main
from services.migrate import migrate
from services.postgres_server import check_open
from services.processes import ServiceError, free_port, start, wait_until
from star_platform.registry.registry import Registry
from tests.servers import private_folder


def test_migrate_wants_to_know_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STAR_REGISTRY_URL", raising=False)
    assert main(["migrate"]) == 1
    assert "set STAR_REGISTRY_URL" in capsys.readouterr().err


def test_migrate_says_that_nobody_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STAR_REGISTRY_URL", f"postgresql+psycopg2://star:secret@127.0.0.1:{free_port()}/star")
    assert main(["migrate"]) == 1
    said = capsys.readouterr().err
    assert "R001" in said
    assert "secret" not in said


def test_migrate_twice_is_migrate_once(postgres_database: str) -> None:
    assert migrate(postgres_database) == migrate(postgres_database)
    assert Registry(postgres_database).status().state == "current"


def test_nothing_was_ever_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--folder", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().out.count("does not answer") == 3
    assert not (tmp_path / "none").exists()


def test_a_folder_that_postgres_could_not_enter_is_named() -> None:
    with private_folder("star-open-") as folder:
        (folder / "closed" / "data").mkdir(parents=True)
        check_open(folder / "closed")
        (folder / "closed").chmod(0o700)
        with pytest.raises(ServiceError, match=f"cannot enter {folder}/closed"):
            check_open(folder / "closed" / "data")


@pytest.mark.parametrize(
    ("program", "seconds", "said"),
    [
        ("raise SystemExit('no such setting')", 20, r"status 1; .*\n.*no such setting"),
        ("import time; time.sleep(60)", 0.5, "does not answer after"),
    ],
)
def test_a_server_that_does_not_start_is_reported(tmp_path: Path, program: str, seconds: float, said: str) -> None:
    server = start("server", [sys.executable, "-c", program], tmp_path / "log")
    with pytest.raises(ServiceError, match=said):
        wait_until(server, lambda: False, seconds)
    assert not server.alive
