"""`text serve` on a project with a release: a real Feast, a real Redis, processes and signals."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from star_platform.cli.app import main
from star_platform.errors import ExitCode
from star_platform.project import Project
from star_platform.text.encoder import encode
from star_platform.text.stage import fit_encoder
from tests.conftest import REPOSITORY
from tests.docs.markdown import fences
from tests.publishing.stores import use_store
from tests.release.conftest import FIRST, make_project

from .world import START


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Path:
    """r1 is active, its online store is Redis, its encoder is fitted on its own texts."""
    root = tmp_path_factory.mktemp("serve") / "market"
    project = make_project(root)
    use_store(project.feature_repo, "star-redis", redis_url, project=f"market_{secrets.token_hex(4)}")
    assert project.release(only=FIRST) is not None
    return root


@pytest.fixture
def market(released: Path, tmp_path: Path) -> Path:
    root = tmp_path / "market"
    shutil.copytree(released, root)
    return root


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


# All tests share one Feast project, so each has entities of its own.


def send(client: redis.Redis, stream: str, *events: dict[str, Any]) -> None:
    for event in events:
        client.xadd(stream, {"event": json.dumps(event)})


def headline(member: int, text: str, at: int = 0) -> dict[str, Any]:
    fields = {"headline": text}
    return {"feature": "member.headline", "entity": member, "event_time": START + at, "fields": fields}


def served(root: Path, member: int) -> list[float] | None:
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(root / "feature_repo" / "text"))
    answer = store.get_online_features(["member_headline_text@v1:embedding"], [{"member_id": member}])
    found: list[float] | None = answer.to_dict()["embedding"][0]
    return found


def expected(root: Path, text: str) -> np.ndarray[Any, Any]:
    """By the encoder of the release."""
    project = Project.open(root)
    texts = [
        project.store.open(item.kind, item.fingerprint)
        for item in project.registry.artefacts(1)
        if item.stage.startswith("texts/")
    ]
    return encode(fit_encoder(project.encoder, texts), [text])[0]


def test_events_in_vectors_out(market: Path, client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    stream = f"events-{secrets.token_hex(4)}"
    description = {
        "feature": "job.description",
        "entity": "job-000001",
        "event_time": START,
        "fields": {"description": "Nurse."},
    }
    bad = {"feature": "recruiter.bio", "entity": 1, "event_time": START, "text": "x"}
    send(
        client,
        stream,
        headline(1, "Data engineer"),
        headline(1, "Data  engineer", 5),
        description,
        bad,
        headline(100977, "Secret"),
    )
    arguments = ["text", "serve", "--project", str(market), "--stream", stream, "--until-empty", "--json"]
    assert main(arguments) == ExitCode.OK
    printed = capsys.readouterr()
    record = json.loads(printed.out.splitlines()[-1])
    assert (record["schema_version"], record["last"]) == (1, True)
    assert {name: record[name] for name in ("changed", "unchanged", "refused", "dead", "waiting", "pending")} == {
        "changed": 2,
        "unchanged": 1,
        "refused": 1,
        "dead": 1,
        "waiting": 0,
        "pending": 0,
    }
    assert record["dead_by_code"] == {"T044": 1}
    # 100977 has opted out in the tables that the release was made of
    np.testing.assert_allclose(served(market, 1), expected(market, "Data engineer"), atol=1e-6)
    assert served(market, 2) is None

    send(client, stream, headline(1, "Data engineer", 9))  # a second start finds version 1, and the state in it
    assert main([*arguments[:-1], "--once"]) == ExitCode.OK
    assert "100 % skipped" in capsys.readouterr().out


def test_a_release_leaves_near_line_vectors_alone(market: Path, client: redis.Redis) -> None:
    stream = f"events-{secrets.token_hex(4)}"
    send(client, stream, headline(30, "Nurse"))
    arguments = ["text", "serve", "--project", str(market), "--stream", stream, "--until-empty"]
    assert main(arguments) == ExitCode.OK
    before = served(market, 30)
    project = Project.open(market)
    assert project.publisher.reconcile(project.feast_state())  # the folder was copied: sources have other paths
    assert project.publisher.reconcile(project.feast_state()) == ()
    assert before is not None
    assert served(market, 30) == before


def test_the_texts_of_the_release_come_first(
    market: Path, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then an event that changes nothing is skipped, and an edit from before the release's text is old."""
    import pyarrow.parquet as pq

    profiles = pq.read_table(market / "data" / "profiles.parquet").to_pandas().sort_values("updated_at", kind="stable")
    newest = profiles.groupby("member_id").last()
    member, row = 105764, newest.loc[105764]
    stream = f"events-{secrets.token_hex(4)}"
    at = int(row.updated_at.timestamp() * 1000)
    same, old = headline(member, f" {row.headline} ", at + 1000 - START), headline(member, "Old", at - 1000 - START)
    send(client, stream, same, old)
    arguments = ["text", "serve", "--project", str(market), "--stream", stream, "--until-empty", "--seed", "--json"]
    assert main(arguments) == ExitCode.OK
    told = capsys.readouterr()
    assert re.search(r"member.headline: \d+ texts of the release, \d+ of them to encode", told.err)
    record = json.loads(told.out.splitlines()[-1])
    assert (record["unchanged"], record["stale"], record["changed"]) == (1, 1, 0)
    np.testing.assert_allclose(served(market, member), expected(market, row.headline), atol=1e-6)
    other = int(newest.index[newest.index > member][0])
    np.testing.assert_allclose(served(market, other), expected(market, newest.loc[other].headline), atol=1e-6)
    assert served(market, 100977) is None  # opted out
    assert main(arguments) == ExitCode.OK  # again: nothing is older than itself
    np.testing.assert_allclose(served(market, member), expected(market, row.headline), atol=1e-6)


def test_the_page(market: Path, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/text-nearline.md: its event is taken, its code reads the vector."""
    found = fences(REPOSITORY / "docs" / "text-nearline.md")
    (added,) = [fence.text for fence in found if "XADD" in fence.text]
    sent = re.search(r"XADD (\S+) \* event '(.*?)'", added, re.S)
    assert sent is not None
    stream = f"{sent[1]}-{secrets.token_hex(4)}"
    client.xadd(stream, {"event": sent[2]})
    arguments = ["text", "serve", "--project", str(market), "--stream", stream, "--until-empty"]
    assert main(arguments) == ExitCode.OK
    monkeypatch.chdir(market)
    names: dict[str, Any] = {}
    (code,) = [fence.text for fence in found if fence.language == "python"]
    exec(code, names)
    np.testing.assert_allclose(names["vector"], expected(market, "Data engineer"), atol=1e-6)


def test_only_released_ids(market: Path, client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    stream = f"events-{secrets.token_hex(4)}"
    send(client, stream, headline(100012, "Nurse"), headline(10**9, "Nurse"))
    arguments = ["text", "serve", "--project", str(market), "--stream", stream, "--once", "--json", "--released-only"]
    assert main(arguments) == ExitCode.OK
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["changed"], record["dead_by_code"]) == (1, {"T044": 1})


def test_sigterm_ends_it_after_its_batch(market: Path, client: redis.Redis) -> None:
    stream = f"events-{secrets.token_hex(4)}"
    command = [sys.executable, "-m", "star_platform.cli.app", "text", "serve", "--project", str(market)]
    command += ["--stream", stream, "--worker", "w1", "--metrics-port", "0", "--json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = ""
            while "reads" not in told:
                told += process.stderr.readline()
                assert process.poll() is None, told
            send(client, stream, *[headline(200 + number, f"Nurse {number}") for number in range(20)])
            until = time.monotonic() + 60
            while (
                client.xpending(stream, "star-text")["pending"]
                or client.xinfo_groups(stream)[0]["last-delivered-id"] == b"0-0"
            ):
                assert time.monotonic() < until
                time.sleep(0.02)
            address = re.search(r"http://\S+", told)
            assert address is not None
            with urllib.request.urlopen(address[0]) as answer:
                text = answer.read().decode()
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == ExitCode.OK
    assert json.loads(out.splitlines()[-1])["changed"] == 20
    assert re.search(r'star_text_events_total\{outcome="changed"\} [1-9]', text)
    assert client.xinfo_consumers(stream, "star-text") == []


def test_it_needs_redis_as_online_store(tmp_path: Path, released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "market"
    shutil.copytree(released, root)
    use_store(root / "feature_repo", "star-sqlite")
    assert main(["text", "serve", "--project", str(root), "--once"]) == ExitCode.FAILURE
    assert "T049" in capsys.readouterr().err


def test_it_needs_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new"), "--name", "new"]) == ExitCode.OK
    assert main(["text", "serve", "--project", str(tmp_path / "new"), "--once"]) == ExitCode.FAILURE
    assert "R022" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--latency-target", span) for span in ("two", "2", "2 fortnights", "0s")]
    + [("--claim-after", "0s"), ("--stream", "")],
)
def test_values_that_cannot_be_are_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", "serve", option, value]) == ExitCode.USAGE
    assert "T055" in capsys.readouterr().err
