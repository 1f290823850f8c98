"""A process that has imported Feast once and forks a child for each request: Feast's commands, publishers that die.

Importing Feast takes seconds, and a test session wants a dozen processes that have. Requests and answers are lines of
JSON: `{"run": [function, arguments], "output": path}` gives `{"pid"}`, `{"wait": pid}` gives `{"status"}`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


class Nursery:
    """The near end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.publishing.nursery"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, output: Path, function: str, *arguments: object) -> int:
        """Fork, and call `function` there; the process id."""
        return int(self._ask({"run": [function, [str(item) for item in arguments]], "output": str(output)})["pid"])

    def wait(self, pid: int) -> int:
        """The status of `os.waitpid`."""
        return int(self._ask({"wait": pid})["status"])

    def run(self, output: Path, function: str, *arguments: object) -> int:
        return self.wait(self.start(output, function, *arguments))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]


# --- the far end ------------------------------------------------------------------------------------------------------


def feast_command(folder: str, *arguments: str) -> None:
    """`feast`, as its console script runs it."""
    from feast.cli.cli import cli

    os.chdir(folder)
    sys.argv = ["feast", *arguments]
    cli()


def killed_publish(root: str, place: str, count: str) -> None:
    """Publish r1 of the shop and die by SIGKILL at the `count`th call of a place."""
    import feast.infra.registry.file

    from star_platform.publishing import offline, online, projection, sqlite
    from tests.publishing.conftest import make_shop

    places: dict[str, tuple[Any, str]] = {
        "shard": (offline, "_write_shard"),
        "batch": (sqlite, "value_block"),
        "ack": (online.Acknowledgements, "add"),
        "registry": (feast.infra.registry.file.FileRegistryStore, "_write_registry"),
        "swap": (projection.os, "replace"),
    }
    die_at(*places[place], int(count))
    make_shop(Path(root)).publish(1)


def killed_purge(root: str, record: str, place: str, count: str) -> None:
    """Purge r1 of the shop and die by SIGKILL at the `count`th call of a place."""
    from star_platform.publishing import offline, purge, writers
    from star_platform.publishing.model import PublishedRelease
    from star_platform.publishing.publish import Publisher

    places: dict[str, tuple[Any, str]] = {
        "remove": (writers.DirectWriter, "remove"),
        "ledger": (purge.Ledger, "_add"),
        "offline": (offline.shutil, "rmtree"),
    }
    die_at(*places[place], int(count))
    publisher = Publisher(Path(root) / "feature_repo", Path(root) / ".star" / "offline", shard_rows=400)
    publisher.purge(PublishedRelease.from_record(json.loads(record)), work_dir=Path(root) / "work" / "1")


def die_at(owner: Any, name: str, count: int) -> None:
    """Die by SIGKILL at the `count`th call of a function."""
    function, calls = getattr(owner, name), iter(range(count))

    def dies(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, dies)


FUNCTIONS: dict[str, Callable[..., None]] = {"feast": feast_command, "publish": killed_publish, "purge": killed_purge}


def _child(function: str, arguments: list[str], output: str) -> None:
    status = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        FUNCTIONS[function](*arguments)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # the test looks at the traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    import feast.cli.cli
    import feast.infra.offline_stores.duckdb
    import feast.infra.online_stores.sqlite  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(json.dumps({"status": os.waitpid(request["wait"], 0)[1]}), flush=True)
            continue
        function, arguments = request["run"]
        pid = os.fork()
        if pid == 0:
            _child(function, arguments, request["output"])
        print(json.dumps({"pid": pid}), flush=True)


if __name__ == "__main__":
    main()
