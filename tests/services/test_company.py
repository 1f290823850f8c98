"""The steps of docs/company.md, taken by a small marketplace on what `make services` starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.feature_server import FEATURE_STORE
from services.processes import free_port
from star_platform.cli.app import main
from tests.conftest import REPOSITORY
from tests.docs.markdown import fences, merged, parsed
from tests.release.conftest import FIRST, make_project
from tests.services.conftest import Up

PAGE = REPOSITORY / "docs" / "company.md"
BRANCHES = [part for name in FIRST for part in ("--branch", name)]


def verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a verb prints as JSON."""
    status = main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return json.loads(printed.out)


def answer(url: str, body: object = None, seconds: float = 60) -> bytes:
    """What a server answers, once it does."""
    deadline = time.monotonic() + seconds
    data = json.dumps(body).encode() if body is not None else None
    while True:
        try:
            request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as found:
                return found.read()  # type: ignore[no-any-return]
        except OSError as error:  # not up yet, or it has not seen the release yet
            if time.monotonic() > deadline:
                said = error.read() if isinstance(error, urllib.error.HTTPError) else error
                raise AssertionError(said) from error
            time.sleep(0.3)


@contextmanager
def feast(folder: Path, *arguments: str) -> Iterator[str]:
    """A server of Feast's, as the page starts it; its address."""
    port = free_port()
    log = folder.parent / f"{arguments[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("feast")), *arguments, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def star_yaml_of_the_page(root: Path) -> None:
    """star.yaml with the lines of the page laid over it."""
    data = parsed((root / "star.yaml").read_text())
    for fence in fences(PAGE):
        if fence.mark == "fragment of: star.yaml":
            data = merged(data, parsed(fence.text))
    (root / "star.yaml").write_text(json.dumps(data))  # JSON is YAML


@pytest.mark.slow
def test_from_laptop_to_company(
    running: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "market"
    make_project(root)
    monkeypatch.chdir(root)

    # 1. on a laptop
    star_yaml_of_the_page(root)  # its defaults are the laptop's
    (root / "consumers").mkdir()
    assert verb(capsys, "release", *BRANCHES)["changed"]
    members = pq.read_table(root / "data" / "members.parquet")["member_id"].unique().to_pylist()[:3]
    ids = [str(number) for number in members]
    at_home = verb(capsys, "fetch", "member", *ids)

    # Feast's own commands run in the folder of a released project
    with feast(root / "feature_repo", "serve") as server, feast(root / "feature_repo", "ui") as ui:
        body = {"features": ["member_embedding@v1:embedding"], "entities": {"member_id": members}}
        served = json.loads(answer(f"{server}/get-online-features", body))
        assert len(served["results"]) == 2
        assert b"<html" in answer(ui).lower()
        assert b"member_embedding" in answer(f"{ui}/api/v1/feature_views?project=marketplace")

    # 2. to 4. registries in Postgres, vectors in Redis, artefacts elsewhere
    for name, value in (running.settings.environment() | {"STAR_PROJECT": "marketplace"}).items():
        monkeypatch.setenv(name, value)
    shutil.move(root / ".star" / "artefacts", tmp_path / "shared" / "artefacts")
    shutil.move(root / ".star" / "pseudonym.key", tmp_path / "shared" / "pseudonym.key")
    monkeypatch.setenv("STAR_ARTEFACTS", str(tmp_path / "shared" / "artefacts"))
    shutil.copyfile(FEATURE_STORE, root / "feature_repo" / "feature_store.yaml")
    assert verb(capsys, "upgrade")["after"]
    assert verb(capsys, "doctor")["ok"]
    (consumer,) = [fence.text for fence in fences(PAGE) if fence.mark == "whole: consumer"]
    made = verb(capsys, "release", *BRANCHES)
    assert made["release"] == "r1"
    built = {stage["stage"] for stage in made["stages"] if not stage["reused"]}
    assert built <= {"publish", "activate"}  # all else was reused
    assert verb(capsys, "fetch", "member", *ids) == at_home

    with feast(root / "feature_repo", "serve") as server:
        assert json.loads(answer(f"{server}/get-online-features", body))["results"][0] == served["results"][0]
        deadline = time.monotonic() + 30
        while not (readers := verb(capsys, "who-uses", "r1")["readers"]):  # counts are handed over now and then
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert [reader["name"] for reader in readers] == [None]

    # 5. a consumer reads through the client, and is seen
    (root / "consumers" / "ranker.yaml").write_text(consumer)
    assert not verb(capsys, "release", *BRANCHES)["changed"]
    assert verb(capsys, "doctor", "--repair")["ok"]
    names: dict[str, Any] = {}
    (code,) = [fence.text for fence in fences(PAGE) if fence.language == "python"]
    exec(code.replace("[17, 42]", str(members)), names)
    names["client"].close()
    assert names["found"].all()
    assert names["vectors"].dtype == np.float32
    seen = verb(capsys, "who-uses", "r1")
    assert [reader["name"] for reader in seen["readers"]] == ["job-ranker", None]
