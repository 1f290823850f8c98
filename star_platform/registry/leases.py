"""Leases: who may work on a release now.

A lease is a row with a holder, an expiry and a token. A thread renews it while the work lasts; when its holder dies,
it runs out, or is taken over at once where the death can be seen. Each acquisition gets a larger token, and the last
transaction of the work compares it: a holder that was asleep for too long cannot overwrite what its successor did.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from star_platform.errors import LeaseHeld, RegistryError
from star_platform.registry.database import Database
from star_platform.registry.models import LeaseRow
from star_platform.registry.values import Clock

DEFAULT_TTL = timedelta(seconds=60)


@dataclass(frozen=True)
class LeaseInfo:
    """A lease as it stands in the registry."""

    name: str
    holder: str
    acquired_at: datetime
    expires_at: datetime
    token: int


class Lease:
    """A lease that this process holds; `check` says whether it still does."""

    def __init__(self, name: str, holder: str, token: int, acquired_at: datetime) -> None:
        self.name = name
        self.holder = holder
        self.token = token
        self.acquired_at = acquired_at
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def mark_lost(self) -> None:
        self._lost.set()

    def check(self) -> None:
        """Raises LeaseHeld R007 once the lease went to somebody else; cheap, no query."""
        if self.lost:
            raise lost(self)


def lost(lease: Lease) -> LeaseHeld:
    """The error of a holder that was overtaken."""
    return LeaseHeld(
        "R007",
        f"the lease {lease.name!r} that {lease.holder} took at {_moment(lease.acquired_at)} has gone to somebody else",
        hint="this process was stopped for longer than the lease lasts; run `star-platform release --resume`",
    )


def acquire(database: Database, clock: Clock, name: str, holder: str | None, ttl: timedelta) -> Lease:
    """Take the lease, or raise LeaseHeld R006 that says who has it, since when and until when."""
    process = Process.current()
    with database.write() as session:
        now = clock.now()
        row = session.get(LeaseRow, name)
        if row is not None and row.holder is not None and row.expires_at > now and not is_dead(row.process):
            raise LeaseHeld(
                "R006",
                f"{row.holder} holds the lease {name!r} since {_moment(row.acquired_at)}, "
                f"at least until {_moment(row.expires_at)}",
                hint="wait for it to finish and try again; a dead holder's lease runs out by itself",
                holder=row.holder,
                since=row.acquired_at,
                until=row.expires_at,
            )
        if row is None:
            row = LeaseRow(name=name, token=0)
            session.add(row)
        row.holder = holder or default_holder()
        row.process = str(process) if process else None
        row.acquired_at, row.expires_at, row.token = now, now + ttl, row.token + 1
        return Lease(name, row.holder, row.token, now)


def renew(database: Database, clock: Clock, lease: Lease, ttl: timedelta) -> None:
    """Move the expiry; marks the lease lost when its token is no longer the newest."""
    with database.write() as session:
        row = session.get(LeaseRow, lease.name)
        if row is None or row.token != lease.token:
            lease.mark_lost()
            return
        row.expires_at = clock.now() + ttl


def give_back(database: Database, clock: Clock, lease: Lease) -> None:
    """Free the lease, unless it is somebody else's by now."""
    with database.write() as session:
        row = session.get(LeaseRow, lease.name)
        if row is not None and row.token == lease.token:
            row.holder, row.process, row.expires_at = None, None, clock.now()


def require(session: Session, lease: Lease | None) -> None:
    """Inside a write transaction: raises LeaseHeld R007 unless `lease` is still the newest of its name.

    An expiry that has passed does no harm here, as long as nobody took the lease over: writers are serial.
    """
    if lease is None:
        return
    row = session.get(LeaseRow, lease.name)
    if row is None or row.token != lease.token:
        lease.mark_lost()
        raise lost(lease)


def current(session: Session, name: str, now: datetime) -> LeaseInfo | None:
    """Who holds `name` now, if anybody."""
    row = session.get(LeaseRow, name)
    if row is None or row.holder is None or row.expires_at <= now or is_dead(row.process):
        return None
    return LeaseInfo(name, row.holder, row.acquired_at, row.expires_at, row.token)


@contextmanager
def held(database: Database, clock: Clock, name: str, holder: str | None, ttl: timedelta) -> Iterator[Lease]:
    """Acquire, renew in a thread every third of `ttl`, and give back at the end."""
    lease = acquire(database, clock, name, holder, ttl)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(ttl.total_seconds() / 3):
            try:
                renew(database, clock, lease, ttl)
            except RegistryError:
                continue  # the database is away for a moment; the token is compared in the last transaction anyway
            if lease.lost:
                return

    thread = threading.Thread(target=beat, name=f"lease-{name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        give_back(database, clock, lease)


def default_holder() -> str:
    """`user@machine (process 123)`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers like to have
        user = f"uid-{os.getuid()}"
    return f"{user}@{os.uname().nodename} (process {os.getpid()})"


@dataclass(frozen=True)
class Process:
    """One process, told apart from a later one with the same number.

    `machine` is a digest of the kernel's boot id and the process namespace, so two containers never mistake each
    other's processes for their own.
    """

    machine: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.machine}:{self.pid}:{self.started}"

    @classmethod
    def current(cls) -> Process | None:
        """The running process; None where the system has no /proc (then leases of the dead just run out)."""
        machine, started = _machine(), _started(os.getpid())
        return cls(machine, os.getpid(), started) if machine and started else None


def is_dead(recorded: str | None) -> bool:
    """True only when the recorded process ran on this machine and is surely gone."""
    if recorded is None:
        return False
    machine, pid, started = recorded.split(":")
    return machine == _machine() and _started(int(pid)) != started


def _machine() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:16]


def _started(pid: int) -> str | None:
    """When the process started, in ticks since boot; None when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def _moment(at: datetime) -> str:
    return at.astimezone().isoformat(sep=" ", timespec="seconds")
