"""One installation on this machine: started in order, watched, and stopped in reverse."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services import feature_server, postgres_server, redis_server
from services.feature_server import start_feature_server
from services.migrate import migrate
from services.postgres_server import add_databases, start_postgres
from services.processes import Server, ServiceError
from services.redis_server import start_redis
from services.settings import Settings, load_settings


@dataclass(frozen=True)
class Folders:
    """Where an installation keeps what it has."""

    root: Path

    @property
    def services(self) -> Path:
        return self.root / "services"

    @property
    def environment(self) -> Path:
        return self.root / "services.env"

    @property
    def lock(self) -> Path:
        """Locked, and with its process id, while an installation runs."""
        return self.services / "running"


def up(folders: Folders, project: str) -> None:
    """Start everything, say how to reach it, and return after Ctrl-C or SIGTERM, with everything stopped.

    Raises:
        ServiceError: something did not start, or stopped by itself; the rest was stopped.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts what it puts in the background deaf to SIGINT
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        stack.enter_context(_only_one(folders))
        stack.callback(_undisturbed)
        settings = load_settings(folders.environment, project)
        try:
            servers = _started(folders, settings, stack)
            print(welcome(folders, settings), flush=True)
            while all(server.alive for server in servers):
                time.sleep(0.2)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("stopping", flush=True)
            return
        raise next(server for server in servers if not server.alive).failure()


def _started(folders: Folders, settings: Settings, stack: ExitStack) -> list[Server]:
    """Every server, each stopped when `stack` is closed, the last one first."""
    servers = []

    def keep(server: Server, what: str) -> None:
        stack.callback(server.stop)
        servers.append(server)
        print(f"{server.name:<16}{what}", flush=True)

    postgres = start_postgres(folders.services / "postgres", settings.postgres_port, settings.postgres_password)
    keep(postgres, f"127.0.0.1:{settings.postgres_port}")
    add_databases(settings.registry_url, settings.feast_password)
    redis = start_redis(folders.services / "redis", settings.redis_port, settings.redis_password)
    keep(redis, f"127.0.0.1:{settings.redis_port}")
    print(f"{'migration':<16}{migrate(settings.registry_url)}", flush=True)
    repo = folders.services / "feature_repo"
    server = start_feature_server(repo, settings.feature_server_port, settings.environment())
    keep(server, settings.feature_server)
    return servers


def welcome(folders: Folders, settings: Settings) -> str:
    """How to reach what runs; passwords stay in the file."""
    shown = {
        "STAR_REGISTRY_URL": settings.registry_url.replace(settings.postgres_password, "***"),
        "STAR_FEAST_REGISTRY_URL": settings.feast_registry_url.replace(settings.feast_password, "***"),
        "STAR_REDIS": settings.redis.replace(settings.redis_password, "***"),
    }
    lines = [
        "",
        "Everything answers. In another shell:",
        "",
        f"    set -a; . {folders.environment}; set +a",
        "",
        *(f"    {name:<24} {value}" for name, value in shown.items()),
        f"    {'feature server':<24} {settings.feature_server}/health",
        "",
        f"feature_store.yaml for it: {feature_server.FEATURE_STORE}",
        "Ctrl-C stops everything; what was written stays for the next start.",
    ]
    return "\n".join(lines)


def status(folders: Folders) -> dict[str, bool]:
    """Which parts answer, by name; everything is False where nothing was ever started."""
    names = ("postgres", "redis", "feature-server")
    if not folders.environment.exists():
        return dict.fromkeys(names, False)
    settings = load_settings(folders.environment, "")
    found = (
        postgres_server.answers(settings.registry_url),
        redis_server.process_id(settings.redis_port, settings.redis_password) is not None,
        feature_server.healthy(settings.feature_server_port),
    )
    return dict(zip(names, found, strict=True))


def down(folders: Folders, seconds: float = 60) -> bool:
    """Stop the installation that runs in another terminal, and wait for it; False when none runs.

    Raises:
        ServiceError: it takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    asked = False
    while (holder := _holder(folders.lock)) is not None:
        if not asked:
            os.kill(holder, signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            raise ServiceError(f"process {holder} is still stopping its servers after {seconds:.0f} s")
        time.sleep(0.1)
    return asked


@contextmanager
def _only_one(folders: Folders) -> Iterator[None]:
    """Hold the lock; raises ServiceError while another process has it. The kernel frees that of a dead one."""
    folders.services.mkdir(parents=True, exist_ok=True)
    with folders.lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = folders.lock.read_text(encoding="utf-8").strip()
            raise ServiceError(f"process {holder} runs them already; stop it: python -m services down") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder(lock: Path) -> int | None:
    """The process that holds the lock, if one does."""
    if not lock.exists():
        return None
    with lock.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0) or None
    return None


def _undisturbed() -> None:
    """A second Ctrl-C must not cut short what the first one started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
