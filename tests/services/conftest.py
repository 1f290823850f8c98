"""An installation as `make services` starts it, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.installation import Folders
from services.processes import free_port
from services.settings import Settings, load_settings
from tests.conftest import REPOSITORY
from tests.servers import private_folder

PROJECT = "star_test"


class Up:
    """`python -m services up`, as a child process."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder)
        self.output = folder / "output"
        ports = ("STAR_POSTGRES_PORT", "STAR_REDIS_PORT", "STAR_FEATURE_SERVER_PORT")
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services", "up", "--folder", str(folder), "--project", PROJECT],
                cwd=REPOSITORY,
                env={**os.environ, **{name: str(free_port()) for name in ports}},  # taken at the first start only
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def settings(self) -> Settings:
        return load_settings(self.folders.environment, PROJECT)

    def wait(self) -> None:
        """Until everything answers."""
        while "Everything answers" not in self.text:
            assert self.process.poll() is None, self.text
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def run(verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Another verb, from another terminal."""
    command = [sys.executable, "-m", "services", verb, "--folder", str(folder)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90)


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_folder("star-up-") as path:
        yield path


@pytest.fixture(scope="module")
def running() -> Iterator[Up]:
    with private_folder("star-up-") as path:
        started = Up(path)
        try:
            started.wait()
            yield started
        finally:
            status = started.stop()
        assert status == 0, started.text
