"""Servers that go away in the middle: a clear message, nothing half visible, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.postgres_server import postgres_url, start_postgres
from services.processes import free_port
from star_platform.cli.app import main
from star_platform.project import Project
from star_platform.registry.states import ReleaseState
from tests.release.conftest import FIRST, Releasing, make_project
from tests.servers import private_folder

pytestmark = pytest.mark.slow
SECRET = "of-this-test"


def test_postgres_restarted_in_the_middle_of_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with private_folder("star-outage-") as folder:
        port = free_port()
        server = start_postgres(folder, port, SECRET, durable=True)
        try:
            project = make_project(tmp_path / "market", postgres_url(port, SECRET))
            assert project.release(only=FIRST) is not None
            before = {item.stage: item.content_hash for item in project.registry.artefacts(1)}

            run = Releasing(project.root, tmp_path / "journal")
            assert run.wait_for("train")
            server.stop()
            assert run.join() not in (0, None), "a release without its registry does not end well"
            capsys.readouterr()
            assert main(["releases", "--project", str(project.root)]) == 1
            assert "R001" in capsys.readouterr().err

            server = start_postgres(folder, port, SECRET, durable=True)
            again = Project.open(project.root)
            assert again.registry.active().number == 1
            assert set(again.published()) == {1}
            assert again.registry.release(2).state is not ReleaseState.ACTIVE
            resumed = Releasing(project.root, tmp_path / "journal", resume=True)
            assert resumed.join() == 0
            assert again.registry.active().number == 2
            assert {item.stage: item.content_hash for item in again.registry.artefacts(1)} == before
            assert again.fetch("member", _some(again)).found.all()
        finally:
            server.stop()


def _some(project: Project) -> list[str | int]:
    from star_platform.project.reading import stored_vectors

    members = next(item for item in stored_vectors(project, 2) if item.node == "member")
    return members.ids[:20].to_pylist()  # type: ignore[no-any-return]
