"""Where the time of training goes: sampling, gathering, computing, waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up seconds by name; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Adds the time inside to `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - begin
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + passed

    def taken(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        with self._lock:
            taken, self.seconds = self.seconds, {}
        return taken
