"""`make services` for real: what it starts answers, wants its passwords, and goes when it is told to."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from services.feature_server import FEATURE_STORE
from services.postgres_server import execute
from star_platform.compat.model import CompatMap
from star_platform.publishing.model import NodeVectors
from star_platform.registry.registry import Registry
from tests.publishing.conftest import make_shop
from tests.services.conftest import PROJECT, Up, run


def answer(url: str, body: object = None) -> bytes:
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as found:
        assert found.status == 200
        return found.read()  # type: ignore[no-any-return]


def until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_registry_has_this_versions_schema(running: Up) -> None:
    registry = Registry(running.settings.registry_url)
    assert registry.status().state == "current"
    assert registry.latest() is None
    assert "registry has schema" in running.text


def test_postgres_wants_passwords_and_keeps_feast_out_of_our_registry(running: Up) -> None:
    settings = running.settings
    ours, feasts = (
        url.replace("+psycopg:", "+psycopg2:") for url in (settings.registry_url, settings.feast_registry_url)
    )
    assert execute(feasts, "SELECT current_user, current_database()") == [("feast", "feast")]
    for refused in (
        ours.replace(settings.postgres_password, "star"),
        ours.replace(f":{settings.postgres_password}", ""),
        make_url(feasts).set(database="star").render_as_string(hide_password=False),
    ):
        with pytest.raises(OperationalError, match=r"password|permission"):
            execute(refused, "SELECT 1")


def test_redis_wants_its_password(running: Up) -> None:
    settings, once = running.settings, Retry(NoBackoff(), 0)
    for wrong in (None, "redis"):
        with pytest.raises(redis.AuthenticationError):
            redis.Redis("127.0.0.1", settings.redis_port, password=wrong, retry=once).ping()
    client = redis.Redis("127.0.0.1", settings.redis_port, password=settings.redis_password)
    assert client.ping()
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_the_feature_server_is_healthy(running: Up) -> None:
    answer(f"{running.settings.feature_server}/health")


def test_passwords_are_in_one_file_of_its_owner(running: Up) -> None:
    file = running.folders.environment
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = running.settings
    passwords = (settings.postgres_password, settings.feast_password, settings.redis_password)
    assert len(set(passwords)) == 3
    assert all(len(password) == 48 for password in passwords)
    commands = [" ".join(process.cmdline()) for process in psutil.Process(running.process.pid).children(recursive=True)]
    assert sum("redis-server" in command for command in commands) == 1
    logs = [path.read_text(errors="replace") for path in running.folders.services.rglob("*.log")]
    assert len(logs) == 3
    assert not [seen for seen in (running.text, *commands, *logs) for password in passwords if password in seen]
    listening = {
        connection.laddr.ip
        for process in psutil.Process(running.process.pid).children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_status_answers_and_a_second_one_is_refused(running: Up) -> None:
    found = run("status", running.folders.root)
    assert found.returncode == 0
    assert found.stdout.count("answers") == 3
    second = run("up", running.folders.root)
    assert second.returncode == 1
    assert f"process {running.process.pid} runs them already" in second.stderr


@pytest.fixture
def environment(running: Up, monkeypatch: pytest.MonkeyPatch) -> Up:
    for name, value in running.settings.environment().items():
        monkeypatch.setenv(name, value)
    return running


def test_releases_are_served_over_http_and_retired_ones_through_their_map(environment: Up, tmp_path: Path) -> None:
    """With the feature_store.yaml that the page tells a company to copy, and the server that was up before."""
    shop = make_shop(tmp_path)
    (shop.repo / "feature_store.yaml").write_text(FEATURE_STORE.read_text())
    draw = np.random.default_rng(3)
    old, new = (draw.standard_normal((20, dim)).astype(np.float32) for dim in (4, 6))
    for number, vectors in enumerate((old, new), 1):
        shop.publish(number, [NodeVectors("member", pa.array(np.arange(20)), vectors)])
    shop.set(2)
    body = {"features": ["member_embedding@v1:embedding"], "entities": {"member_id": [3, 19]}}

    def found() -> np.ndarray | None:
        try:
            read = json.loads(answer(f"{environment.settings.feature_server}/get-online-features", body))
        except urllib.error.HTTPError:  # it has not refreshed its registry yet
            return None
        columns = dict(zip(read["metadata"]["feature_names"], read["results"], strict=True))
        return np.float32(columns["embedding"]["values"])

    until(lambda: found() is not None)
    np.testing.assert_array_equal(found(), old[[3, 19]])

    route = CompatMap(
        node="member",
        source=2,
        target=1,
        source_space="space-2",
        target_space="space-1",
        weights=draw.standard_normal((6, 4)),
        bias=np.ones(4),
        normalise=False,
        method="ridge",
    )
    shop.publisher.reconcile(replace(shop.state, maps=(route,), routes=(route,)))  # what `retire` does
    until(lambda: not np.array_equal(found(), old[[3, 19]]))
    np.testing.assert_allclose(found(), new[[3, 19]] @ route.weights + 1, rtol=1e-5)


def test_what_was_written_outlives_a_kill_and_a_dead_server_stops_the_rest(folder: Path) -> None:
    first = Up(folder)
    first.wait()
    children = psutil.Process(first.process.pid).children(recursive=True)
    before = first.settings
    redis.Redis("127.0.0.1", before.redis_port, password=before.redis_password).set("kept", 1)
    Registry(before.registry_url).start_release("plan", None, {"stages": {}}, "tester")
    time.sleep(1.1)  # what Redis may lose
    first.process.kill()
    first.process.wait()
    until(lambda: not any(child.is_running() for child in children))  # the kernel told them

    assert run("status", folder).returncode == 1
    second = Up(folder)
    second.wait()
    assert second.settings == before
    client = redis.Redis("127.0.0.1", before.redis_port, password=before.redis_password)
    assert client.get("kept") == b"1"
    assert [release.number for release in Registry(before.registry_url).releases()] == [1]

    children = psutil.Process(second.process.pid).children(recursive=True)
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    assert second.process.wait(60) == 1
    assert "redis stopped with status -9" in second.text
    assert not any(child.is_running() for child in children)


def test_down_stops_it(folder: Path) -> None:
    assert run("down", folder).stdout == "nothing runs\n"
    started = Up(folder)
    started.wait()
    assert run("down", folder).stdout == "stopped\n"
    assert started.process.wait(1) == 0
    assert PROJECT in started.folders.environment.read_text()
