"""A small marketplace as a project of its own, and releases run in processes that may be killed."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from star_platform.project import Project
from tests.conftest import REPOSITORY

STAR_YAML = """\
apiVersion: star/v1
project: marketplace
variables: {data: data}
registry: %s
engine: {memory_limit: 500MB, threads: 1}
text: {encoder: tfidf-svd, dim: 16}
training: {dim: 16, fan_outs: [5, 3], heads: 2, batch_size: 256, max_epochs: 2, threads: 1}
evaluation: {resamples: 100, max_examples: 200}
"""

FIRST = ("companies", "marketplace-core", "skills")
"""The branches of the first release; the rest join in the second."""

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["feast", "torch", "numba", "ibis", "duckdb", "tests.release.conftest"])


def make_project(root: Path, registry: str = "sqlite:///.star/registry.db") -> Project:
    """The repository's own branches over 300 generated members."""
    from star_platform.demo.generate import Size, generate

    root.mkdir(parents=True)
    (root / "star.yaml").write_text(STAR_YAML % registry)
    shutil.copytree(REPOSITORY / "signal_branches", root / "signal_branches")
    shutil.copytree(REPOSITORY / "feature_repo", root / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    generate(root / "data", Size(members=300))
    return Project.open(root)


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with r1 active, made of three branches. Copy it; do not change it."""
    project = make_project(tmp_path_factory.mktemp("release") / "market")
    assert project.release(only=FIRST) is not None
    return project.root


@pytest.fixture
def market(first_release: Path, tmp_path: Path) -> Project:
    """A copy of the project with r1 active."""
    root = tmp_path / "market"
    shutil.copytree(first_release, root)
    return Project.open(root)


class Journal:
    """Progress that writes what it is told to a file, for a process that watches."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def line(self, text: str) -> None:
        self._file.write(text + "\n")

    def advance(self, amount: int = 1) -> None:
        """Bars are not watched."""

    def note(self, **figures: float | str) -> None:
        """Bars are not watched."""

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Journal]:
        yield self


def _release(root: Path, journal: Path, resume: bool) -> None:
    Project.open(root).release(resume=resume, progress=Journal(journal))


class Releasing:
    """`release` in a process of its own."""

    def __init__(self, root: Path, journal: Path, *, resume: bool = False) -> None:
        self.journal = journal
        journal.write_text("")
        self.process: BaseProcess = _FORK.Process(target=_release, args=(root, journal, resume))
        self.process.start()

    def stages(self) -> list[str]:
        """Names of the stages that have begun."""
        lines = self.journal.read_text().splitlines()
        return [line.partition("] ")[2].split()[0] for line in lines if line.startswith("[")]

    def wait_for(self, stage: str, timeout: float = 120.0) -> bool:
        """Until the stage has begun; False when the process ended without."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if stage in self.stages():
                return True
            if not self.process.is_alive():
                return stage in self.stages()
            time.sleep(0.005)
        raise AssertionError(f"{stage} did not begin in {timeout} s: {self.stages()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def join(self) -> int | None:
        self.process.join(180)
        return self.process.exitcode
