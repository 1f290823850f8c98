"""Content hashes of files, with a cache so that a file which did not change is not read again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from star_platform.planning.canonical import digest
from star_platform.registry.artefacts import sha256

_SETTLED_SECONDS = 2.0
"""A file written this recently may change again within one tick of its clock, so its hash is not remembered."""


class Cache:
    """Text by key in one SQLite file; several processes may share it. A damaged or absent file is an empty cache."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_or_make(self, key: str, make: Callable[[], str], *, keep: bool = True) -> str:
        found = self._get(key)
        if found is None:
            found = make()
            if keep:
                self._put(key, found)
        return found

    def _get(self, key: str) -> str | None:
        try:
            with closing(self._open()) as connection:
                row = connection.execute("SELECT value FROM entry WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return str(row[0]) if row else None

    def _put(self, key: str, value: str) -> None:
        try:
            with closing(self._open()) as connection, connection:
                connection.execute("INSERT OR REPLACE INTO entry VALUES (?, ?)", (key, value))
        except sqlite3.OperationalError:
            return  # locked or read-only: the next run hashes again, which is slow and right
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=5)
        connection.execute("CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        return connection


def state_of(files: Sequence[Path]) -> tuple[str, bool]:
    """A key for the files as they are now (path, size, mtime), and whether they have settled."""
    stats = [(str(path), path.stat()) for path in files]
    newest = max(stat.st_mtime for _, stat in stats)
    key = digest([[path, stat.st_size, stat.st_mtime_ns, stat.st_ino] for path, stat in stats])
    return key, time.time() - newest > _SETTLED_SECONDS


def hash_files(files: Sequence[Path], cache: Cache) -> str:
    """One hash over the contents of all files, whatever their names and order."""

    def hash_one(path: Path) -> str:
        key, settled = state_of([path])
        return cache.get_or_make(f"sha256:{key}", lambda: sha256(path), keep=settled)

    return digest(sorted(hash_one(path) for path in files))
