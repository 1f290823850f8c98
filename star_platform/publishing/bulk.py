"""Several processes that write the shards of one version at the same time, each over a connection of its own.

They are started with `subprocess`, not forked: the caller may hold threads, GPUs and open files. They end when this
process does, whatever ends it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from star_platform.errors import PublishError


def write_parallel(job: Mapping[str, Any], shards: Mapping[int, Path], processes: int) -> Iterator[int]:
    """Write Parquet files as `bulk_worker` does, `processes` at a time; yields each number when the store has it.

    Raises:
        PublishError: the first that a worker met, or F053 when one died. Shards under way are written by the next try.
    """
    waiting: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()
    for item in shards.items():
        waiting.put(item)
    done: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    workers = [_Worker(job) for _ in range(min(processes, len(shards)))]
    for worker in workers:
        threading.Thread(target=worker.work, args=(waiting, done), daemon=True).start()
    try:
        left = len(workers)
        while left:
            answer = done.get()
            if answer is None:
                left -= 1
            elif isinstance(answer, BaseException):
                raise answer
            else:
                yield answer
    finally:
        for worker in workers:
            worker.close()


class _Worker:
    def __init__(self, job: Mapping[str, Any]) -> None:
        path = os.pathsep.join(item or "." for item in sys.path)  # finds this package as this process found it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "star_platform.publishing.bulk_worker"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._job = json.dumps(job)

    def work(self, waiting: queue.SimpleQueue[tuple[int, Path]], done: queue.SimpleQueue[Any]) -> None:
        """Hand over one shard after the other until none is left; None at the end, or what went wrong."""
        try:
            self._send(self._job)
            while True:
                try:
                    number, path = waiting.get_nowait()
                except queue.Empty:
                    break
                self._send(json.dumps(str(path)))
                self._take()
                done.put(number)
            done.put(None)
        except (OSError, ValueError, PublishError) as error:
            done.put(error if isinstance(error, PublishError) else self._died())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was on its way to the dead
                    continue

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _take(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            code, message, hint = answer["error"]
            raise PublishError(code, message, hint=hint)

    def _died(self) -> PublishError:
        return PublishError(
            "F053",
            "a process that was writing to the online store died",
            hint="see what it printed, then `star-platform release --resume`; finished shards are not sent again",
        )
