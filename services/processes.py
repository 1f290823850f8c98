"""Starts servers as child processes, waits until they answer, and stops them."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_LIBC = ctypes.CDLL(None)


class ServiceError(Exception):
    """A server did not start, or stopped by itself; the message says what to do."""


@dataclass
class Server:
    """A child process: what it is called, its log, and how it is asked to stop."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals = signal.SIGTERM
    _stopped: bool = field(default=False, repr=False)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, seconds: float = 30) -> None:
        """Ask it to stop, wait, and kill it when it takes longer than `seconds`."""
        if self._stopped:
            return
        self._stopped = True
        if self.alive:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(seconds)

    def failure(self) -> ServiceError:
        """What to raise when it is gone: the last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        tail = "\n".join(f"    {line}" for line in lines)
        return ServiceError(f"{self.name} stopped with status {self.process.poll()}; the end of {self.log}:\n{tail}")


def start(
    name: str,
    command: Sequence[str],
    log: Path,
    *,
    user: str | None = None,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Server:
    """Start a server in a session of its own; `stdin` is all it can read there, `user` whom it runs as.

    In a session of its own, Ctrl-C reaches us alone, and we stop the servers in their order. When we are killed, the
    kernel passes `stop_signal` on, so that no server outlives us.
    """

    def die_with_parent() -> None:
        _LIBC.prctl(_DEATH_SIGNAL, int(stop_signal))

    account = pwd.getpwnam(user) if user is not None else None
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=log.parent,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
            preexec_fn=die_with_parent,  # safe here: we start servers from one thread
        )
    assert process.stdin is not None
    try:
        process.stdin.write(stdin)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it is gone already, which `wait_until` reports with its log
    return Server(name, log, process, stop_signal)


def wait_until(server: Server, answers: Callable[[], bool], seconds: float) -> None:
    """Return when `answers()` is true; raises ServiceError when the server dies, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while server.alive:
        if answers():
            return
        if time.monotonic() > deadline:
            server.stop(5)
            raise ServiceError(f"{server.name} does not answer after {seconds:.0f} s; its log is {server.log}")
        time.sleep(0.1)
    raise server.failure()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
